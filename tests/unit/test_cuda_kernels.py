"""What only the CUDA kernels have: exact membership, tile lists without waiting, one result whatever runs first.

Emulated on the host, where blocks and threads run in an order that a seed shuffles, and on a GPU where there is one.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_emulator import EmulatedKernels, library
from raster_cases import CASES, close, scene

from igs.csrc import cuda_driver
from igs.csrc.cuda_compile import CudaUnavailable
from igs.encoder.raster import cuda_kernels, kernels, reference
from igs.encoder.raster.adam import Adam, Rates
from igs.encoder.raster.cuda_kernels import CudaRasterizer, Frame
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(request):
    """Makes a rasteriser; ``seed`` is of the emulator's order."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU that PyTorch can use")
        from igs.encoder.raster.cuda_backend import open_device

        backend = open_device()
        return lambda seed=0, **settings: CudaRasterizer(backend._launcher, backend.place, **settings)
    return lambda seed=0, **settings: CudaRasterizer(EmulatedKernels(seed * 1000), torch.device("cpu"), **settings)


def lists(rasterizer):
    """Gaussians by tile."""
    tiles = rasterizer._frame.tiles_x * rasterizer._frame.tiles_y
    offsets = rasterizer._buffers["tile_offset"][: tiles + 1].tolist()
    pairs = rasterizer._buffers["list"][: 2 * offsets[-1]].view(-1, 2).tolist()
    return [[g for g, _ in pairs[a:b]] for a, b in itertools.pairwise(offsets)], pairs


def whitened_d2(means, factors, o):
    """d² [pixels, N] in binary32, each operation rounded by itself: spec §7."""
    y, x = torch.meshgrid(torch.arange(o.height) + 0.5, torch.arange(o.width) + 0.5, indexing="ij")
    u, v = reference._whitened(means, factors, torch.stack([x.reshape(-1), y.reshape(-1)], 1))
    return u * u + v * v


def counting(d2, o):
    """Who counts [pixels, N]: spec §7, where no two d² are equal."""
    if o.blend == "sum":
        return d2 <= o.reach2
    nearest = d2.min(1, keepdim=True).values
    limit = (nearest + min(o.relative_reach2, 1e30)).clamp_max(o.reach2)
    if o.pull:
        limit = torch.maximum(limit, nearest)
    return d2 <= torch.minimum(limit, d2.kthvalue(min(o.top_k, d2.shape[1]), dim=1, keepdim=True).values)


def bin_scene(rasterizer, n, o, seed, **settings):
    arrays = scene(n, 3, o.width, o.height, seed)
    factors = reference.factors_reference(*arrays[1:3])
    there = [t.to(rasterizer.device) for t in (arrays[0], factors, arrays[3])]
    rasterizer.bin(*there, o, **settings)
    return arrays[0], factors, there


@pytest.mark.parametrize("case", ["default", "few", "image_gs", "pull", "pull_early", "sum"])
def test_who_counts_is_the_specifications_to_the_bit(case, make):
    """Each Gaussian is a channel of its own: where that isn't 0, it counts."""
    o = CASES[case]
    o = dataclasses.replace(o, background=(0.0,) * 40)
    means, scales, rotations, _ = scene(40, 1, o.width, o.height, seed=11)
    rasterizer = make()
    factors = reference.factors_reference(scales, rotations)
    rasterizer.bin(*(t.to(rasterizer.device) for t in (means, factors, torch.eye(40))), o)
    image = rasterizer.forward(o).cpu()
    assert torch.equal(image.flatten(1).T > 0, counting(whitened_d2(means, factors, o), o))


@pytest.mark.parametrize(
    ("n", "o"),
    [
        (60, CASES["default"]),
        (300, RasterOptions(96, 64)),
        (30, RasterOptions(96, 64, pull=0.01)),  # nine tiles look for their nearest among all
        (5, RasterOptions(96, 64, reach2=2.0, pull=0.01)),
        (200, RasterOptions(96, 64, blend="sum")),
        (1, RasterOptions(16, 16)),
    ],
)
def test_tile_lists_hold_who_counts_in_order_and_as_few_as_the_cpus(n, o, make):
    rasterizer = make()
    means, factors, there = bin_scene(rasterizer, n, o, seed=5)
    found, pairs = lists(rasterizer)
    count = counting(whitened_d2(means, factors, o), o).view(o.height, o.width, n)
    for tile, members in enumerate(found):
        assert members == sorted(set(members))
        y, x = (16 * k for k in divmod(tile, rasterizer._frame.tiles_x))
        needed = count[y : y + 16, x : x + 16].flatten(0, 1).any(0).nonzero().squeeze(1).tolist()
        assert set(needed) <= set(members)
    slots = sorted(pairs)  # by Gaussian, then by slot: side by side, none twice
    assert [slot for _, slot in slots] == list(range(len(slots)))
    if kernels.available():
        assert len(pairs) == kernels.Rasterizer().bin(means, factors, there[2].cpu(), o)


