"""The encoder's lattice record before its models are fitted: it has room for whatever a fit may come to."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder.rounding.lattice import Steps
from igs.format import cells
from igs.format import lattice as la
from igs.format.lattice_models import fit_record


@pytest.mark.parametrize("coarseness", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("sigma", [(0.25, 0.25), (1000.0, 0.25), (2000.0, 60.0), (16000.0, 10.0), (4000.0, 4000.0)])
def test_any_size_and_elongation_has_codes(coarseness: float, sigma: tuple[float, float]) -> None:
    record = Steps.of(coarseness, 1, 1, []).record(False)
    at, size = np.array([[100.0, 100.0], [30.0, 20.0]]), (2**15, 2**15)
    sigmas, turns, values = np.array([sigma, (2.0, 1.0)]), np.array([0.3, 0.1]), np.array([[0.5], [-0.4]])
    codes = la.encode(record, at, sigmas, turns, values, [], size)
    part = la.shapes(record, codes)
    means = la.mean_positions(codes, part.step, *la.factor(part.sigma1, part.sigma2, part.turn)[:3])
    box = np.array([-(2.0**15), -(2.0**15), 2.0**15, 2.0**15])
    coded = cells.encode(codes, record, box, means)
    fitted = fit_record(record, codes[coded.order], coded.around)
    assert list(fitted.problems()) == []
    assert len(cells.encode(codes, fitted, box, means).payload) <= len(coded.payload) + 4
    assert fitted.feature == record.feature


@pytest.mark.parametrize("turn", [0.0, 0.1, 0.5, 0.77, 1e-6])
@pytest.mark.parametrize("at", [(1600.0, 2.0), (-1500.0, 900.0), (300.0, 1100.0), (100.0, -500.0)])
def test_a_needle_whose_steps_are_wide_stays_in_the_room_of_a_chunk(turn: float, at: tuple[float, float]) -> None:
    size, record = (768, 512), Steps.of(2.0, 1, 1, []).record(False)
    sigma, value = np.array([[2400.0, 0.6]]), np.array([[0.5]])
    codes = la.encode(record, np.array([at]), sigma, np.array([turn]), value, [], size)
    part = la.shapes(record, codes)
    (mean,) = la.mean_positions(codes, part.step, *la.factor(part.sigma1, part.sigma2, part.turn)[:3])
    assert (mean >= -np.array(size)).all()
    assert (mean <= 2 * np.array(size)).all()
    across = {(0.0, (1600.0, 2.0)): 1, (0.5, (300.0, 1100.0)): 0}.get((turn, at))
    if across is not None:  # it lies along a side, and has moved along it
        assert abs(mean[across] - at[across]) < 1
        assert abs(mean[1 - across] - at[1 - across]) > 100


def test_points_in_the_room_stay_where_they_are() -> None:
    i, j = np.arange(-5.0, 5.0), np.arange(5.0, -5.0, -1.0)
    found = la.in_room(i, j, np.full(10, 3.0), np.full(10, 7.0), np.full(10, 0.4), (64, 48))
    np.testing.assert_array_equal(found, (i, j))
