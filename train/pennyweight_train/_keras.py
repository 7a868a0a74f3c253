"""Keras and TensorFlow, imported in one place and without TensorFlow's chatter."""

from __future__ import annotations

import contextlib
from typing import Any

from pennyweight.errors import UsageError
from pennyweight_data import quiet_stderr

with quiet_stderr():
    # tflite-runtime 2.14 refuses every model ("vector::reserve") in a process that imported TensorFlow before it.
    with contextlib.suppress(ImportError):
        import tflite_runtime.interpreter  # noqa: F401
    import keras as _keras
    import tensorflow as _tensorflow

# Neither has types that strict checking could use.
keras: Any = _keras
tf: Any = _tensorflow

if keras.backend.backend() != "tensorflow":
    raise UsageError(f"Keras runs on {keras.backend.backend()} here, training needs TensorFlow; unset KERAS_BACKEND")