def draw(rasterizer, arrays, o, weight, target):
    """Everything that a step may compute."""
    means, scales, rotations, features, weight, target = (t.to(rasterizer.device) for t in (*arrays, weight, target))
    rasterizer.bin(means, rasterizer.factors(scales, rotations, "log", 2**-6, 2**15, 0.0), features, o)
    image = rasterizer.forward(o)
    grads = rasterizer.backward(weight)
    grad = torch.empty_like(image)
    totals = rasterizer.loss(image, target, 0.3, 0.4, 0.5, grad)
    fused = rasterizer.fused(target, 0.2, 0.8) if rasterizer.fusible else (totals, grads)
    return [t.cpu() for t in (image, *grads, totals, grad, fused[0], *fused[1])]


@pytest.mark.parametrize("gradient", [False, True])
def test_results_do_not_depend_on_what_runs_first(gradient, make):
    o = RasterOptions(70, 40, gradient=gradient, reach2=4.0, pull=0.01)
    arrays = scene(120, 5 if gradient else 3, o.width, o.height, seed=4)
    weight, target = torch.rand(3, 40, 70), torch.rand(3, 40, 70)
    first, *others = (draw(make(seed), arrays, o, weight, target) for seed in range(3))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("channels", [3, 5])
def test_pictures_drawn_together_are_those_drawn_alone(channels, make):
    o = RasterOptions(
        45, 33, reach2=4.0, pull=0.01
    )  # with tiles that look for their nearest, among their own picture's
    scenes = [scene(12, channels, o.width, o.height, seed) for seed in range(3)]
    weight, target = torch.rand(2, 3, channels, 33, 45, generator=torch.Generator().manual_seed(3))
    alone = [draw(make(), arrays, o, weight[k], target[k]) for k, arrays in enumerate(scenes)]
    together = draw(make(pictures=3), [torch.cat(t) for t in zip(*scenes, strict=True)], o, weight, target)
    for k, parts in enumerate(zip(*alone, strict=True)):
        if k in (0, 4, 5, 6):  # pictures and sums
            assert torch.equal(together[k], torch.stack(parts))
        else:
            assert torch.equal(together[k], torch.cat(parts))


def test_atomic_additions_give_the_same_up_to_rounding(make):
    o = RasterOptions(70, 40)
    arrays = scene(120, 3, o.width, o.height, seed=4)
    weight, target = torch.rand(3, 40, 70), torch.rand(3, 40, 70)
    known = draw(make(), arrays, o, weight, target)
    close(draw(make(1, atomic=True), arrays, o, weight, target), known, floor=1e-3)


def test_lists_that_do_not_fit_give_no_gradient_and_grow_at_the_next_look(make, monkeypatch):
    monkeypatch.setattr(cuda_kernels, "CHECK_EVERY", 2)
    o, rasterizer = RasterOptions(70, 40), make()
    bin_scene(rasterizer, 60, o, 4, trust=True)
    rasterizer._list_room(8)
    target = torch.rand(3, 40, 70, device=rasterizer.device)
    for step in range(3):
        _, _, _keep = bin_scene(rasterizer, 60, o, 4, trust=True)
        _, grads = rasterizer.fused(target, 0.0, 1.0)
        assert all(bool(g.any()) == (step == 2) for g in grads)
        assert bool(rasterizer._buffers["state"][1]) == (step < 2)
    rasterizer._list_room(8)
    bin_scene(rasterizer, 60, o, 4)  # without trust: whole at once
    assert not rasterizer._buffers["state"][1]


@pytest.mark.parametrize("lacking", ["pairs", "list"])
def test_lists_that_found_no_memory_are_made_anew(make, monkeypatch, lacking):
    o, rasterizer = RasterOptions(70, 40), make()
    bin_scene(rasterizer, 60, o, 4)
    known = rasterizer.forward(o).clone()
    room = type(rasterizer)._room

    def little_room(self, name, count, dtype=torch.float32):
        if name == lacking:
            self._buffers.pop(name)
            raise torch.cuda.OutOfMemoryError
        return room(self, name, count, dtype)

    monkeypatch.setattr(type(rasterizer), "_room", little_room)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        rasterizer._list_room(10**6)
    monkeypatch.setattr(type(rasterizer), "_room", room)
    bin_scene(rasterizer, 60, o, 4)
    lists = [rasterizer._buffers[name].numel() for name in ("pairs", "list")]
    assert 2 * rasterizer._frame.capacity <= min(lists)
    assert torch.equal(rasterizer.forward(o), known)


