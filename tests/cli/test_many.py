"""igs-encode -d: several processes, the table, inputs that fail, die or stand for nothing, and Ctrl-C (cli/many.py)."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import igs
from igs.cli.table import table

# Stands in for the encoder in every process that is started, workers too: what a picture's width asks for.
SITE = """
import os, signal, time
import igs.cli.encode as e

class Encoded:
    def __init__(self, image):
        self.data = bytes(image.width)
        self.report = {"width": image.width, "height": image.height, "num_gaussians": 7, "bytes": image.width,
                       "bpp": 0.5, "psnr": 30.0, "ms_ssim": None, "seconds": 0.1, "threads": None}

def encode(image, options):
    if image.width == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if image.width == 99:
        time.sleep(100)
    if image.width == 11:
        time.sleep(0.5)
        options.on_warning("slow")
    found = Encoded(image)
    found.report["threads"] = options.threads
    return found

e.load_encoder = lambda: encode
"""


def start(tmp_path: Path, *args: object, fake: bool = True) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if fake:
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
        environment["PYTHONPATH"] = str(tmp_path / "site")
    command = [sys.executable, "-c", "from igs.cli.encode import main; main()", *map(str, args)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def pictures(tmp_path: Path, *widths: int) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    paths = [folder / f"{number}_{width}.png" for number, width in enumerate(widths)]
    for path, width in zip(paths, widths, strict=True):
        Image.new("L", (width, 4)).save(path)
    return paths


@pytest.mark.skipif(os.name != "posix", reason="the stand-in kills itself by a signal")
def test_json_in_the_order_of_inputs_whatever_happens_to_some(tmp_path: Path) -> None:
    paths = pictures(tmp_path, 11, 12, 13, 14, 15)
    paths[3].write_bytes(b"broken")
    args = [tmp_path / "in", tmp_path / "none*.png", "-d", tmp_path / "out", "-j", 2, "--json"]
    code, out, err = finish(start(tmp_path, *args))
    reports = [json.loads(line) for line in out.splitlines()]
    assert [r["input"] for r in reports] == [*map(str, paths), str(tmp_path / "none*.png")]
    assert [r.get("exit_code") for r in reports] == [None, None, 4, 2, None, 2]
    assert code == 4  # the first failure's
    assert "signal 9" in reports[2]["error"]
    assert "nothing matches" in reports[5]["error"]
    assert {r["threads"] for r in reports if "error" not in r} == {max(1, (os.cpu_count() or 1) // 2)}
    assert "warning: slow" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".igs") == [
        "0_11.igs", "1_12.igs", "4_15.igs",
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_and_leaves_no_files(tmp_path: Path, number: int, code: int) -> None:
    pictures(tmp_path, 99, 99, 99)
    out = tmp_path / "out"
    process = start(tmp_path, tmp_path / "in", "-d", out, "-j", 2)
    for _ in range(600):
        if out.exists() and len(list(out.iterdir())) == 2:  # both are being written
            break
        time.sleep(0.05)
    assert len(list(out.iterdir())) == 2
    began = time.monotonic()
    process.send_signal(number)
    found, printed, err = finish(process)
    assert (found, printed) == (code, ""), err
    assert list(out.iterdir()) == []
    assert time.monotonic() - began < 60  # no worker was waited for


def test_a_process_gives_the_bytes_that_this_one_gives(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    paths = pictures(tmp_path, 40, 30)
    options = ["--steps", 3, "-n", 5, "--threads", 1, "-j", 2]
    code, out, err = finish(start(tmp_path, tmp_path / "in", "-d", tmp_path / "out", *options, fake=False))
    assert code == 0, err
    assert out.splitlines()[-1] == "2 encoded"
    for path in paths:
        expected = igs.encode(path, steps=3, num_gaussians=5, threads=1).data
        assert (tmp_path / "out" / path.name).with_suffix(".igs").read_bytes() == expected


def test_jobs_need_a_directory(cli: Any, tmp_path: Path) -> None:
    (path,) = pictures(tmp_path, 5)
    result = cli("igs-encode", path, tmp_path / "x.igs", "-j", 2)
    assert (result.code, "-j goes with -d" in result.err) == (1, True)


def test_a_hard_link_to_an_input_is_an_input(cli: Any, tmp_path: Path) -> None:
    (path,) = pictures(tmp_path, 5)
    out = tmp_path / "out"
    out.mkdir()
    os.link(path, out / "0_5.igs")
    result = cli("igs-encode", path, "-d", out)
    assert (result.code, "would be overwritten" in result.err) == (1, True)


def test_a_folder_that_cannot_be_listed_fails(
    cli: Any, fake_encoder: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, 5)
    for name in ("deep", "locked"):
        (tmp_path / "in" / name).mkdir()
        Image.new("L", (3, 4)).save(tmp_path / "in" / name / "x.png")
    locked = str(tmp_path / "in" / "locked")
    listed = os.scandir

    def scandir(path: Any = ".") -> Any:  # permissions don't bind root
        if os.fspath(path) == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), locked)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = cli("igs-encode", tmp_path / "in", "-d", tmp_path / "out", "--json")
    reports = [json.loads(line) for line in result.out.splitlines()]
    names = [str(Path(r["input"]).relative_to(tmp_path / "in")) for r in reports]
    assert names == ["0_5.png", os.path.join("deep", "x.png"), "locked"]
    assert [r.get("error") for r in reports] == [None, None, f"{locked}: Permission denied"]
    assert (result.code, result.err) == (2, f"igs-encode: {locked}: Permission denied\n")
    assert cli("igs-encode", tmp_path / "in", "-d", tmp_path / "out").text.endswith("2 encoded, 1 failed\n")


def test_what_lies_in_a_folder_that_cannot_be_entered_fails(
    cli: Any, fake_encoder: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pictures(tmp_path, 5, 6)
    status, opened = os.stat, io.open

    def refuse(path: Any) -> None:
        if isinstance(path, (str, Path)) and os.fspath(path) == str(paths[0]):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def stat(path: Any, **kwargs: Any) -> Any:
        refuse(path)
        return status(path, **kwargs)

    def open_(path: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr("builtins.open", open_)
    for given in ([tmp_path / "in"], paths):
        result = cli("igs-encode", *given, "-d", tmp_path / "out")
        assert (result.code, result.text.splitlines()[-1]) == (2, "1 encoded, 1 failed")
        assert f"igs-encode: {paths[0]}: Permission denied\n" in result.err


def test_table() -> None:
    def report(name: str, **fields: Any) -> dict[str, Any]:
        sizes = {"width": 100, "height": 50, "num_gaussians": 200, "bytes": 1000, "bpp": 1.6}
        return {"input": name, **sizes, "psnr": 30.0, "ms_ssim": 0.9, "seconds": 1.0, **fields}

    text = table(
        [
            report("a.png"),
            {"input": "b.png", "error": "b.png: damaged", "exit_code": 2},
            report("f" * 60 + "/c.png", psnr=None, ms_ssim=None, bytes=3000),
        ]
    )
    head, first, failed, long, total, count = text.splitlines()
    assert head.split() == ["file", "pixels", "Gaussians", "bytes", "bpp", "PSNR", "dB", "MS-SSIM", "s"]
    assert first.split() == ["a.png", "100×50", "200", "1000", "1.600", "30.00", "0.9000", "1.0"]
    assert failed.split(maxsplit=1) == ["b.png", "failed: damaged"]
    assert long.startswith("…fff")
    assert "exact" in long
    assert total.split() == ["all", "2", "400", "4000", "3.200", "30.00", "0.9000", "2.0"]
    assert count == "2 encoded, 1 failed"
    assert len({len(line) for line in (head, first, long, total)}) == 1
