"""What ``device`` means to a caller: arrays, ``out``, streams of files, errors, kernels of one's own; on every backend.

In Numba's simulator, with NUMBA_ENABLE_CUDASIM=1, the tests of ``device="cuda"`` run without a GPU, as in CI.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from backends import DEVICES, host, needs_cuda
from files import VALID

import igs
from igs.decoder import cuda

if cuda.available():
    from numba import cuda as numba_cuda  # at the top: the simulator puts its own in the place of globals


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def test_out_is_filled_and_returned(device):
    data = (VALID / "gradient.igs").read_bytes()
    with igs.open(data, device=device) as image:
        whole = image.decode()
        target, shape = np.zeros_like(host(whole)), list(whole.shape)
        points = np.array([[1.0, 2.0], [3.5, 4.5]])
        values = np.zeros((2, image.channels), np.float32)
        if device == "cuda":
            target, values = numba_cuda.to_device(target), numba_cuda.to_device(values)
        assert image.decode(out=target) is target
        assert np.array_equal(host(target), host(whole))
        assert image.sample(points, out=values) is values
        assert np.array_equal(host(values), host(image.sample(points)))
        for wrong in (values, target[:-1], [1, 2]):
            with pytest.raises(igs.UsageError, match=r"out: expected"):
                image.decode(out=wrong)
        assert list(image.decode(out=None).shape) == shape
    with pytest.raises(igs.UsageError, match="closed"):
        image.decode()


@needs_cuda
def test_a_point_that_is_not_finite_is_nan_on_the_device():
    with igs.open((VALID / "gradient.igs").read_bytes(), device="cuda") as image:
        found = image.sample([[np.nan, 1.0], [1.0, np.inf], [1.0, 1.0]]).copy_to_host()
        assert np.isnan(found).all(axis=1).tolist() == [True, True, False]


def test_a_stream_of_files(device):
    good = [(VALID / f"{name}.igs").read_bytes() for name in ("gradient", "topk_32", "gradient", "levels_residual")]
    sources = [good[0], b"nothing", *good[1:], VALID / "none.igs", good[0]]
    found = list(igs.decode_many(sources, device=device, threads=2, errors="return"))
    assert [type(item).__name__ for item in found if isinstance(item, igs.IgsError)] == ["InvalidFile", "InputError"]
    assert str(found[1]).startswith("source 1: E_SIGNATURE")
    assert "source 5 (" in str(found[5])
    for places in ((0, 3, 6), (2,), (4,)):
        with igs.open(sources[places[0]], device=device) as image:
            expected = host(image.decode())
        for place in places:
            assert np.array_equal(host(found[place]), expected)
    if device == "cpu":
        with igs.decode_many(sources) as stream:
            assert next(stream).shape == found[0].shape
            with pytest.raises(igs.InvalidFile, match=r"source 1: "):
                next(stream)
            assert next(stream).shape == found[2].shape


def test_a_stream_is_read_no_further_than_needed(device, monkeypatch):
    monkeypatch.setattr(importlib.import_module("igs.decoder.many"), "_BATCH", 4)
    taken = []

    def sources():
        for number in range(10_000):
            taken.append(number)
            yield (VALID / "topk_1.igs").read_bytes()

    with igs.decode_many(sources(), device=device, threads=2, scale=0.3) as stream:
        assert next(stream).shape == (4, 5, 1)
        assert len(taken) <= 2 * (4 + 2 * 2)  # a batch and two more per thread, before and after the first is taken
    assert list(stream) == []


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_surprise_in_a_stream_costs_one_picture(device, errors):
    data = (VALID / "topk_1.igs").read_bytes()

    class Broken:
        def read(self, *_):
            raise RuntimeError("a source of the caller's that breaks")

        seek = tell = read

    found = []
    with igs.decode_many([data, data, Broken(), data], device=device, threads=2, errors=errors) as stream:
        while True:
            try:
                found.append(next(stream).shape)
            except StopIteration:
                break
            except RuntimeError as error:
                found.append(str(error))
    assert [isinstance(one, str) for one in found] == [False, False, True, False]


def test_what_is_asked_for_is_checked():
    data = (VALID / "topk_1.igs").read_bytes()
    with pytest.raises(igs.UsageError, match="device: expected cpu, cuda or auto"):
        igs.open(data, device="gpu")
    with pytest.raises(igs.UsageError, match="errors: expected raise or return"):
        igs.decode_many([data], errors="ignore")
    with pytest.raises(igs.UsageError, match="threads: expected 1 or more"):
        igs.decode_many([data], threads=0)
    with igs.open(data, device="auto") as image:
        assert image.device == ("cuda" if cuda.available() else "cpu")


def test_where_there_is_no_cuda_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cuda.device, "_module", None)
    with pytest.raises(igs.Unsupported, match=r"numba-cuda, found none: pip install 'igs-codec\[cuda\]'") as found:
        igs.open((VALID / "topk_1.igs").read_bytes(), device="cuda")
    assert found.value.exit_code == 5


class _FoundGpu:
    """Numba's CUDA target on a machine with a GPU, as far as is asked before a kernel is compiled."""

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def current_context():
        pass


