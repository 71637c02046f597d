"""Rates and qualities that are asked for, and how coarse a lattice and how many Gaussians they take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from encoder_cases import picture, small
from PIL import Image

import igs
from igs.encoder import encode, rate, targets
from igs.encoder.fitting.fit import Fit
from igs.encoder.job import Job
from igs.encoder.raster.model import Model
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.encoder.targets import _coarseness_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "antelope_canyon.png"
PHOTO = Image.open(EXAMPLE).convert("RGB").crop((200, 100, 392, 228))


def found_coarseness(octave: float, aim: int, notch: float = 0.0) -> tuple[float, int, int]:
    """(coarseness, bytes, trials): 1000 bytes at the fit's coarseness of 0.1, ``octave`` less where it is twice that.

    notch: octaves within which nothing changes.
    """
    tried = []

    def size(coarseness: float) -> int:
        tried.append(coarseness)
        octaves = math.log2(coarseness / 0.1)
        return round(1000 - octave * (math.floor(octaves / notch) * notch if notch else octaves))

    found = _coarseness_for(size, 0.1, aim)
    return found, size(found), len(tried) - 1


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


def flat_picture(side: int) -> np.ndarray:
    """Two discs on a plain ground, whose fits get better and better."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    values = np.full((side, side, 3), 0.3)
    for cx, cy, r, color in ((0.35, 0.4, 0.22, (0.9, 0.7, 0.2)), (0.7, 0.65, 0.15, (0.1, 0.2, 0.6))):
        inside = np.clip((r - np.hypot(x - cx, y - cy)) * side / 2 + 0.5, 0, 1)[:, :, None]
        values = values * (1 - inside) + np.array(color) * inside
    return values.astype(np.float32)


def test_a_fit_that_outgrows_its_bytes_loses_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(coarser: float) -> int:
        monkeypatch.setattr(targets, "_LATE_COARSER", coarser)
        report = encode(flat_picture(96), size=600, effort=1).report
        assert 0.95 * 600 <= report["bytes"] <= 600
        return int(report["num_gaussians"])

    assert count(0.5) < 0.9 * count(30.0)


class Pair:
    """A job in which Gaussians 0 and 1 stand in for each other: either is idle as long as the other is there."""

    def ends(self, model: Model) -> list[int]:
        return [len(model)]

    def idle(self, model: Model, fit: object) -> torch.Tensor:
        which = model.rotation
        costs = 10 + which
        costs[which < 2] = -1.0 if (which < 2).sum() == 2 else 100.0
        return torch.argsort(costs, stable=True)


@pytest.mark.parametrize("count", [1, 2, 5, 19, 30])
def test_of_two_that_stand_in_for_each_other_one_stays(count: int) -> None:
    which = torch.arange(40.0)
    model = Model(which[:, None].expand(-1, 2), torch.ones(40, 2), which, torch.zeros(40, 3), "log")
    left = which[Job.without_idle(Pair(), model, None, count)]  # type: ignore[arg-type]
    assert len(left) == 40 - count
    assert (left < 2).sum() == 1


def test_who_is_left_out_would_be_missed_least() -> None:
    target = torch.from_numpy(np.ascontiguousarray(flat_picture(48).transpose(2, 0, 1)))
    fit = Fit(target, 12, Recipe(growth=False, relocate=0.0, steps=40), TorchBackend())
    fit.at_once = 0.5  # all of them: costs are others once somebody has left
    fit.run(20)
    before, costs = fit.state.model.clone(), fit.removal_costs(fit.state.model)
    moments, age = [(m.clone(), v.clone()) for m, v in fit.state.moments], fit.state.age.clone()
    fit.shrink(12)
    assert fit.count == 12
    fit.shrink(7)
    kept = torch.sort(torch.argsort(costs, stable=True)[5:]).values
    for now, then in zip(fit.state.model.tensors(), before.tensors(), strict=True):
        assert torch.equal(now, then[kept])
    for now, then in zip(fit.state.moments, moments, strict=True):
        assert torch.equal(now[0], then[0][kept])
        assert torch.equal(now[1], then[1][kept])
    assert torch.equal(fit.state.age, age[kept])
    assert len(fit.run()) == 7


@pytest.mark.parametrize("size", [400, 900, 3000])
def test_size_is_never_exceeded_and_nearly_used(size):
    encoded = encode(picture(80, 60), size=size, steps=3, codec="raw", coding="plain")
    one = encoded.report["bits_per_gaussian"] / 8
    assert len(encoded.data) <= size
    assert len(encoded.data) >= min(0.98 * size, size - one - 1)
    coded = encode(picture(80, 60), size=size, steps=40)
    assert 0.9 * size <= len(coded.data) <= size


