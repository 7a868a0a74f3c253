"""Pennyweight's runtime: a verified bundle in, answers and measurements out, with numpy and one engine.

    from pennyweight import load
    model = load("digits.pennyweight")
    label, probability = model.classify(image)

Names are imported when they are first used, so that a cold start pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Plan as Plan
    from .bench import measure_bench as measure_bench
    from .bundle import Bundle as Bundle
    from .bundle import open_bundle as open_bundle
    from .errors import BundleError as BundleError
    from .errors import CheckFailedError as CheckFailedError
    from .errors import EngineError as EngineError
    from .errors import EngineMissingError as EngineMissingError
    from .errors import InconclusiveError as InconclusiveError
    from .errors import InputError as InputError
    from .errors import IntegrityError as IntegrityError
    from .errors import OutputError as OutputError
    from .errors import OutputKindError as OutputKindError
    from .errors import PennyweightError as PennyweightError
    from .errors import SignatureError as SignatureError
    from .errors import UsageError as UsageError
    from .loading import VerdictWarning as VerdictWarning
    from .loading import load as load
    from .model import Model as Model
    from .parity import NumericParity as NumericParity
    from .parity import Parity as Parity
    from .parity import measure_parity as measure_parity
    from .samples import Samples as Samples

__version__ = "0.1.0"

_HOME = {
    "Bundle": "bundle",
    "BundleError": "errors",
    "CheckFailedError": "errors",
    "EngineError": "errors",
    "EngineMissingError": "errors",
    "InconclusiveError": "errors",
    "InputError": "errors",
    "IntegrityError": "errors",
    "Model": "model",
    "NumericParity": "parity",
    "OutputError": "errors",
    "OutputKindError": "errors",
    "Parity": "parity",
    "PennyweightError": "errors",
    "Plan": "bench",
    "Samples": "samples",
    "SignatureError": "errors",
    "UsageError": "errors",
    "VerdictWarning": "loading",
    "load": "loading",
    "measure_bench": "bench",
    "measure_parity": "parity",
    "open_bundle": "bundle",
}
__all__ = [
    "Bundle",
    "BundleError",
    "CheckFailedError",
    "EngineError",
    "EngineMissingError",
    "InconclusiveError",
    "InputError",
    "IntegrityError",
    "Model",
    "NumericParity",
    "OutputError",
    "OutputKindError",
    "Parity",
    "PennyweightError",
    "Plan",
    "Samples",
    "SignatureError",
    "UsageError",
    "VerdictWarning",
    "load",
    "measure_bench",
    "measure_parity",
    "open_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pennyweight' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