@pytest.mark.parametrize("fits", [True, False])
def test_a_numpy_that_numba_cuda_cannot_work_with_is_named(monkeypatch, fits):
    import numba

    def imported(name):
        if not fits:
            raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib, "import_module", imported)
    monkeypatch.setattr(numba, "cuda", _FoundGpu, raising=False)
    monkeypatch.setattr(cuda.device, "SIMULATED", False)
    found = cuda.why_not()
    if fits:
        assert found is None
    else:
        assert found == (
            f"expected a NumPy that numba-cuda can work with, found {np.__version__} "
            "(module 'numpy' has no attribute 'row_stack'): pip install 'numpy<2.5'"
        )


# -- kernels of others


@needs_cuda
@pytest.mark.filterwarnings("ignore:Grid size")  # Numba's, of small launches
def test_a_kernel_of_ones_own_samples_as_the_image_does():
    from numba import float32

    data = (VALID / "premultiplied_gamma.igs").read_bytes()
    image = igs.open(data, device="cuda")
    fetch, texture = cuda.sampler(image)

    @numba_cuda.jit
    def diagonal(texture, out):
        i = numba_cuda.grid(1)
        value = numba_cuda.local.array(4, float32)
        if i < out.shape[0]:
            fetch(texture, i * 1.25, i * 0.5, value)
            for c in range(4):
                out[i, c] = value[c]

    out = numba_cuda.device_array((12, 4), np.float32)
    diagonal[1, 16](texture, out)
    places = np.arange(12)[:, None] * [1.25, 0.5]
    assert np.array_equal(out.copy_to_host(), image.sample(places).copy_to_host())
    with pytest.raises(igs.UsageError, match="sampler: expected"):
        cuda.sampler(igs.open(data))


@needs_cuda
@pytest.mark.filterwarnings("ignore:Grid size")  # Numba's, of small launches
def test_the_example_of_a_warp(tmp_path):
    spec = importlib.util.spec_from_file_location("warp", VALID.parents[2] / "examples" / "warp_cuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.warp(VALID / "gradient.igs", tmp_path / "out.png", waves=2.0, amplitude=0.0)
    from PIL import Image

    with igs.open(VALID / "gradient.igs") as image, Image.open(tmp_path / "out.png") as made:
        assert np.abs(np.asarray(made).astype(int) - image.decode().astype(int)).max() <= 1


# -- files in parts


def test_parts_are_drawn_by_themselves_and_put_together(device):
    """parts.igs: albedo (RGBA) and height share Gaussians, ao between them has its own."""
    data = (VALID / "parts.igs").read_bytes()
    points = np.array([[1.25, 2.0], [8.5, 5.5], [40.0, -3.0]])
    with igs.open(data) as reference, igs.open(data, device=device) as image:
        assert image.groups.names == ("albedo", "ao", "height")
        for groups, dtype, least in (
            (None, "uint8", 1),
            (["ao"], "float32", 1e-5),
            (["height", "ao"], "uint16", 1),
            (["height", "albedo"], "float32", 1e-5),
        ):
            found = host(image.region(2, 1, 5, 4, dtype=dtype, groups=groups)).astype(np.float64)
            expected = reference.region(2, 1, 5, 4, dtype=dtype, groups=groups)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=least)
            found = host(image.sample(points, groups=groups))
            np.testing.assert_allclose(found, reference.sample(points, groups=groups), rtol=1e-5, atol=1e-5)
        reduced = host(image.decode(0.4, dtype="float32", raw=True))
        np.testing.assert_allclose(reduced, reference.decode(0.4, dtype="float32", raw=True), rtol=1e-5, atol=1e-5)
        maps = image.decode_groups()
        assert {name: host(pixels).shape[2] for name, pixels in maps.items()} == {"albedo": 4, "ao": 1, "height": 1}


def test_a_stream_of_files_in_parts(device):
    sources = [(VALID / f"{name}.igs").read_bytes() for name in ("parts", "gradient", "parts_lattice", "parts")]
    for pixels, data in zip(igs.decode_many(sources, device=device, threads=2), sources, strict=True):
        with igs.open(data) as reference:
            assert np.abs(host(pixels).astype(int) - reference.decode().astype(int)).max() <= 1


@needs_cuda
def test_a_kernel_of_ones_own_takes_one_part():
    with igs.open((VALID / "parts.igs").read_bytes(), device="cuda") as image:
        with pytest.raises(igs.UsageError, match=r"one part of this file, 'albedo' \+ 'height' or 'ao', found more"):
            cuda.sampler(image)
        fetch, data = cuda.sampler(image, groups=["ao"])
        assert fetch is not None
        assert len(data) == 5
