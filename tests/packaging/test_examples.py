"""The example scripts run, and the bundled picture is what its provenance says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = EXAMPLES.parent / "tests" / "conformance" / "valid" / "zstd.igs"


def _run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_zoom(tmp_path):
    printed = _run("zoom.py", str(SMALL), str(tmp_path / "zoom.png"), "--region", "2,3,5,4", "--scale", "8")
    assert re.fullmatch(r"40×32 pixels from \d+ bytes of the file\n", printed)
    with Image.open(tmp_path / "zoom.png") as picture:
        assert picture.size == (40, 32)


@pytest.mark.parametrize("degrees", ["0", "30"])
def test_rotate(tmp_path, degrees):
    import igs

    _run("rotate.py", str(SMALL), str(tmp_path / "turned.png"), "--degrees", degrees)
    with igs.open(SMALL) as im, Image.open(tmp_path / "turned.png") as picture:
        assert picture.size == (im.width, im.height)
        if degrees == "0":  # every output pixel is sampled at its own centre: the plain decode
            assert picture.tobytes() == im.decode().tobytes()


def test_shade(tmp_path):
    import numpy as np

    from igs.format import Colour, Group, Header, Quantizer, quantize, write

    groups = (
        Group(channels=3, colour=Colour.RGB, name="albedo"),
        Group(channels=3, colour=Colour.NORMAL, name="normal_dx"),
    )
    fields = {name: Quantizer.uniform([0] * n, [1] * n, 8) for name, n in (("rotation", 1), ("feature", 6))}
    fields |= {name: Quantizer.uniform([0, 0], [32, 32], 8) for name in ("position", "scale")}
    header = Header(width=32, height=32, channels=6, groups=groups, background=(0.5,) * 6, **fields)
    flat = np.array([[1.0, 1.0, 1.0, 0.5, 1.0, 0.5]])  # white, facing the top of the picture in DirectX's sense: down
    codes = quantize(header, np.full((1, 2), 16.0), np.full((1, 2), 5.0), np.zeros((1, 1)), flat)
    (tmp_path / "stack.igs").write_bytes(write(header, [codes]))
    for name, light, level in (("below", "0,-1,0", 255), ("above", "0,1,0", 90)):  # 90: the tenth that is ambient
        out = tmp_path / f"{name}.png"
        _run(
            "shade.py", str(tmp_path / "stack.igs"), str(out), f"--light={light}", "--region", "8,8,8,8", "--scale", "2"
        )
        with Image.open(out) as picture:
            assert picture.size == (16, 16)
            assert abs(picture.getpixel((5, 5))[0] - level) <= 1


def test_snippet_of_the_page_on_textures(tmp_path):
    pytest.importorskip("torch")
    page = (EXAMPLES.parent / "docs" / "textures.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    checks = """
assert pixels.shape == (96, 96, 3) and pixels.dtype == "uint8"
assert corner.shape == (32, 32, 3) and both.shape == (96, 96, 4) and values.shape == (1, 3)
assert [m.dtype.name for m in maps.values()] == ["float32", "uint8", "uint16"]
"""
    command = [sys.executable, "-W", "error", "-c", snippet + checks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"albedo 3 \d+\.\d dB\n.*\('albedo', 'normal', 'height'\)\n", done.stdout, re.DOTALL)


def test_edit(tmp_path):
    import igs

    out = tmp_path / "small.igs"
    printed = _run("edit.py", str(SMALL), str(out), "--title", "Äpfel", "--coarser", "2")
    assert printed == f"{SMALL.stat().st_size} bytes before, {out.stat().st_size} after\n"
    with igs.open(out) as im, igs.open(SMALL) as before:
        assert im.metadata["json"] == {"title": "Äpfel"}
        assert im.num_gaussians == before.num_gaussians
        assert im.header.position.bits == before.header.position.bits - 1


def test_the_snippets_on_colour_run(tmp_path):
    pytest.importorskip("torch")
    text = (EXAMPLES.parent / "docs" / "colour.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 2
    checks = "assert light.max() > 15 and shown.max() == 255\n"
    command = [sys.executable, "-W", "error", "-c", snippets[0] + checks + snippets[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = [(tmp_path / name).stat().st_size for name in ("sky.igs", "small.igs")]
    assert sizes[1] <= sizes[0] * 3 // 4


def test_gaussians(tmp_path):
    printed = _run("gaussians.py", str(SMALL), str(tmp_path / "gaussians.png"), "--sample", "5")
    assert [line.split()[0] for line in printed.splitlines()][:4] == ["position", "scale", "rotation", "feature"]
    with Image.open(tmp_path / "gaussians.png") as picture:
        assert picture.width > 1000


def test_snippet_of_the_page_on_saliency(tmp_path):
    pytest.importorskip("torch")
    page = (EXAMPLES.parent / "docs" / "saliency.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    checks = """
assert weighted.report["roi_psnr"] > plain.report["roi_psnr"] + 1
assert len(weighted.data) <= 0.2 * 256 * 256 / 8
assert found.shape == (256, 256) and 0 <= found.min() <= found.max() <= 1
"""
    command = [sys.executable, "-W", "error", "-c", snippet + checks]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_vqa_says_what_is_missing(tmp_path):
    assert "--roi" in _run("vqa.py", "--help")
    command = [sys.executable, str(EXAMPLES / "vqa.py"), "a.png", "What?", "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"vqa.py: {tmp_path}: expected a folder with a model of the transformers library, found no config.json\n"
    )
    (tmp_path / "config.json").write_text("{}")  # without the library, or with it: no model
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("vqa.py: ")


def test_provenance_names_the_bytes_of_the_picture():
    digest = hashlib.sha256((EXAMPLES / "antelope_canyon.png").read_bytes()).hexdigest()
    assert digest in (EXAMPLES / "PROVENANCE.md").read_text(encoding="utf-8")
