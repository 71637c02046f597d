"""One set of values for every backend: CPU, CUDA on a GPU, CUDA in Numba's simulator, all against the reference.

Pictures are small: the simulator, which NUMBA_ENABLE_CUDASIM=1 puts in CUDA's place, takes about a millisecond a pixel.
"""

from __future__ import annotations

import functools
import importlib

import numpy as np
import pytest
from backends import DEVICES, host, needs_cuda
from decoder_cases import (
    GRADIENT,
    SUM,
    TOLERANCE,
    expected_counts,
    expected_values,
    float_header,
    grid_points,
    random_codes,
)
from files import VALID

import igs
from igs.decoder import cuda, reference
from igs.decoder.grid import make_grid
from igs.format import (
    Alpha,
    Blend,
    Group,
    Limits,
    Transfer,
    dequantize,
    quantize,
    write,
)
from igs.format.fields import UNIT

WIDTH, HEIGHT = 18, 17  # two tiles each way, the second ones in part
make_header = functools.partial(float_header, width=WIDTH, height=HEIGHT)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def make_file(header, n, seed, smallest=0.3, largest=8.0, elongation=6.0, feature=None, **options):
    """→ (file, Gaussians)"""
    codes = random_codes(header, n, seed, smallest, largest, elongation, feature)
    return write(header, [codes], **options), dequantize(header, codes)


def random_features(header, n, seed=3):
    return np.random.default_rng(seed).uniform(0, 1, (n, header.feature.code_columns))


# -- who counts: seen through one-hot features, as no weight is rounded to 0


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 1, "reach2": 25.0, "relative_reach2": 9.0},
        {"top_k": 10, "reach2": 25.0, "relative_reach2": 9.0},
        {"top_k": 32, "reach2": 25.0, "relative_reach2": np.inf},
        {"reach2": 60.0, **SUM},
    ],
    ids=str,
)
def test_the_same_gaussians_count(device, fields):
    header = make_header(60, **fields)
    data, gaussians = make_file(header, 60, seed=1)
    counts = expected_counts(header, gaussians, grid_points(header))
    assert counts.any()
    with igs.open(data, device=device) as image:
        assert image.device == device
        found = host(image.decode(dtype="float32", raw=True)).reshape(-1, 60)
    assert np.array_equal(found > 0, counts)


@pytest.mark.parametrize(
    ("smallest", "largest", "elongation"), [(0.02, 200.0, 4096.0), (2.0**10, 2.0**15, 4096.0)], ids=str
)
def test_the_same_count_of_extreme_shapes(device, smallest, largest, elongation):
    header = make_header(40, width=9, height=6, reach2=25.0, relative_reach2=9.0, top_k=3)
    data, gaussians = make_file(header, 40, 2, smallest, largest, elongation)
    counts = expected_counts(header, gaussians, grid_points(header, 1.5))
    with igs.open(data, device=device, limits=Limits(reach_ratio=1e9)) as image:
        found = host(image.decode(1.5, dtype="float32", raw=True)).reshape(-1, 40)
    assert np.array_equal(found > 0, counts)


def test_of_equal_distances_the_first_count(device):
    header = make_header(8, width=6, height=5, top_k=3)
    codes = quantize(header, np.full((8, 2), 2.5), np.full((8, 2), 1.5), np.zeros((8, 1)), np.eye(8))
    with igs.open(write(header, [codes]), device=device) as image:
        found = host(image.decode(dtype="float32", raw=True)).reshape(-1, 8)
    assert np.array_equal(found > 0, np.tile(np.arange(8) < 3, (30, 1)))


def test_what_lies_in_another_coarse_cell_counts(device):
    """The second begins 128 pixels down. Only the middle one of a run of Gaussians lies there, in the run's box."""
    header = make_header(3, width=4, height=132)
    places = np.array([[2.0, 5.0], [2.0, 130.0], [2.0, 6.0]])
    codes = quantize(header, places, np.full((3, 2), 0.8), np.zeros((3, 1)), np.eye(3))
    with igs.open(write(header, [codes]), device=device) as image:
        found = host(image.sample(places, raw=True))
    counts = expected_counts(header, dequantize(header, codes), (places * UNIT).astype(np.int32))
    assert counts[1].tolist() == [False, True, False]
    assert np.array_equal(found > 0, counts)


# -- values


