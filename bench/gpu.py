"""Speed of the encoder on a GPU, as a table with the GPU's name; kept in bench/results/gpu.json.

    python bench/gpu.py [first] [steps] [parts] [sizes] [kodak] [together] [large] [--image-gs CHECKOUT]

Without arguments everything. Times are medians between two synchronisations of the device, after runs to warm up, of
whole fits medians of three; importing, starting the device and compiling stand apart, in the order in which a first fit
needs them. Exits with 5 where there is no GPU. Pictures are those beside the checkout; where they are missing, the
example picture, continued by its mirror images, and the rows say so. --check runs everything on tiny pictures, to see
that it works. --image-gs: a clone of the published Image-GS code, compiled and run beside the steps
(bench/published.py says what that takes, and what of it is not as published). Exits with 1 where a section failed, or
that code can't be compiled, which is seen before anything is fitted, or gave nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import PIL.Image
from common import Row

EXIT_UNSUPPORTED = 5
EXAMPLE = common.REPO / "examples" / "antelope_canyon.png"
# Operations per candidate and pixel, a fused multiply-add counted as two, of three channels (csrc/cuda/raster.cuh).
FORWARD, BACKWARD = 8 + 18, 35
TINY = False  # --check
FAILED = 0  # the exit code: 1 once something that was asked for gave nothing
CALLS = 10  # between two events
CHECKOUTS: dict[str, Any] = {"image_gs": None, "fused_ssim": None}  # paths, of --image-gs and --fused-ssim


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


def kodak(count: int) -> tuple[str, list[np.ndarray]]:
    """(where from, pictures); the same ones again where there are fewer."""
    paths = common.kodak()
    pictures = [np.asarray(PIL.Image.open(p).convert("RGB")) for p in paths or [EXAMPLE]]
    if TINY:
        pictures = [p[:32, :48] for p in pictures[:2]]
    return f"{len(paths)} Kodak images" if paths else EXAMPLE.stem, [pictures[i % len(pictures)] for i in range(count)]


def planes(pixels: np.ndarray) -> Any:
    """[C, H, W] float32 of [H, W, C] uint8."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call and of all that it queued, and what it gave."""
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - started, result


def median_of(call: Callable[[], Any], runs: int = 20, warmup: int = 3) -> float:
    """Median seconds of a call on the device, by events around several calls: a single one's are its launches."""
    import torch

    for _ in range(warmup):
        call()
    times = []
    for _ in range(1 if TINY else runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / CALLS)
    return statistics.median(times)


def make_fit(pixels: np.ndarray, n: int, preset: str, steps: int, **changes: Any) -> Any:
    from igs.encoder.fitting.fit import Fit
    from igs.encoder.options import EncodeOptions
    from igs.encoder.raster.cuda_backend import open_device

    recipe = EncodeOptions(preset=preset, overrides={"steps": steps, **changes}).recipe()
    return Fit(planes(pixels), n, recipe, open_device(), log_every=steps)


def psnr(fit: Any, model: Any) -> float:
    return _psnr_of(fit.backend, model, fit.options, fit.target)


def first() -> list[Row]:
    """What the first fit of a process costs besides itself. Must come first."""
    marks = [time.perf_counter()]
    import torch

    from igs.encoder.raster.cuda_backend import open_device

    marks.append(time.perf_counter())
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    marks.append(time.perf_counter())
    open_device()
    marks.append(time.perf_counter())
    again, _ = seconds_of(open_device)
    imported, started, opened = np.diff(marks).tolist()
    return [
        Row("import torch and the encoder", imported, "s"),
        Row("start the device", started, "s"),
        Row("compile the kernels, or load them from the cache on disk", opened - again, "s"),
    ]


