"""Rounding with compensation, and equalised channels: held to TensorFlow's own kernels and to the float answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pennyweight_export._tensorflow import tf
from pennyweight_export.equalise import equalised
from pennyweight_export.quality import answers
from pennyweight_export.quantizer import observe, operators
from pennyweight_export.quiet import quiet
from pennyweight_export.rounding import LEVELS, as_columns, compensated, from_columns, patches
from pennyweight_export.weights import Layer, constants, weighted_layers, with_constants

RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def converted(body: Any, shape: tuple[int, ...]) -> bytes:
    function = tf.function(lambda x: {"y": body(x)}, input_signature=[tf.TensorSpec((None, *shape), tf.float32, "x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with quiet():
        content: bytes = converter.convert()
    return content


KERNEL, BIAS, DEPTHWISE, DENSE = weights(3, 3, 2, 4), weights(4), weights(3, 2, 4, 2), weights(72, 5)


def network(x: Any) -> Any:
    hidden = tf.nn.relu(tf.nn.conv2d(x, KERNEL, 1, "SAME") + BIAS)
    hidden = tf.nn.relu(tf.nn.depthwise_conv2d(hidden, DEPTHWISE, (1, 2, 2, 1), "SAME"))
    return tf.matmul(tf.reshape(hidden, (-1, 72)), DENSE)


FLOAT = converted(network, (6, 6, 2))
# Correlated, as pictures are: what compensation lives from.
SMOOTH = np.cumsum(RANDOM.normal(0, 1, (300, 6, 6, 2)), axis=2).astype(np.float32)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 1))])
def test_patches_are_what_a_convolution_sees(padding: str, stride: Any, dilation: Any) -> None:
    pictures, kernel = weights(2, 9, 8, 3), weights(3, 2, 3, 5)
    wanted = tf.nn.conv2d(pictures, kernel, stride, padding, dilations=dilation).numpy()
    layer = Layer(operators(FLOAT)[0], "w", None, "none", stride, dilation, padding == "SAME")
    seen = patches(layer, pictures, (3, 2))
    got = np.einsum("nhwkc,kco->nhwo", seen, kernel.reshape(6, 3, 5))
    # Sums of 18 products of ordinary size.
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_layers_with_weights_are_found_with_their_shapes() -> None:
    layers = weighted_layers(FLOAT)
    assert [layer.operator.type for layer in layers] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert [layer.activation for layer in layers] == ["relu", "relu", "none"]
    assert (layers[1].stride, layers[1].same) == ((2, 2), True)
    for layer in layers:
        held = constants(FLOAT, {layer.weights})[layer.weights]
        np.testing.assert_array_equal(from_columns(layer, as_columns(layer, held), held.shape), held)


def test_rounded_weights_lie_on_the_grid_and_lose_less_than_nearest_ones() -> None:
    rounded = compensated(FLOAT, {"": SMOOTH[:200]})
    layers = {layer.operator.scope: layer for layer in weighted_layers(FLOAT)}
    assert rounded.keys() == layers.keys()
    nearest = {}
    for scope, one in rounded.items():
        held = constants(FLOAT, {one.weights})[one.weights]
        step = one.bound / LEVELS
        shape = [1] * held.ndim
        shape[layers[scope].axis] = -1
        step = step.reshape(shape)
        levels = one.constants[one.weights] / step
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)  # a float32 of up to 127 has five digits behind
        assert np.abs(levels).max() <= LEVELS + 1e-3
        nearest[one.weights] = np.round(held / step) * step
    compensating = {name: array for one in rounded.values() for name, array in one.constants.items()}
    wanted = answers(FLOAT, {"": SMOOTH[200:]})[0]
    lost = [
        float(np.mean((answers(with_constants(FLOAT, new), {"": SMOOTH[200:]})[0] - wanted) ** 2))
        for new in (compensating, nearest)
    ]
    assert lost[0] < 0.7 * lost[1]


def test_constants_that_share_a_buffer_are_replaced_apart() -> None:
    same = weights(8, 8)
    content = converted(lambda x: tf.matmul(tf.nn.relu(tf.matmul(x, same)), same), (8,))
    layers = weighted_layers(content)
    if len(layers) == 2:
        new = with_constants(content, {layers[0].weights: np.zeros((8, 8), np.float32)})
        held = constants(new, {layer.weights for layer in layers})
        assert held[layers[0].weights].max() == 0 < held[layers[1].weights].max()
    else:  # the converter made one tensor of the two: then neither layer's weights are its own
        assert layers == []


def uneven(x: Any, activation: Any = tf.nn.relu) -> Any:
    spread = np.logspace(0, 3, 16).astype(np.float32)
    left = tf.matmul(x, EVEN[0] * spread)
    right = tf.matmul(tf.nn.relu(tf.matmul(x, EVEN[1] * spread)), EVEN[2] / spread[:, None] * spread)
    return tf.matmul(activation(left + right), EVEN[3] / spread[:, None])


EVEN = weights(12, 16), weights(12, 16), weights(16, 16), weights(16, 3)
ROWS = RANDOM.normal(0, 1, (200, 12)).astype(np.float32)


def widest(content: bytes) -> float:
    """Give the largest ratio of channels' ranges in a tensor that a layer or a sum writes."""
    (batch,) = observe(content, {"": ROWS})
    ratios = []
    for operator in operators(content)[:-1]:
        channels = np.abs(batch[operator.outputs[0]]).max(axis=0)
        ratios.append(float(channels.max() / channels.min()))
    return max(ratios)


def test_channels_are_equalised_through_a_residual_sum_and_the_answers_stay() -> None:
    content = converted(uneven, (12,))
    equal, moved = equalised(content, {"": ROWS}, 1.0)
    assert moved == 3
    assert widest(content) > 500
    assert widest(equal) < 8  # factors are powers of two, and the sum's terms share them
    wanted, got = (answers(one, {"": ROWS})[0] for one in (content, equal))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_channels_before_a_clipping_activation_stay() -> None:
    content = converted(lambda x: uneven(x, tf.nn.relu6), (12,))
    _, moved = equalised(content, {"": ROWS}, 1.0)
    assert moved == 1  # between the two layers of the branch alone


def test_channels_of_an_output_stay() -> None:
    function = tf.function(
        lambda x: {"y": tf.matmul(h := tf.nn.relu(tf.matmul(x, EVEN[1])), EVEN[3]), "h": h},
        input_signature=[tf.TensorSpec((None, 12), tf.float32, "x")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with quiet():
        content = converter.convert()
    assert equalised(content, {"": ROWS}, 1.0) == (content, 0)
