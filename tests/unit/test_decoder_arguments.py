"""Numbers of any kind as arguments, and what is refused: never another pixel, never another library's error."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from image_cases import make_file, make_header

import igs
from igs.decoder.grid import make_grid
from igs.format.errors import UsageError
from igs.format.fields import BOUND


@pytest.fixture(scope="module")
def data() -> bytes:
    return make_file(make_header(width=300, height=40))


@pytest.fixture(scope="module")
def image(data: bytes) -> Iterator[Any]:
    with igs.open(data, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32, float, Fraction])
def test_numbers_of_any_kind_are_the_same_place(image: Any, kind: Any) -> None:
    np.testing.assert_array_equal(image.pixel(kind(100), kind(6)), image.pixel(100, 6))
    part = image.region(kind(100), kind(6), kind(20), kind(10), kind(8))
    np.testing.assert_array_equal(part, image.region(100, 6, 20, 10, 8))


def test_small_types_do_not_wrap(image: Any) -> None:
    with pytest.raises(UsageError, match="region"):
        image.region(np.uint8(250), 0, np.uint8(60), 4)
    assert make_grid(0, 0, np.uint16(30000), np.uint8(1), np.uint8(8), 30000, 1).columns == 240000


@pytest.mark.parametrize("dtype", [">u2", ">f4", "uint32", "float64", object])
def test_other_dtypes_are_refused(image: Any, dtype: Any) -> None:
    with pytest.raises(UsageError, match="dtype: expected uint8, uint16, float32"):
        image.decode(dtype=dtype)


@pytest.mark.parametrize("number", [10**400, None, np.ones(2)])
def test_what_is_no_number_is_refused(image: Any, number: Any) -> None:
    with pytest.raises(UsageError, match="x: expected a finite number"):
        image.region(number, 0, 1, 1)
    with pytest.raises(UsageError, match="scale: expected a finite number"):
        image.region(0, 0, 1, 1, number)
    with pytest.raises(UsageError, match="points: expected numbers"):
        image.sample([[number, 0]] if number is not None else "points")  # None is NaN to NumPy


def test_a_region_stays_within_the_units() -> None:
    """A last column that ends beyond 2^30 units (spec §8.1)."""
    grid = make_grid(0, 0, 65536, 1, 0.3, 65536, 1)
    assert grid.xs[-1] == BOUND - 1
    assert (np.diff(grid.xs.astype(np.int64)) >= 0).all()


def test_the_sources_of_a_stream_may_raise(data: bytes) -> None:
    """The pictures taken before are not lost."""

    def sources() -> Iterator[bytes]:
        for _ in range(5):
            yield data
        raise RuntimeError("no more")

    found: list[Any] = []
    with igs.decode_many(sources(), threads=2) as pictures:
        for _ in range(6):
            try:
                found.append(next(pictures).shape)
            except RuntimeError as error:
                found.append(str(error))
            except StopIteration:
                break
    assert sorted(map(str, found)) == sorted([*["(40, 300, 3)"] * 5, "no more"])
