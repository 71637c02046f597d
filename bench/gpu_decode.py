"""Speed of the decoder on a GPU, as a table with the GPU's name; kept in bench/results/gpu_decode.json.

    python bench/gpu_decode.py [--effort E] [--prepare | --prepared] [--check]

Medians of wall-clock times between two synchronisations of the device, after runs to warm up; of renders also of events
around ten, which leaves out what the host takes to launch one. Importing, starting the device and compiling stand
apart, in the order in which a first picture needs them. Test files are fitted with igs.encode once per state of its
sources and kept in bench/cache: --prepare does only that, on a machine without a GPU; with --prepared a missing one is
an error. Exits with 5 where there is no GPU. Pictures are those beside the checkout;
where they are missing, the example picture, and the rows say so. --check runs everything on tiny pictures, also in
Numba's simulator, to see that it works: its times mean nothing and are not kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import common
import encodes
import numpy as np
import PIL.Image
from common import Row
from decode import fitted
from gpu_fits import EXAMPLE, EXIT_UNSUPPORTED, median_of, picture, why_not

import igs
from igs.decoder import cuda as igs_cuda
from igs.decoder.grid import make_grid
from igs.decoder.rule import Splats
from igs.format.fields import UNIT

RUNS = 30  # timed ones of a median; 1 with --check


def synchronised(work: Callable[[], Any], runs: int = 30) -> float:
    """Median seconds of ``work`` and of all that it started on the device."""
    from numba import cuda

    def whole() -> None:
        work()
        cuda.synchronize()

    cuda.synchronize()
    return common.median_seconds(whole, min(runs, RUNS), warmup=3 if RUNS > 1 else 0)


def first_picture(data: bytes) -> list[Row]:
    """What the first picture of a process costs besides itself. Must come first."""
    marks = [time.perf_counter()]
    from numba import cuda

    marks.append(time.perf_counter())
    cuda.synchronize()
    marks.append(time.perf_counter())
    igs.open(data, device="cuda").decode().copy_to_host()
    marks.append(time.perf_counter())
    imported, started, first = np.diff(marks).tolist()
    second = synchronised(lambda: igs.open(data, device="cuda").decode(), 5)
    return [
        Row("import numba.cuda", imported, "s"),
        Row("start the device", started, "s"),
        Row("compile, or load from the cache on disk: first picture less second", first - second, "s"),
    ]


@functools.cache
def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a copy within the device: what it can do."""
    from numba import cuda

    size = 2**30 if RUNS > 1 else 2**10
    a, b = (cuda.device_array(size, np.uint8) for _ in range(2))
    return 2 * size / synchronised(lambda: a.copy_to_device(b))


def copying() -> list[Row]:
    """What the renders' bandwidth is measured by."""
    return [Row("copy within the device, bytes read and written", copy_bandwidth() / 1e9, "GB/s")]


def rendering(what: str, layers: Any, side: int, bound: float | None) -> list[Row]:
    """The whole picture to device uint8: with its lists at hand, and with the Gaussians uploaded and the lists made."""
    from numba import cuda

    from igs.decoder.cuda.arena import Arena, Picture, picture_box
    from igs.decoder.cuda.regions import Jobs

    picture = Picture.of(layers, (), True, picture_box(side, side))
    jobs = Jobs([make_grid(0, 0, side, side, 1.0, side, side)])
    out = cuda.device_array(side * side * picture.kind.channels, np.uint8)
    arena = Arena([picture])
    entries = float(np.diff(arena.arrays[2].copy_to_host().astype(np.int64), axis=1).mean())
    seconds = synchronised(lambda: jobs.draw(arena, out))
    return [
        Row(f"render {what} to device uint8", seconds * 1e3, "ms", bound),
        Row(
            "… on the device, one of ten in a row",
            median_of(lambda: jobs.draw(arena, out), RUNS, cuda.event) * 1e3,
            "ms",
        ),
        Row("… bytes of the picture, of the bandwidth of a copy", 100 * out.nbytes / seconds / copy_bandwidth(), "%"),
        Row(
            "… upload and lists, which the first picture of a file needs",
            synchronised(lambda: Arena([picture])) * 1e3,
            "ms",
        ),
        Row("… Gaussians in the list of a cell, mean", entries, ""),
    ]


def side_by_side(layers: Any, side: int, times: int) -> Any:
    """The same Gaussians ``times`` by ``times``: a larger picture as dense as the small one."""
    tiled = []
    for splats, rule in layers:
        shifts = [np.array([[x], [y]]) * side * UNIT for y in range(times) for x in range(times)]
        means = np.concatenate([(splats.means + shift).astype(np.int32) for shift in shifts], axis=1)
        factors = np.tile(splats.factors, (1, times * times))
        tiled.append((Splats(means, factors, np.tile(splats.features, (times * times, 1))), rule))
    return tiled


