from __future__ import annotations

import numpy as np
import pytest

from pennyweight.manifest import InputSpec, OutputSpec, Wire
from pennyweight.quantization import dequantise, from_wire, quantise, sigmoid, softmax, to_wire

PIXELS = InputSpec("image", (4,), "uint8", (0, 255))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, 1e30])
def test_softmax_and_sigmoid_are_stable(size: float) -> None:
    logits = np.array([[-size, 0, size], [size, size, size]], np.float32)
    shares = softmax(logits)
    assert np.isfinite(shares).all()
    # Ten float32 roundings of numbers up to 1.
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(sigmoid(logits) + sigmoid(-logits), 1, atol=1e-6)


def test_softmax_is_the_textbooks() -> None:
    logits = np.array([0.5, -1.25, 2.0])
    np.testing.assert_allclose(softmax(logits), np.exp(logits) / np.exp(logits).sum(), rtol=1e-12)
    np.testing.assert_allclose(sigmoid(logits), 1 / (1 + np.exp(-logits)), rtol=1e-6)


def test_quantising_rounds_to_the_nearest_and_stops_at_the_ends() -> None:
    wire = Wire("x", "x", "int8", 0.5, 10)
    np.testing.assert_array_equal(quantise(np.array([0.0, 0.26, -0.26, 1000, -1000]), wire), [10, 11, 9, 127, -128])
    np.testing.assert_array_equal(dequantise(np.array([10, 11, 9], np.int8), wire), [0.0, 0.5, -0.5])
    values = np.linspace(-60, 50, 999)
    # Half a step is what rounding may cost inside the range.
    assert abs(dequantise(quantise(values, wire), wire) - values).max() <= 0.25 + 1e-6


def test_pixels_reach_every_wire_exactly() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    assert to_wire(PIXELS, Wire("image", "x", "uint8")) is None
    assert to_wire(PIXELS, Wire("image", "x", "uint8", 1.0, 0)) is None
    for wire in (
        Wire("image", "x", "int8", 1.0, -128),
        Wire("image", "x", "int8", 2.0, -128),
        Wire("image", "x", "float32"),
    ):
        convert = to_wire(PIXELS, wire)
        assert convert is not None
        wanted = pixels.astype(np.float32) if wire.scale is None else quantise(pixels, wire)
        got = convert(pixels)
        assert got.dtype == wire.dtype
        np.testing.assert_array_equal(got, wanted)


def test_logits_become_probabilities_and_numbers_stay() -> None:
    logits = np.array([[1.0, 2.0]], np.float32)
    spec = OutputSpec("y", (2,), "logits", "single")
    finish = from_wire(spec, Wire("y", "y", "float32"))
    assert finish is not None
    np.testing.assert_allclose(finish(logits), softmax(logits))
    assert from_wire(spec._replace(meaning="raw", labelling="none"), Wire("y", "y", "float32")) is None
    quantised = from_wire(spec, Wire("y", "y", "int8", 0.5, 1))
    assert quantised is not None
    np.testing.assert_allclose(quantised(np.array([[3, 5]], np.int8)), softmax(logits))
    binary = from_wire(spec._replace(shape=(1,)), Wire("y", "y", "float32"))
    assert binary is not None
    np.testing.assert_allclose(binary(np.array([[0.0]], np.float32)), [[0.5]])
