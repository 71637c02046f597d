"""Speed of the decoder, as a table: the rows that the project promises, each with its bound and a yardstick.

    python bench/decode.py [--json] [--picture FILE] [--effort E] [--no-smoothness]

Yardsticks are measured in the same run: Pillow's AVIF and JPEG decoders on the same picture, a copy of it in memory,
bilinear samples of it (SciPy), its pixels one by one (Pillow), a Python that imports NumPy. Test files are fitted once
per state of igs' sources (encodes.py). Times are the best of several runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import PIL.Image
import scipy.ndimage
from common import DATA, Row
from common import best_seconds as best
from encodes import encode_once

import igs
from igs import decoder, format
from igs.decoder.grid import make_grid
from igs.decoder.reference import squared_distances
from igs.decoder.rule import Rule
from igs.encoder.fewer_bits import values_of
from igs.format import Quantizer
from igs.format.threads import default_threads

CACHE = common.REPO / "bench" / "cache"
SIDE, GAUSSIANS = 2048, 10_000
PEERS = {"AVIF": {"quality": 60, "speed": 8}, "JPEG": {"quality": 75}}


# -- files


def fitted(picture: PIL.Image.Image, gaussians: int, effort: int) -> bytes:
    """The RGB picture as an .igs file, fitted at the first call."""
    return encode_once(np.asarray(picture), num_gaussians=gaussians, effort=effort)[0]


def plain(data: bytes, bits: dict[str, int]) -> bytes:
    """The same Gaussians in plain codes of so many bits by attribute."""
    with format.open_file(data) as reader:
        header = reader.header
        codes = np.concatenate([reader.codes(i) for i in range(reader.num_chunks)])
    values = values_of(header, codes)
    wide = {
        name: Quantizer.uniform(v.min(axis=0), v.max(axis=0) + 1e-6, bits[name])
        for name, v in zip(("position", "scale", "rotation", "feature"), values, strict=True)
    }
    header = dataclasses.replace(header, lattice=None, **wide)
    return format.write(header, [format.quantize(header, *values)])


def at_16_bits(data: bytes) -> bytes:
    """The same Gaussians at 16 bits per attribute, the published width."""
    return plain(data, dict.fromkeys(("position", "scale", "rotation", "feature"), 16))


def repeated(data: bytes, times: int) -> bytes:
    """A larger picture, in plain codes: the file's Gaussians side by side, ``times`` by ``times``."""
    data = plain(data, {"position": 14, "scale": 8, "rotation": 10, "feature": 8})
    with format.open_file(data) as reader:
        header = reader.header
        codes = np.concatenate([reader.codes(i) for i in range(reader.num_chunks)])
    columns = header.position.code_columns
    position = header.position.decode(codes[:, :columns])
    width, height = header.width * times, header.height * times
    quantizer = Quantizer.uniform([0, 0], [width, height], 18)
    large = dataclasses.replace(header, width=width, height=height, position=quantizer, box_shift=None)
    parts = [
        np.concatenate(
            [quantizer.encode(position + np.array([x * header.width, y * header.height])), codes[:, columns:]], axis=1
        )
        for y in range(times)
        for x in range(times)
    ]
    return format.write(large, [np.concatenate(parts)])


def saved(picture: PIL.Image.Image, kind: str, options: dict[str, int]) -> bytes:
    """The picture as Pillow writes it."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# -- rows


def to_gaussians(name: str, data: bytes, bound: float | None = None) -> list[Row]:
    """Time from a file's bytes to its Gaussians: opening, then entropy decoding and dequantisation of all chunks."""

    def opened() -> None:
        igs.open(data).close()

    rows = [Row(f"open from bytes, {name}", best(opened, 100) * 1e3, "ms")]
    with format.open_file(data) as reader:
        for threads in (1, 2):
            seconds = best(lambda t=threads: reader.read_gaussians(range(reader.num_chunks), t), 100)
            what = f"chunks to Gaussians, {name}, {threads} thread{'s' * (threads > 1)}"
            limit = bound if threads > 1 else None
            rows.append(Row(what, seconds * 1e3, "ms", limit, f"{reader.num_gaussians} Gaussians, {len(data)} bytes"))
    return rows


