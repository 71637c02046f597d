"""Loading arrays, and the values that a file stores (spec §3.4)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_cases import kind

from igs.encoder.loading.image import load_image
from igs.encoder.loading.source import to_stored
from igs.format import Alpha, Colour, Group, Transfer
from igs.format.errors import UsageError


def group(channels: int, alpha: Alpha, name: str, gamma: float = 1.0) -> Group:
    known = {"transfer": Transfer.LINEAR, "bit_depth": 8, "colour": Colour.UNSPECIFIED}
    return Group(channels=channels, alpha=alpha, gamma=gamma, name=name, **known)


# -- arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 2), (3, 4, 3), (3, 4, 4), (3, 4, 9), (1, 1, 64)])
def test_arrays(dtype: type, shape: tuple[int, ...]) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    values = (np.linspace(0, 1, int(np.prod(shape))).reshape(shape) * top).astype(dtype)
    source = load_image(values)
    channels = shape[2] if len(shape) == 3 else 1
    assert source.pixels.shape == (*shape[:2], channels)
    assert source.bit_depth == {np.uint8: 8, np.uint16: 16}.get(dtype, 32)
    assert np.allclose(source.pixels.reshape(shape), values / np.float64(top), atol=1e-7)
    expected = {1: "GREY", 2: "GREY+A", 3: "RGB", 4: "RGB+A"}.get(channels, "UNSPECIFIED")
    assert kind(source) == expected
    assert source.values.dtype == (dtype if np.issubdtype(dtype, np.integer) else np.float32)
    assert source.is_within_unit == np.issubdtype(dtype, np.integer)
    assert not np.shares_memory(source.values, values)
    for part in ((slice(1, 3), slice(None, None, 2)), (..., 0), (np.array([0, -1]), np.array([0, -1]))):
        assert np.array_equal(source[part], source.pixels[part])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((4, 0, 3)), np.zeros((2, 2, 65)),
        np.zeros((2, 2, 0)), np.zeros((2, 2), int), np.zeros((2, 2), bool), np.zeros((2, 2), complex),
        np.full((2, 2), np.inf), np.full((2, 2), np.nan), np.zeros((2, 2), object),
    ],
)  # fmt: skip
def test_bad_arrays(array: np.ndarray) -> None:
    with pytest.raises(UsageError):
        load_image(array)


def test_groups_can_be_given() -> None:
    groups = (group(3, Alpha.NONE, "albedo"), group(1, Alpha.NONE, "roughness"))
    assert load_image(np.zeros((2, 2, 4), np.uint8), groups=groups).groups == groups
    with pytest.raises(UsageError, match="4 channels"):
        load_image(np.zeros((2, 2, 3), np.uint8), groups=groups)


def test_where_a_value_is_not_finite() -> None:
    values = np.ones((4, 5, 3), np.float32)
    values[2, 3, 1] = np.nan
    values[3, 0, 0] = np.inf
    with pytest.raises(
        UsageError, match=r"NaN or infinity in 2 of 60, the first \(nan\) in column 3, row 2, channel 1"
    ):
        load_image(values)


# -- stored values


@given(st.floats(1 / 16, 16), st.sampled_from(list(Alpha)), st.integers(0, 2**32))
def test_to_stored_is_undone_by_the_rule_of_the_specification(gamma: float, alpha: Alpha, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.02, 1, (4, 5, 6)).astype(np.float32)  # darker values to the 16th leave binary32
    pixels[..., 5] = rng.integers(8, 256, (4, 5)) / 255  # alpha at and above 2^-9, where dividing is defined
    plain = group(2, Alpha.NONE, "a")
    other = group(4, alpha, "b", gamma)
    stored = to_stored(pixels, (plain, other)).astype(np.float64)
    assert np.array_equal(stored[..., :2], pixels[..., :2].astype(np.float64))
    colours = stored[..., 2:] if alpha == Alpha.NONE else stored[..., 2:5]
    if alpha == Alpha.PREMULTIPLIED:
        colours = colours / stored[..., 5:]
    picture = np.maximum(colours, 0) ** other.gamma  # as a file holds it
    # binary32 rounding of v^(1/gamma), magnified by gamma on the way back
    assert np.allclose(picture, pixels[..., 2 : 2 + picture.shape[-1]], atol=4e-6)
    if alpha != Alpha.NONE:
        assert np.array_equal(stored[..., 5], pixels[..., 5].astype(np.float64))
