"""How coarse a lattice a file of a given size takes, with a pack that costs nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from igs.encoder.targets import _coarseness_for


def found_coarseness(octave: float, aim: int, notch: float = 0.0) -> tuple[float, int, int]:
    """(coarseness, bytes, trials): 1000 bytes at the fit's coarseness of 0.1, ``octave`` less where it is twice that.

    notch: octaves within which nothing changes.
    """
    tried = []

    def size(model: object, fit: object, coarseness: float) -> int:
        tried.append(coarseness)
        octaves = math.log2(coarseness / 0.1)
        return round(1000 - octave * (math.floor(octaves / notch) * notch if notch else octaves))

    found = _coarseness_for(SimpleNamespace(size=size), SimpleNamespace(coarseness=0.1), None, aim)
    return found, size(None, None, found), len(tried) - 1


@pytest.mark.parametrize("size", [500, 700, 950, 1100])
def test_files_that_came_out_too_large_get_coarser_steps(size: int) -> None:
    _, found, _ = found_coarseness(300, size)
    assert 0.97 * size <= found <= size


@pytest.mark.parametrize("size", [880, 940, 990])
def test_pictures_that_pay_little_for_precision(size: int) -> None:
    """A seventh of the slope that trials expect, in notches: one 0.35 octaves too coarse is found, not the bound."""
    _, found, trials = found_coarseness(45, size, notch=1 / 8)
    assert size - 45 * 0.35 <= found <= size
    assert trials <= 8


def test_trials_end_where_nothing_changes_any_more() -> None:
    _, found, trials = found_coarseness(300, 985, notch=1 / 8)
    assert found == round(1000 - 300 / 8)
    assert trials <= 7