def steps() -> list[Row]:
    """1000 steps at 2048², as in the paper and by the default preset, growth included."""
    side, count = (64, 20) if TINY else (2048, 1000)
    name, pixels = picture(side)
    rows = []
    for n, bound in ((10_000, 1.5), (50_000, 2.5)):
        n = 50 if TINY else n
        reached: dict[str, tuple[float, float]] = {}  # preset: (seconds, dB)
        for preset, what, limit in (
            ("image-gs", "L1 + 0.1·(1 − SSIM)", bound),
            ("gaussianimage", "squared error of a sum, the last half quantised", None),
            ("default", "squared error, SSIM of reduced pictures", None),
        ):
            seconds, fit, model = fitted(lambda steps, n=n, p=preset: make_fit(pixels, n, p, steps), count)
            what = f"{count} steps of {name}, {side}², {n} Gaussians, {preset}: {what}"
            reached[preset] = seconds, psnr(fit, model)
            rows += [Row(what, seconds, "s", limit), Row("… PSNR", reached[preset][1], "dB")]
        if CHECKOUTS["image_gs"]:
            rows += beside_published(pixels, n, count, reached)

    def loose(steps: int) -> Any:
        fit = make_fit(pixels, n, "default", steps)
        fit.backend = type(fit.backend)(fit.backend._launcher, fit.backend.place, name=fit.backend.name, atomic=True)
        return fit

    seconds, *_ = fitted(loose, count)
    return [*rows, Row(f"… {n} Gaussians, default, --fast-nondeterministic", seconds, "s")]


def beside_published(pixels: np.ndarray, n: int, count: int, reached: dict[str, tuple[float, float]]) -> list[Row]:
    """The published code on the same picture, and how far ahead of it the presets are; no rows where it doesn't run."""
    global FAILED
    import published

    try:
        found = published.measure(**CHECKOUTS, pixels=pixels, gaussians=n, steps=count)
    except published.Failed as failed:
        print(f"gpu: {failed}", file=sys.stderr)
        FAILED = 1
        return []
    what = f"… the published Image-GS code, stand-ins: {', '.join(found['stand_ins']) or 'none'}"
    return [
        Row(what, found["seconds"], "s"),
        Row("… PSNR", found["psnr"], "dB"),
        Row("… its time over that of preset image-gs", found["seconds"] / reached["image-gs"][0], "×", 6.0, least=True),
        Row("… PSNR of the default preset above its", reached["default"][1] - found["psnr"], "dB", 1.0, least=True),
    ]


def fitted(make: Callable[[int], Any], steps: int, runs: int = 3) -> tuple[float, Any, Any]:
    """(median seconds of all steps of a fit with its growth, the last fit, its model), after a short one to warm up."""
    make(5).run()
    times = []
    for _ in range(1 if TINY else runs):
        fit = make(steps)
        seconds, model = seconds_of(fit.run)
        times.append(seconds)
    return statistics.median(times), fit, model


