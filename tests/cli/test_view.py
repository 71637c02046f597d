"""igs-view: kinds, files and messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import VALID
from PIL import Image

import igs

FILE = VALID / "topk_1.igs"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original.png"
    with igs.open(FILE) as im:
        pixels = im.decode()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
    return path


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("kind", ["ellipses", "ids", "density", "error", "levels", "zoom", "chunks", "overview"])
def test_every_kind(cli: Any, tmp_path: Path, original: Path, kind: str) -> None:
    out = tmp_path / "out.png"
    against = ("--against", original) if kind in ("error", "levels", "zoom", "overview") else ()
    result = cli("igs-view", FILE, out, "-k", kind, *against, "--scale", 2, "--json")
    assert (result.code, result.err) == (0, "")
    assert (result.json["kind"], result.json["output"]) == (kind, str(out))
    with Image.open(out) as sheet:
        assert sheet.size == (result.json["width"], result.json["height"])
        assert sheet.mode == "RGB"


@pytest.mark.parametrize("kind", ["gradient", "saliency"])
def test_maps_of_a_picture_or_a_file(cli: Any, tmp_path: Path, original: Path, kind: str) -> None:
    sheets = []
    for source in (original, FILE):
        out = tmp_path / f"map_of_{source.stem}.png"
        assert cli("igs-view", source, "-o", out, "--kind", kind, "--bare").code == 0
        sheets.append(pixels_of(out).astype(int))
    assert sheets[0].shape == sheets[1].shape
    assert np.abs(sheets[0] - sheets[1]).mean() < 12  # 8 bits here, floats there


def test_the_other_map_of_saliency(cli: Any, tmp_path: Path) -> None:
    from igs.encoder.fitting.saliency import MAPS

    sheets = []
    for name in MAPS:
        out = tmp_path / f"{name}.png"
        assert cli("igs-view", FILE, out, "-k", "saliency", "--saliency", name, "--bare").code == 0
        sheets.append(out.read_bytes())
    assert cli("igs-view", FILE, tmp_path / "o.png", "-k", "saliency", "--bare").code == 0
    assert (tmp_path / "o.png").read_bytes() == sheets[0] != sheets[1]


def test_file_and_pipe_agree(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    assert cli("igs-view", FILE, out, "--sample", "2", "--on", "black").code == 0
    piped = cli("igs-view", "-", "-", "--sample", "2", "--on", "black", stdin=FILE.read_bytes())
    assert piped.out == out.read_bytes()


def test_a_region_at_a_scale(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.webp"
    args = ("--region", "2,3,5,4", "--scale", "8", "--bare")
    assert cli("igs-view", FILE, out, *args).code == 0
    assert pixels_of(out).shape == (32, 40, 3)


def test_convergence(cli: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log = tmp_path / "log.jsonl"
    lines = [
        {"step": s, "steps": 50, "seconds": s / 9, "num_gaussians": 5 + s, "loss": 1 / s, "psnr": 20 + s / 9}
        for s in range(10, 60, 10)
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        out = tmp_path / f"out.{suffix}"
        result = cli("igs-view", log, out, "-k", "convergence", "--json")
        assert (result.code, result.json["entries"]) == (0, 5)
        assert out.read_bytes().startswith(start)
    first = (tmp_path / "out.svg").read_bytes()
    assert cli("igs-view", log, tmp_path / "out.svg", "-k", "convergence").code == 0
    assert (tmp_path / "out.svg").read_bytes() == first
    assert cli("igs-view", log, tmp_path / "out.gif", "-k", "convergence").code == 1


def test_without_matplotlib_the_message_says_what_to_install(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "num_gaussians": 2, "loss": 0.1, "psnr": 20, "seconds": 1}')
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = cli("igs-view", log, tmp_path / "out.png", "-k", "convergence")
    assert result.code == 5
    assert "igs-codec[view]" in result.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["out.gif"], 1, "expected a suffix"),
        (["out.pgm"], 5, "pgm can't hold"),
        (["out.png", "-k", "error"], 1, "--against FILE"),
        (["out.png", "-k", "nonsense"], 1, "nonsense"),
        (["out.png", "--region", "0,0,999,1"], 1, "--region"),
        (["out.png", "--level", "9"], 1, "level"),
        (["out.png", "--scale", "4000", "--memory-limit", "1M"], 1, "GiB"),
        (["out.png", "-k", "gradient", "--scale", "2"], 1, "--scale: has no meaning"),
        (["out.png", "-k", "zoom", "--against", "missing.png"], 2, "missing.png"),
        (["out.png", "--against", "missing.png"], 1, "--against: has no meaning for ellipses"),
        (["out.png", "-k", "convergence", "--scale", "2"], 1, "--scale: has no meaning for convergence"),
        (["out.png", "-k", "convergence", "--region", "0,0,1,1"], 1, "--region: has no meaning for convergence"),
        (["out.png", "-k", "density", "--on", "paper"], 1, "--on: has no meaning for density"),
        (["out.png", "-k", "gradient", "--saliency", "fine-grained"], 1, "--saliency: has no meaning for gradient"),
        (["out.png", "-k", "saliency", "--saliency", "eml-net"], 1, "expected saliency_network with eml-net"),
        (["out.png", "-k", "ids", "--saliency-network", "w"], 1, "--saliency-network: has no meaning for ids"),
        (["out.png", "-k", "ids", "--max", "3"], 1, "--max: has no meaning for ids"),
        (["out.png", "-k", "convergence"], 2, "line 1"),
        (["out.png", "--on", "water"], 1, "water"),
    ],
    ids=lambda value: " ".join(value[1:3]) if isinstance(value, list) else None,
)
def test_messages(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("igs-view", FILE, *args)
    assert result.code == code, result.err
    assert words in result.err
    assert not list(tmp_path.iterdir())


def test_what_is_no_igs_file(cli: Any, tmp_path: Path, original: Path) -> None:
    refused = cli("igs-view", original, tmp_path / "out.png")
    assert (refused.code, "for -k gradient and -k saliency" in refused.err) == (3, True)
    assert cli("igs-view", tmp_path / "none.igs", tmp_path / "out.png").code == 2
    assert cli("igs-view", original, original).code == 1
    assert cli("igs-view", FILE, original, "--no-overwrite").code == 2


@pytest.mark.parametrize(("name", "code"), [("out.exr", 1), ("out.npy", 0), ("out.xyz", 1), ("out.pgm", 5)])
def test_sheets_are_of_8_bits(cli: Any, tmp_path: Path, name: str, code: int) -> None:
    result = cli("igs-view", FILE, tmp_path / name)
    assert (result.code, "internal" in result.err) == (code, False), result.err
    assert not [word for word in (".tif .exr", "exr, ", "--format") if word in result.err]


def test_captions_are_of_what_is_shown(cli: Any, tmp_path: Path, igs_bytes: Any) -> None:
    from igs.view.kinds import facts
    from igs.view.scene import Scene

    data = igs_bytes(levels=3)
    with Scene(data) as scene:
        whole, first = facts(scene), facts(scene, 0)
        end = scene.reader.levels[1].end
    assert whole.startswith(f"180 Gaussians, {len(data)} bytes")
    assert first.startswith("60 Gaussians")
    with Scene(data[:end], allow_partial=True) as scene:
        assert facts(scene).startswith(f"120 Gaussians, {end} bytes")
    (tmp_path / "part.igs").write_bytes(data[:end])
    lines = cli("igs-info", tmp_path / "part.igs", "--allow-partial", "--bits").text.splitlines()
    position = next(line for line in lines if line.split()[:1] == ["position"]).split()
    assert float(position[-1]) == pytest.approx(8 * float(position[1]) / 120, abs=0.01)


def test_info_tells_bits(cli: Any) -> None:
    plain = cli("igs-info", FILE, "--json").json
    assert "bits_by_attribute" not in plain
    found = cli("igs-info", FILE, "--json", "--bits").json
    assert sum(found.pop("bits_by_attribute").values()) == pytest.approx(8 * FILE.stat().st_size, abs=0.01)
    assert found == plain
    lines = cli("igs-info", FILE, "--bits").text.splitlines()
    assert lines[-8].split() == ["bits", "of", "bytes", "share", "per", "Gaussian"]
    assert [line.split()[0] for line in lines[-7:]] == [
        *("position", "scale", "rotation", "feature", "coder", "head", "sections")
    ]


def test_a_group_is_compared_with_a_picture_of_its_size(cli: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pixels = (np.arange(24 * 20 * 3) % 251).reshape(24, 20, 3).astype(np.uint8)
    data = igs.encode({"albedo": pixels, "normal": pixels}, effort=1, steps=3, num_gaussians=12, threads=1).data
    path, out = tmp_path / "stack.igs", tmp_path / "out.png"
    path.write_bytes(data)
    for name, shape, code in (("same", (24, 20, 3), 0), ("other", (64, 96, 3), 1)):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{name}.png")
        arguments = ("-k", "error", "--group", "normal", "--against", tmp_path / f"{name}.png")
        result = cli("igs-view", path, out, *arguments)
        assert result.code == code, result.err
    assert "expected 20×24 pixels" in result.err
