"""The real encoder behind igs-encode, on small pictures with few steps: reports, formats, every odd file."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import igs
from igs.encoder.loading.image import load_image

torch = pytest.importorskip("torch")
QUICK = ["-n", 20, "--steps", 3]


def test_report(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    report = cli("igs-encode", picture, out, *QUICK, "--json", "--seed", 1).json
    expected = {
        "width", "height", "channels", "num_gaussians", "bytes", "bpp", "psnr", "ms_ssim", "seconds", "steps", "effort",
        "device", "input", "output",
    }  # fmt: skip
    assert set(report) >= expected
    assert (report["width"], report["height"], report["channels"], report["num_gaussians"]) == (32, 32, 3, 20)
    assert (report["steps"], report["effort"]) == (3, 5)
    assert report["device"] in ("cpu", "cuda")  # where there is a GPU it is taken
    assert report["bytes"] == out.stat().st_size
    assert report["bpp"] == pytest.approx(8 * report["bytes"] / 1024)
    assert report["ms_ssim"] is None
    with igs.open(out) as image:
        error = image.decode().astype(float) - np.asarray(Image.open(picture))
    psnr = 10 * math.log10(255**2 / (error**2).mean())
    assert report["psnr"] == pytest.approx(psnr, abs=0.05)  # the report may be taken before rounding to 8 bits


def test_device_and_backend_are_named(cli: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out.igs"
    refused = cli("igs-encode", picture, out, *QUICK, "--device", "cuda")
    assert refused.code == 5
    assert "--device cuda:" in refused.err
    assert "--device cpu works without" in refused.err
    assert not out.exists()
    done = cli("igs-encode", picture, out, *QUICK, "-v", "--json", "--fast-nondeterministic")
    assert done.json["device"] == "cpu"
    report = cli("igs-encode", picture, out, *QUICK, "-v")
    assert f"3 steps by {done.json['backend']} on cpu" in report.err


def test_the_same_bytes_to_a_file_and_a_pipe(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    assert cli("igs-encode", picture, out, *QUICK, "--threads", 1).code == 0
    assert cli("igs-encode", "-", "-", *QUICK, "--threads", 1, stdin=picture.read_bytes()).out == out.read_bytes()


@pytest.mark.parametrize(
    "args",
    ["--bpp 2", "--size 600", "-q 20", "--psnr 12", "--preset image-gs", "--preset image-gs-code", "--init random"],
)
def test_rates_and_presets(cli: Any, picture: Path, tmp_path: Path, args: str) -> None:
    out = tmp_path / "out.igs"
    report = cli("igs-encode", picture, out, *args.split(), "--steps", 3, "--json", "--quiet").json
    assert report["bytes"] == out.stat().st_size
    assert cli("igs-validate", out).code == 0
    if args == "--size 600":
        assert report["bytes"] <= 600


def test_a_size_that_is_too_small_names_the_smallest(cli: Any, picture: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", picture, tmp_path / "out.igs", "--size", 20)
    assert result.code == 1
    assert any(character.isdigit() for character in result.err.replace("20", ""))


def test_a_target_out_of_reach(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    args = ["igs-encode", picture, out, "--psnr", 90, "--steps", 2]
    strict = cli(*args, "--strict-rate")
    assert strict.code == 4, strict.err
    result = cli(*args)
    assert (result.code, "warning" in result.err) == (0, True)
    assert out.stat().st_size > 0


def test_checkpoints_and_pictures_along_the_way(cli: Any, picture: Path, tmp_path: Path) -> None:
    state, folder = tmp_path / "state.npz", tmp_path / "steps"
    args = ["igs-encode", picture, tmp_path / "a.igs", "-n", 20, "--steps", 6]
    result = cli(*args, "--checkpoint", state, "--checkpoint-every", 3, "--render-every", 2, "--render-dir", folder)
    assert result.code == 0, result.err
    assert len(list(folder.glob("*.png"))) == 4  # steps 0, 2, 4, 6
    assert cli(*args, "--resume", state).code == 0
    assert cli(*args, "--resume", picture).code == 2
    assert cli(*args, "--resume", tmp_path / "none").code == 2
    assert cli(*args, "--saliency-map", picture).code == 0
    assert cli(*args, "--saliency-map", state).code == 2


def test_regions_are_reported(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, map_ = tmp_path / "a.igs", tmp_path / "map.png"
    result = cli("igs-encode", picture, out, *QUICK, "--json", "--roi", "4,4,8,8:16", "--roi", "20,20,4,4")
    report = result.json
    with igs.open(out) as image:
        error = (image.decode().astype(float) - np.asarray(Image.open(picture))) ** 2
    mask = np.zeros((32, 32), bool)
    mask[4:12, 4:12] = mask[20:24, 20:24] = True
    for name, part in (("roi_psnr", mask), ("rest_psnr", ~mask)):
        assert report[name] == pytest.approx(10 * math.log10(255**2 / error[part].mean()), abs=1e-3)
    shown = cli("igs-encode", picture, out, *QUICK, "--roi", "4,4,8,8")
    assert "regions of interest: " in shown.err
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(map_)
    more = ("--saliency-map", map_, "--saliency-weight", 8, "--init", "saliency", "--saliency", "fine-grained")
    assert cli("igs-encode", picture, out, *QUICK, *more).code == 0
    for bad, words in (("30,0,3,3", "inside the picture of 32×32, found 30,0,3,3"), ("0,0,3,3:0", "a weight of 0.001")):
        result = cli("igs-encode", picture, tmp_path / "b.igs", *QUICK, "--roi", bad)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert words in result.err
    assert not (tmp_path / "b.igs").exists()


def test_metadata_survives(cli: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / "in.jpg", exif=exif)
    assert cli("igs-encode", tmp_path / "in.jpg", tmp_path / "a.igs", *QUICK).code == 0
    assert cli("igs-decode", tmp_path / "a.igs", tmp_path / "out.jpg").code == 0
    with Image.open(tmp_path / "out.jpg") as out:
        assert out.size == (10, 20)
        assert (out.getexif()[0x0112], out.getexif()[0x010F]) == (1, "a maker")


def test_odd_files(cli: Any, shared_data: Path, tmp_path: Path) -> None:
    """Each encodes and decodes with its size and mode, or fails with exit code 2 and a message that names it."""
    pytest.importorskip("imagecodecs")
    with (shared_data / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == "odd"]
    assert len(rows) > 20
    for row in rows:
        path = shared_data / row["file"]
        out = tmp_path / (path.stem + ".igs")
        result = cli("igs-encode", path, out, "-n", 8, "--steps", 1, "--json")
        if path.name.startswith("BAD_"):
            assert (result.code, out.exists()) == (2, False)
            assert path.name in result.err
            continue
        assert result.code == 0, (path.name, result.err)
        source = load_image(path)
        report = json.loads(result.out)
        assert (report["width"], report["height"]) == (source.width, source.height), path.name
        image = tmp_path / (path.stem + (".tif" if "CMYK" in row["mode"] else ".png"))
        result = cli("igs-decode", out, image)
        assert result.code == 0, (path.name, result.err)
        decoded = load_image(image)
        assert decoded.pixels.shape == source.pixels.shape, path.name
        assert decoded.bit_depth == source.bit_depth, path.name
        assert decoded.groups == source.groups, path.name


def test_levels_and_a_reduced_picture(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    report = cli("igs-encode", picture, out, *QUICK, "--levels", 2, "--json").json
    assert [level["num_gaussians"] for level in report["levels"]] == [10, 20]
    assert report["levels"][1]["bytes"] == report["bytes"] == out.stat().st_size
    part = tmp_path / "part.igs"
    part.write_bytes(out.read_bytes()[: report["levels"][0]["bytes"]])
    info = cli("igs-info", part, "--json").json
    assert info["partial"]
    assert info["available_levels"] == 1
    assert [level["psnr"] for level in info["levels"]] == [round(level["psnr"], 2) for level in report["levels"]]
    assert b"level 1: 10 Gaussians" in cli("igs-info", part).out
    assert cli("igs-decode", part, tmp_path / "part.png").code == 0
    assert cli("igs-encode", picture, out, "-n", 2, "--levels", 3).code == 1

    report = cli("igs-encode", picture, out, *QUICK, "--downsample", 2, "--json").json
    assert (report["width"], report["height"], report["downsample"]) == (16, 16, 2)
    assert cli("igs-encode", picture, out, *QUICK, "--downsample", 33).code == 1


def test_super_tiles(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    wide = tmp_path / "wide.png"
    Image.fromarray(np.resize(np.arange(256, dtype=np.uint8), (64, 140))).save(wide)
    report = cli("igs-encode", wide, out, "-n", 128, "--steps", 5, "--super-tile", 70, "--json").json
    assert (report["width"], report["num_gaussians"], report["super_tiles"]) == (140, 128, 2)
    refused = cli("igs-encode", wide, out, "-n", 128, "--super-tile", 70, "--levels", 2)
    assert (refused.code, "super_tile: expected no levels" in refused.err) == (1, True)