def full_decode(data: bytes) -> list[Row]:
    """Time of the whole picture, and yardsticks."""
    one, two = igs.open(data, threads=1), igs.open(data, threads=2)
    pixels = two.decode()
    time_two, time_one = best(two.decode), best(one.decode)
    start = time.process_time()
    for _ in range(5):
        two.decode()
    busy = (time.process_time() - start) / 5
    rows = [
        Row("full decode 2048² uint8, 10K Gaussians, 2 threads, warm", time_two * 1e3, "ms", 50),
        Row("the same, 1 thread", time_one * 1e3, "ms"),
        Row("processor time of the same, all threads together", busy * 1e3, "ms"),
    ]
    picture = PIL.Image.fromarray(pixels)
    for kind, options in PEERS.items():
        content = saved(picture, kind, options)

        def load(content: bytes = content) -> None:
            PIL.Image.open(io.BytesIO(content)).load()

        seconds = best(load)
        rows.append(Row(f"yardstick: Pillow {kind} decode", seconds * 1e3, "ms", note=f"{len(content)} bytes"))
        rows.append(Row(f"ratio of the full decode to {kind}", time_two / seconds, "×"))
    target = np.empty_like(pixels)
    copy = best(lambda: np.copyto(target, pixels))
    rows.append(
        Row("yardstick: copy of the decoded picture", copy * 1e3, "ms", note=f"{pixels.nbytes / copy / 1e9:.1f} GB/s")
    )
    rows.append(Row("ratio of the full decode to the copy", time_two / copy, "×"))
    return rows


def points_and_pixels(data: bytes) -> list[Row]:
    """Random points and single pixels."""
    rng = np.random.default_rng(0)
    image = igs.open(data, threads=1)
    points = rng.uniform(0, SIDE, (10**6, 2))
    seconds = best(lambda: image.sample(points), 3)
    whole = image.decode()
    planes = [np.ascontiguousarray(whole[..., c], np.float32) for c in range(image.channels)]
    at = points.T[::-1] - 0.5  # rows and columns of pixel centres

    def bilinear() -> None:
        for plane in planes:
            scipy.ndimage.map_coordinates(plane, at, order=1, mode="nearest")

    yardstick = best(bilinear, 3)
    rows = [
        Row("10⁶ random points, 1 thread", seconds, "s", 0.3),
        Row("yardstick: SciPy, bilinear samples of the decoded picture there", yardstick, "s"),
        Row("ratio of the random points to it", seconds / yardstick, "×"),
    ]
    places = rng.integers(0, SIDE, (2000, 2)).tolist()
    decoded = PIL.Image.fromarray(whole)

    def pixels() -> None:
        for x, y in places:
            image.pixel(x, y)

    def known() -> None:
        for place in places:
            decoded.getpixel(place)

    seconds, yardstick = (best(work, 3) / len(places) for work in (pixels, known))
    return [
        *rows,
        Row("im.pixel, warm, random places", seconds * 1e6, "µs", 30),
        Row("yardstick: Pillow getpixel of the decoded picture", yardstick * 1e6, "µs"),
        Row("ratio of im.pixel to it", seconds / yardstick, "×"),
    ]


