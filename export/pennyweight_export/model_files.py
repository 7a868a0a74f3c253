"""Model files of each kind: what they are, whether loading one would run code, and the Keras model in it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pennyweight.engines import first_line
from pennyweight.errors import InputError

from .quiet import quiet

KerasModel = Any  # Keras has no types that strict checking could use
KINDS = "a .keras file, an .h5 file or a SavedModel folder"
H5_SUFFIXES = (".h5", ".hdf5")
SAVED_MODEL = "saved_model.pb"
WITHOUT_CODE = "save it with model.export('FOLDER'), which needs no code, or trust it with --trust-code"
# Packages whose classes Keras builds from a configuration; anything else is code that the file's author wrote.
_KNOWN_PACKAGES = {"keras", "tf_keras", "keras_hub", "keras_cv", "keras_nlp", "tensorflow", "builtins", "__builtin__"}
# Lambda layers and lambda functions carry Python bytecode.
_BYTECODE = {"Lambda", "__lambda__"}
# What a TensorFlow graph can do besides computing: files, and Python of the process that made it.
_OPERATIONS_WITH_EFFECTS = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc"}
_FUNCTIONS_WITH_EFFECTS = ("io.", "raw_ops.", "compat.", "py_function", "numpy_function", "data.", "saved_model.")


def check_file(path: Path, trust_code: bool = False) -> None:
    """Raise InputError for what can't be a model, or needs code; mostly without TensorFlow, whose import is long."""
    if not path.exists():
        raise InputError(f"{path}: no such model; give {KINDS}")
    if path.is_dir():
        if not (path / SAVED_MODEL).is_file():
            raise InputError(f"{path}: a folder without {SAVED_MODEL}, so no SavedModel; give {KINDS}")
        return
    if path.suffix != ".keras" and path.suffix not in H5_SUFFIXES:
        raise InputError(f"{path}: not a model by its name; give {KINDS}")
    if not path.stat().st_size:
        raise InputError(f"{path}: the model file is empty; save the model again")
    content = config(path)
    if not trust_code:
        _refuse_code(path, content)


def config(path: Path) -> Any:
    """Give a model file's configuration; raise InputError where it has none that can be read."""
    return _zip_config(path) if path.suffix == ".keras" else _h5_config(path)


def load_file(path: Path, trust_code: bool) -> KerasModel:
    """Load a model that ``check_file`` has passed; without ``trust_code`` no code from the file is run.

    Raises:
        InputError: damaged, no Keras model, or one that needs code.
    """
    if path.is_dir():
        return _saved_model(path, trust_code)
    from ._tensorflow import keras

    classes = _trusted_classes(config(path), path.parent) if trust_code else {}
    try:
        with quiet():
            return keras.saving.load_model(path, custom_objects=classes, compile=False, safe_mode=not trust_code)
    except Exception as error:
        # Keras raises whatever a damaged or foreign configuration leads to.
        if path.suffix in H5_SUFFIXES:
            return _legacy(path, trust_code, classes, error)
        raise _refusal(path, error) from error


