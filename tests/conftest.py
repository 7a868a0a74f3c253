"""What tests of every folder share: the lab's network, trained once, and its bundle, exported once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

# tflite-runtime 2.14 refuses every model ("vector::reserve") in a process that imported TensorFlow before it.
with contextlib.suppress(ImportError):
    import tflite_runtime.interpreter  # noqa: F401


@pytest.fixture(scope="session")
def lab_model() -> Any:
    """Give the lab's network, trained on the embedded digits with the lab's own seed."""
    from pennyweight_train import train

    return train("lab", "digits", seed=1234).model


@pytest.fixture(scope="session")
def lab_bundle(lab_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give its bundle, as a folder; a test that changes it takes a copy."""
    from pennyweight_export import export

    return export(lab_model, "digits", tmp_path_factory.mktemp("lab") / "digits").path
