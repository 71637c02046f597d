"""The metrics of the encoder's report: MS-SSIM."""

from __future__ import annotations

import numpy as np
import pytest

from igs.encoder.metrics import ms_ssim


def test_ms_ssim_of_equal_and_of_small_pictures() -> None:
    a = np.random.default_rng(0).random((170, 180, 3)).astype(np.float32)
    assert ms_ssim(a, a) == pytest.approx(1.0)
    assert ms_ssim(a, 1 - a) < 0.2
    assert ms_ssim(a[:160], a[:160]) is None
