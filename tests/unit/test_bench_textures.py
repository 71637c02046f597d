"""The benchmark of texture stacks: packing, mips, block codecs, rates, the split of bytes, and the tables."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import textures
from rd import blocks, stacks, texture_tables
from rd.stacks import Stack, at_rate, best_split


def make_stack(side: int = 32) -> Stack:
    y, x = np.mgrid[:side, :side] / side
    planes = [x, y, x * y, 1 - x, 1 - y, x, y * y, x * x, (x + y) / 2]
    pixels = np.stack([np.round(255 * p) for p in planes], axis=2).astype(np.uint8)
    return Stack("slopes", pixels, (("albedo", 3), ("normal", 3), ("ao", 1), ("roughness", 1), ("metalness", 1)))


def test_loads_a_folder_of_maps_at_a_size(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 16, 3), 10, np.uint8)).save(tmp_path / "a_color.png")
    checks = np.indices((8, 16)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "a_ao.png")
    stack = stacks.load(tmp_path, 8)
    assert stack.maps == (("albedo", 3), ("ao", 1))
    assert stack.pixels.shape == (4, 8, 4)
    assert set(stack.arrays()["ao"].ravel().tolist()) == {128}  # means of 2×2
    assert stacks.load(tmp_path, 99).pixels.shape == (8, 16, 4)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([3, 3, 1, 1, 1], [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        ([1, 3, 1], [[1, 2, 3], [0, 4]]),
        ([4], [[0, 1, 2], [3]]),
        ([1], [[0]]),
        ([2, 1, 1], [[0, 1, 2], [3]]),
    ],
)
def test_which_channels_make_up_a_texture(channels: list[int], expected: list[list[int]]) -> None:
    found = blocks.textures(channels)
    assert found == expected
    assert sorted(n for numbers in found for n in numbers) == list(range(sum(channels)))


def test_rates_are_those_of_the_formats() -> None:
    rates = {(c.family, c.block): 8 * c.bytes(960, 960) / 960**2 for c in blocks.CODECS}
    assert rates["bc1", (4, 4)] == 4
    assert rates["bc7", (4, 4)] == rates["astc", (4, 4)] == 8
    assert rates["astc", (12, 12)] == pytest.approx(128 / 144)
    assert blocks.BlockCodec("astc", (12, 10), 128).bytes(13, 10) == 32  # blocks are whole


def test_mips_are_means() -> None:
    chain = blocks.mips(make_stack(64).pixels)
    assert [m.shape[:2] for m in chain] == [(64, 64), (32, 32), (16, 16)]
    for a, b in itertools.pairwise(chain):
        np.testing.assert_allclose(a.mean((0, 1)), b.mean((0, 1)))


@pytest.mark.parametrize("family", ["bc1", "bc7", "astc"])
def test_block_codecs_at_a_mip(family: str) -> None:
    if reason := blocks.missing(family):
        pytest.skip(reason)
    stack = make_stack(64)
    codec = next(c for c in blocks.CODECS if c.family == family)
    channels = [n for _, n in stack.maps]
    size, whole = blocks.point(stack.pixels, channels, codec, 0)
    assert size == 3 * codec.bytes(64, 64)
    assert stacks.quality(stack, whole)["psnr"] > 35  # slopes are what block codecs are made for
    small, reduced = blocks.point(stack.pixels, channels, codec, 1)
    assert small == size / 4
    assert 30 < stacks.quality(stack, reduced)["psnr"] < stacks.quality(stack, whole)["psnr"]


def test_quality_of_maps_and_of_all_channels() -> None:
    stack = make_stack()
    decoded = stack.pixels.astype(np.float64)
    decoded[..., 6] += 25.5  # ao by a tenth: 20 dB, and a ninth of that error over all
    found = stacks.quality(stack, decoded)
    assert found["maps"]["ao"]["psnr"] == pytest.approx(20)
    assert found["maps"]["albedo"] == {"psnr": 99.0, "ssim": pytest.approx(1)}
    assert found["psnr"] == pytest.approx(20 + 10 * math.log10(9))
    assert found["psnr_mean"] == pytest.approx((4 * 60 + 20) / 5)
    assert found["maps"]["ao"]["ssim"] < 1


def test_quality_at_a_rate() -> None:
    points = [(0.1, 30.0), (0.4, 36.0), (0.2, 29.0), (0.05, 27.0)]  # that at 0.2 is beaten by a smaller one
    assert at_rate(points, 0.1) == pytest.approx(30)
    assert at_rate(points, 0.2) == pytest.approx(33)
    assert at_rate(points, 0.04) is None
    assert at_rate(points, 9.0) == pytest.approx(36)
    assert at_rate([], 1.0) is None


def test_bytes_go_where_they_lower_the_error_most() -> None:
    # error = a/bytes for each: least in sum where bytes are in proportion to √a
    curves = [[(s, a / s) for s in (10, 100, 1000, 10000)] for a in (1.0, 16.0)]
    budget = 1000.0
    expected = 1 / 200 + 16 / 800
    assert best_split(curves, budget) == pytest.approx(expected, rel=0.03)
    assert best_split(curves, 19.0) is None
    assert best_split(curves, 1e9) == pytest.approx(17 / 10000, rel=1e-6)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run on a small stack with an encoder that costs nothing; peers are left out."""
    folder = tmp_path / "slopes"
    folder.mkdir()
    stack = make_stack(24)
    for name, pixels in stack.arrays().items():
        Image.fromarray(pixels.squeeze()).save(folder / f"{name}.png")

    def encoded(maps: dict, bpp: float, effort: int, threads: int | None, parts: str = "auto") -> tuple:
        pixels = np.concatenate([np.atleast_3d(m) for m in maps.values()], axis=2).astype(np.float64)
        details = {"parts": [[name] for name in maps]} if parts == "auto" and len(maps) > 1 else {"steps": 1}
        return int(bpp * pixels.shape[0] * pixels.shape[1] / 8), pixels + (3 if parts == "one" else 2) / bpp, details

    monkeypatch.setattr(stacks, "_encoded", encoded)
    monkeypatch.setattr(blocks, "missing", lambda family: "not here")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end -->\nafter\n")
    paths = ("--cache", tmp_path / "cache", "--results", tmp_path / "r.json", "--page", page)
    return [str(tmp_path / "slopes"), "--rates", "0.06,0.25", *map(str, paths)]


