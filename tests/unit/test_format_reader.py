"""Opening and reading in parts: sources, bytes counted, chunks by box, levels, two-stage index, threads, limits."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import CountingFile, payload_ranges

from igs.format import (
    Codec,
    Group,
    Header,
    InputError,
    InvalidFile,
    LevelMode,
    LimitExceeded,
    Limits,
    Quantizer,
    UsageError,
    open_file,
    quantize,
    reach_boxes,
    read,
    validate_file,
    write,
)


def make_header(width: int = 200, height: int = 120, **changes: Any) -> Header:
    side = max(width, height)
    fields: dict[str, Any] = {
        "width": width,
        "height": height,
        "channels": 1,
        "groups": (Group(channels=1),),
        "background": (0.0,),
        "position": Quantizer.uniform(0, side, 14, shared=True, columns=2),
        "scale": Quantizer.uniform(-2, 10, 8, shared=True, columns=2),
        "rotation": Quantizer.affine(0, 1 / 256, 8),
        "feature": Quantizer.uniform(0, 1, 8),
    }
    return Header(**(fields | changes))


def make_codes(header: Header, n: int, seed: int = 0, long: float = 0.03) -> np.ndarray:
    """Gaussians much as a fit leaves them: σ around 0.35·√(HW/N), elongated, a few of them very long.

    At 2048² with 10 000 of them a point lies in the boxes of 55; a real fit (concert.png, 120 steps) had 43.
    """
    rng = np.random.default_rng(seed)
    base = 0.35 * np.sqrt(header.width * header.height / n)
    elongation = np.exp(rng.uniform(0, np.log(8), n)) ** 0.5
    sigma = (base * np.exp(rng.normal(0, 0.4, n)))[:, None] * np.stack([elongation, 1 / elongation], axis=1)
    sigma[rng.uniform(size=n) < long, 0] *= 8
    position = rng.uniform(0, 1, (n, 2)) * [header.width, header.height]
    return quantize(
        header, position, np.log2(sigma), rng.uniform(0, 1, (n, 1)), rng.uniform(0, 1, (n, header.channels))
    )


HEADER = make_header()
DATA = write(HEADER, [make_codes(HEADER, 900)], chunk_size=40, sections={"soft": b"s", "xmpd": b"<x/>" * 100})


def test_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "a.igs"
    path.write_bytes(DATA)
    strided = memoryview(bytes(b for pair in zip(DATA, DATA, strict=True) for b in pair))[::2]
    with path.open("rb") as handle:
        for source in (path, str(path), DATA, bytearray(DATA), memoryview(DATA), strided, io.BytesIO(DATA), handle):
            with open_file(source) as file:
                assert file.num_gaussians == 900
                assert len(file.gaussians(3)) == file.entries["count"][3]
        assert not handle.closed


def test_sources_that_fail(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def seek(self, *_: Any) -> int:
            raise OSError("no seeking here")

        def read(self, *_: Any) -> bytes:
            return b""

    class Text:
        def seek(self, *_: Any) -> int:
            return 500

        def read(self, _: int) -> str:
            return "text"

    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path, tmp_path / "missing", tmp_path / "pipe", Broken(), Text(), "a\0b"):
        with pytest.raises(InputError):
            open_file(source)
    for source in (5, None, [b"x"]):
        with pytest.raises(UsageError):
            open_file(source)


def test_reading_after_close_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "a.igs"
    path.write_bytes(DATA)
    for source in (path, DATA):
        file = open_file(source)
        file.close()
        with pytest.raises(UsageError):
            file.gaussians(0)


def test_a_failed_open_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "bad.igs"
    path.write_bytes(b"\x89IGS nonsense")
    with pytest.raises(InvalidFile):  # ResourceWarning would fail the test
        open_file(path)


def test_only_the_head_is_read_on_opening() -> None:
    source = CountingFile(DATA)
    with open_file(source) as file:
        assert file.bytes_read == file.head.head_bytes == sum(n for _, n in source.ranges)
        assert max(at + n for at, n in source.ranges) == file.head.head_bytes
        assert file.sections["soft"] == b"s"
        assert file.bytes_read == file.head.head_bytes
        assert file.sections["xmpd"] == b"<x/>" * 100
        assert file.bytes_read == file.head.head_bytes + 400
    source = CountingFile(DATA)
    with open_file(source, first_read=65536) as file:
        assert source.ranges == [(0, len(DATA))]


def test_a_box_reads_its_chunks_and_nothing_else() -> None:
    with open_file(DATA) as everything:
        parts = everything.read_gaussians(range(everything.num_chunks))
    payloads = payload_ranges(DATA)
    rng = np.random.default_rng(1)
    for _ in range(50):
        x, y = rng.uniform(0, 180), rng.uniform(0, 100)
        source = CountingFile(DATA)
        with open_file(source) as file:
            chunks = file.chunks_in_box(x, y, x + 20, y + 12)
            got = file.read_gaussians(chunks)
            allowed = [(0, file.head.head_bytes)] + [payloads[int(c)] for c in chunks]
            covered = sorted(set().union(*(range(at, at + n) for at, n in allowed)))
            asked = sorted(set().union(*(range(at, at + n) for at, n in source.ranges)))
            assert asked == covered
            assert file.bytes_read == len(covered)
            for chunk, part in zip(chunks, got, strict=True):
                assert part.first_index == parts[chunk].first_index
                assert np.array_equal(part.means, parts[chunk].means)
            # No Gaussian that reaches the box is in another chunk.
            for number, part in enumerate(parts):
                box = reach_boxes(file.header, part)
                meets = (box[:, 0] <= x + 20) & (box[:, 2] >= x) & (box[:, 1] <= y + 12) & (box[:, 3] >= y)
                assert not meets.any() or number in chunks


def test_neighbouring_chunks_are_fetched_by_one_read() -> None:
    source = CountingFile(DATA)
    with open_file(source) as file:
        source.ranges.clear()
        file.read_gaussians([2, 3, 4, 9, 7, 8])
        assert len(source.ranges) == 3


@pytest.mark.parametrize(
    ("width", "n", "region", "pixel"),
    [(2048, 10_000, 0.18, 0.08), (8192, 160_000, 0.06, 0.02)],
)
def test_a_small_region_needs_a_small_part_of_the_file(width: int, n: int, region: float, pixel: float) -> None:
    """The shares that are promised for the default partition, head included."""
    three = {"channels": 3, "groups": (Group(channels=3),), "background": (0.0,) * 3}
    header = make_header(width, width, feature=Quantizer.uniform(0, 1, 8, shared=True, columns=3), **three)
    data = write(header, [make_codes(header, n)], codec=Codec.RAW)
    rng = np.random.default_rng(7)
    with open_file(data) as file:
        sizes = file.entries["bytes"].astype(np.int64)
        shares = {}
        for side in (width / 10, 0):
            corners = rng.uniform(0, width - side, (100, 2))
            read_bytes = [sizes[file.chunks_in_box(x, y, x + side, y + side)].sum() for x, y in corners]
            shares[side] = (file.head.head_bytes + np.mean(read_bytes)) / len(data)
    print(f"{width}²/{n}: region {shares[width / 10]:.4f}, pixel {shares[0]:.4f}")  # pytest -s shows it
    assert shares[width / 10] <= region
    assert shares[0] <= pixel


@pytest.mark.parametrize("n", [1500, 3000, 6000])
def test_the_head_of_a_small_file_is_small(n: int) -> None:
    header = make_header(768, 512)
    data = write(header, [make_codes(header, n)], codec=Codec.RAW)
    with open_file(data) as file:
        assert file.head.head_bytes <= 0.02 * len(data)


def test_levels_and_the_chunks_that_they_use() -> None:
    tables = [[make_codes(HEADER, 30, i)] * (i + 1) for i in range(3)]
    expected = {
        LevelMode.UNION: [(0, 1), (0, 3), (0, 6)],
        LevelMode.REPLACEMENT: [(0, 1), (1, 3), (3, 6)],
        LevelMode.RESIDUAL: [(0, 1), (0, 3), (0, 6)],
    }
    for mode, ranges in expected.items():
        data = write(make_header(level_mode=mode), tables)
        with open_file(data) as file:
            assert [x.num_gaussians for x in file.levels] == [30, 60, 90]
            assert [x.first_chunk for x in file.levels] == [0, 1, 3]
            assert [file.chunk_level(c) for c in range(6)] == [0, 1, 1, 2, 2, 2]
            for level, (first, last) in enumerate(ranges):
                assert file.level_range(level) == (first, last)
                assert file.chunks_in_box(0, 0, 200, 120, level).tolist() == list(range(first, last))
            assert file.level_range() == ranges[-1]
            with pytest.raises(UsageError):
                file.level_range(3)
            end = file.levels[1].end
        with open_file(data[:end]) as part:
            assert part.partial
            assert part.available_levels == 2
            assert part.chunks_in_box(0, 0, 200, 120).tolist() == list(range(*ranges[1]))
            with pytest.raises(UsageError):
                part.gaussians(3)
            with pytest.raises(UsageError, match="partial"):
                read(data[:end]).with_sections({"soft": b"x"})
            assert read(data[:end]).to_bytes() == data[:end]


@pytest.fixture(scope="module")
def two_stage() -> tuple[bytes, list[np.ndarray]]:
    header = make_header(4000, 4000, level_mode=LevelMode.REPLACEMENT)
    rng = np.random.default_rng(3)
    position = np.stack(np.meshgrid(np.arange(70.0), np.arange(70.0)), axis=-1).reshape(-1, 2) * 57
    codes = quantize(header, position, np.ones((4900, 2)), np.zeros((4900, 1)), rng.uniform(0, 1, (4900, 1)))
    levels = [list(codes[:300, None]), list(codes[300:, None])]
    return write(header, levels, codec=Codec.RAW, sections={"soft": b"two"}), levels


def test_two_stage_index(two_stage: tuple[bytes, list[np.ndarray]]) -> None:
    data, levels = two_stage
    assert validate_file(data).valid
    assert read(data).to_bytes() == data
    assert read(data).with_sections({"soft": b"2"}).with_sections({"soft": b"two"}).to_bytes() == data
    source = CountingFile(data)
    with open_file(source) as file:
        assert file.bytes_read == file.head.head_bytes < 2000
        chunks = file.chunks_in_box(2000, 2000, 2050, 2050)
        assert 1 <= len(chunks) <= 4
        # One row of the grid is 70 chunks, so that the box lies in one or two blocks of 256.
        assert file.bytes_read <= file.head.head_bytes + 2 * 4608
        assert np.isnan(file.box_x0).sum() >= 4900 - 512
        for chunk in chunks.tolist():
            box = file.chunk_box(chunk)
            assert box[0] <= 2050
            assert box[2] >= 2000
            assert np.array_equal(file.codes(chunk), levels[1][chunk - 300])
            assert file.gaussians(chunk).first_index == chunk
        assert [x.num_gaussians for x in file.levels] == [300, 4600]
        assert file.chunks_in_box(0, 0, 4000, 4000, level=0).tolist() == list(range(300))
        file.load_index()
        assert not np.isnan(file.box_x0).any()
        end = file.levels[0].end
    with open_file(data[:end]) as part:
        assert part.partial
        assert part.chunks_in_box(0, 0, 4000, 4000).tolist() == list(range(300))


def test_threads_share_a_reader(two_stage: tuple[bytes, list[np.ndarray]]) -> None:
    data, levels = two_stage
    tables = [t for level in levels for t in level]
    with open_file(io.BytesIO(data)) as file, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def work(number: int) -> bool:
            barrier.wait()
            order = np.random.default_rng(number).permutation(4900)[:300]
            return all(np.array_equal(file.codes(int(c)), tables[c]) for c in order)

        assert all(pool.map(work, range(8)))


def test_boxes_that_are_open() -> None:
    """R = 32 and σ = 1024 reach beyond what i16 holds in pixels: the box ends at infinity."""
    header = make_header(box_shift=0, reach2=1024.0)
    codes = quantize(header, [[0, 0], [100, 60]], [[10, 10], [-2, -2]], [[0], [0]], [[1], [1]])
    with open_file(write(header, [[codes[:1], codes[1:]]]), Limits(reach_ratio=math.inf)) as file:
        assert file.chunk_box(0) == (-np.inf, -np.inf, np.inf, np.inf)
        assert file.chunk_box(1) == (91.0, 51.0, 109.0, 69.0)  # 32·(1 + 2^-9)·0.25 pixels around (100, 60), outwards
        assert file.chunks_in_box(1e9, 1e9, 1e9, 1e9).tolist() == [0]
        assert file.gaussians(0).scales.tolist() == [[1024, 1024]]
        for bad in (float("nan"), float("inf")):
            with pytest.raises(UsageError):
                file.chunks_in_box(bad, 0, 1, 1)


@pytest.mark.parametrize("name", ["pixels", "side", "gaussians", "channels", "head_bytes", "section_bytes"])
def test_limits_can_be_lowered(name: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        open_file(DATA, Limits(**{name: 0}))
    assert caught.value.code == f"E_LIMIT_{name.upper()}"
    with pytest.raises(UsageError):
        Limits(**{name: -1})


def test_chunk_numbers_are_checked() -> None:
    with open_file(DATA) as file:
        for chunk in (-1, file.num_chunks):
            with pytest.raises(UsageError, match="chunk"):
                file.gaussians(chunk)
        assert file.read_gaussians([]) == []


def test_importing_the_format_loads_neither_torch_nor_numba() -> None:
    code = "import igs.format, sys; assert not {'torch', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