def ceilings(place: Any) -> tuple[float, float]:
    """GB/s of a copy, bytes read and written, and TFLOP/s of a binary32 matrix product: what the device can do."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.empty(2**10 if TINY else 2**28, device=place) for _ in range(2))
    bandwidth = 2 * a.numel() * 4 / median_of(lambda: a.copy_(b)) / 1e9
    side = 64 if TINY else 8192
    m = torch.randn(side, side, device=place)
    return bandwidth, 2 * float(side) ** 3 / median_of(lambda: m @ m, 5) / 1e12


def parts() -> list[Row]:
    """What one step at 2048² spends where, and how near that comes to what the device can do."""
    import torch

    from igs.encoder.raster.reference import RasterOptions

    side, n = (64, 50) if TINY else (2048, 10_000)
    _, pixels = picture(side)
    fit = make_fit(pixels, n, "default", 60)
    model = fit.run().map(lambda t: t.to(fit.backend.place))
    raster, options, target = fit.backend._rasterizer, fit.options, fit.target
    factors = fit.backend._factors(model, options)
    arrays = model.position, factors, model.feature
    image, grad = torch.empty_like(target), torch.empty_like(target)
    raster.bin(*arrays, options)
    entries = int(raster._buffers["state"][0])
    pixels_done = entries * 256.0
    bandwidth, peak = ceilings(fit.backend.place)
    rows = [
        Row("copy within the device, bytes read and written", bandwidth, "GB/s"),
        Row("binary32 matrix product, as the peak of arithmetic", peak, "TFLOP/s"),
        Row(
            f"{side}², {n} Gaussians: candidates per tile",
            entries / (raster._frame.tiles_x * raster._frame.tiles_y),
            "",
        ),
    ]

    def add(name: str, call: Callable[[], Any], operations: float, moved: float) -> None:
        seconds = median_of(call)
        rows.append(Row(f"… {name}", seconds * 1e3, "ms"))
        if operations:
            rows.append(Row("   … of the peak of arithmetic", operations / seconds / peak / 1e10, "%"))
        if moved:
            rows.append(Row("   … of the bandwidth", moved / seconds / bandwidth / 1e7, "%"))

    values = target.numel() * 4.0
    planes_ = 3 * target[0].numel() * 4.0
    add("tile lists", lambda: raster.bin(*arrays, options, trust=True), 0, 0)
    add("forward", lambda: raster.forward(options, image), FORWARD * pixels_done, values + planes_)
    add(
        "backward, and sums over the tiles",
        lambda: raster.backward(grad),
        BACKWARD * pixels_done,
        2 * values + planes_,
    )
    add("L1 and SSIM with gradient", lambda: raster.loss(image, target, 1.0, 0.0, 0.1, grad), 0, 3 * values)
    add(
        "forward, squared error and backward in one",
        lambda: raster.fused(target, 0.0, 1.0),
        (FORWARD + BACKWARD) * pixels_done,
        values,
    )
    published = dataclasses.replace(options, top_k=10, reach2=9.0, relative_reach2=float("inf"))
    assert isinstance(published, RasterOptions)
    raster.bin(*arrays, published)
    add("forward with K = 10, R² = 9 and no relative reach", lambda: raster.forward(published, image), 0, 0)
    launches, _ = seconds_of(lambda: [fit._step(False) for _ in range(5 if TINY else 100)])
    rows.append(Row("… one whole step of the fit, host included", launches / (5 if TINY else 100) * 1e3, "ms"))
    return rows


def sizes() -> list[Row]:
    """Time of a step against the number of Gaussians, 2048², without growth.

    All of them on all pixels: by default few Gaussians would see a quarter in most steps, and many all.
    """
    rows = []
    _, pixels = picture(64 if TINY else 2048)
    for n in (1000, 3000, 10_000, 30_000, 50_000, 100_000, 300_000, 1_000_000):
        changes = {"growth": False, "relocate": 0.0, "interlace": 0.0}
        fit = make_fit(pixels, min(n, 100) if TINY else n, "default", 1000, **changes)
        for _ in range(5):
            fit._step(False)
        count = 3 if TINY else 50
        seconds, _ = seconds_of(lambda f=fit, c=count: [f._step(False) for _ in range(c)])
        rows.append(Row(f"one step on all pixels, {n} Gaussians from their start", seconds / count * 1e3, "ms"))
    ten, fifty = rows[2].value, rows[4].value
    return [*rows, Row("time of 50K over time of 10K (5: linear)", fifty / ten, "", 5.0)]


def whole() -> list[Row]:
    """A Kodak image to a file at the default effort, and peak memory."""
    import torch

    from igs.encoder import encode

    name, pictures = kodak(8)
    settings: dict[str, Any] = {"device": "cuda", **({"steps": 10, "num_gaussians": 20} if TINY else {})}
    encode(pictures[0], **settings)
    torch.cuda.reset_peak_memory_stats()
    reports = [encode(p, **settings).report for p in pictures]
    memory = torch.cuda.max_memory_allocated() / 1e9
    return [
        Row(
            f"whole encode at the default effort, {name}, median",
            statistics.median(r["seconds"] for r in reports),
            "s",
            2.0,
        ),
        Row("… PSNR, mean", float(np.mean([r["psnr"] for r in reports])), "dB"),
        Row("peak memory, Kodak image", memory, "GB", 0.3),
    ]


def together() -> list[Row]:
    """64 Kodak images one after another, and all in the same launches. Portraits lie on their side, for one shape."""
    from igs.encoder import PRESETS
    from igs.encoder.fitting.fit_batch import FitBatch
    from igs.encoder.raster.cuda_backend import open_device

    name, pictures = kodak(3 if TINY else 64)
    pictures = [p if p.shape[1] > p.shape[0] else np.ascontiguousarray(p.swapaxes(0, 1)) for p in pictures]
    n, count = (20, 8) if TINY else (3000, 1000)
    recipe = dataclasses.replace(PRESETS["default"], steps=count)
    backend = open_device()

    def alone() -> list[float]:
        """Every fourth of them."""
        fits = [make_fit(p, n, "default", count) for p in pictures[::4]]
        return [psnr(fit, fit.run()) for fit in fits]

    def batch() -> list[float]:
        one = make_fit(pictures[0], n, "default", 1)
        fit = FitBatch([planes(p) for p in pictures], n, recipe, backend)
        return [_psnr_of(backend, model, one.options, planes(p)) for model, p in zip(fit.fit(), pictures, strict=True)]

    make_fit(pictures[0], n, "default", 5).run()
    seconds, reached = seconds_of(alone)
    rate = len(reached) / seconds
    rows = [
        Row(f"fits of {count} steps, {n} Gaussians, {name}, one after another", rate, "images/s"),
        Row("… PSNR of every fourth, mean", float(np.mean(reached)), "dB"),
    ]
    FitBatch([planes(p) for p in pictures], n, dataclasses.replace(recipe, steps=5), backend).fit()
    seconds, reached = seconds_of(batch)
    return [
        *rows,
        Row(f"… {len(pictures)} together", len(pictures) / seconds, "images/s"),
        Row("… PSNR of every fourth, mean", float(np.mean(reached[::4])), "dB"),
        Row("… over one after another", len(pictures) / seconds / rate, "×", 5.0, least=True),
    ]


def _psnr_of(backend: Any, model: Any, options: Any, target: Any) -> float:
    from igs.decoder.measure import psnr_of

    return psnr_of(backend.measure(backend.render(model, options), target, False)[0])


def large() -> list[Row]:
    """1000 steps at 8192² with 200K Gaussians; peak memory there and at 2048²."""
    import torch

    rows = []
    for side, n, count, bound in ((2048, 50_000, 100, 1.0), (8192, 200_000, 1000, 10.0)):
        if TINY:
            side, n, count = side // 64, n // 1000, 5
        name, pixels = picture(side)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds, fit, model = fitted(lambda steps, p=pixels, n=n: make_fit(p, n, "default", steps), count)
        memory = torch.cuda.max_memory_allocated() / 1e9
        rows.append(Row(f"{count} steps of {name}, {side}², {n} Gaussians", seconds, "s"))
        rows.append(Row("… PSNR", psnr(fit, model), "dB"))
        rows.append(Row("… peak memory", memory, "GB", bound))
    return rows


SECTIONS = {
    "first": first,
    "steps": steps,
    "parts": parts,
    "sizes": sizes,
    "kodak": whole,
    "together": together,
    "large": large,
}


def main() -> int:
    """Measure, print and keep."""
    global TINY, FAILED
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="tiny pictures; only to see that it runs")
    parser.add_argument("--image-gs", type=Path, metavar="CHECKOUT", help="clone of the published code, to run beside")
    parser.add_argument("--fused-ssim", type=Path, metavar="CHECKOUT", help="clone of the SSIM that it uses")
    options = parser.parse_args()
    unknown = [s for s in options.sections if s not in SECTIONS]
    if unknown:
        parser.error(f"expected sections of {', '.join(SECTIONS)}, found {unknown[0]}")
    if options.image_gs and not (options.image_gs / "cfgs" / "default.yaml").exists():
        parser.error(f"--image-gs: expected a clone of the published code, found none in {options.image_gs}")
    if options.image_gs and options.sections and "steps" not in options.sections:
        parser.error("--image-gs: expected the section steps, beside which that code runs")
    TINY, FAILED = options.check, 0
    CHECKOUTS.update(image_gs=options.image_gs, fused_ssim=options.fused_ssim)
    wanted = options.sections or list(SECTIONS)
    reason = why_not()
    if reason:
        print(f"gpu: {reason}", file=sys.stderr)
        return EXIT_UNSUPPORTED
    lacking = common.cannot_compile() if options.image_gs else None
    if lacking:
        print(f"gpu: --image-gs: {lacking}", file=sys.stderr)
        return 1
    machine: dict[str, Any] = {}
    for name in ["first", *(w for w in wanted if w != "first")]:
        try:
            found = SECTIONS[name]()
        except Exception:  # the others' figures are worth having all the same
            traceback.print_exc()
            FAILED = 1
            continue
        machine = machine or _machine()  # while the device answers
        print(f"\n{name}", *found, sep="\n", flush=True)
        if not TINY:
            _keep(name, machine, found)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    return FAILED


def why_not() -> str | None:
    """Why nothing can be measured here, without loading what `first` times; None where it can be."""
    from igs.csrc.cuda_compile import CudaUnavailable
    from igs.csrc.cuda_driver import driver

    try:
        driver()
    except CudaUnavailable as error:
        return str(error)
    return None


def _machine() -> dict[str, Any]:
    import torch

    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, **common.machine()}


def _keep(section: str, machine: dict[str, Any], rows: list[Row]) -> None:
    entry = {"machine": machine, "date": common.today(), "rows": [dataclasses.asdict(row) for row in rows]}
    common.keep_section("gpu.json", section, entry)


if __name__ == "__main__":
    sys.exit(main())
