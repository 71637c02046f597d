"""What bench/gpu.py measures. A section yields rows as it has them, so that what it had is kept when it breaks off."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import Row
from gpu_fits import Asked, fitted, kodak, make_fit, median_of, picture, planes, psnr, psnr_by, seconds_of

Rows = Iterator[Row]
# Operations per candidate and pixel, a fused multiply-add counted as two, of three channels (csrc/cuda/raster.cuh).
FORWARD, BACKWARD = 8 + 18, 35


def first(asked: Asked) -> Rows:
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
    yield Row("import torch and the encoder", imported, "s")
    yield Row("start the device", started, "s")
    yield Row("compile the kernels, or load them from the cache on disk", opened - again, "s")


def steps(asked: Asked) -> Rows:
    """1000 steps at 2048², as in the paper and by the default preset, growth included; beside the published code."""
    side, count, runs = asked.of((2048, 1000, 3), (64, 20, 1))
    name, pixels = picture(side)
    reached: dict[int, dict[str, tuple[float, float]]] = {}  # Gaussians: preset: (seconds, dB)
    for n, bound in asked.of(((10_000, 1.5), (50_000, 2.5)), ((50, 1.5), (60, 2.5))):
        reached[n] = {}
        for preset, what, limit in (
            ("image-gs", "L1 + 0.1·(1 − SSIM)", bound),
            ("gaussianimage", "squared error of a sum, the last half quantised", None),
            ("default", "squared error, SSIM of reduced pictures", None),
        ):
            seconds, fit, model = fitted(lambda steps, n=n, p=preset: make_fit(pixels, n, p, steps), count, runs)
            reached[n][preset] = seconds, psnr(fit, model)
            yield Row(f"{count} steps of {name}, {side}², {n} Gaussians, {preset}: {what}", seconds, "s", limit)
            yield Row("… PSNR", reached[n][preset][1], "dB")

    def loose(steps: int) -> Any:
        from igs.encoder.raster.cuda_backend import open_device

        return make_fit(pixels, n, "default", steps, open_device(atomic=True))

    seconds, *_ = fitted(loose, count, runs)
    yield Row(f"… {n} Gaussians, default, --fast-nondeterministic", seconds, "s")
    if asked.image_gs:
        for n, presets in reached.items():
            yield from beside_published(asked, pixels, n, count, presets)


def beside_published(
    asked: Asked, pixels: np.ndarray, n: int, count: int, reached: dict[str, tuple[float, float]]
) -> Rows:
    """The published code on the same picture, and how far ahead of it the presets are. Raises published.Failed."""
    import published

    found = published.measure(asked.image_gs, pixels, n, count, asked.fused_ssim)
    stand_ins = ", ".join(found["stand_ins"]) or "none"
    yield Row(f"{n} Gaussians, the published Image-GS code, stand-ins: {stand_ins}", found["seconds"], "s")
    yield Row("… PSNR", found["psnr"], "dB")
    ratio = found["seconds"] / reached["image-gs"][0]
    yield Row("… its time over that of preset image-gs", ratio, "×", 6.0, least=True)
    yield Row("… PSNR of the default preset above its", reached["default"][1] - found["psnr"], "dB", 1.0, least=True)


def ceilings(place: Any, asked: Asked) -> tuple[float, float]:
    """GB/s of a copy, bytes read and written, and TFLOP/s of a binary32 matrix product: what the device can do."""
    import torch

    event = functools.partial(torch.cuda.Event, enable_timing=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.empty(asked.of(2**28, 2**10), device=place) for _ in range(2))
    bandwidth = 2 * a.numel() * 4 / median_of(lambda: a.copy_(b), asked.of(20, 1), event) / 1e9
    side = asked.of(8192, 64)
    m = torch.randn(side, side, device=place)
    return bandwidth, 2 * float(side) ** 3 / median_of(lambda: m @ m, asked.of(5, 1), event) / 1e12


def parts(asked: Asked) -> Rows:
    """What one step at 2048² spends where, and how near that comes to what the device can do."""
    import torch

    from igs.encoder.raster.reference import RasterOptions

    side, n = asked.of((2048, 10_000), (64, 50))
    _, pixels = picture(side)
    fit = make_fit(pixels, n, "default", 60)
    model = fit.run().map(lambda t: t.to(fit.backend.place))
    raster, options, target = fit.backend._rasterizer, fit.options, fit.target
    arrays = model.position, fit.backend._factors(model, options), model.feature
    image, grad = torch.empty_like(target), torch.empty_like(target)
    raster.bin(*arrays, options)
    entries = int(raster._buffers["state"][0])
    bandwidth, peak = ceilings(fit.backend.place, asked)
    yield Row("copy within the device, bytes read and written", bandwidth, "GB/s")
    yield Row("binary32 matrix product, as the peak of arithmetic", peak, "TFLOP/s")
    tiles = raster._frame.tiles_x * raster._frame.tiles_y
    yield Row(f"{side}², {n} Gaussians: candidates per tile", entries / tiles, "")
    published = dataclasses.replace(options, top_k=10, reach2=9.0, relative_reach2=float("inf"))
    assert isinstance(published, RasterOptions)
    done = entries * 256.0  # candidates times pixels
    values, limits = target.numel() * 4.0, 3 * target[0].numel() * 4.0  # bytes
    for name, call, operations, moved in (
        ("tile lists", lambda: raster.bin(*arrays, options, trust=True), 0, 0),
        ("forward", lambda: raster.forward(options, image), FORWARD * done, values + limits),
        ("backward, and sums over the tiles", lambda: raster.backward(grad), BACKWARD * done, 2 * values + limits),
        ("L1 and SSIM with gradient", lambda: raster.loss(image, target, 1.0, 0.0, 0.1, grad), 0, 3 * values),
        (
            "forward, squared error and backward in one",
            lambda: raster.fused(target, 0.0, 1.0),
            (FORWARD + BACKWARD) * done,
            values,
        ),
        ("tile lists with R² = 9 and no relative reach", lambda: raster.bin(*arrays, published, trust=True), 0, 0),
        ("forward with K = 10 besides", lambda: raster.forward(published, image), 0, 0),
    ):
        seconds = median_of(call, asked.of(20, 1), functools.partial(torch.cuda.Event, enable_timing=True))
        yield Row(f"… {name}", seconds * 1e3, "ms")
        if operations:
            yield Row("   … of the peak of arithmetic", operations / seconds / peak / 1e10, "%")
        if moved:
            yield Row("   … of the bandwidth", moved / seconds / bandwidth / 1e7, "%")
    count = asked.of(100, 5)
    seconds, _ = seconds_of(lambda: [fit._step(False) for _ in range(count)])
    yield Row("… one whole step of the fit, host included", seconds / count * 1e3, "ms")


def sizes(asked: Asked) -> Rows:
    """Time of a step against the number of Gaussians, 2048², without growth.

    All of them on all pixels: by default few Gaussians would see a quarter in most steps, and many all.
    """
    _, pixels = picture(asked.of(2048, 64))
    count, times = asked.of(50, 3), {}
    for n in (1000, 3000, 10_000, 30_000, 50_000, 100_000, 300_000, 1_000_000):
        changes = {"growth": False, "relocate": 0.0, "interlace": 0.0}
        fit = make_fit(pixels, asked.of(n, min(n, 100)), "default", 1000, **changes)
        for _ in range(5):
            fit._step(False)
        seconds, _ = seconds_of(lambda f=fit: [f._step(False) for _ in range(count)])
        times[n] = seconds / count * 1e3
        yield Row(f"one step on all pixels, {n} Gaussians from their start", times[n], "ms")
    yield Row("time of 50K over time of 10K (5: linear)", times[50_000] / times[10_000], "", 5.0)


def whole(asked: Asked) -> Rows:
    """A Kodak image to a file at the default effort, and peak memory."""
    import torch

    from igs.encoder import encode

    name, pictures = kodak(8, asked)
    settings: dict[str, Any] = {"device": "cuda", **asked.of({}, {"steps": 10, "num_gaussians": 20})}
    encode(pictures[0], **settings)
    torch.cuda.reset_peak_memory_stats()
    reports = [encode(p, **settings).report for p in pictures]
    memory = torch.cuda.max_memory_allocated() / 1e9
    seconds = statistics.median(r["seconds"] for r in reports)
    yield Row(f"whole encode at the default effort, {name}, median", seconds, "s", 2.0)
    yield Row("… PSNR, mean", float(np.mean([r["psnr"] for r in reports])), "dB")
    yield Row("peak memory, Kodak image", memory, "GB", 0.3)


def together(asked: Asked) -> Rows:
    """64 Kodak images one after another, and all in the same launches. Portraits lie on their side, for one shape."""
    from igs.encoder import PRESETS
    from igs.encoder.fitting.fit_batch import FitBatch
    from igs.encoder.raster.cuda_backend import open_device

    name, pictures = kodak(asked.of(64, 3), asked)
    pictures = [p if p.shape[1] > p.shape[0] else np.ascontiguousarray(p.swapaxes(0, 1)) for p in pictures]
    n, count = asked.of((3000, 1000), (20, 8))
    recipe = dataclasses.replace(PRESETS["default"], steps=count)
    backend = open_device()

    def alone() -> list[float]:
        """Every fourth of them."""
        fits = [make_fit(p, n, "default", count) for p in pictures[::4]]
        return [psnr(fit, fit.run()) for fit in fits]

    def batch() -> list[float]:
        one = make_fit(pictures[0], n, "default", 1)
        fit = FitBatch([planes(p) for p in pictures], n, recipe, backend)
        return [psnr_by(backend, model, one.options, planes(p)) for model, p in zip(fit.fit(), pictures, strict=True)]

    make_fit(pictures[0], n, "default", 5).run()
    seconds, reached = seconds_of(alone)
    rate = len(reached) / seconds
    yield Row(f"fits of {count} steps, {n} Gaussians, {name}, one after another", rate, "images/s")
    yield Row("… PSNR of every fourth, mean", float(np.mean(reached)), "dB")
    FitBatch([planes(p) for p in pictures], n, dataclasses.replace(recipe, steps=5), backend).fit()
    seconds, reached = seconds_of(batch)
    yield Row(f"… {len(pictures)} together", len(pictures) / seconds, "images/s")
    yield Row("… PSNR of every fourth, mean", float(np.mean(reached[::4])), "dB")
    yield Row("… over one after another", len(pictures) / seconds / rate, "×", 5.0, least=True)


def large(asked: Asked) -> Rows:
    """1000 steps at 8192² with 200K Gaussians; peak memory there and at 2048²."""
    import torch

    for side, n, count, bound in ((2048, 50_000, 100, 1.0), (8192, 200_000, 1000, 10.0)):
        if asked.tiny:
            side, n, count = side // 64, n // 1000, 5
        name, pixels = picture(side)
        fit = model = None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        make = lambda steps, p=pixels, n=n: make_fit(p, n, "default", steps)  # noqa: E731
        seconds, fit, model = fitted(make, count, asked.of(3 if side < 8192 else 1, 1))
        memory = torch.cuda.max_memory_allocated() / 1e9
        yield Row(f"{count} steps of {name}, {side}², {n} Gaussians", seconds, "s")
        yield Row("… PSNR", psnr(fit, model), "dB")
        yield Row("… peak memory", memory, "GB", bound)


SECTIONS = {
    "first": first,
    "steps": steps,
    "parts": parts,
    "sizes": sizes,
    "kodak": whole,
    "together": together,
    "large": large,
}
