"""Keras and TensorFlow, imported in one place and without TensorFlow's chatter."""

from __future__ import annotations

from typing import Any

from pennyweight.errors import UsageError
from pennyweight_data import quiet_stderr

with quiet_stderr():
    import keras as _keras
    import tensorflow as _tensorflow

# Neither has types that strict checking could use.
keras: Any = _keras
tf: Any = _tensorflow

if keras.backend.backend() != "tensorflow":
    raise UsageError(f"Keras runs on {keras.backend.backend()} here, training needs TensorFlow; unset KERAS_BACKEND")
