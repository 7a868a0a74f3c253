"""The recipes: which precisions there are in which file format, and what each artifact must turn out to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pennyweight.errors import UsageError

Names = Sequence[str]


class Recipe(NamedTuple):
    """One precision in one file format; its file is called PRECISION.FORMAT.

    ``weights`` and ``activations`` are what the read-back file must hold in its layers. ``default`` recipes are made
    unless others are asked for. ``headroom`` and ``least_tolerance`` make the golden set's tolerance: the largest
    difference measured here times the first, and at least the second, as an absolute difference of the answers.
    """

    precision: str
    format: str
    weights: str
    activations: str
    default: bool
    headroom: float
    least_tolerance: float

    @property
    def name(self) -> str:
        """The artifact's file name."""
        return f"{self.precision}.{self.format}"

    @property
    def integer(self) -> bool:
        """Whether activations are integers, whose ranges are drawn from calibration samples."""
        return self.activations.startswith("int")


# In the order of the manifest, in which `load` prefers what comes first among equals.
#
# The default is what a Pi can use. Both formats in float32 are the reference; int8 is the smallest and mostly the
# fastest; dynamic int8 is as small, needs no calibration, and answers nearer to the original; float16 is half the file
# with the same answers on every engine. Left out are int16x8, whose convolutions have only reference kernels (20 times
# the time of float32, measured); float16.onnx, which is half the file and no faster (measured on x86);
# dynamic-int8.onnx, as onnxruntime draws one range for a whole batch, so that an answer depends on what else is asked
# with it; and int4, which only one engine reads.
#
# Tolerances. Another processor sums float32 in another order, which multiplies the error of each sum by a small factor
# (4), and from 1e-5 up that is all that differs. Of what float16 and int4 weights and int16x8 bring, nearly all is the
# rounding of the weights, which is done here once and the same everywhere: a quarter more covers the rest, steps of
# 1/32768 and float32 sums. Quantised activations of eight bits round anew on each machine, where another kernel may
# land one step away (2), and one of 256 steps is worth up to 1/64 of a probability behind a softmax. onnxruntime has
# kernels that compute float16 in half precision where the processor can (Cortex-A76): a relative error of 2^-11 in
# every layer moves logits of about 10 by hundredths and probabilities by a quarter of that.
RECIPES = (
    Recipe("float32", "tflite", "float32", "float32", True, 4.0, 1e-5),
    Recipe("float16", "tflite", "float16", "float32", True, 1.25, 1e-3),
    Recipe("int16x8", "tflite", "int8", "int16", False, 1.25, 1e-3),
    Recipe("dynamic-int8", "tflite", "int8", "float32", True, 2.0, 1 / 64),
    Recipe("int8", "tflite", "int8", "int8", True, 2.0, 1 / 64),
    Recipe("int4", "tflite", "int4", "float32", False, 1.25, 1 / 64),
    Recipe("float32", "onnx", "float32", "float32", True, 4.0, 1e-5),
    Recipe("float16", "onnx", "float16", "float16", False, 2.0, 1 / 128),
    Recipe("dynamic-int8", "onnx", "int8", "float32", False, 2.0, 1 / 64),
    Recipe("int8", "onnx", "int8", "int8", True, 2.0, 1 / 64),
)
ALL = "all"
# What repair makes of an int8 file that lost too much: int8, and wider where it must be.
WIDER = "int8 or wider"
REPAIRED = Recipe("int8-repaired", "tflite", "int8", WIDER, False, 2.0, 1 / 64)


def choose_recipes(names: Names | None = None) -> tuple[Recipe, ...]:
    """Give the recipes that are asked for, in the order of ``RECIPES``; those that a Pi can use without ``names``.

    Args:
        names: precisions ("int8": in every format that has it), artifacts ("int8.onnx"), or "all".

    Raises:
        UsageError: an unknown name, or none at all.
    """
    if names is None:
        return tuple(recipe for recipe in RECIPES if recipe.default)
    if isinstance(names, str):
        names = names.split(",")
    wanted = {name.strip() for name in names}
    known = {ALL, *(recipe.precision for recipe in RECIPES), *(recipe.name for recipe in RECIPES)}
    unknown = sorted(wanted - known)
    if unknown or not wanted:
        precisions = ", ".join(dict.fromkeys(recipe.precision for recipe in RECIPES))
        given = ", ".join(map(repr, unknown)) or "none"
        raise UsageError(f"precision {given}: choose from {precisions}, one artifact such as int8.onnx, or {ALL}")
    return tuple(recipe for recipe in RECIPES if wanted & {ALL, recipe.precision, recipe.name})


def recipe_for(artifact: str) -> Recipe | None:
    """Give the recipe of an artifact's name, or None for a name that none has."""
    return next((recipe for recipe in RECIPES if recipe.name == artifact), None)