@pytest.mark.parametrize("fields", [{}, SUM, GRADIENT, {**SUM, **GRADIENT}], ids=["topk", "sum", "gradient", "both"])
def test_values(device, fields):
    header = make_header(3, background=(0.25, 0.5, 0.75), **fields)
    n = 20
    data, gaussians = make_file(header, n, 4, smallest=0.8, feature=random_features(header, n) - 0.4)
    points = grid_points(header)
    values = expected_values(header, gaussians, points)
    d2 = reference.squared_distances(gaussians.means, gaussians.factors, points)
    overlap = np.exp(-0.5 * d2).sum(axis=1).max() if fields.get("blend") == Blend.SUM else 1.0
    colours, slopes = np.split(np.abs(gaussians.features), [3], axis=1)
    slack = TOLERANCE * max(1.0, overlap) * max(1.0, (colours.max(axis=1) + slopes.sum(axis=1) * 5.0).max())
    with igs.open(data, device=device) as image:
        found = host(image.decode(dtype="float32")).reshape(-1, 3)
        somewhere = host(image.sample(points[::7] / UNIT))
        part = host(image.region(4, 3, 3, 2, dtype="float32"))
        zoomed = host(image.region(4.5, 3, 1.5, 1, 4.0, "float32"))
        i, j = np.meshgrid(np.arange(6), np.arange(4))
        same = host(image.sample(np.stack([(i + 0.5) / 4 + 4.5, (j + 0.5) / 4 + 3], axis=-1).reshape(-1, 2)))
    assert np.abs(found - values).max() <= slack
    assert np.array_equal(somewhere, found[::7])
    assert np.array_equal(part, found.reshape(HEIGHT, WIDTH, 3)[3:5, 4:7])
    assert np.array_equal(zoomed.reshape(-1, 3), same)


def test_many_gaussians_at_one_place(device, monkeypatch):
    """Twice through the lists of a cell that takes more than a block has threads; and more room than was guessed."""
    if device == "cuda":
        arena, regions = (importlib.import_module(f"igs.decoder.cuda.{name}") for name in ("arena", "regions"))
        monkeypatch.setattr(arena, "guess", lambda gaussians, cells: [9, 9])
        monkeypatch.setattr(arena, "_GAUSSIANS_PER_CELL", 1000)
        for module in (arena, regions):  # blocks too many, as on a GPU
            monkeypatch.setattr(module, "enough", lambda blocks: blocks + 1)
    header = make_header(3, width=4, height=4)
    data, gaussians = make_file(header, 200, 5, 6.0, 20.0, feature=random_features(header, 200))
    values = expected_values(header, gaussians, grid_points(header))
    with igs.open(data, device=device) as image:
        found = host(image.decode(dtype="float32")).reshape(-1, 3)
    assert np.abs(found - values).max() <= TOLERANCE


@pytest.mark.parametrize("scale", [0.7, 0.21, 0.05])
def test_reduced(device, scale):
    header = make_header(3)
    data, gaussians = make_file(header, 15, 6, smallest=0.5, feature=random_features(header, 15))
    grid = make_grid(0, 0, WIDTH, HEIGHT, scale, WIDTH, HEIGHT)
    values = expected_values(header, gaussians, grid_points(header, scale))
    n = grid.reduction
    means = values.reshape(grid.rows, n, grid.columns, n, 3).mean(axis=(1, 3))
    with igs.open(data, device=device) as image:
        found = host(image.decode(scale, dtype="float32"))
    assert np.abs(found - means).max() <= TOLERANCE + 2.0**-24


def test_alpha_gamma_and_integers(device):
    """≤ 1 level of 255 on ≤ 0.1 % of the samples beside the CPU's, as promised of all devices."""
    groups = (
        Group(channels=4, name="a", alpha=Alpha.PREMULTIPLIED, gamma=2.0),
        Group(channels=3, name="b", gamma=0.5, bit_depth=16),
    )
    header = make_header(7, width=19, height=12, groups=groups)
    data, _ = make_file(header, 30, 8, smallest=1.0, feature=random_features(header, 30) * 1.2 - 0.1)
    with igs.open(data) as image, igs.open(data, device=device) as other:
        for dtype in ("uint8", "uint16"):
            difference = np.abs(image.decode(dtype=dtype).astype(int) - host(other.decode(dtype=dtype)).astype(int))
            assert difference.max() <= 1
            assert (difference > 0).mean() <= (0.001 if dtype == "uint8" else 0.05)
        assert np.allclose(image.decode(dtype="float32"), host(other.decode(dtype="float32")), rtol=1e-4, atol=1e-5)
        raw = image.decode(dtype="float32", raw=True) - host(other.decode(dtype="float32", raw=True))
        assert np.abs(raw).max() <= 2 * TOLERANCE


@pytest.mark.parametrize("transfer", [Transfer.PQ, Transfer.LOG])
def test_light(device, transfer):
    groups = (Group(channels=2, name="a", transfer=transfer, gamma=0.5), Group(channels=1, name="b"))
    header = make_header(3, width=9, height=7, groups=groups, background=(0.25, 0.5, 0.75))
    data, _ = make_file(header, 12, 12, smallest=1.0, feature=random_features(header, 12) * 0.8 - 0.1)
    with igs.open(data) as image, igs.open(data, device=device) as other:
        light, found = image.decode(dtype="float32"), host(other.decode(dtype="float32"))
        assert light[..., 0].max() > 1
        assert np.allclose(light, found, rtol=1e-3, atol=1e-5)
        assert np.abs(image.decode().astype(int) - host(other.decode()).astype(int)).max() <= 1


