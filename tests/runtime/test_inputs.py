"""Any array: the right answer or one InputError, never a crash or a silent guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pennyweight import load, open_bundle
from pennyweight.errors import InputError
from pennyweight.inputs import admit_batch, admit_one
from pennyweight.manifest import InputSpec
from support import FIXTURE

MODEL = load(FIXTURE)
SPEC = MODEL.manifest.inputs[0]
IMAGES = next(iter(open_bundle(FIXTURE).golden().inputs.values()))
FLOATS = {"x": InputSpec("x", (3,), "float32")}

dtypes = st.one_of(
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.boolean_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(),
)
shapes = st.one_of(st.just(SPEC.shape), st.just((2, *SPEC.shape)), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))


def as_pixels(array: Any) -> Any:
    """Give what the array means as uint8 pixels, or None where it can't mean any."""
    if array.dtype.kind not in "bui" or (array.size and (array.min() < 0 or array.max() > 255)):
        return None
    return array.astype(np.uint8)


@settings(max_examples=300, deadline=None)
@given(array=dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes)))
def test_any_array_is_answered_rightly_or_refused(array: Any) -> None:
    pixels = as_pixels(array)
    if pixels is not None and array.shape == SPEC.shape:
        assert MODEL.classify(array) == MODEL.classify(np.ascontiguousarray(pixels))
    else:
        with pytest.raises(InputError):
            MODEL.classify(array)
    if pixels is not None and array.ndim == len(SPEC.shape) + 1 and array.shape[1:] == SPEC.shape:
        np.testing.assert_array_equal(MODEL.predict(array), MODEL.predict(np.ascontiguousarray(pixels)))
    else:
        with pytest.raises(InputError):
            MODEL.predict(array)


@pytest.mark.parametrize(
    "value", [None, "text", object(), {}, {"other": 1}, [[1], [1, 2]], b"bytes", 3, [], float("nan")]
)
def test_what_is_no_array_is_refused(value: Any) -> None:
    for call in (MODEL.classify, MODEL.predict):
        with pytest.raises(InputError) as caught:
            call(value)
        assert "\n" not in str(caught.value)


def test_order_strides_and_lists_do_not_matter() -> None:
    image = IMAGES[0]
    wanted = MODEL.classify(image)
    wide = np.zeros((image.shape[0], image.shape[1] + 7, *image.shape[2:]), np.uint8)
    wide[:, : image.shape[1]] = image
    views = [np.asfortranarray(image), wide[:, : image.shape[1]], image[::-1].copy()[::-1], image.astype(np.int64)]
    views += [image.astype(">u2"), image.tolist(), {SPEC.name: image}]
    assert all(MODEL.classify(view) == wanted for view in views)


def test_scaled_pixels_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="scaling is inside the model"):
        MODEL.classify(IMAGES[0] / 255)


def test_a_wrongly_sized_frame_names_the_call_that_mends_it() -> None:
    for shape in [(480, 640, 3), (480, 640, 4), (480, 640)]:
        with pytest.raises(InputError, match="prepare"):
            MODEL.classify(np.zeros(shape, np.uint8))


def test_one_sample_given_to_predict_is_told_of_the_batch_axis() -> None:
    with pytest.raises(InputError, match=r"array\[None\]"):
        MODEL.predict(IMAGES[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_must_be_finite(bad: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        admit_one(np.array([0, bad, 1], np.float32), FLOATS)
    with pytest.raises(InputError, match="NaN or infinity"):
        admit_batch(np.array([[0, bad, 1]]), FLOATS)


def test_what_overflows_float32_is_refused() -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        admit_one(np.array([0, 1e300, 1]), FLOATS)
    assert admit_one([1, 2, 3], FLOATS)["x"].dtype == np.float32


def test_several_inputs_are_a_dictionary_by_name() -> None:
    specs = {"a": InputSpec("a", (2,), "float32"), "b": InputSpec("b", (1,), "int32")}
    both = admit_batch({"b": [[1], [2], [3]], "a": np.zeros((3, 2))}, specs)
    assert [(name, array.dtype.name, array.shape) for name, array in both.items()] == [
        ("a", "float32", (3, 2)),
        ("b", "int32", (3, 1)),
    ]
    with pytest.raises(InputError, match="several inputs; give a dictionary with a, b"):
        admit_batch(np.zeros((3, 2)), specs)
    with pytest.raises(InputError, match="different numbers of samples"):
        admit_batch({"a": np.zeros((3, 2)), "b": [[1]]}, specs)
