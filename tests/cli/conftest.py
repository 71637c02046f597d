"""Helpers for the command tests: run a command in this process, make small .igs files, stand in for the encoder."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from igs.cli.process import run
from igs.format import Alpha, Colour, Group, Header, Quantizer, quantize, write


@dataclasses.dataclass
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class _Stream(io.TextIOWrapper):
    """Keeps its bytes when the command closes or wraps it."""

    def __init__(self, data: bytes = b"", tty: bool = False) -> None:
        self.bytes, self.tty = io.BytesIO(data), tty
        super().__init__(self.bytes, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.tty


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A ramp of 32 × 32 pixels, ``in.png``."""
    path = tmp_path / "in.png"
    y, x = np.mgrid[:32, :32]
    Image.fromarray(np.stack([x * 8, y * 8, (x + y) * 4], axis=2).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """``forbid(path)`` makes a file one that may not be read: permissions themselves don't bind root."""

    def forbid(locked: Path) -> None:
        opened = Path.open

        def open_(path: Path, *args: Any, **kwargs: Any) -> Any:
            if path == locked:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return opened(path, *args, **kwargs)

        monkeypatch.setattr(os, "access", lambda path, mode, **kwargs: path != str(locked))
        monkeypatch.setattr(Path, "open", open_)

    return forbid


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``cli("igs-decode", "in.igs", "out.png", stdin=b"…")`` → exit code, stdout and stderr of the script."""

    def invoke(name: str, *args: object, stdin: bytes = b"", tty: bool = False) -> Result:
        import importlib

        word = name.removeprefix("igs-")
        command = getattr(importlib.import_module(f"igs.cli.{word}"), word)
        out, err = _Stream(tty=tty), _Stream(tty=tty)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", _Stream(stdin, tty=tty and not stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run(command, [str(arg) for arg in args])
            out.flush(), err.flush()
        found = Result(code, out.bytes.getvalue(), err.bytes.getvalue().decode())
        assert "Traceback" not in found.err
        return found

    return invoke


def make_igs(
    width: int = 40,
    height: int = 30,
    groups: tuple[Group, ...] = (Group(channels=3, colour=Colour.RGB),),
    count: int = 60,
    sections: dict[str, bytes] | None = None,
    levels: int = 1,
    seed: int = 0,
) -> bytes:
    """A valid file of random Gaussians that cover the picture."""
    rng = np.random.default_rng(seed)
    channels = sum(group.channels for group in groups)
    header = Header(
        width=width,
        height=height,
        channels=channels,
        groups=groups,
        background=(0.5,) * channels,
        position=Quantizer.uniform(np.zeros(2), np.array([width, height], float), 12),
        scale=Quantizer.uniform(np.zeros(2), np.full(2, 4.0), 8),
        rotation=Quantizer.uniform(np.zeros(1), np.ones(1), 8),
        feature=Quantizer.uniform(np.zeros(channels), np.ones(channels), 8),
    )
    tables = [
        quantize(
            header,
            rng.random((count, 2)) * [width, height],
            rng.random((count, 2)) * 2 + 1,
            rng.random((count, 1)),
            rng.random((count, channels)),
        )
        for _ in range(levels)
    ]
    return write(header, tables, sections=sections or {})


@pytest.fixture
def igs_bytes() -> Callable[..., bytes]:
    return make_igs


GROUPS = {
    "L": (Group(channels=1, colour=Colour.GREY),),
    "LA": (Group(channels=2, colour=Colour.GREY, alpha=Alpha.PREMULTIPLIED),),
    "RGB": (Group(channels=3, colour=Colour.RGB),),
    "RGBA": (Group(channels=4, colour=Colour.RGB, alpha=Alpha.PREMULTIPLIED),),
    "CMYK": (Group(channels=4, colour=Colour.CMYK),),
    "two": (Group(channels=2),),
    "stack": (
        Group(channels=3, colour=Colour.RGB, name="albedo"),
        Group(channels=3, colour=Colour.NORMAL, name="normal"),
    ),
}


@pytest.fixture
def groups_of() -> dict[str, tuple[Group, ...]]:
    return GROUPS


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the fit by a file of random Gaussians; returns the list of (image, options) that it was called with."""
    import igs.cli.encode as module
    from igs.encoder.options import EncodeOptions, Progress

    calls: list[Any] = []

    @dataclasses.dataclass
    class Encoded:
        data: bytes
        report: dict[str, Any]

    def encode(image: Any, options: EncodeOptions) -> Encoded:
        calls.append((image, options))
        for step in (0, 5, 10):
            if options.on_progress is not None:
                options.on_progress(Progress(step, 10, step / 100, 60, 0.01, 30.0 + step, None))
        if options.on_warning is not None and options.bpp == 9:
            options.on_warning("the target can't be met")
        data = make_igs(image.width, image.height, image.groups, sections=image.sections)
        keys = {"num_gaussians": 60, "bytes": len(data), "bpp": 8 * len(data) / image.width / image.height}
        size = {"width": image.width, "height": image.height, "channels": image.channels}
        quality = {
            "psnr": 30.0,
            "ms_ssim": None,
            "seconds": 0.1,
            "steps": 10,
            "effort": options.effort,
            "device": "cpu",
        }
        return Encoded(data, {**size, **keys, **quality})

    monkeypatch.setattr(module, "load_encoder", lambda: encode)
    return calls
