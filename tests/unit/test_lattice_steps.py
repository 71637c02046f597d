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
    at = np.array([[100.0, 100.0], [30.0, 20.0]])
    codes = la.encode(record, at, np.array([sigma, (2.0, 1.0)]), np.array([0.3, 0.1]), np.array([[0.5], [-0.4]]), [])
    part = la.shapes(record, codes)
    means = la.mean_positions(codes, part.step, *la.factor(part.sigma1, part.sigma2, part.turn)[:3])
    box = np.array([-(2.0**15), -(2.0**15), 2.0**15, 2.0**15])
    coded = cells.encode(codes, record, box, means)
    fitted = fit_record(record, codes[coded.order], coded.around)
    assert list(fitted.problems()) == []
    assert len(cells.encode(codes, fitted, box, means).payload) <= len(coded.payload) + 4
    assert fitted.feature == record.feature