def from_bytes(what: str, data: bytes) -> list[Row]:
    """File bytes to device pixels, and the parts of it."""
    from igs.decoder.cuda.arena import Arena, Picture, picture_box
    from igs.decoder.cuda.many import draw_together, prepare

    def parse() -> None:
        igs.open(data).close()

    def decode_entropy() -> Any:
        with igs.open(data, threads=1) as image:
            return image.all_layers()

    with igs.open(data) as image:
        groups, box = image.groups, picture_box(image.width, image.height)
        layers = image.all_layers()[0]  # a photograph has one part
    picture = Picture.of(layers, groups, False, box)
    item = prepare(data, 1.0, None, False, None, False)
    parsing = common.median_seconds(parse, 20)
    entropy = common.median_seconds(decode_entropy, 20)
    packing = common.median_seconds(lambda: Picture.of(layers, groups, False, box), 20)
    uploading = synchronised(lambda: Arena([picture]))
    drawing = synchronised(lambda: draw_together([item], np.dtype(np.uint8)))
    whole = synchronised(lambda: igs.open(data, device="cuda").decode())
    return [
        Row(f"{what} ({len(data)} bytes): file bytes to device pixels", whole * 1e3, "ms"),
        Row("… parse", parsing * 1e3, "ms"),
        Row("… entropy decoding and dequantisation, one thread", (entropy - parsing) * 1e3, "ms"),
        Row("… packing", packing * 1e3, "ms"),
        Row("… upload and lists", uploading * 1e3, "ms"),
        Row("… these and the render, with the memory for it", drawing * 1e3, "ms"),
    ]


def stream(name: str, files: list[bytes], number: int) -> list[Row]:
    """Images a second over a stream of files, decoded with as many worker threads as there are cores."""
    sources = [files[i % len(files)] for i in range(number)]

    def drain(device: str) -> None:
        for _ in igs.decode_many(sources, device=device):
            pass

    found = number / synchronised(lambda: drain("cuda"), 3)
    on_cpu = number / common.median_seconds(lambda: drain("cpu"), 1, 0)
    what = f"stream of {number} files, {name}, {os.cpu_count()} cores"
    return [
        Row(f"{what}, to device pixels", found, "images/s", 2000, least=True),
        Row("… GaussianImage++, as published: of Gaussians in memory, without a file", 1839, "images/s"),
        Row(f"{what}, to host pixels by the CPU", on_cpu, "images/s"),
    ]


def random_points(data: bytes, number: int) -> list[Row]:
    """Scattered points, float32 coordinates and values on the device."""
    from numba import cuda

    image = igs.open(data, device="cuda")
    points = np.random.default_rng(0).random((number, 2), np.float32) * np.float32([image.width, image.height])
    where, out = cuda.to_device(points), cuda.device_array((number, image.channels), np.float32)
    seconds = synchronised(lambda: image.sample(where, out=out), 5)
    return [Row(f"{number:.0e} random points of a picture of {image.num_gaussians} Gaussians", seconds, "s", 0.25)]


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--effort", type=int, default=1, help="of the fits, made once (default 1)")
    parser.add_argument("--check", action="store_true", help="tiny pictures; only to see that it runs")
    parser.add_argument("--prepare", action="store_true", help="only fit the files that are not in bench/cache")
    parser.add_argument("--prepared", action="store_true", help="end with 1 if one is missing there, and fit none")
    options = parser.parse_args()
    if options.check:
        global RUNS
        RUNS = 1
    reason = _why_not(options.check)
    if reason is not None and not options.prepare:
        print(f"gpu_decode: {reason}", file=sys.stderr)
        return EXIT_UNSUPPORTED
    side, few, many, times, number, points = (
        (16, 20, 30, 2, 3, 20) if options.check else (2048, 10_000, 50_000, 4, 1024, 10**8)
    )
    if options.prepared:
        encodes.MAY_FIT = False
    elif not options.prepare:  # by another process: what they load and start is not to be here yet
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--prepare"], check=True)
    source, pixels = picture(side)
    paths = common.kodak()[: 2 if options.check else None]
    name = f"{len(paths)} Kodak images" if paths else EXAMPLE.stem
    small = [PIL.Image.open(path).convert("RGB") for path in paths or [EXAMPLE]]
    if options.check:
        small = [image.resize((16, 16)) for image in small]
    data, dense = (fitted(PIL.Image.fromarray(pixels), n, options.effort) for n in (few, many))
    files = [fitted(image, 20 if options.check else 3000, options.effort) for image in small]
    if options.prepare:
        return 0

    def dense_rows(gaussians: int, file: bytes, bound: float) -> list[Row]:
        with igs.open(file) as image:
            return rendering(f"{source}, {side}², {gaussians} Gaussians", image.all_layers()[0], side, bound)

    def large_rows() -> list[Row]:
        with igs.open(data) as image:
            tiled = side_by_side(image.all_layers()[0], side, times)
        return rendering(f"{side * times}², {few * times**2} Gaussians", tiled, side * times, 5.0)

    sections: list[Callable[[], list[Row]]] = [
        lambda: first_picture(files[0]),
        copying,
        lambda: dense_rows(few, data, 0.4),
        lambda: dense_rows(many, dense, 0.8),
        large_rows,
        lambda: from_bytes(paths[0].stem if paths else name, files[0]),
        lambda: from_bytes(f"{side}²", data),
        lambda: random_points(data, points),
        lambda: stream(name, files, number),
    ]
    rows: list[Row] = []
    for section in sections:
        found = section()
        for row in found:
            print(dataclasses.replace(row, bound=None) if options.check else row, flush=True)
        rows += found
        if not options.check:  # after each: what comes later may fail
            _keep(rows)
    print(", ".join(f"{key} {value}" for key, value in _machine().items()))
    return 0


def _why_not(check: bool) -> str | None:
    """Why nothing can be measured here, without loading what `first_picture` times."""
    if igs_cuda.device.SIMULATED:
        return None if check else "expected a CUDA GPU, found the simulator"
    return why_not()


def _machine() -> dict[str, Any]:
    return {"gpu": igs_cuda.name(), **common.machine()}


def _keep(rows: list[Row]) -> None:
    kept = {"machine": _machine(), "date": common.today(), "rows": [dataclasses.asdict(row) for row in rows]}
    (common.RESULTS / "gpu_decode.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
