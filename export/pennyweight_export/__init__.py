"""Pennyweight's exporter: a Keras model and its data in, a verified bundle out.

    from pennyweight_export import export
    bundle = export("model.keras", data, "digits.pennyweight")

TensorFlow is imported when ``export`` is called, not before.
"""

from __future__ import annotations

from .exporter import export

__all__ = ["export"]