def digest(path: Path) -> tuple[str, str]:
    """Give a SHA-256 and what it is of: "file", or of a folder "files", each with its name, in order."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), "file"
    together = hashlib.sha256()
    for entry in sorted(part for part in path.rglob("*") if part.is_file()):
        with entry.open("rb") as file:
            together.update(f"{entry.relative_to(path).as_posix()}\0".encode())
            together.update(hashlib.file_digest(file, "sha256").digest())
    return together.hexdigest(), "files"


def _zip_config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
            if missing:
                raise InputError(f"{path}: not a .keras file, it has no {min(missing)}; save the model again")
            return json.loads(archive.read("config.json"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(f"{path}: not a whole .keras file ({first_line(error)}); save the model again") from error


def _h5_config(path: Path) -> Any:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None:
                what = "weights alone" if "layer_names" in file.attrs else "no Keras model"
                raise InputError(f"{path}: holds {what}; save the whole model with model.save('NAME.keras')")
            return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a whole .h5 file ({first_line(error)}); save the model again") from error


def _nodes(content: Any) -> Iterator[dict[str, Any]]:
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _refuse_code(path: Path, content: Any) -> None:
    """Raise InputError where loading would have to run code that isn't Keras' own."""
    for node in _nodes(content):
        name, module = str(node.get("class_name")), node.get("module")
        if name in _BYTECODE:
            raise InputError(f"{path}: holds a Lambda layer, which is code; {WITHOUT_CODE}")
        if name == "TFOpLambda" and _function_of(node).startswith(_FUNCTIONS_WITH_EFFECTS):
            raise InputError(f"{path}: calls tf.{_function_of(node)}, which is more than computing; {WITHOUT_CODE}")
        if isinstance(module, str) and _package(module) not in _KNOWN_PACKAGES and not _registered(node):
            raise InputError(f"{path}: needs the code of {module}.{name}; {WITHOUT_CODE}")


def _function_of(node: dict[str, Any]) -> str:
    inner = node.get("config")
    return str(inner.get("function")) if isinstance(inner, dict) else ""


def _package(module: str) -> str:
    return module.partition(".")[0]


def _registered(node: dict[str, Any]) -> bool:
    """Say whether the caller's own process has the class registered with Keras."""
    from ._tensorflow import keras

    return keras.saving.get_registered_object(str(node.get("registered_name"))) is not None


def _trusted_classes(content: Any, folder: Path) -> dict[str, Any]:
    """Import the modules that a configuration names, also from the model's folder; give its classes by name."""
    import importlib
    import sys

    found = {}
    sys.path.insert(0, str(folder))
    try:
        for node in _nodes(content):
            name, module = str(node.get("class_name")), node.get("module")
            if not isinstance(module, str) or _package(module) in _KNOWN_PACKAGES or _registered(node):
                continue
            try:
                found[name] = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise InputError(
                    f"{module}.{name} isn't found ({first_line(error)}); put {_package(module)}.py beside the model"
                ) from error
    finally:
        sys.path.remove(str(folder))
    return found


def _refusal(path: Path, error: Exception) -> InputError:
    text = str(error)
    if "Could not locate" in text or "Unknown layer" in text or "Lambda" in text:
        return InputError(f"{path}: needs code of its own ({first_line(error)[:120]}); {WITHOUT_CODE}")
    return InputError(f"{path}: not a whole Keras model ({first_line(error)}); save it again")


def _legacy(path: Path, trust_code: bool, classes: dict[str, Any], refused: Exception) -> KerasModel:
    """Load an ``.h5`` file that Keras 3 refuses with Keras 2, which lives on as tf_keras."""
    from .foreign import wrapped_keras2

    try:
        with quiet():
            import tf_keras
    except ImportError as error:
        raise InputError(
            f"{path}: Keras 3 refuses it ({first_line(refused)[:120]}); for tf_keras, which reads older files, "
            "install pennyweight-workstation[legacy]"
        ) from error
    try:
        with quiet():
            model = tf_keras.models.load_model(path, custom_objects=classes, compile=False, safe_mode=not trust_code)
    except Exception as error:
        raise _refusal(path, error) from error
    return wrapped_keras2(model)


def _saved_model(path: Path, trust_code: bool) -> KerasModel:
    from ._tensorflow import tf
    from .foreign import wrapped_signature

    if not trust_code:
        _refuse_effects(path)
    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise InputError(f"{path}: not a whole SavedModel ({first_line(error)}); export it again") from error
    signatures = dict(loaded.signatures)
    if not signatures:
        raise InputError(f"{path}: has no serving signature; export it with model.export('FOLDER')")
    chosen = signatures.get("serving_default") or next(iter(signatures.values()))
    return wrapped_signature(loaded, chosen, str(path))


def _refuse_effects(path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((path / SAVED_MODEL).read_bytes())
    except Exception as error:
        raise InputError(f"{path}: {SAVED_MODEL} isn't whole ({first_line(error)}); export it again") from error
    for graph in content.meta_graphs:
        bodies = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
        found = {node.op for nodes in bodies for node in nodes} & _OPERATIONS_WITH_EFFECTS
        if found:
            raise InputError(
                f"{path}: does more than compute ({', '.join(sorted(found))}); trust it with --trust-code if you do"
            )
