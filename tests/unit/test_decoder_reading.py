"""What the Image reads of a file: only what a region, points or one pixel need; the index in two stages."""

from __future__ import annotations

import numpy as np
import pytest
from files import CountingFile, payload_ranges
from image_cases import large_file, make_codes, make_header

import igs
from igs import format
from igs.format import Codec


def test_a_region_reads_only_what_can_reach_it():
    _, data = large_file(chunk_size=32)
    file = CountingFile(data)
    with igs.open(file) as image, format.open_file(data) as reader:
        assert image.bytes_read == file.total
        head = file.total
        assert head < 0.2 * len(data)
        image.region(500, 300, 102, 77)  # 1 % of the area
        payloads = payload_ranges(data)
        allowed = {payloads[i] for i in reader.chunks_in_box(500, 300, 602, 377)}
        read = sum(size for _, size in allowed)
        assert file.total == image.bytes_read == head + read
        assert read < 0.2 * len(data)
        covered = set().union(*(range(at, at + size) for at, size in file.ranges[1:]))
        assert covered <= set().union(*(range(at, at + size) for at, size in allowed)) | set(range(head))
        image.region(510, 310, 50, 50)  # within what is known
        assert file.total == head + read


@pytest.mark.parametrize("points", [1, 900])
def test_points_read_only_what_can_reach_them(points):
    _, data = large_file(chunk_size=32)
    near = [[100.25, 100.0], [900.0, 700.5], [901.0, 699.5]] * points
    with igs.open(data) as image, format.open_file(data) as reader:
        head = image.bytes_read
        image.sample(near)
        allowed = {i for x, y in near[:3] for i in reader.chunks_in_box(x, y, x, y).tolist()}
        assert image.bytes_read - head == sum(size for i, (_, size) in enumerate(payload_ranges(data)) if i in allowed)


def test_one_pixel_reads_little():
    _, data = large_file(chunk_size=32)
    with igs.open(data) as image, format.open_file(data) as reader:
        head = image.bytes_read
        image.pixel(700, 100)
        allowed = reader.chunks_in_box(700.5, 100.5, 700.5, 100.5)
        assert image.bytes_read - head == sum(size for i, (_, size) in enumerate(payload_ranges(data)) if i in allowed)


def test_two_stage_index():
    header = make_header(width=300, height=200)
    codes = make_codes(header, 4200, size=0.0)
    order = np.lexsort((codes[:, 0], codes[:, 1] // 256))
    data = format.write(header, [[row[None] for row in codes[order]]], codec=Codec.RAW)
    single = format.write(header, [codes[order]], chunk_size=4200)
    with igs.open(data) as image, igs.open(single) as plain:
        assert image.header.box_shift is not None
        head = image.bytes_read
        value = image.pixel(20, 20)
        assert image.bytes_read < head + 0.3 * len(data)  # not the whole index
        # In a single chunk the writer keeps the order, so that even ties agree.
        points = np.random.default_rng(1).uniform(-10, 310, (3000, 2))
        assert np.array_equal(value, plain.pixel(20, 20))
        assert np.array_equal(image.sample(points[:40]), plain.sample(points[:40]))
        assert np.array_equal(image.sample(points), plain.sample(points))
        assert np.array_equal(image.region(17, 20, 100, 50, 0.5), plain.region(17, 20, 100, 50, 0.5))
        assert np.array_equal(image.decode(), plain.decode())
