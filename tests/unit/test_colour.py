"""Transfer, gamma and alpha of an encode (encoder/colour.py): what is stored, what is judged, what costs nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import igs
from igs.decoder import measure
from igs.encoder import colour
from igs.encoder.loading.image import load_image
from igs.format import Alpha, Group, Transfer
from igs.format.errors import UsageError

FAST = {"num_gaussians": 24, "steps": 40, "threads": 1}


def ramp(height: int = 32, width: int = 48, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [(x + c * y) / (width + channels * height) for c in range(channels)]
    return np.stack(planes, axis=-1).astype(np.float32)


def with_alpha(colours: np.ndarray) -> np.ndarray:
    alpha = np.zeros((*colours.shape[:2], 1), np.float32)
    alpha[4:20, 8:30] = 1
    alpha[20:24] = 0.5
    return np.concatenate([colours, alpha], axis=-1)


def test_colours_under_no_alpha_cost_nothing() -> None:
    picture = with_alpha(ramp())
    noisy = picture.copy()
    noisy[picture[..., 3] == 0, :3] = np.random.default_rng(0).random((int((picture[..., 3] == 0).sum()), 3))
    assert not np.array_equal(picture, noisy)
    first, second = (igs.encode(a, **FAST) for a in (picture, noisy))
    assert first.data == second.data
    assert {k: v for k, v in first.report.items() if k != "seconds"} == {
        k: v for k, v in second.report.items() if k != "seconds"
    }


def test_report_tells_quality_over_black_over_white_and_of_alpha() -> None:
    picture = with_alpha(ramp())
    encoded = igs.encode(picture, **FAST)
    decoded = igs.open(encoded.data).decode(dtype="float32").astype(np.float64)
    decoded[..., 3] = decoded[..., 3]

    def psnr(a: np.ndarray, b: np.ndarray) -> float:
        return -10 * math.log10(((a - b) ** 2).mean())

    def over(pixels: np.ndarray, backdrop: float) -> np.ndarray:
        return pixels[..., :3] * pixels[..., 3:] + backdrop * (1 - pixels[..., 3:])

    for key, backdrop in (("psnr_black", 0.0), ("psnr_white", 1.0)):
        assert encoded.report[key] == pytest.approx(psnr(over(decoded, backdrop), over(picture, backdrop)), abs=1e-3)
    assert encoded.report["psnr_alpha"] == pytest.approx(psnr(decoded[..., 3], picture[..., 3]), abs=1e-3)
    assert "psnr_alpha" not in igs.encode(ramp(), **FAST).report


@pytest.mark.parametrize("transfer", ["pq", "log"])
def test_light_above_white_comes_back(transfer: str) -> None:
    light = np.exp(4 * ramp() - 1)  # 0.4 to 20
    encoded = igs.encode(light, transfer=transfer, num_gaussians=150, steps=150, threads=1)
    with igs.open(encoded.data) as im:
        assert im.groups[0].transfer == Transfer[transfer.upper()]
        back = im.decode(dtype="float32")
        assert im.decode(dtype="float32", raw=True).max() < 1
    assert np.median(np.abs(back / light - 1)) < 0.02
    assert encoded.report["psnr"] > 40  # of the values on the curve


def test_what_a_curve_cannot_hold_is_told() -> None:
    light = ramp() * 100 - 1
    messages: list[str] = []
    igs.encode(light, transfer="pq", on_warning=messages.append, num_gaussians=4, steps=2, threads=1)
    assert any("PQ holds 0 to 49.2611; --transfer log holds them" in m for m in messages)
    messages.clear()
    igs.encode(light, transfer="log", on_warning=messages.append, num_gaussians=4, steps=2, threads=1)
    assert messages == []
    igs.encode(light, on_warning=messages.append, num_gaussians=4, steps=2, threads=1)
    assert any("--transfer log or pq" in m for m in messages)


def test_linear_light_stores_light() -> None:
    picture = ramp()
    encoded = igs.encode(picture, linear_light=True, num_gaussians=150, steps=100, threads=1)
    with igs.open(encoded.data) as im:
        stored, back = im.decode(dtype="float32", raw=True), im.decode(dtype="float32")
    assert np.abs(stored - picture**2.2).max() < 0.02
    assert np.abs(back - picture).mean() < 0.01


def test_groups() -> None:
    source = load_image(ramp(channels=4), groups=(
        Group(channels=3, bit_depth=32, name="a"), Group(channels=1, transfer=Transfer.LINEAR, name="b"),
    ))  # fmt: skip
    a, b = colour.stored_groups(source, "auto", 1.0, True, print)
    assert (a.gamma, b.gamma) == (pytest.approx(1 / 2.2, abs=3e-4), 1)
    assert [g.transfer for g in colour.stored_groups(source, "log", 1.0, False, print)] == [Transfer.LOG] * 2
    messages: list[str] = []
    colour.stored_groups(source, "log", 1.0, True, messages.append)
    assert any("changes nothing" in m for m in messages)
    with pytest.raises(UsageError, match="gamma 1"):
        colour.stored_groups(source, "auto", 2.0, True, print)
    with pytest.raises(UsageError, match="transfer"):
        colour.stored_groups(source, "gamma", 1.0, False, print)


def test_visible_leaves_plain_pictures_alone() -> None:
    picture = ramp()
    assert measure.compared(picture, load_image(picture).groups) is picture
    straight = (Group(channels=3, alpha=Alpha.STRAIGHT),)
    seen = measure.compared(picture, straight)
    assert np.allclose(seen[..., :2], picture[..., :2] * picture[..., 2:])
