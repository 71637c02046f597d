"""For the benchmarks on a GPU: what was asked for, pictures, fits there, and how long things take."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import PIL.Image

EXIT_UNSUPPORTED = 5
EXAMPLE = common.REPO / "examples" / "antelope_canyon.png"
CALLS = 10  # between two events


@dataclass(frozen=True)
class Asked:
    """What was asked for. tiny: pictures, only to see that it runs. The others are checkouts of published code."""

    tiny: bool = False
    image_gs: Path | None = None
    fused_ssim: Path | None = None

    def of(self, usual: Any, tiny: Any) -> Any:
        """One of the two."""
        return tiny if self.tiny else usual


def why_not() -> str | None:
    """Why nothing can be measured here; None where it can be. Another process looks: to start the driver is timed."""
    code = (
        "from igs.csrc.cuda_compile import CudaUnavailable\n"
        "from igs.csrc.cuda_driver import driver\n"
        "try: driver()\n"
        "except CudaUnavailable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip() or None


# -- pictures


def mirrored(image: PIL.Image.Image, width: int, height: int) -> np.ndarray:
    """A picture [height, width, 3] as fine as the given one, continued by its mirror images."""
    pixels = np.asarray(image.convert("RGB"))
    pixels = np.concatenate([pixels, pixels[:, ::-1]], 1)
    pixels = np.concatenate([pixels, pixels[::-1]], 0)
    times = -(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1
    return np.ascontiguousarray(np.tile(pixels, times)[:height, :width])


def picture(side: int) -> tuple[str, np.ndarray]:
    """(where from, pixels [side, side, 3])"""
    path = common.DATA / "stylized/digital_art/canopee.png"
    source = path if path.exists() else EXAMPLE
    return source.stem, mirrored(PIL.Image.open(source), side, side)


def kodak(count: int, asked: Asked) -> tuple[str, list[np.ndarray]]:
    """(where from, pictures); the same ones again where there are fewer."""
    paths = common.kodak()
    pictures = [np.asarray(PIL.Image.open(p).convert("RGB")) for p in paths or [EXAMPLE]]
    pictures = asked.of(pictures, [p[:32, :48] for p in pictures[:2]])
    return f"{len(paths)} Kodak images" if paths else EXAMPLE.stem, [pictures[i % len(pictures)] for i in range(count)]


def planes(pixels: np.ndarray) -> Any:
    """[C, H, W] float32 of [H, W, C] uint8."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


# -- time


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call and of all that it queued, and what it gave."""
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - started, result


def median_of(call: Callable[[], Any], runs: int, new_event: Callable[[], Any]) -> float:
    """Median seconds of a call on the device, by events around several calls: a single one's are its launches.

    new_event: PyTorch's, or Numba's, which has the same methods.
    """
    for _ in range(3):
        call()
    times = []
    for _ in range(runs):
        begin, end = new_event(), new_event()
        begin.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / CALLS)
    return statistics.median(times)


# -- fits


def make_fit(pixels: np.ndarray, n: int, preset: str, steps: int, backend: Any = None, **changes: Any) -> Any:
    """A fit that was not begun; backend: of the GPU at hand unless given. changes: of the preset."""
    from igs.encoder.fitting.fit import Fit
    from igs.encoder.options import EncodeOptions

    if backend is None:
        from igs.encoder.raster.cuda_backend import open_device

        backend = open_device()
    recipe = EncodeOptions(preset=preset, overrides={"steps": steps, **changes}).recipe()
    return Fit(planes(pixels), n, recipe, backend, log_every=steps)


def fitted(make: Callable[[int], Any], steps: int, runs: int) -> tuple[float, Any, Any]:
    """(median seconds of all steps of a fit with its growth, the last fit, its model), after a short one to warm up."""
    make(5).run()
    times = []
    for _ in range(runs):
        fit = model = None  # before the next, whose memory is looked at
        fit = make(steps)
        seconds, model = seconds_of(fit.run)
        times.append(seconds)
    return statistics.median(times), fit, model


def psnr(fit: Any, model: Any) -> float:
    """dB of a fit's model, unquantised."""
    return psnr_by(fit.backend, model, fit.options, fit.target)


def psnr_by(backend: Any, model: Any, options: Any, target: Any) -> float:
    """dB of a model as a backend draws it."""
    from igs.decoder.measure import psnr_of

    return psnr_of(backend.measure(backend.render(model, options), target, False)[0])
