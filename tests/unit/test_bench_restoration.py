"""The benchmark of restoration: degradations, filters, points and their cache, tables, and the page they go into."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy")
pytest.importorskip("torch", reason="the encoder needs torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import restoration
from rd import degradations
from rd.cache import Store
from rd.degradations import Degradation
from restoration import Lab

GREY = np.full((64, 64, 3), 128, np.uint8)


def slope(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 5, 255 - x * 2], 2).astype(np.uint8)


# -- degradations


@pytest.mark.parametrize("sigma", [10, 20])
def test_noise_is_white_of_the_deviation_asked_for_and_the_same_each_time(sigma: int) -> None:
    found = degradations.noisy(GREY, sigma)
    error = found.astype(np.float64) - GREY
    # 12288 values: the deviation of the estimate is 0.6 %, that of the mean σ/111, that of a correlation 1/111.
    assert error.std() == pytest.approx(sigma, rel=0.03)
    assert abs(error.mean()) < 0.05 * sigma
    assert abs(np.corrcoef(error[:, 1:].ravel(), error[:, :-1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(error[..., 0].ravel(), error[..., 1].ravel())[0, 1]) < 0.07
    assert np.array_equal(found, degradations.noisy(GREY, sigma))
    assert not np.array_equal(found, degradations.noisy(GREY, sigma, seed=1))


def test_noise_clips_and_does_not_wrap() -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    assert degradations.noisy(white, 20).min() > 128
    assert (degradations.noisy(white, 20) == 255).mean() == pytest.approx(0.5, abs=0.05)


def test_jpeg_is_what_pillow_decodes_of_its_file() -> None:
    out = io.BytesIO()
    Image.fromarray(slope()).save(out, "JPEG", quality=20, subsampling=2)
    assert np.array_equal(degradations.jpeg(slope(), 20), np.asarray(Image.open(out)))
    errors = [np.square(degradations.jpeg(slope(), q) - slope().astype(float)).mean() for q in (10, 20, 40)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_banding_moves_to_the_nearest_of_evenly_spread_values() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.unique(degradations.banded(ramp, 2)).tolist() == [0, 255]
    assert np.unique(degradations.banded(ramp, 16)).tolist() == list(range(0, 256, 17))
    assert len(np.unique(degradations.banded(ramp, 8))) == 8
    for levels in (8, 16):
        found = degradations.banded(ramp, levels)
        assert np.abs(found.astype(int) - ramp).max() <= 255 / (levels - 1) / 2 + 0.5
        assert np.array_equal(degradations.banded(found, levels), found)
    assert np.array_equal(degradations.banded(ramp, 256), ramp)


def test_every_degradation_has_a_name_and_changes_the_picture_except_none() -> None:
    assert len({d.name for d in degradations.ALL}) == len({d.label for d in degradations.ALL}) == len(degradations.ALL)
    before = slope().copy()
    for degradation in degradations.ALL:
        found = degradation(before)
        assert found.dtype == np.uint8
        assert found.shape == before.shape
        assert np.array_equal(found, before) == (degradation.kind == "clean")
    assert np.array_equal(before, slope())
    with pytest.raises(ValueError, match="found 'rain'"):
        Degradation("rain", 1)(before)


# -- filters


def test_filters_keep_flat_pictures_and_take_away_noise() -> None:
    noisy = degradations.noisy(GREY, 10)
    for call, sizes in ((degradations.blurred, degradations.BLURS), (degradations.median, degradations.MEDIANS)):
        errors = []
        for size in sizes:
            assert np.array_equal(call(GREY, size), GREY)
            errors.append(np.square(call(noisy, size) - 128.0).mean())
        assert errors == sorted(errors, reverse=True)
        assert errors[0] < 60  # of 100


def test_filters_work_by_channel() -> None:
    red = np.zeros((9, 9, 3), np.uint8)
    red[4, 4, 0] = 255
    assert degradations.median(red, 3).max() == 0
    found = degradations.blurred(red, 1.0)
    assert found[4, 4, 0] == round(255 * 0.15915)
    assert not found[..., 1:].any()


# -- points


def test_a_point_is_measured_once_and_known_by_both_pictures(tmp_path: Path) -> None:
    calls = []

    def make() -> tuple[np.ndarray, dict]:
        calls.append(1)
        return slope(), {"bytes": 7}

    noisy = degradations.noisy(slope(), 10)
    lab = Lab(Store(tmp_path), slope(), noisy)
    first = lab.point("f", "1", {"s": 1}, make)
    assert first == {"bytes": 7, "psnr": 99.0, "ms_ssim": pytest.approx(1.0)}
    assert lab.point("f", "1", {"s": 1}, make) == first
    assert len(calls) == 1
    lab.point("f", "1", {"s": 2}, make)
    lab.point("f", "2", {"s": 1}, make)
    assert len(calls) == 3
    other = Lab(Store(tmp_path), noisy, noisy).point("f", "1", {"s": 1}, make)
    assert len(calls) == 4
    assert other is not None
    assert other["psnr"] < 40
    assert Lab(Store(tmp_path), slope(), noisy, cached=True).point("f", "3", {}, make) is None
    assert len(calls) == 4


def test_filters_are_the_best_of_their_sizes(tmp_path: Path) -> None:
    flat = Lab(Store(tmp_path), GREY, degradations.noisy(GREY, 20))
    assert flat.filtered("blur")["size"] == max(degradations.BLURS)
    checks = (np.indices((64, 64)).sum(0)[..., None] % 2 * 255).astype(np.uint8).repeat(3, 2)
    assert Lab(Store(tmp_path), checks, checks).filtered("blur")["size"] == min(degradations.BLURS)


def test_a_rival_is_the_best_that_fits_or_the_smallest(tmp_path: Path) -> None:
    pytest.importorskip("PIL._webp")
    picture = degradations.noisy(slope(), 10)
    lab = Lab(Store(tmp_path), slope(), picture)
    sizes = {q: len(lab._encode("webp", q)) for q in range(101)}
    limit = sizes[40]
    found = lab.rival("webp", limit)
    assert found["bytes"] <= limit
    assert not found["over"]
    assert found["quality"] >= 40
    assert sizes[found["quality"] + 1] > limit
    smallest = lab.rival("webp", 10)
    assert smallest["over"]
    assert smallest["quality"] == 0
    assert smallest["bytes"] == sizes[0]


def test_an_igs_file_of_a_noisy_flat_picture_is_nearer_to_the_clean_one(tmp_path: Path) -> None:
    noisy = degradations.noisy(GREY, 20)
    row = restoration.measure(Lab(Store(tmp_path), GREY, noisy), [0.4], effort=1, threads=1)
    assert set(row) >= {"input", "blur", "median", "igs 0.4"}
    assert row["igs 0.4"]["psnr"] > row["input"]["psnr"] + 3
    assert row["igs 0.4"]["bytes"] <= 0.4 * 64 * 64 / 8
    again = restoration.measure(Lab(Store(tmp_path), GREY, noisy, cached=True), [0.4, 0.8], 1, 1)
    assert again == row  # and nothing of the rate that isn't there


# -- tables


def rows() -> list[dict]:
    """Two pictures: one gains 2 dB at the low rate, one loses 1; WebP only just fits the first."""
    made = []
    for picture, category, gain in (("a", "photo", 2.0), ("b", "line_art", -1.0)):
        for name, psnr in (("clean", 99.0), ("noise 10", 28.0)):
            igs = 40.0 if name == "clean" else psnr + gain
            row = {"picture": picture, "category": category, "degradation": name}
            row["values"] = 48_000
            row["input"] = {"psnr": psnr, "ms_ssim": 0.9}
            row["blur"] = {"psnr": psnr + 1, "ms_ssim": 0.91, "size": 1.0}
            row["igs 0.305"] = {"psnr": igs + 0.5, "ms_ssim": 0.95, "bytes": 900, "gaussians": 150}
            row["igs 0.1"] = {"psnr": igs, "ms_ssim": 0.93, "bytes": 300, "gaussians": 60}
            row["webp 0.1"] = {"psnr": igs - 1, "ms_ssim": 0.9, "bytes": 300, "over": picture == "b"}
            made.append(row)
    return made


def test_gains_by_degradation() -> None:
    assert restoration.columns(rows()) == ["blur", "igs 0.1", "webp 0.1", "igs 0.305"]
    assert restoration.gain_table(rows(), "psnr") == (
        "|  | input | blur | igs 0.1 bpp | WebP 0.1 bpp | igs 0.305 bpp |\n"
        "|---|---|---|---|---|---|\n"
        "| noise, σ = 10 | 28.00 | +1.00 (2) | +0.50 (1) | −0.50 (1/1) | +1.00 (1) |\n"
    )
    assert "| noise, σ = 10 | 0.9000 | +0.0100 (2) | +0.0300 (2) |" in restoration.gain_table(rows(), "ms_ssim")


def test_what_is_not_measured_is_a_dash() -> None:
    some = [{k: v for k, v in row.items() if k != "igs 0.305" or row["degradation"] == "clean"} for row in rows()]
    assert restoration.picture_table(some) == "|  | noise, σ = 10 |\n|---|---|\n| a | +2.00 |\n| b | −1.00 |\n"
    some[1].pop("igs 0.1")
    assert "| a | – |" in restoration.picture_table(some)
    # A column that one of the pictures lacks has no mean.
    assert "| noise, σ = 10 | 28.00 | +1.00 (2) | – | −0.50 (1/1) |" in restoration.gain_table(some, "psnr")


def test_on_how_many_pictures_igs_is_ahead() -> None:
    # Of the blur (+1 dB, +0.01): by PSNR on the picture that gains 2 dB, by MS-SSIM on both. WebP is 1 dB, 0.03 behind.
    assert restoration.ahead_table(rows()) == (
        "|  | bpp | … blur | … WebP |\n|---|---|---|---|\n"
        "| noise, σ = 10 | 0.1 | 1, 2 | 2, 2 |\n| noise, σ = 10 | 0.305 | 1, 2 | – |\n"
    )


def test_categories_and_clean_pictures() -> None:
    table = restoration.category_table(rows())
    assert table.startswith("|  | bpp | line art (1) | photo (1) |\n")
    assert "| noise, σ = 10 | 0.1 | −1.00 (0) | +2.00 (1) |\n" in table
    assert restoration.ceiling_table(rows()) == (
        "|  | igs 0.1 bpp | WebP 0.1 bpp | igs 0.305 bpp |\n|---|---|---|---|\n"
        "| PSNR, dB | 40.00 | 39.00 | 40.50 |\n| MS-SSIM | 0.9300 | 0.9000 | 0.9500 |\n"
    )


def test_share_of_the_noise_that_is_kept() -> None:
    # Squared errors: input 10^-2.8; igs at 0.1 bpp 10^-3 and 10^-2.7 of the noisy pictures, 10^-4 of the clean ones.
    shares = [100 * (10**-e - 10**-4.0) / 10**-2.8 for e in (3.0, 2.7)]
    table = restoration.kept_table(rows())
    assert f"| noise, σ = 10 | 0.1 | 60 | 1 | {np.mean(shares):.1f} |" in table
    assert "| noise, σ = 10 | 0.305 | 150 | 2.5 |" in table
    assert table.rstrip().endswith("| – | – |")  # no WebP, no AVIF at 0.305


def test_results_are_kept_by_settings_and_rendered_between_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoration, "RESULTS", tmp_path / "r.json")
    monkeypatch.setattr(restoration, "PAGE", tmp_path / "page.md")
    restoration.keep({"crop": "1x1"}, rows()[:1])
    restoration.keep({"crop": "2x2"}, rows()[:2])
    restoration.keep({"crop": "1x1"}, rows())
    kept = json.loads((tmp_path / "r.json").read_text())
    assert {k["settings"]["crop"]: k["rows"] for k in kept} == {"1x1": rows(), "2x2": rows()[:2]}
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- restoration psnr -->\n| old |\n\nAfter.\n")
    restoration.render({"crop": "1x1"})
    assert page.read_text() == (
        f"Before.\n\n<!-- restoration psnr -->\n{restoration.gain_table(rows(), 'psnr')}\nAfter.\n"
    )
    with pytest.raises(SystemExit, match="found none"):
        restoration.render({"crop": "3x3"})


def test_committed_page_is_made_of_the_committed_results() -> None:
    kept = json.loads(restoration.RESULTS.read_text())
    (entry,) = [k for k in kept if k["settings"] == restoration.OF_PAGE]
    text = restoration.PAGE.read_text()
    for name, table in restoration.tables(entry["rows"]).items():
        assert f"<!-- {name} -->\n{table}" in text


def test_arguments_name_degradations_in_their_order() -> None:
    asked = restoration.parse(["--degradations", "jpeg 20,noise 10", "--rates", "0.2,0.1", "--side", "99"])
    assert (asked.degradations, asked.rates, asked.crop) == (["noise 10", "jpeg 20"], [0.1, 0.2], None)
    default = vars(restoration.parse([]))
    assert {k: default[k] for k in restoration.OF_PAGE} == restoration.OF_PAGE
    with pytest.raises(SystemExit):
        restoration.parse(["--degradations", "rain"])