@pytest.mark.parametrize("settings", [{"size": 20_000}, {"bpp": 64.0}, {"size": 20_000, "coding": "plain"}])
def test_there_are_no_more_gaussians_than_pixels(settings: dict[str, Any]) -> None:
    report = encode(flat_picture(16), effort=1, **settings).report
    assert report["num_gaussians"] <= 256


def test_size_below_the_smallest_file_names_it():
    with pytest.raises(igs.UsageError, match="smallest file"):
        encode(picture(), size=50, steps=1)


@pytest.mark.parametrize("effort", [1, 3])
@pytest.mark.parametrize("target", [20.0, 26.0, 32.0])
def test_psnr_target_is_met_and_not_by_much_more(target, effort):
    report = encode(PHOTO, psnr=target, effort=effort).report
    assert report["rate_met"]
    one = 10 * 0.67 * math.log10(1 + 1 / report["num_gaussians"])  # dB of a Gaussian, about
    assert target <= report["psnr"] <= target + 0.2 + 2 * one


def test_plain_codes_meet_a_psnr_too():
    report = encode(picture(60, 50), psnr=24.0, steps=60, coding="plain").report
    assert 24.0 <= report["psnr"] <= 25.5


def test_a_psnr_below_what_the_first_gaussians_give():
    """A twentieth of the pixels' four-hundredth is enough: those that are too many are left out."""
    flat = np.full((128, 128, 3), 128, np.uint8)
    flat[40:90, 40:90] = 180
    report = encode(flat, psnr=20.0, effort=2).report
    assert report["num_gaussians"] <= 3
    assert report["psnr"] >= 20.0


def test_psnr_beyond_reach_warns_or_fails():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    warnings = []
    encoded = encode(noise, psnr=60.0, steps=3, on_warning=warnings.append)
    assert encoded.report["rate_met"] is False
    assert len(warnings) == 1
    with pytest.raises(igs.IgsError, match="reached"):
        encode(noise, psnr=60.0, steps=3, strict_rate=True)


def test_small_pictures_get_some_gaussians_and_metadata_is_not_counted():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    report = encode(image, quality=75, effort=1, sections={"iccp": bytes(36) + b"acsp" + bytes(5000)}).report
    assert report["num_gaussians"] == 64
    assert report["psnr"] > 20
    warnings = []
    encode(image, size=6000, steps=1, sections={"soft": bytes(5000)}, on_warning=warnings.append)
    assert "metadata takes 5000" in warnings[0]
    encode(image, num_gaussians=9, steps=1, sections={"soft": bytes(5000)}, on_warning=warnings.append)
    assert "metadata takes 5000" in warnings[1]
    encode(image, num_gaussians=9, levels=3, steps=1, on_warning=warnings.append)
    assert len(warnings) == 2


def test_size_that_one_gaussian_exceeds_is_an_error():
    smallest = len(encode(picture(), num_gaussians=1, steps=1).data)
    assert len(encode(picture(), size=smallest, steps=1).data) <= smallest
    for levels, size in ((1, smallest - 8), (4, 300)):  # coarser steps save two bytes
        with pytest.raises(igs.UsageError, match=r"expected \d+ or more"):
            encode(picture(), size=size, steps=1, levels=levels)


def test_a_quality_spends_where_a_bit_is_worth_it():
    """Of two pictures of one size that with more to see gets more bytes, and still has the larger error."""
    disc = flat_picture(160)
    busy = np.array(PHOTO.resize((160, 160)))
    busy = (busy.astype(int) + np.random.default_rng(0).integers(-30, 30, busy.shape)).clip(0, 255).astype(np.uint8)
    plain, rich = (encode(p, quality=70, effort=2).report for p in (disc, busy))
    assert rich["num_gaussians"] > 1.5 * plain["num_gaussians"]
    assert rich["psnr"] < plain["psnr"] - 5


def test_quality_is_a_documented_scale():
    assert rate.quality_to_bpp(0) == pytest.approx(0.02)
    assert rate.quality_to_bpp(100) == pytest.approx(1.0)
    assert rate.least_worth(60) == pytest.approx(rate.least_worth(50) / 50 ** (0.1 * (1 + rate.ERROR_FALL)))
    low, high = (small(picture(200, 150), num_gaussians=None, quality=q, steps=2).report["bytes"] for q in (60, 90))
    assert low < high


@pytest.mark.parametrize(
    "settings",
    [
        {"coding": "plain", "codec": "columns"},
        {"coding": "plain", "codec": "columns", "growth": False},
        {"preset": "gaussianimage", "codec": "columns"},
        {"preset": "gaussianimage++", "codec": "columns"},
    ],
    ids=str,
)
def test_what_a_codec_saves_goes_into_gaussians(settings):
    size = 4000
    encoded = encode(picture(120, 90), size=size, steps=60, **settings)
    one = encoded.report["bits_per_gaussian"] / 8
    assert len(encoded.data) <= size
    assert len(encoded.data) >= min(0.98 * size, size - one - 1)