def test_a_run_is_kept_and_goes_on(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert textures.main(options) == 0
    first = capsys.readouterr().out
    assert "slopes igs bppc=0.06 effort=5: 0.0" in first
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before\n<!-- tables -->\n\n### Size full, effort 5\n")
    assert page.endswith("<!-- end -->\nafter\n")
    assert "old" not in page
    assert "| slopes | 0.06 | " in page
    assert re.search(r"\| slopes \| 0\.06 \| \w+( · \w+)+ \|.*\| \+3\.52 \|", page)  # 20·log₁₀(3/2) ahead of one part
    assert textures.main(options) == 0  # all of it is in the cache
    assert "slopes igs" not in capsys.readouterr().out
    assert textures.main(["--render-only", *options[3:]]) == 0
    assert (tmp_path / "page.md").read_text() == page
    content = json.loads((tmp_path / "r.json").read_text())
    assert len(content["runs"]["size full, effort 5"]["slopes"]["apart"]["ao"]) == len(textures.APART_RATES)
    assert textures.main([*options, "--no-apart"]) == 0  # what was measured before stays
    assert json.loads((tmp_path / "r.json").read_text())["runs"] == content["runs"]


def test_folders_of_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert textures.find([tmp_path]) == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(SystemExit, match="expected a folder of maps"):
        textures.find([tmp_path / "none"])


def test_tables_without_peers_have_dashes() -> None:
    point = {"settings": {"bppc": 0.1}, "bytes": 9, "psnr": 30.0, "psnr_mean": 31.0, "ssim_mean": 0.9, "maps": {}}
    stack = SimpleNamespace(width=8, height=8, maps={"ao": 1}, igs=[point], peers={}, apart={})
    text = texture_tables.write({"runs": {"size 8, effort 1": {"one": vars(stack)}}}, Path("no such page"))
    assert "| 0.1 | **31.00** | – | – | – | – | **0.900** | – | – | – | 30.00 |" in text
