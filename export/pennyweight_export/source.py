"""The model to export: a Keras model in memory, or a file or folder that holds one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError

from .model_files import KerasModel, check_file, digest, load_file


class Source(NamedTuple):
    """A Keras model and where it is from: its name in errors, and what the manifest says of it."""

    model: KerasModel
    name: str
    record: dict[str, Any]


def open_source(model: KerasModel | str | os.PathLike[str], trust_code: bool = False) -> Source:
    """Load a ``.keras`` file, a legacy ``.h5`` file or a SavedModel folder, or take a model as it is.

    Without ``trust_code`` no code from the file is run; with it, what the file holds, and the modules that it names.

    Raises:
        InputError: no such file, an empty or damaged one, not a Keras model, or one that needs code of its own.
    """
    if isinstance(model, (str, os.PathLike)):
        return _from_file(Path(model), trust_code)
    from ._tensorflow import keras

    if not isinstance(model, keras.Model):
        raise InputError(f"a {type(model).__name__} is no Keras model; give a keras.Model or the path of a .keras file")
    if not model.built:
        raise InputError("the model was never built, so it has no weights; call it once or give it an Input")
    name = str(model.name)
    record = {"name": name, "sha256": _weights_digest(model), "digest_of": "weights", **_facts(model)}
    return Source(model, name, record)


def _from_file(path: Path, trust_code: bool) -> Source:
    check_file(path, trust_code)
    try:
        sha256, digest_of = digest(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check its permissions") from error
    model = load_file(path, trust_code)
    return Source(model, str(path), {"name": path.name, "sha256": sha256, "digest_of": digest_of, **_facts(model)})


def _facts(model: KerasModel) -> dict[str, Any]:
    from ._tensorflow import keras
    from .foreign import variables_of

    parameters = sum(int(np.prod(variable.shape)) for variable in variables_of(model))
    return {"parameters": parameters, "keras": str(keras.__version__), "class": type(model).__name__}


def _weights_digest(model: KerasModel) -> str:
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()
