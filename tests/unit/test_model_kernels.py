"""The kernel that weighs models for values against its slow twin, and the models that are chosen with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_models import value_bits_reference

from igs.format import cells, model_kernels
from igs.format.lattice_models import _fit_values

CURVES = cells.tables()[:3] / 2.0**24


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200), spread=st.floats(1e-3, 1e3))
def test_bits_are_those_of_the_twin(seed: int, n: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    v = rng.standard_t(2, n) * spread  # some beyond the curves' ends
    unit = spread * rng.uniform(0.01, 3, n)
    low = np.where(rng.random(n) < 0.1, -np.inf, v - unit / 2)
    shift, share = rng.normal(0, spread, n), rng.integers(0, 2, n) * rng.random()
    widths = spread * np.exp2(rng.uniform(-4, 3, 4))
    given_ = CURVES, low, v + unit / 2, shift, share, rng.normal(0, spread, 4), widths
    # Only the order of the sum differs, and a product of 32 in place of 32 logarithms: 2.6e-14 measured.
    np.testing.assert_allclose(model_kernels.value_bits(*given_), value_bits_reference(*given_), rtol=1e-12)


@pytest.mark.parametrize(("family", "draw"), [(0, "logistic"), (1, "laplace"), (2, "standard_t")])
def test_values_get_the_family_that_they_were_drawn_from(family: int, draw: str) -> None:
    rng = np.random.default_rng(3)
    v = rng.standard_t(4, 4000) if draw == "standard_t" else getattr(rng, draw)(size=4000)
    v = 0.7 + 0.2 * v
    found = _fit_values(v, v - 0.005, v + 0.005, np.full(4000, np.nan))
    assert found.family == family
    assert found.mean == pytest.approx(0.7, abs=0.02)


def test_neighbours_pull_where_they_tell_something() -> None:
    rng = np.random.default_rng(4)
    around = rng.normal(0, 1, 3000)
    v = 0.9 * around + rng.logistic(0, 0.05, 3000)
    found = _fit_values(v, v - 0.01, v + 0.01, around)
    assert found.pull >= 54
    assert _fit_values(v, v - 0.01, v + 0.01, rng.permutation(around)).pull == 0
