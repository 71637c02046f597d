"""igs and the published Gaussian codecs as its presets, all through `igs-encode`, `igs-decode` and `igs-info`.

The commands are black boxes: the rate is the size of the file that they wrote, the picture is the PNG that they
decoded. What an encoder reports of itself is kept beside the point, but never in the place of a measurement.
"""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import sources_version
from numpy.typing import NDArray
from PIL import Image

from rd.codecs import Encoded, Settings
from rd.sets import Profile

_OF_REPORT: tuple[str, ...] = ("num_gaussians", "steps", "seconds", "rate_met")
_OF_INFO: tuple[str, ...] = ("bits_by_attribute", "bits_per_gaussian", "head_bytes", "num_chunks")


def command(name: str) -> str:
    """The program of this Python environment, or else the one on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"expected the command {name} beside {sys.executable} or on the path, found neither")
    return found


@functools.cache
def _help_words() -> frozenset[str]:
    text = subprocess.run([command("igs-encode"), "-h", "-v"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.split(r"[\s,\[\]|()]+", text))


@dataclass(frozen=True)
class Gaussians:
    """`igs-encode` with further options, at the profile's rates times `factor`.

    The factor brings a codec that needs several times the bytes into the same range of qualities: curves without an
    overlap can't be compared.
    """

    name: str
    label: str
    options: tuple[str, ...] = ()
    factor: float = 1.0
    pictures: str = "all"
    effort: int | None = None
    curve: bool = True  # at the profile's `more_rates` too
    family: str = "igs"
    keep: bool = True
    stops: bool = False

    @property
    def version(self) -> str:
        return sources_version()

    def missing(self) -> str | None:
        """Why this one can't run: an option or a preset that this igs-encode doesn't list."""
        options = [o for o in self.options if o.startswith("--")]
        if "--preset" in self.options:
            options.append(self.options[self.options.index("--preset") + 1])
        try:
            unknown = [o for o in options if o not in _help_words()]
        except (OSError, subprocess.CalledProcessError) as error:
            return str(error)
        return f"this igs-encode knows no {' '.join(unknown)}" if unknown else None

    def ladders(self, profile: Profile) -> list[list[Settings]]:
        rates = profile.rates + (profile.more_rates if self.curve else ())
        common: Settings = {"options": list(self.options)} | ({"effort": self.effort} if self.effort else {})
        return [[{"bpp": round(self.factor * r, 4), **common} for r in rates]]

    def encode(self, pixels: NDArray[np.uint8], settings: Settings) -> Encoded:
        with tempfile.TemporaryDirectory() as folder:
            source, file = Path(folder, "source.png"), Path(folder, "file.igs")
            Image.fromarray(pixels).save(source, compress_level=1)
            options = ["--bpp", str(settings["bpp"]), *settings["options"]]
            if "effort" in settings:
                options += ["--effort", str(settings["effort"])]
            report = _run("igs-encode", [source, file, *options, "--json", "--quiet"])
            info = _run("igs-info", [file, "--bits", "--json"])
            told = {k: report[k] for k in _OF_REPORT if k in report} | {k: info[k] for k in _OF_INFO if k in info}
            return Encoded(file.read_bytes(), told)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        with tempfile.TemporaryDirectory() as folder:
            file, png = Path(folder, "file.igs"), Path(folder, "decoded.png")
            file.write_bytes(data)
            _run("igs-decode", [file, png, "--quiet"])
            with Image.open(io.BytesIO(png.read_bytes())) as im:
                return np.asarray(im.convert("RGB"))


def _run(name: str, arguments: Sequence[object]) -> dict[str, Any]:
    done = subprocess.run([command(name), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout) if done.stdout.strip() else {}


SIXTEEN_BITS = ("--pos-bits", "16", "--scale-bits", "16", "--rot-bits", "16", "--feat-bits", "16")
_PEER_STEPS = ("--steps", "5000")  # so that two cores manage them; the publications have 10 000 to 50 000


def presets(effort: int | None = None) -> tuple[Gaussians, ...]:
    """igs at its default and tuned for MS-SSIM, and the published recipes."""
    return (
        Gaussians("igs", "igs", effort=effort),
        Gaussians("igs-ms-ssim", "igs, tuned for MS-SSIM", ("--tune", "ms-ssim"), effort=effort, curve=False),
        Gaussians(
            "image-gs",
            "preset image-gs, 16 bits",
            ("--preset", "image-gs", *SIXTEEN_BITS, *_PEER_STEPS),
            factor=4,
            pictures="some",
            curve=False,
        ),
        Gaussians(
            "gaussianimage",
            "preset gaussianimage",
            ("--preset", "gaussianimage", *_PEER_STEPS),
            factor=3,
            pictures="some",
            curve=False,
        ),
        Gaussians(
            "gaussianimage++",
            "preset gaussianimage++",
            ("--preset", "gaussianimage++", *_PEER_STEPS),
            factor=2.5,
            pictures="some",
            curve=False,
        ),
    )
