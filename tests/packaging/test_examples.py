"""The example scripts run, and the bundled picture is what its provenance says."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import sys
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from files import VALID
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = VALID / "zstd.igs"


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


class _Ranges(SimpleHTTPRequestHandler):
    """A server of one file that sends the parts asked for."""

    data = SMALL.read_bytes()

    def do_GET(self):
        first, last = (int(n) for n in re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        part = self.data[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(self.data)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


class _Whole(_Ranges):
    """One that knows no parts."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.data)


@contextlib.contextmanager
def _served(handler):
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/picture.igs"
        finally:
            server.shutdown()
            thread.join()


def test_remote(tmp_path, monkeypatch):
    import igs

    monkeypatch.setenv("no_proxy", "*")

    out = tmp_path / "part.png"
    with _served(_Ranges) as url:
        printed = _run("remote.py", url, str(out), "--region", "2,3,5,4", "--first", "64")
    found = re.fullmatch(r"5×4 pixels: (\d+) requests, (\d+) of (\d+) bytes\n", printed)
    assert found is not None
    assert int(found[1]) == 3  # the header, the rest of the head, the chunk
    assert int(found[2]) == int(found[3]) == SMALL.stat().st_size  # which are all that this file has
    with igs.open(SMALL) as im, Image.open(out) as picture:
        assert picture.tobytes() == im.region(2, 3, 5, 4).tobytes()


def test_remote_wants_a_server_that_sends_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    command = [sys.executable, str(EXAMPLES / "remote.py")]
    with _served(_Whole) as url:
        done = subprocess.run([*command, url, str(tmp_path / "x.png")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr == f"{url}: expected a server that sends parts of a file, found status 200\n"


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


def test_edit(tmp_path):
    import igs

    out = tmp_path / "small.igs"
    printed = _run("edit.py", str(SMALL), str(out), "--title", "Äpfel", "--coarser", "2")
    assert printed == f"{SMALL.stat().st_size} bytes before, {out.stat().st_size} after\n"
    with igs.open(out) as im, igs.open(SMALL) as before:
        assert im.metadata["json"] == {"title": "Äpfel"}
        assert im.num_gaussians == before.num_gaussians
        assert im.header.position.bits == before.header.position.bits - 1


def test_gaussians(tmp_path):
    printed = _run("gaussians.py", str(SMALL), str(tmp_path / "gaussians.png"), "--sample", "5")
    assert [line.split()[0] for line in printed.splitlines()][:4] == ["position", "scale", "rotation", "feature"]
    with Image.open(tmp_path / "gaussians.png") as picture:
        assert picture.width > 1000


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
