"""TensorFlow and Keras, imported quietly and in one place."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from pennyweight.errors import UsageError

from .quiet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with quiet():
    # tflite-runtime 2.14 refuses every model ("vector::reserve") in a process that imported TensorFlow before it.
    with contextlib.suppress(ImportError):
        import tflite_runtime.interpreter  # noqa: F401
    import keras as _keras
    import tensorflow as _tensorflow

# Neither has types that strict checking could use.
keras: Any = _keras
tf: Any = _tensorflow

if keras.backend.backend() != "tensorflow":
    raise UsageError(f"Keras runs on {keras.backend.backend()} here; unset KERAS_BACKEND, export needs TensorFlow")
