"""The model to export: a Keras model in memory, or a ``.keras`` file."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.engines import first_line
from pennyweight.errors import InputError

from .quiet import quiet

KerasModel = Any  # Keras has no types that strict checking could use


class Source(NamedTuple):
    """A Keras model and where it is from: its name in errors, and what the manifest says of it."""

    model: KerasModel
    name: str
    record: dict[str, Any]


def open_source(model: KerasModel | str | os.PathLike[str]) -> Source:
    """Load a ``.keras`` file, or take a model as it is.

    No code from the file is run: Keras' safe mode stays on.

    Raises:
        InputError: no such file, an empty or damaged one, not a Keras model, or one that needs code of its own.
    """
    if isinstance(model, (str, os.PathLike)):
        return _from_file(Path(model))
    from ._tensorflow import keras

    if not isinstance(model, keras.Model):
        raise InputError(f"a {type(model).__name__} is no Keras model; give a keras.Model or the path of a .keras file")
    if not model.built:
        raise InputError("the model was never built, so it has no weights; call it once or give it an Input")
    name = str(model.name)
    record = {"name": name, "sha256": _weights_digest(model), "digest_of": "weights", **_facts(model)}
    return Source(model, name, record)


def check_file(path: Path) -> None:
    """Raise InputError for what can't be a ``.keras`` file; needs no TensorFlow, whose import is long."""
    if not path.exists():
        raise InputError(f"{path}: no such model file; give a .keras file")
    if path.is_dir() or path.suffix != ".keras":
        raise InputError(f"{path}: not a .keras file; save the model with model.save('NAME.keras')")
    if not path.stat().st_size:
        raise InputError(f"{path}: the model file is empty; save the model again")
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a whole .keras file ({first_line(error)}); save the model again") from error
    if missing:
        raise InputError(f"{path}: not a .keras file, it has no {min(missing)}; save the model again")


def _from_file(path: Path) -> Source:
    check_file(path)
    from ._tensorflow import keras

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with quiet():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except OSError as error:
        raise InputError(f"{path}: can't be read as a Keras model ({first_line(error)}); save it again") from error
    except Exception as error:
        raise InputError(f"{path}: not a whole Keras model ({first_line(error)}); save it again") from error
    return Source(model, str(path), {"name": path.name, "sha256": digest, "digest_of": "file", **_facts(model)})


def _facts(model: KerasModel) -> dict[str, Any]:
    from ._tensorflow import keras

    return {"parameters": int(model.count_params()), "keras": str(keras.__version__), "class": type(model).__name__}


def _weights_digest(model: KerasModel) -> str:
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()
