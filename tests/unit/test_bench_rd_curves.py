"""The rate-distortion benchmark: its curves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from rd import curves
from rd_cases import ANCHOR, TEST, points


def test_envelope_drops_what_a_cheaper_point_beats() -> None:
    assert curves.envelope(points(ANCHOR), "psnr") == [p for p in sorted(ANCHOR) if p[0] != 0.17]


def test_bd_rate_equals_the_values_of_an_independent_program() -> None:
    # Computed once by another implementation of the same definition.
    assert curves.bd_rate(points(TEST), points(ANCHOR)).percent == pytest.approx(-9.419227707746636, abs=1e-9)
    assert curves.bd_rate(points(ANCHOR), points(TEST)).percent == pytest.approx(10.398705453024903, abs=1e-9)
    assert curves.at(points(ANCHOR), 0.2) == pytest.approx(28.939378918069913, abs=1e-9)


def test_quality_a_little_beyond_a_curve_is_that_of_its_end() -> None:
    low, high = TEST[0], TEST[-1]
    assert curves.at(points(TEST), 0.0996) is None
    assert curves.at(points(TEST), 0.0996, tolerance=0.01) == pytest.approx(low[1])
    assert curves.at(points(TEST), 0.4004, tolerance=0.01) == pytest.approx(high[1])
    assert curves.at(points(TEST), 0.098, tolerance=0.01) is None
    assert curves.at(points(TEST), 0.41, tolerance=0.01) is None
    assert curves.at(points(TEST), 0.2, tolerance=0.01) == curves.at(points(TEST), 0.2)


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim", "flip"])
@pytest.mark.parametrize("rate", [0.5, 1.0, 1.25])
def test_bd_rate_of_a_curve_at_other_rates_is_that_factor(metric: str, rate: float) -> None:
    comparison = curves.bd_rate(points(TEST, rate=rate), points(TEST), metric)
    assert comparison.percent == pytest.approx(100 * (rate - 1), abs=1e-6)
    assert comparison.relation == "overlap"


def test_curves_without_overlap_say_on_which_side_they_lie() -> None:
    assert curves.bd_rate(points(TEST, up=12), points(ANCHOR)) == curves.Comparison(None, "above")
    assert curves.bd_rate(points(TEST, up=-20), points(ANCHOR)) == curves.Comparison(None, "below")
    assert curves.bd_rate(points(TEST)[:1], points(ANCHOR)) == curves.Comparison(None, "too few points")
    assert curves.bd_rate(points(TEST), []) == curves.Comparison(None, "too few points")
    assert curves.bd_rate(points(TEST), points(ANCHOR), "lpips").relation == "too few points"


def test_mean_curve_covers_the_rates_that_all_pictures_have() -> None:
    mean = curves.mean_curve([points(TEST), points(TEST, up=2)], "psnr")
    assert mean[0] == (pytest.approx(0.1), pytest.approx(28.0))
    assert mean[-1] == (pytest.approx(0.4), pytest.approx(32.8))
    assert curves.mean_curve([points(TEST), points(TEST, rate=10)], "psnr") == []


def test_crossing_is_where_the_lead_changes() -> None:
    flat = [(0.1, 29.0), (0.2, 29.3), (0.4, 29.6)]
    (found,) = curves.crossings(TEST, flat)
    assert found == (pytest.approx(0.2, rel=1e-3), pytest.approx(29.3, abs=0.01))
    assert curves.crossings(TEST, [(r, q + 3) for r, q in TEST]) == []