@pytest.mark.parametrize("name", ["levels_residual", "levels_replacement", "levels_union", "holes"])
def test_levels_of_a_file(device, name):
    data = (VALID / f"{name}.igs").read_bytes()
    with igs.open(data) as image, igs.open(data, device=device) as other:
        for level in range(len(image.levels)):
            first, second = image.decode(level=level), host(other.decode(level=level))
            assert np.abs(first.astype(int) - second.astype(int)).max() <= 1


def test_points_anywhere(device):
    header = make_header(3, background=(0.25, 0.5, 0.75))
    data, gaussians = make_file(header, 20, 9, feature=random_features(header, 20))
    points = np.array([[-2.5, 4.0], [WIDTH + 3.0, -1.0], [1e5, 1.0], [1e300, -1e300], [-65536.0, 65535.99], [3.3, 4.7]])
    values = np.tile(np.float32([0.25, 0.5, 0.75]), (len(points), 1))
    fixed = np.floor(points * UNIT + 0.5)
    inside = (np.abs(fixed) < 2.0**30).all(axis=1)
    values[inside] = expected_values(header, gaussians, fixed[inside].astype(np.int32))
    with igs.open(data, device=device) as image:
        found = host(image.sample(points))
        assert np.abs(found - values).max() <= TOLERANCE
        assert np.array_equal(image.pixel(3, 4), igs.open(data).pixel(3, 4))
        assert host(image.sample(np.empty((0, 2)))).shape == (0, 3)


def test_groups_are_those_of_the_whole(device):
    groups = (Group(channels=2, alpha=Alpha.PREMULTIPLIED, name="first"), Group(channels=1, gamma=2.0, name="second"))
    data, _ = make_file(make_header(3, width=9, height=7, groups=groups), 20, 3, 1.0, 4.0)
    with igs.open(data, device=device) as image:
        whole, points = host(image.decode(dtype="float32")), [[2.25, 3.5], [8.0, 0.5]]
        second = host(image.decode(dtype="float32", groups=["second"]))
        assert second.shape == (7, 9, 1)
        assert np.array_equal(second, whole[..., 2:])
        assert np.array_equal(host(image.sample(points, groups=["second"])), host(image.sample(points))[:, 2:])
        maps = image.decode_groups(dtype="float32")
        assert list(maps) == ["first", "second"]
        assert np.array_equal(host(maps["first"]), whole[..., :2])


@needs_cuda
def test_a_region_of_a_large_file_reads_its_chunks_only(monkeypatch):
    monkeypatch.setattr(importlib.import_module("igs.decoder.cuda.image"), "_WHOLE_GAUSSIANS", 0)
    header = make_header(1, width=200, height=150)
    data, _ = make_file(header, 400, 12, 0.3, 1.5, feature=random_features(header, 400), chunk_size=16)
    with igs.open(data) as image, igs.open(data, device="cuda") as other:
        for region in ((0, 0, 8, 8), (1, 1, 2, 2), (90, 70, 4, 3, 2.0)):
            assert np.abs(image.region(*region).astype(int) - host(other.region(*region)).astype(int)).max() <= 1
            assert image.bytes_read == other.bytes_read < 0.6 * len(data)


@needs_cuda
@pytest.mark.skipif(cuda.device.SIMULATED, reason="too large for the simulator")
@pytest.mark.parametrize("fields", [{}, {"top_k": 32, "relative_reach2": np.inf}, SUM, GRADIENT], ids=str)
def test_a_picture_of_the_usual_size(fields):
    header = make_header(3, width=700, height=450, **fields)
    feature = random_features(header, 4000) * (0.05 if fields is SUM else 1.0)
    data, _ = make_file(header, 4000, 10, 1.0, 60.0, feature=feature)
    points = np.random.default_rng(11).uniform(-20, 720, (100_000, 2))
    with igs.open(data) as image, igs.open(data, device="cuda") as other:
        for arguments in ((0, 0, 700, 450), (100.5, 30, 64, 48, 8.0), (0, 0, 700, 450, 0.3), (0, 0, 700, 450, 0.01)):
            first, second = image.region(*arguments).astype(int), host(other.region(*arguments)).astype(int)
            assert np.abs(first - second).max() <= 1
            assert (first != second).mean() <= 0.001
        assert np.abs(image.sample(points) - host(other.sample(points))).max() <= (1e-2 if fields is SUM else 1e-4)
        again = host(other.decode(dtype="float32"))
        with igs.open(data, device="cuda") as fresh:
            assert np.array_equal(host(fresh.decode(dtype="float32")), again)
