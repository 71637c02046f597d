"""What only shows in a process of its own: signals, pipes that close, what gets imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

Make = Callable[..., bytes]

# Runs a command as its script does, after the lines given as its first argument.
SCRIPT = """
import sys, importlib
exec(sys.argv[1])
word = sys.argv[2].removeprefix("igs-")
sys.argv = sys.argv[2:]
importlib.import_module(f"igs.cli.{word}").main()
"""


def start(setup: str, *args: object, **kwargs: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, setup, *map(str, args)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{**pipes, **kwargs})  # type: ignore[call-overload,no-any-return]


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    out, err = process.communicate(timeout=120)
    text = err.decode()
    assert "Traceback" not in text, text
    return process.returncode, out, text


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)).save(path)
    return path


# -- signals

# An encoder that says when it has begun, and then takes for ever.
ENDLESS = """
import time, igs.cli.encode as e
def endless(image, options):
    print("begun", flush=True)
    time.sleep(100)
e.load_encoder = lambda: endless
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_file(picture: Path, number: int, code: int) -> None:
    with start(ENDLESS, "igs-encode", picture, picture.with_name("out.igs")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert len(list(picture.parent.iterdir())) == 2  # the picture and the file that is being written
        process.send_signal(number)
        found, _, err = finish(process)
    assert found == code, err
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_in_the_middle_of_a_real_fit(picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    log, out = tmp_path / "log", tmp_path / "out.igs"
    args = ["--steps", 1_000_000, "-n", 20, "--log", log, "--log-every", 1]
    with start("", "igs-encode", picture, out, *args) as process:
        for _ in range(600):
            if process.poll() is not None or (log.exists() and log.stat().st_size):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    assert code == 130, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "log"]


@pytest.mark.skipif(os.name != "posix", reason="os.dup2 on a pipe")
def test_a_reader_that_goes_away(tmp_path: Path, igs_bytes: Make) -> None:
    path = tmp_path / "in.igs"
    path.write_bytes(igs_bytes())
    process = start("", "igs-decode", path, "-", "--format", "ppm", "--scale", 10)  # 360 KB: more than a pipe holds
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), err) == (141, b"")


# -- outputs that can't be written

# A limit of 1024 bytes per file, as a full disk would be, set only when all that may be cached is.
FULL = """
import resource, igs.cli.{0} as command
original = command.{1}
def limited(*args):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    return original(*args)
command.{1} = limited
"""
posix_only = pytest.mark.skipif(os.name != "posix", reason="limits, devices and closed descriptors are POSIX's")


@posix_only
@pytest.mark.parametrize(
    "name", ["a.jpg", "a.webp", "a.avif", "a.png", "a.tif", "a.ppm", "a.npy", "16.png", "16.tif", "a.exr"]
)
def test_a_picture_that_the_disk_has_no_room_for(tmp_path: Path, igs_bytes: Make, name: str) -> None:
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if name in ("16.tif", "a.exr"):
        pytest.importorskip("OpenEXR" if name == "a.exr" else "tifffile")
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    args = ["igs-decode", "in.igs", name, "--scale", 4, *(["--bit-depth", 16] if name.startswith("16") else [])]
    code, _, err = finish(start(FULL.format("decode", "write_image"), *args, cwd=tmp_path))
    assert (code, err) == (2, f"igs-decode: {name}: File too large\n")
    assert [p.name for p in tmp_path.iterdir()] == ["in.igs"]


@posix_only
@pytest.mark.parametrize("name", ["map.jpg", "map.tif"])
def test_a_view_that_the_disk_has_no_room_for(tmp_path: Path, igs_bytes: Make, name: str) -> None:
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    code, _, err = finish(start(FULL.format("view", "write_image"), "igs-view", "in.igs", name, cwd=tmp_path))
    assert (code, err) == (2, f"igs-view: {name}: File too large\n")
    assert [p.name for p in tmp_path.iterdir()] == ["in.igs"]


# An encoder that reports more than the log has room for.
CHATTY = """
import igs.cli.encode as e
from igs.encoder.options import Progress
def chatty(image, options):
    for step in range(100):
        options.on_progress(Progress(step, 100, 0.1, 60, 0.01, 30.0, None))
    raise AssertionError("went on without its log")
e.load_encoder = lambda: chatty
"""


@posix_only
def test_a_log_that_the_disk_has_no_room_for_is_named(picture: Path) -> None:
    setup = CHATTY + FULL.format("encode", "load_encoder").replace("original(*args)", "chatty")
    code, _, err = finish(start(setup, "igs-encode", "in.png", "out.igs", "--log", "log", cwd=picture.parent))
    assert (code, err) == (2, "igs-encode: log: File too large\n")
    assert sorted(p.name for p in picture.parent.iterdir()) == ["in.png", "log"]
    assert (picture.parent / "log").stat().st_size == 1024  # what it has stays


# As Python starts where the caller closed it (`>&-`).
CLOSED = "import os, sys; os.close(1); sys.stdout = None"
# An encoder that takes no time.
ENCODED = """
import igs.cli.encode as e
class Encoded:
    data = b"igs"
    report = {"width": 1, "height": 1, "num_gaussians": 1, "bytes": 3, "bpp": 24.0, "psnr": None, "seconds": 0.0}
e.load_encoder = lambda: lambda image, options: Encoded
"""


