"""igs.open and the Image: sources, picture values, metadata, threads, imports. Kernels: test_decoder_kernels.py."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from image_cases import HEIGHT, WIDTH, large_file, make_codes, make_file, make_header, reference_decode
from threads import at_once

import igs
from igs import decoder, format
from igs.format import Alpha, Colour, Group
from igs.format.errors import InputError, InvalidFile, UsageError


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
        "exif": b"MM\x00\x2a\0\0\0\x08",
        "abcd": b"?",
    }
    with igs.open(make_file(make_header(), sections=sections)) as image:
        assert dict(image.metadata) == {
            "json": {"a": [1, "é"]},
            "soft": "igs ½",
            "exif": sections["exif"],
            "abcd": b"?",
        }
        assert "iccp" not in image.metadata
        with pytest.raises(KeyError):
            image.metadata["iccp"]


# -- threads and imports


def test_many_threads_at_once():
    _, data = large_file(chunk_size=32)
    with igs.open(data) as plain:
        expected = plain.decode(dtype="float32")
    with igs.open(data, threads=2) as image:

        def work(seed):
            rng = np.random.default_rng(seed)
            for _ in range(20):
                x, y = int(rng.integers(0, 1000)), int(rng.integers(0, 740))
                assert np.array_equal(image.pixel(x, y), expected[y, x])
                assert np.array_equal(image.region(x, y, 24, 28, dtype="float32"), expected[y : y + 28, x : x + 24])

        at_once(work)


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


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, *(lambda im, p=p: pickle.dumps(im, p) for p in (0, 2, 5))])
def test_an_image_is_not_copied(way):
    with igs.open(make_file(make_header())) as im:
        for value in (im, *([[im]] if way is not copy.copy else [])):
            with pytest.raises(UsageError, match=r"image: expected .*, found a copy or pickle of it: igs\.open"):
                way(value)
        im.decode()


def test_numpy_takes_an_image_for_its_pixels():
    with igs.open(make_file(make_header())) as im:
        assert np.array_equal(np.asarray(im), im.decode())
        assert np.asarray(im, dtype=np.float32).dtype == np.float32
