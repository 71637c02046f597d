"""The metrics of the encoder's report: MS-SSIM, and both metrics by rows as they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igs.encoder.blur import blur, gaussian_taps
from igs.encoder.metrics import Comparison, ms_ssim, psnr


def test_ms_ssim_of_equal_and_of_small_pictures() -> None:
    a = np.random.default_rng(0).random((170, 180, 3)).astype(np.float32)
    assert ms_ssim(a, a) == pytest.approx(1.0)
    assert ms_ssim(a, 1 - a) < 0.2
    assert ms_ssim(a[:160], a[:160]) is None


@settings(max_examples=20)
@given(
    st.tuples(st.integers(155, 230), st.integers(155, 200), st.integers(1, 3)),
    st.lists(st.integers(1, 120), min_size=1),
    st.integers(0, 3),
)
def test_by_rows_as_they_come_is_as_at_once(shape: tuple[int, int, int], heights: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random(shape, dtype=np.float32) for _ in range(2))
    found, first = Comparison(shape), 0
    while first < shape[0]:
        heights.append(heights.pop(0))
        rows = slice(first, first + heights[-1])
        found.add(a[rows], b[rows])
        first = rows.stop
    expected = ms_ssim(a, b)
    assert found.ms_ssim() == (None if min(shape[:2]) < 161 else pytest.approx(expected, rel=1e-12))
    assert found.psnr() == pytest.approx(psnr(a, b), rel=1e-12)
    last = slice(shape[2] - 1, shape[2])
    assert found.psnr(last) == pytest.approx(psnr(a[..., last], b[..., last]), rel=1e-12)
    if expected is not None:
        assert found.ms_ssim(last) == pytest.approx(ms_ssim(a[..., last], b[..., last]), rel=1e-12)


def test_equal_pictures_have_no_psnr() -> None:
    found = Comparison((4, 5, 2))
    found.add(np.zeros((4, 5, 2), np.float32), np.zeros((4, 5, 2), np.float32))
    assert (found.psnr(), found.ms_ssim()) == (None, None)


def test_ms_ssim_by_blocks_is_that_of_the_definition() -> None:
    """Wang et al. 2003 in binary64, whole pictures at once, blurred by SciPy."""
    ndimage = pytest.importorskip("scipy.ndimage")
    window = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window /= window.sum()

    def blurred(x: np.ndarray) -> np.ndarray:
        across = ndimage.correlate1d(x, window, axis=1)
        return np.asarray(ndimage.correlate1d(across, window, axis=0)[5:-5, 5:-5])

    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.random((203, 331, 2)), (3, 3, 0)).astype(np.float32)
    a = (a - a.min()) / (a.max() - a.min())
    b = (a + 0.05 * rng.standard_normal(a.shape)).astype(np.float32)
    values = []
    for channel in range(2):
        x, y, value = a[..., channel].astype(np.float64), b[..., channel].astype(np.float64), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = blurred(x), blurred(y)
            vx, vy, vxy = blurred(x * x) - mx * mx, blurred(y * y) - my * my, blurred(x * y) - mx * my
            similarity = (2 * vxy + 9e-4) / (vx + vy + 9e-4)
            if scale == 4:
                similarity *= (2 * mx * my + 1e-4) / (mx * mx + my * my + 1e-4)
            value *= similarity.mean() ** weight
            x, y = (p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2] for p in (x, y))
            x, y = (p.reshape(p.shape[0] // 2, 2, -1, 2).mean((1, 3)) for p in (x, y))
        values.append(value)
    assert ms_ssim(a, b) == pytest.approx(np.mean(values), abs=2e-6)
    assert 0.5 < np.mean(values) < 0.99


@pytest.mark.parametrize(("height", "width"), [(41, 41), (200, 57), (105, 130)])
def test_blurs_are_those_of_a_filter(height: int, width: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    picture = np.random.default_rng(1).random((height, width))
    found = blur(np.pad(picture, 20, mode="edge"), gaussian_taps(5.0, 20))
    assert np.allclose(found, ndimage.gaussian_filter(picture, 5.0, mode="nearest"), atol=1e-14)