@posix_only
@pytest.mark.parametrize(
    "args",
    [
        "igs-info in.igs", "igs-info in.igs --json", "igs-validate in.igs", "igs-validate in.igs --json",
        "igs-decode in.igs --pixel 1,1", "igs-decode in.igs --pixel 1,1 --json", "igs-decode in.igs out.png --json",
        "igs-decode in.igs -", "igs-edit in.igs out.igs --set-dpi 300 --json", "igs-view in.igs out.png --json",
        "igs-encode in.png out.igs --json", "igs-encode in.png -d out", "igs-encode -V", "igs-info -h",
    ],
)  # fmt: skip
def test_a_result_that_nobody_gets_is_an_error(picture: Path, igs_bytes: Make, args: str) -> None:
    (picture.parent / "in.igs").write_bytes(igs_bytes())
    setup = ENCODED + CLOSED if "igs-encode" in args else CLOSED
    code, _, err = finish(start(setup, *args.split(), cwd=picture.parent))
    assert code == 2, err
    assert err.splitlines()[-1] == f"{args.split()[0]}: standard output: closed"


# -- imports

NO_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Blocker())
"""
BROKEN_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file")
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize("setup", [NO_TORCH, BROKEN_TORCH])
def test_encoding_without_torch_says_what_helps(picture: Path, setup: str) -> None:
    code, out, err = finish(start(setup, "igs-encode", picture, picture.with_name("out.igs")))
    assert (code, out) == (5, b"")
    assert 'pip install "igs-codec[encoder]"' in err
    assert "torch==2.13.0" in err
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]


def test_refining_without_torch_says_what_helps(tmp_path: Path, igs_bytes: Make) -> None:
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    args = ["igs-edit", tmp_path / "in.igs", tmp_path / "out.igs", "--coarser", 2, "--refine"]
    code, _, err = finish(start(NO_TORCH, *args))
    assert (code, 'pip install "igs-codec[encoder]"' in err) == (5, True)
    assert not (tmp_path / "out.igs").exists()


def test_exr_without_its_library_says_what_helps(tmp_path: Path, igs_bytes: Make) -> None:
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    (tmp_path / "in.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(100))
    setup = NO_TORCH.replace('"torch"', '"OpenEXR"')
    for args in (["igs-decode", "in.igs", "out.exr"], ["igs-encode", "in.exr", "out.igs"]):
        code, _, err = finish(start(setup, *args, cwd=tmp_path))
        assert (code, 'pip install "igs-codec[images]"' in err) == (5, True), err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.exr", "in.igs"]


@pytest.mark.parametrize(
    "args",
    [
        "igs-encode -h -v", "igs-encode -V", "igs-encode", "igs-decode -h", "igs-decode in.igs out.png",
        "igs-decode in.igs --pixel 1,1", "igs-info in.igs --json", "igs-validate in.igs",
        "igs-edit in.igs out.igs --set-dpi 300 --coarser 2",
    ],
)  # fmt: skip
def test_everything_else_works_without_torch(tmp_path: Path, igs_bytes: Make, args: str) -> None:
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    # a blocked import that somebody catches would go unseen: so refuse to be asked at all
    setup = NO_TORCH.replace("raise ImportError", "import os; os._exit(99)  #")
    code, _, err = finish(start(setup, *args.split(), cwd=tmp_path))
    assert code == (1 if args == "igs-encode" else 0), err


def test_help_and_usage_errors_load_neither_numba_nor_pillow() -> None:
    setup = NO_TORCH.replace('"torch"', '"numba"').replace("raise ImportError", "import os; os._exit(99)  #")
    for name in ("igs-decode", "igs-info", "igs-validate"):
        assert finish(start(setup, name, "-h"))[0] == 0
    assert finish(start(setup.replace('"numba"', '"PIL"'), "igs-decode", "-h"))[0] == 0


def test_without_the_images_extra_16_bits_become_8_with_a_warning(tmp_path: Path) -> None:
    from igs.cli.output_png import write_png16

    with (tmp_path / "deep.png").open("wb") as file:
        write_png16(file, np.arange(4 * 4 * 3, dtype=np.uint16).reshape(4, 4, 3) * 1000, {})
    setup = NO_TORCH.replace('== "torch"', 'in ("imagecodecs", "tifffile")') + (
        "\nfrom igs.encoder.loading.image import load_image\n"
        f"source = load_image({str(tmp_path / 'deep.png')!r})\n"
        "print(source.bit_depth, source.pixels.shape, source.warnings)\n"
    )
    code, out, _ = finish(start(setup, "igs-decode", "-V"))
    assert code == 0
    assert out.startswith(b"8 (4, 4, 3)")
    assert b'pip install "igs-codec[images]"' in out


def test_without_the_images_extra_deep_tiffs_are_refused_on_the_way_out(tmp_path: Path, igs_bytes: Make) -> None:
    (tmp_path / "in.igs").write_bytes(igs_bytes())
    setup = NO_TORCH.replace('== "torch"', 'in ("imagecodecs", "tifffile")')
    args = ["igs-decode", tmp_path / "in.igs", tmp_path / "out.tif", "--bit-depth", 16]
    code, _, err = finish(start(setup, *args))
    assert (code, 'pip install "igs-codec[images]"' in err) == (5, True)
    assert not (tmp_path / "out.tif").exists()
    assert finish(start(setup, *args[:2], tmp_path / "out.png", *args[3:]))[0] == 0  # written without any library


def test_float_tiff_without_its_library_says_what_helps(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((4, 5, 3), np.float32), photometric="rgb")
    setup = NO_TORCH.replace('"torch"', '"tifffile"')
    code, _, err = finish(start(setup, "igs-encode", "in.tif", "out.igs", cwd=tmp_path))
    assert (code, 'pip install "igs-codec[images]"' in err) == (5, True), err
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]