def cold_starts(data: bytes, wide: bytes) -> list[Row]:
    """A pixel of a file that has just been copied and never been opened, and what Pillow takes for such a file."""

    def first_pixel(path: Path) -> None:
        with igs.open(path) as fresh:
            fresh.pixel(SIDE // 3, SIDE // 2)

    def load(path: Path) -> None:
        with PIL.Image.open(path) as image:
            image.load()

    seconds = cold(first_pixel, wide, ".igs")
    rows = [
        Row("open + first pixel of a new file, kernels loaded", seconds * 1e3, "ms", 20, f"{len(wide)} bytes"),
        Row("the same, coded file", cold(first_pixel, data, ".igs") * 1e3, "ms", note=f"{len(data)} bytes"),
    ]
    with igs.open(data) as image:
        picture = PIL.Image.fromarray(image.decode())
    for kind, options in PEERS.items():
        content = saved(picture, kind, options)
        yardstick = cold(load, content, f".{kind.lower()}")
        rows += [
            Row(f"yardstick: Pillow, a new {kind} file", yardstick * 1e3, "ms", note=f"{len(content)} bytes"),
            Row(f"ratio of the first pixel to {kind}", seconds / yardstick, "×"),
        ]
    return rows


def cold(work: Callable[[Path], Any], content: bytes, suffix: str, runs: int = 7) -> float:
    """Seconds of the fastest of several calls, each with a file of its own: just written, so in the page cache."""
    times = []
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        for run in range(runs + 1):
            path = Path(folder, f"{run}{suffix}")
            path.write_bytes(content)
            start = time.perf_counter()
            work(path)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def bytes_read(name: str, data: bytes, region_bound: float, pixel_bound: float) -> list[Row]:
    """Share of the file read for a region of 1 % of the area and for a pixel, mean of 100, index included."""
    rng = np.random.default_rng(1)
    region, pixel, head = [], [], 0.0
    for _ in range(100):
        with igs.open(data) as image:
            head = image.bytes_read / len(data) * 100
            w, h = image.width / 10, image.height / 10
            image.region(rng.uniform(0, image.width - w), rng.uniform(0, image.height - h), w, h, scale=0.25)
            region.append(image.bytes_read / len(data) * 100)
        with igs.open(data) as image:
            image.pixel(int(rng.integers(image.width)), int(rng.integers(image.height)))
            pixel.append(image.bytes_read / len(data) * 100)
    note = f"of {len(data)} bytes; head {head:.1f} %"
    return [
        Row(f"read for a 1 % region, {name}", float(np.mean(region)), "%", region_bound, note),
        Row(f"read for a pixel, {name}", float(np.mean(pixel)), "%", pixel_bound, note),
    ]


def smoothness(files: list[bytes]) -> list[Row]:
    """Steps of more than 2 of 255 levels along random lines, samples 1/512 px apart; points without a Gaussian."""
    rng = np.random.default_rng(2)
    steps, empty = [], 0
    for data in files:
        with igs.open(data) as image:
            jumps, length = 0, 0.0
            while length < 1000:
                start, end = rng.uniform(0, [image.width, image.height], (2, 2))
                along = np.arange(0, np.hypot(*(end - start)), 1 / 512)[:, None]
                values = image.sample(start + along * (end - start) / np.hypot(*(end - start)))
                jumps += int((np.abs(np.diff(values, axis=0)).max(axis=1, initial=0) > 2 / 255).sum())
                length += len(along) / 512
            steps.append(jumps / length)
        with format.open_file(data) as reader:
            gaussians = format.Gaussians.concatenate(reader.read_gaussians(range(reader.num_chunks)))
            empty += len(decoder.holes(reader.header, gaussians, 8))
    return [
        Row("steps > 2/255 per px of line, mean of 4 pictures", float(np.mean(steps)), "per px", 0.015),
        Row("points without any Gaussian, 8 × 8 grid per pixel", empty, "", 0),
    ]


def operations(data: bytes) -> list[Row]:
    """Arithmetic per decoded pixel: of blocks of 4 × 4 at random, the operations on the Gaussians tried there."""
    with format.open_file(data) as reader:
        every = format.Gaussians.concatenate(reader.read_gaussians(range(reader.num_chunks)))
        rule, header = Rule.of(reader.header), reader.header
    grid = make_grid(0, 0, header.width, header.height, 1, header.width, header.height)
    rng = np.random.default_rng(3)
    count = []
    for _ in range(1000):
        x, y = 4 * rng.integers(header.width // 4), 4 * rng.integers(header.height // 4)
        block = np.stack(np.meshgrid(grid.xs[x : x + 4], grid.ys[y : y + 4]), axis=-1).reshape(-1, 2)
        d2 = squared_distances(every.means, every.factors, block)
        low, high = d2.min(axis=0), d2.max(axis=0)
        limit = min(rule.reach2, high.min() + rule.relative_reach2)
        if not rule.sum_blend:
            limit = min(limit, np.sort(high)[min(rule.top_k, len(high)) - 1])
        active = int((low <= limit * (1 + 2**-6)).sum())
        # d2 and its minimum: 4; who is within: 2, and 8 where more than K are; weight: 15; a multiply-add per channel.
        threshold = np.minimum(d2.min(axis=1) + rule.relative_reach2, rule.reach2)
        crowded = not rule.sum_blend and ((d2 <= threshold[:, None]).sum(axis=1) > rule.top_k).any()
        count.append(active * (4 + 2 + 8 * crowded + 15 + header.channels))
    return [
        Row("operations per decoded pixel, mean (aim: 300)", float(np.mean(count)), ""),
        Row("operations per decoded pixel, 99th percentile", float(np.percentile(count, 99)), ""),
    ]


def stream(kodak: list[bytes], number: int = 128) -> list[Row]:
    """Whole pictures one after the other, as a data loader takes them."""
    sources = [kodak[i % len(kodak)] for i in range(number)]

    def drain() -> None:
        for _ in igs.decode_many(sources):
            pass

    what = f"stream of Kodak files to 8 bits, 3K, {default_threads()} threads"
    return [Row(what, number / best(drain, 3), "images/s")]


def processes(data: bytes, kodak: bytes) -> list[Row]:
    """Whole processes: igs-decode, and the memory of a decode."""
    small, large = CACHE / "small.igs", CACHE / "large.igs"
    small.write_bytes(kodak)
    large.write_bytes(data)
    # Modules compiled once, as at a user's: not anew by each process where the environment forbids to keep that.
    run = functools.partial(
        subprocess.run, check=True, capture_output=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    )
    command = [sys.executable, "-c", "from igs.cli.decode import main; main()", str(small), str(CACHE / "small.png")]
    seconds = best(lambda: run(command), 3)
    yardstick = best(lambda: run([sys.executable, "-c", "import numpy"]), 3)
    decode = f"import igs; igs.open({str(large)!r}).decode()"
    peak = [common.peak_and_seconds(decode)[0] for _ in range(2)][-1]
    return [
        Row("igs-decode of a Kodak file to PNG, whole process, later runs", seconds, "s", 1.2),
        Row("yardstick: a Python that imports NumPy", yardstick, "s"),
        Row("ratio of igs-decode to it", seconds / yardstick, "×"),
        Row("peak memory, decode 2048², whole process, kernels cached", peak, "MB", 350),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--picture", type=Path, default=DATA / "stylized" / "digital_art" / "canopee.png")
    parser.add_argument("--kodak", type=Path, default=DATA / "kodak", help="folder of the Kodak pictures")
    parser.add_argument("--effort", type=int, default=5, help="of the fits")
    parser.add_argument("--no-smoothness", action="store_true", help="spares three fits")
    options = parser.parse_args()
    picture = PIL.Image.open(options.picture).convert("RGB").resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    CACHE.mkdir(exist_ok=True)
    data = fitted(picture, GAUSSIANS, options.effort)
    wide = at_16_bits(data)
    names = ["kodim15"] if options.no_smoothness else ["kodim15", "kodim07", "kodim01", "kodim24"]
    kodak = [
        fitted(PIL.Image.open(options.kodak / f"{name}.png").convert("RGB"), 3000, options.effort) for name in names
    ]
    rows = [
        *to_gaussians("2048², 10K", data, 4),
        *to_gaussians("Kodak, 3K", kodak[0]),
        *full_decode(data),
        *points_and_pixels(data),
        *cold_starts(data, wide),
        *bytes_read("2048², 10K", data, 18, 8),
        *bytes_read("2048², 10K, 16 bits per attribute", wide, 18, 8),
        *bytes_read("8192², 160K", repeated(data, 4), 6, 2),
        *([] if options.no_smoothness else smoothness(kodak)),
        *operations(data),
        *stream(kodak),
        *processes(data, kodak[0]),
    ]
    kept = [{k: v for k, v in dataclasses.asdict(row).items() if v not in (None, "")} for row in rows]
    common.save("decoder and random access", kept, show=False)
    if options.json:
        found = [{**dataclasses.asdict(row), "ok": row.verdict != "MISSED"} for row in rows]
        print(json.dumps({"machine": common.machine(), "rows": found}, indent=1, ensure_ascii=False))
        return
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(", ".join(f"{key} {value}" for key, value in common.machine().items()) + load)
    width = max(len(row.what) for row in rows)
    for row in rows:
        bound = "" if row.bound is None else f"≤ {row.bound:g}"
        print(f"{row.what:<{width}}  {row.value:>9.4g} {row.unit:<6} {bound:>8} {row.verdict:<6} {row.note}")


if __name__ == "__main__":
    main()
