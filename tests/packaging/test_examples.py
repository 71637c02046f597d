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


def test_provenance_names_the_bytes_of_the_picture():
    digest = hashlib.sha256((EXAMPLES / "antelope_canyon.png").read_bytes()).hexdigest()
    assert digest in (EXAMPLES / "PROVENANCE.md").read_text(encoding="utf-8")