def test_more_entries_than_a_gpu_could_hold_are_refused(make, monkeypatch):
    """A million Gaussians over a picture of 32768² would have 4·10^12; here the counts are made up."""
    rasterizer = make()
    launch = type(rasterizer._launcher).launch

    def pretend(self, kernel, *arguments, **more):
        if kernel == "igs_scan":
            rasterizer._buffers["tile_count"][:8] = 2**30
        launch(self, kernel, *arguments, **more)

    monkeypatch.setattr(type(rasterizer._launcher), "launch", pretend)
    with pytest.raises(MemoryError, match="more than 2\\^30 tiles"):
        bin_scene(rasterizer, 20, RasterOptions(70, 40), 4)
    assert rasterizer._buffers["state"][:2].tolist() == [2**31 - 1, 1]


def test_a_perfect_picture_gives_no_gradient(make):
    o, rasterizer = RasterOptions(40, 20), make(perfect=1e-10)
    _, _, _keep = bin_scene(rasterizer, 30, o, 4)
    target = rasterizer.forward(o)
    for shift, learns in ((0.0, False), (1e-3, True)):
        _, grads = rasterizer.fused(target + shift, 0.0, 1.0)
        assert all(bool(g.any()) == learns for g in grads)


def test_tensors_elsewhere_are_refused(make):
    rasterizer = make()
    wrong = torch.zeros(4, 2)[:, :1] if rasterizer.device.type == "cpu" else torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"means: expected torch\.float32, contiguous, on"):
        rasterizer.bin(wrong, torch.zeros(4, 3), torch.zeros(4, 3), RasterOptions(16, 16))


@pytest.mark.parametrize(("struct", "layout"), [(Frame, "igs_frame_layout"), (Adam, "igs_adam_layout")])
def test_structs_are_laid_out_as_in_c(struct, layout):
    where = getattr(library(), layout)
    for name, *_ in struct._fields_:
        assert getattr(struct, name).offset == where(name.encode()), name
    assert ctypes.sizeof(struct) == where(b"")
    assert where(b"nothing") == -1


def test_kernels_are_launched_through_the_drivers_interface(monkeypatch):
    """With a driver whose GPU is the emulator."""
    lib = library()
    lib.cuLaunchKernel.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]
    lib.cuCtxPushCurrent_v2.argtypes = [ctypes.c_void_p]
    compiled = []

    def compile_kernels(source, architecture, defines, load):
        compiled.append((source, architecture, defines))
        return load("".join("_" + define.partition("=")[2] for define in defines).encode() + b"\0")

    monkeypatch.setattr(cuda_driver, "driver", lambda: lib)
    monkeypatch.setattr(cuda_driver, "compile_kernels", compile_kernels)
    launcher = cuda_driver.DeviceKernels(0, lambda: 0)
    o = RasterOptions(40, 20)
    results = []
    for kernels_ in (launcher, EmulatedKernels()):
        rasterizer = CudaRasterizer(kernels_, torch.device("cpu"))
        bin_scene(rasterizer, 30, o, 4)
        results.append(rasterizer.forward(o))
    assert torch.equal(*results)
    context = ctypes.c_void_p()
    lib.cuCtxGetCurrent(ctypes.byref(context))
    assert context.value is None  # what the caller works on is as before
    assert ("raster.cu", "sm_90", ("IGS_CHANNELS=3", "IGS_GRADIENT=0")) in compiled
    assert len(compiled) == len(set(compiled))
    with pytest.raises(CudaUnavailable, match="error 500"):
        launcher.launch("igs_forward", (1, 1, 1), 128, [Frame()], (7, 0))
    with pytest.raises(CudaUnavailable, match="invalid device ordinal"):
        cuda_driver.DeviceKernels(1, lambda: 0)


def test_infinite_relative_reach_is_a_number_on_the_device(make):
    rasterizer = make()
    bin_scene(rasterizer, 3, RasterOptions(16, 16, relative_reach2=math.inf), 1)
    assert rasterizer._frame.relative_reach2 == pytest.approx(1e30)


def test_adam_takes_what_the_kernel_reads(make):
    rasterizer, place = make(), make().device
    shapes = (4, 2), (4, 2), (4,), (4, 3)
    model = Model.of([torch.zeros(shape, device=place) for shape in shapes], "log")
    moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in model.tensors()]
    grads, age = [torch.zeros_like(t) for t in model.tensors()], torch.zeros(4, dtype=torch.int32, device=place)
    rates = Rates(0.1, 0.1, 0.1, 0.1)
    rasterizer.adam(model, grads, moments, age, rates)
    wrong = [grads[0].double(), *grads[1:]]
    with pytest.raises(ValueError, match="grads: expected torch"):
        rasterizer.adam(model, wrong, moments, age, rates)
    with pytest.raises(ValueError, match="age: expected torch"):
        rasterizer.adam(model, grads, moments, age.long(), rates)
    strided = Model.of([torch.zeros(2, 4, device=place).T, *model.tensors()[1:]], "log")
    with pytest.raises(ValueError, match="position: expected torch"):
        rasterizer.adam(strided, grads, moments, age, rates)
