"""How coarse a lattice a file of a given size takes, with a pack that costs nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from igs.encoder.targets import _coarseness_for


@pytest.mark.parametrize("size", [500, 700, 950, 1100])
def test_files_that_came_out_too_large_get_coarser_steps(size: int) -> None:
    """1000 bytes at the fit's coarseness of 0.1, 300 less for each octave that the steps are coarser."""

    def pack(model: object, fit: object, coarseness: float) -> tuple[None, bytes]:
        return None, bytes(round(1000 - 300 * math.log2(coarseness / 0.1)))

    job, fit = SimpleNamespace(pack=pack), SimpleNamespace(coarseness=0.1)
    found = _coarseness_for(job, fit, None, size)
    assert 0.97 * size <= len(pack(None, None, found)[1]) <= size
