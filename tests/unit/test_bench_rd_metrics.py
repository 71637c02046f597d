"""The rate-distortion benchmark: its metrics."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from rd import metrics
from rd_cases import pictures


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 5, 3))
    assert metrics.psnr(a, a + 0.1) == pytest.approx(20.0)
    assert metrics.psnr(a, a) == metrics.EXACT


def test_ms_ssim_equals_the_encoders_report() -> None:
    pytest.importorskip("torch", reason="the encoder needs torch")
    from igs.encoder import metrics as encoder

    a, b = (p / 255.0 for p in pictures())
    theirs = encoder.ms_ssim(a.astype(np.float32), b.astype(np.float32))
    assert metrics.ms_ssim(a, b) == pytest.approx(theirs, abs=1e-4)


def test_ms_ssim_equals_pytorch_msssim() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("pytorch_msssim")
    a, b = (p / 255.0 for p in pictures())
    x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()) for p in (a, b))
    # Worst difference seen 3e-6: its window is made in single precision.
    assert metrics.ms_ssim(a, b) == pytest.approx(float(theirs.ms_ssim(x, y, data_range=1.0)), abs=1e-4)


def test_ms_ssim_of_equal_and_of_small_pictures() -> None:
    a, b = (p / 255.0 for p in pictures((40, 30)))
    assert metrics.ms_ssim(a, a) == pytest.approx(1.0)
    assert 0 < metrics.ms_ssim(a, b) < 1


def test_flip_of_equal_pictures_is_zero() -> None:
    pytest.importorskip("flip_evaluator")
    a, b = pictures()
    assert metrics.flip(a, a) == pytest.approx(0.0, abs=1e-6)
    assert 0.01 < metrics.flip(a, b) < 1


def test_lpips_needs_whole_weights_and_is_zero_for_equal_pictures() -> None:
    torch = pytest.importorskip("torch")
    from rd import lpips

    with pytest.raises(ValueError, match=r"no 'net\.slice1\.0\.weight'"):
        lpips.Lpips({})
    generator = torch.Generator().manual_seed(0)
    shapes = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    state = {}
    for i, (name, (out, inside, side)) in enumerate(zip(lpips._NAMES, shapes, strict=True)):
        state[f"{name}.weight"] = torch.randn(out, inside, side, side, generator=generator) / (side * inside**0.5)
        state[f"{name}.bias"] = torch.zeros(out)
        state[f"lin{i}.model.1.weight"] = torch.ones(1, out, 1, 1) / out
    distance = lpips.Lpips(state)
    a, b = pictures()
    assert distance(a, a) == 0
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, b) > 0
