"""The metrics of the encoder's report: MS-SSIM."""

from __future__ import annotations

import numpy as np
import pytest

from igs.encoder.blur import blur, gaussian_taps
from igs.encoder.metrics import ms_ssim


def test_ms_ssim_of_equal_and_of_small_pictures() -> None:
    a = np.random.default_rng(0).random((170, 180, 3)).astype(np.float32)
    assert ms_ssim(a, a) == pytest.approx(1.0)
    assert ms_ssim(a, 1 - a) < 0.2
    assert ms_ssim(a[:160], a[:160]) is None


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
