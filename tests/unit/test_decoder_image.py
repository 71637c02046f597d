"""igs.open and the Image: what is read, levels, picture values, errors, threads. Kernels: test_decoder_kernels.py."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from files import CountingFile

import igs
from igs import decoder, format
from igs.decoder import reference
from igs.decoder.rule import Rule
from igs.format import Alpha, Blend, Codec, Colour, Group, Header, LevelMode, Quantizer
from igs.format.errors import InputError, InvalidFile, UsageError

WIDTH, HEIGHT = 64, 48


def make_header(channels=3, *, groups=None, width=WIDTH, height=HEIGHT, **fields):
    return Header(
        width=width,
        height=height,
        channels=channels,
        groups=groups or (Group(channels=channels),),
        background=fields.pop("background", (0.0,) * channels),
        position=Quantizer.uniform([0, 0], [width, height], 12),
        scale=Quantizer.uniform([-2, -2], [6, 6], 8),
        rotation=Quantizer.uniform([0], [1], 8),
        feature=Quantizer.uniform([0] * channels, [1] * channels, 8),
        **fields,
    )


def make_codes(header, n, seed=0, size=2.0):
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, 1, (n, 2)) * [header.width, header.height]
    scale = rng.uniform(size - 1.5, size, (n, 2))
    return format.quantize(header, position, scale, rng.uniform(0, 1, (n, 1)), rng.uniform(0, 1, (n, header.channels)))


def make_file(header, n=200, seed=0, **options):
    return format.write(header, [make_codes(header, n, seed)], **options)


def reference_decode(header, codes, rule=None):
    gaussians = format.dequantize(header, codes)
    centres = np.stack(np.meshgrid(np.arange(header.width), np.arange(header.height)), axis=-1).reshape(-1, 2)
    points = (centres * 2**14 + 2**13).astype(np.int32)
    values = reference.values_reference(
        gaussians.means, gaussians.factors, gaussians.features, points, rule or Rule.of(header)
    )
    return values.reshape(header.height, header.width, header.channels)


def in_file_order(data):
    with format.open_file(data) as reader:
        return np.concatenate([reader.codes(i) for i in range(reader.num_chunks)])


def test_facts_and_values():
    header = make_header(background=(0.25, 0.5, 0.75))
    data = make_file(header)
    with igs.open(data) as image:
        assert (image.width, image.height, image.channels) == (WIDTH, HEIGHT, 3)
        assert image.num_gaussians == 200
        assert len(image.levels) == 1
        assert image.levels[0].num_gaussians == 200
        assert not image.partial
        assert image.groups == header.groups
        assert "200 Gaussians" in repr(image)
        expected = reference_decode(header, in_file_order(data))
        found = image.decode(dtype="float32")
        assert np.abs(found - expected).max() <= 2.0**-17
        for name, top in (("uint8", 255), ("uint16", 65535)):
            whole = image.decode(dtype=name)
            assert whole.dtype == name
            # A value within the tolerance of a half may round either way.
            assert np.abs(whole - expected * top).max() <= 0.5 + 2.0**-17 * top
        assert np.array_equal(image.decode(), image.decode(dtype=np.uint8))


@pytest.mark.parametrize("kind", ["path", "bytes", "memoryview", "file"])
def test_sources(tmp_path, kind):
    data = make_file(make_header())
    (tmp_path / "a.igs").write_bytes(data)
    source = {"path": tmp_path / "a.igs", "bytes": data, "memoryview": memoryview(data), "file": io.BytesIO(data)}[kind]
    with igs.open(source) as image:
        assert np.array_equal(image.decode(), igs.open(data).decode())
    if kind == "file":
        assert not source.closed


def test_missing_file(tmp_path):
    with pytest.raises(InputError):
        igs.open(tmp_path / "nothing.igs")


def test_ways_to_the_same_value():
    with igs.open(make_file(make_header(), 300)) as image:
        whole = image.decode(dtype="float32")
        assert np.array_equal(image.pixel(5, 40), whole[40, 5])
        assert np.array_equal(image.region(7, 3, 20, 11, dtype="float32"), whole[3:14, 7:27])
        rows, columns = np.mgrid[:HEIGHT, :WIDTH].reshape(2, -1)
        centres = np.stack([columns, rows], axis=1) + 0.5
        assert np.array_equal(image.sample(centres), whole[rows, columns])  # many: by cells
        assert np.array_equal(image.sample(centres[:100]), whole[rows, columns][:100])  # few: one by one
        assert np.array_equal(image.region(7, 3, 20, 11, scale=2.5)[::1], image.region(7, 3, 20, 11, 2.5, np.uint8))


def test_points_outside():
    header = make_header(background=(0.1, 0.2, 0.3))
    with igs.open(make_file(header)) as image:
        far = [[1e30, 5], [-70000, 0], [65536.0, 10], [1e5, 1e5], [-3.0, 20.0], [WIDTH + 2.5, 3.25]]
        found = image.sample(far)
        assert np.array_equal(found[:4], np.broadcast_to(np.float32(header.background), (4, 3)))
        assert np.array_equal(image.sample(far * 200), np.tile(found, (200, 1)))
        everywhere = np.random.default_rng(0).normal(30, 200, (5000, 2))
        one_by_one = np.concatenate([image.sample(everywhere[i : i + 500]) for i in range(0, 5000, 500)])
        assert np.array_equal(image.sample(everywhere), one_by_one)
        assert image.sample(np.empty((0, 2))).shape == (0, 3)
        nowhere = np.full((600, 2), 1e9)
        assert np.array_equal(image.sample(nowhere), np.tile(np.float32(header.background), (600, 1)))


def large_file(**options):
    header = make_header(width=1024, height=768)
    return header, format.write(header, [make_codes(header, 4000, size=3.5)], **options)


def test_a_region_reads_only_what_can_reach_it():
    _, data = large_file(chunk_size=32)
    file = CountingFile(data)
    with igs.open(file) as image, format.open_file(data) as reader:
        assert image.bytes_read == file.total
        head = file.total
        assert head < 0.2 * len(data)
        image.region(500, 300, 102, 77)  # 1 % of the area
        allowed = {reader.payload_range(i) for i in reader.chunks_in_box(500, 300, 602, 377)}
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
        assert image.bytes_read - head == sum(reader.payload_range(i)[1] for i in allowed)


def test_one_pixel_reads_little():
    _, data = large_file(chunk_size=32)
    with igs.open(data) as image, format.open_file(data) as reader:
        head = image.bytes_read
        image.pixel(700, 100)
        allowed = reader.chunks_in_box(700.5, 100.5, 700.5, 100.5)
        assert image.bytes_read - head == sum(reader.payload_range(i)[1] for i in allowed)


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


# -- levels


def level_file(mode, blend=Blend.TOPK):
    fields = {"top_k": 0, "relative_reach2": math.inf} if blend == Blend.SUM else {}
    header = make_header(level_mode=mode, background=(0.5, 0.25, 0.125), blend=blend, **fields)
    levels = [[make_codes(header, n, seed)] for seed, n in enumerate((30, 60, 90))]
    return header, [level[0] for level in levels], format.write(header, levels, sections={"json": b"{}"})


def expected_level(header, levels, level):
    if header.level_mode == LevelMode.UNION:
        return reference_decode(header, np.concatenate(levels[: level + 1]))
    if header.level_mode == LevelMode.REPLACEMENT:
        return reference_decode(header, levels[level])
    rule = Rule.of(header)
    return reference_decode(header, levels[0]) + sum(
        reference_decode(header, codes, rule.without_background()) for codes in levels[1 : level + 1]
    )


@pytest.mark.parametrize("mode", list(LevelMode))
@pytest.mark.parametrize("blend", list(Blend))
def test_levels(mode, blend):
    header, levels, data = level_file(mode, blend)
    with igs.open(data) as image:
        assert [l.num_gaussians for l in image.levels] == [30, 60, 90]
        for level in (0, 1, 2, None):
            expected = expected_level(header, levels, 2 if level is None else level)
            found = image.decode(level=level, dtype="float32")
            assert np.abs(found - expected).max() <= 3 * 2.0**-17 * max(1, np.abs(expected).max())
            centres = np.stack(np.meshgrid(np.arange(30), np.arange(40)), axis=-1).reshape(-1, 2) + 0.5
            values = found[:40, :30].reshape(-1, 3)
            assert np.array_equal(image.sample(centres, level), values)
            assert np.array_equal(image.sample(centres[:50], level), values[:50])
            if level is None:
                assert np.array_equal(image.pixel(3, 2), found[2, 3])
        for bad in (-1, 3, "x"):
            with pytest.raises(UsageError, match="level"):
                image.decode(level=bad)
            with pytest.raises(UsageError, match="level"):
                image.sample([[1, 1]], level=bad)


@pytest.mark.parametrize("mode", list(LevelMode))
def test_partial_files(mode):
    header, levels, data = level_file(mode)
    with igs.open(data) as image:
        ends = [l.end for l in image.levels]
        assert not image.partial
    for level, end in enumerate(ends[:-1]):
        with igs.open(data[:end]) as image:
            assert image.partial
            assert len(image.levels) == level + 1
            expected = expected_level(header, levels, level)
            assert np.abs(image.decode(dtype="float32") - expected).max() <= 2 * 2.0**-17
        with pytest.raises(InvalidFile, match="E_TRUNCATED"):
            igs.open(data[: end + 1])
        with igs.open(data[: end + 1], allow_partial=True) as image:
            assert len(image.levels) == level + 1


# -- picture values


def test_alpha_and_gamma():
    groups = (
        Group(channels=4, alpha=Alpha.PREMULTIPLIED, gamma=2.0, name="colour", colour=Colour.RGB),
        Group(channels=2, alpha=Alpha.STRAIGHT, gamma=0.5, name="grey", colour=Colour.GREY),
        Group(channels=1, name="plain"),
    )
    header = make_header(7, groups=groups, background=(0.5, 0.1, -0.25, 2.0**-10, 0.25, 0.5, 0.125))
    with igs.open(make_file(header, 12)) as image:
        raw = image.decode(dtype="float32", raw=True).astype(np.float64)
        found = image.decode(dtype="float32")
        expected = raw.copy()
        alpha = raw[..., 3:4]
        assert (alpha < 2.0**-9).any()
        assert (alpha >= 2.0**-9).any()
        expected[..., :3] = np.where(alpha >= 2.0**-9, raw[..., :3] / np.maximum(alpha, 2.0**-9), 0)
        expected[..., :3] = np.maximum(expected[..., :3], 0) ** 2
        expected[..., 4] = np.maximum(raw[..., 4], 0) ** 0.5
        assert np.allclose(found, expected, rtol=2e-6, atol=2e-6)
        assert np.array_equal(image.pixel(9, 8), found[8, 9])
        assert np.array_equal(image.sample([[9.5, 8.5]], raw=True)[0], np.float32(raw[8, 9]))
        half_up = np.floor(np.clip(found, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        assert np.array_equal(image.decode(), half_up)


def test_integers_are_clipped():
    header = make_header(2, background=(1.5, -0.5))
    with igs.open(format.write(header, [make_codes(header, 1)])) as image:
        corner = {name: image.decode(dtype=name)[-1, -1] for name in ("uint8", "uint16", "float32")}
    if np.array_equal(corner["float32"], np.float32([1.5, -0.5])):
        assert corner["uint8"].tolist() == [255, 0]
        assert corner["uint16"].tolist() == [65535, 0]
    else:
        pytest.fail("the only Gaussian reaches the corner: choose another seed")


# -- metadata


def test_metadata():
    sections = {
        "json": json.dumps({"a": [1, "é"]}).encode(),
        "soft": "igs ½".encode(),
        "exif": b"MM\x00\x2a",
        "abcd": b"?",
    }
    with igs.open(make_file(make_header(), sections=sections)) as image:
        assert dict(image.metadata) == {"json": {"a": [1, "é"]}, "soft": "igs ½", "exif": b"MM\x00\x2a", "abcd": b"?"}
        assert "iccp" not in image.metadata
        with pytest.raises(KeyError):
            image.metadata["iccp"]


# -- errors


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 0, 5, 5),
        (0, 0, WIDTH + 1, 5),
        (0, 0.5, 5, HEIGHT),
        (0, 0, 0, 5),
        (0, 0, 5, -2),
        (0, 0, math.nan, 5),
        (math.inf, 0, 5, 5),
        ("a", 0, 5, 5),
        (0, 0, 5, 5, 0),
        (0, 0, 5, 5, -1),
        (0, 0, 5, 5, math.nan),
        (0, 0, 5, 5, 1e30),
        (0, 0, 5, 5, 1e-30),
        (0, 0, 5, 5, None),
        (0, 0, 5, 5, 1, "uint32"),
        (0, 0, 5, 5, 1, "no such type"),
        (0, 0, 5, 5, 1, None),
    ],
)
def test_bad_regions(arguments):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.region(*arguments)


@pytest.mark.parametrize("x", [-1, WIDTH, 0.5, math.nan, math.inf, None, "1", 10**400])
def test_bad_pixels(x):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.pixel(x, 0)


@pytest.mark.parametrize(
    "points", [[[math.nan, 0]], [[0, math.inf]], [[0, 0]] * 600 + [[0, -math.inf]], [1, 2], [[1, 2, 3]], "ab", None, 5]
)
def test_bad_points(points):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.sample(points)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_bad_threads(threads):
    with pytest.raises(UsageError, match="threads"):
        igs.open(make_file(make_header()), threads=threads)


def test_after_close():
    image = igs.open(make_file(make_header()))
    image.pixel(0, 0)
    image.close()
    image.close()
    for use in (image.decode, lambda: image.pixel(0, 0), lambda: image.sample([[0, 0]]), lambda: image.metadata):
        with pytest.raises(UsageError, match="closed"):
            use()
    with pytest.raises(UsageError, match="closed"):
        image.__enter__()


def test_a_damaged_chunk_harms_only_what_needs_it():
    header, data = large_file(chunk_size=32, codec=Codec.RAW)
    with format.open_file(data) as reader:
        last = reader.num_chunks - 1
        needed = reader.chunks_in_box(1000, 740, 1024, 768)
        victim = int(needed[0])
        safe = next(
            (x, y) for x in range(0, header.width, 8) for y in range(0, header.height, 8)
            if victim not in reader.chunks_in_box(x + 0.5, y + 0.5, x + 0.5, y + 0.5)
        )  # fmt: skip
        offset, _ = reader.payload_range(victim)
    assert victim <= last
    damaged = bytearray(data)
    damaged[offset] ^= 1
    with igs.open(bytes(damaged)) as image, igs.open(data) as whole:
        assert np.array_equal(image.pixel(*safe), whole.pixel(*safe))
        for _ in range(2):  # again: nothing of the chunk was kept
            with pytest.raises(InvalidFile, match="E_CHUNK_CRC"):
                image.region(1000, 740, 24, 28)


# -- threads and imports


def test_many_threads_at_once():
    _, data = large_file(chunk_size=32)
    with igs.open(data) as plain:
        expected = plain.decode(dtype="float32")
    failures = []
    with igs.open(data, threads=2) as image:

        def work(seed):
            rng = np.random.default_rng(seed)
            try:
                for _ in range(20):
                    x, y = int(rng.integers(0, 1000)), int(rng.integers(0, 740))
                    assert np.array_equal(image.pixel(x, y), expected[y, x])
                    assert np.array_equal(image.region(x, y, 24, 28, dtype="float32"), expected[y : y + 28, x : x + 24])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_an_error_in_one_thread_is_raised():
    from igs.format.threads import run

    def work(i):
        if i == 7:
            raise InvalidFile("E_VALUE", "expected nothing, found a test")

    with pytest.raises(InvalidFile, match="a test"):
        run(100, 3, work)


SCRIPT = """
import sys, json
import igs
image = igs.open(sys.argv[1])
before = sorted(m for m in ("torch", "numba") if m in sys.modules)
value = image.pixel(3, 4).tolist()
print(json.dumps([before, sorted(m for m in ("torch", "numba") if m in sys.modules), value]))
"""


def test_decoding_loads_no_torch_and_opening_no_numba(tmp_path):
    data = make_file(make_header())
    (tmp_path / "a.igs").write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "a.igs")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    before, after, value = json.loads(run.stdout)
    assert before == []
    assert after == ["numba"]
    assert value == igs.open(data).pixel(3, 4).tolist()


def test_the_package_has_what_it_promises():
    assert {"Image", "open", "render", "holes"} <= set(dir(decoder)) | set(decoder.__all__)
    with pytest.raises(AttributeError):
        decoder.nothing  # noqa: B018


def test_numpy_takes_an_image_for_its_pixels():
    with igs.open(make_file(make_header())) as im:
        assert np.array_equal(np.asarray(im), im.decode())
        assert np.asarray(im, dtype=np.float32).dtype == np.float32
