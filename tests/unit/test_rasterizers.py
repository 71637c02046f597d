"""One set of tests for every rasteriser: plain torch in tiles, the CPU kernels for each instruction set, the CUDA
kernels emulated on the host, and on a GPU.

The references are those of test_kernels.py. What only CUDA has (tile lists that don't wait, determinism without an
order of threads) follows in test_cuda_kernels.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_emulator import EmulatedKernels
from raster_cases import ALPHA, CASES, GRADIENT_CASES, TARGETS, close, run, scene, with_target

from igs.encoder.raster import kernels, reference, shapes
from igs.encoder.raster.adam import Rates
from igs.encoder.raster.cuda_kernels import CudaRasterizer
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.tiled import rasterize_tiled, removal_costs_tiled


class Tiled:
    """Plain torch in tiles: no loss, fused step or Adam of its own."""

    def draw(self, arrays, o, weight):
        return run(rasterize_tiled, reference.factors_reference, arrays, o, weight)

    def removal_costs(self, arrays, o, target, weight=None):
        factors = reference.factors_reference(*arrays[1:3])
        return removal_costs_tiled(arrays[0], factors, arrays[3], o, target, weight)


class Cpu:
    """The compiled CPU kernels."""

    def draw(self, arrays, o, weight):
        """Picture, and gradients of (picture·weight).sum() by means, scales, rotations and features."""
        return run(kernels.rasterize, kernels.factors, arrays, o, weight)

    def loss(self, image, target, weights, weight=None):
        return kernels.loss_and_gradient(image, target, *weights, weight=weight)

    def fused(self, arrays, o, target, l1, l2, weight=None):
        rasterizer, factors = kernels.Rasterizer(), kernels.factors(*arrays[1:3])
        rasterizer.bin(arrays[0], factors, arrays[3], o)
        return rasterizer.fused(arrays[0], factors, arrays[3], o, target, l1, l2, weight=weight)

    def removal_costs(self, arrays, o, target, weight=None):
        rasterizer, factors = kernels.Rasterizer(), kernels.factors(*arrays[1:3])
        rasterizer.bin(arrays[0], factors, arrays[3], o)
        return rasterizer.removal_costs(arrays[0], factors, arrays[3], o, target, weight)

    add_noise = staticmethod(kernels.add_noise)
    adam = staticmethod(kernels.adam)


class Cuda:
    """The CUDA kernels, by one launcher or another."""

    def __init__(self, launcher, place):
        self.rasterizer, self.place = CudaRasterizer(launcher, place), place
        self.shape = ("log", 2**-6, 2**15, 0.0)

    def there(self, *tensors):
        return [None if t is None else t.to(self.place) for t in tensors]

    def bin(self, arrays, o):
        """Factors are the host's: others in the last places, and a Gaussian of some scenes may count elsewhere."""
        means, scales, rotations, features = arrays
        self.rasterizer.bin(*self.there(means, kernels.factors(scales, rotations), features), o)

    def draw(self, arrays, o, weight):
        _, scales, rotations, _, weight = self.there(*arrays, weight)
        self.bin(arrays, o)
        image = self.rasterizer.forward(o)
        by_mean, by_factor, by_feature = self.rasterizer.backward(weight)
        shape = self.rasterizer.factors_gradient(scales, rotations, by_factor, *self.shape)
        return [t.cpu() for t in (image, by_mean, *shape, by_feature)]

    def loss(self, image, target, weights, weight=None):
        image, target, weight = self.there(image, target, weight)
        grad = torch.empty_like(image)
        e1, e2, s = (self.rasterizer.loss(image, target, *weights, grad, weight) / image.numel()).tolist()
        return e1, e2, s, grad.cpu()

    def fused(self, arrays, o, target, l1, l2, weight=None):
        target, weight = self.there(target, weight)
        self.bin(arrays, o)
        totals, grads = self.rasterizer.fused(target, l1, l2, weight)
        return *(totals / target.numel()).tolist()[:2], [g.cpu() for g in grads]

    def removal_costs(self, arrays, o, target, weight=None):
        target, weight = self.there(target, weight)
        self.bin(arrays, o)
        return self.rasterizer.removal_costs(target, weight).cpu()

    def adam(self, model, grads, moments, age, *rest):
        there, its_moments = model.map(lambda t: t.to(self.place)), [self.there(*pair) for pair in moments]
        its_age = age.to(self.place)
        self.rasterizer.adam(there, self.there(*grads), its_moments, its_age, *rest)
        pairs = [(model.tensors(), there.tensors()), *zip(moments, its_moments, strict=True), ((age,), (its_age,))]
        for homes, lie in pairs:
            for home, tensor in zip(homes, lie, strict=True):
                home.copy_(tensor)

    def add_noise(self, means, scales, rotations, features, scale_map, *rest):
        model, rest = self.there(means, scales, rotations, features), self.there(*rest)
        return [t.cpu() for t in self.rasterizer.add_noise(*model, scale_map, *rest)]


@contextlib.contextmanager
def cpu(target):
    with with_target(target):
        yield Cpu()


def gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU that PyTorch can use")
    from igs.encoder.raster.cuda_backend import open_device

    backend = open_device()
    return Cuda(backend._launcher, backend.place)


RASTERIZERS = {
    "tiled": lambda: contextlib.nullcontext(Tiled()),
    **{target: functools.partial(cpu, target) for target in TARGETS},
    "emulated": lambda: contextlib.nullcontext(Cuda(EmulatedKernels(), torch.device("cpu"))),
    "cuda": lambda: contextlib.nullcontext(gpu()),
}
COMPILED = [*TARGETS, "emulated", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=["tiled", *COMPILED])
def rasterizer(request):
    with RASTERIZERS[request.param]() as found:
        yield found


@pytest.fixture(params=COMPILED)
def compiled(request):
    """Those that also have the loss, the fused step and Adam."""
    with RASTERIZERS[request.param]() as found:
        yield found


@functools.cache
def expected(case, channels, gradient):
    """(arrays, options, weight, what the reference gives)"""
    o = (GRADIENT_CASES if gradient else CASES)[case]
    lit = ALPHA if gradient and channels == 4 else ()
    o = dataclasses.replace(o, background=(o.background * 2)[:channels], lit=lit)
    arrays = scene(60, channels + 2 * gradient, o.width, o.height, seed=channels)
    if gradient:
        arrays[3][:, -2:] -= 0.5
    weight = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(9)) - 0.5
    return arrays, o, weight, run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)


@pytest.mark.parametrize(
    ("case", "channels"),
    [*((c, 3) for c in CASES), *((c, n) for c in ("default", "few", "pull", "sum") for n in (1, 2, 4, 5, 9))],
)
def test_pictures_and_gradients_are_the_references(case, channels, rasterizer):
    arrays, o, weight, known = expected(case, channels, False)
    close(rasterizer.draw(arrays, o, weight), known)


@pytest.mark.parametrize(
    ("case", "channels"),
    [*((c, 3) for c in GRADIENT_CASES), *((c, n) for c in ("default", "few", "pull", "sum") for n in (1, 4, 5, 9))],
)
def test_luma_gradients_are_the_references(case, channels, rasterizer):
    arrays, o, weight, known = expected(case, channels, True)
    assert known[4][:, -2:].abs().max() > 0
    close(rasterizer.draw(arrays, o, weight), known)


def test_64_channels(rasterizer):
    o = RasterOptions(20, 18)
    arrays = scene(30, 64, o.width, o.height, seed=3)
    weight = torch.rand(64, o.height, o.width, generator=torch.Generator().manual_seed(9))
    known = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    close(rasterizer.draw(arrays, o, weight), known)


def test_many_gaussians_in_one_tile(rasterizer):
    """More than the 32 that are staged at a time, and more than K at every pixel."""
    o = RasterOptions(20, 18, top_k=12, relative_reach2=math.inf)
    arrays = scene(150, 3, o.width, o.height, seed=4)
    weight = torch.rand(3, o.height, o.width, generator=torch.Generator().manual_seed(9))
    known = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    close(rasterizer.draw(arrays, o, weight), known)


def test_long_thin_gaussians_reach_every_tile_they_cross(rasterizer):
    o = RasterOptions(200, 150)
    g = torch.Generator().manual_seed(5)
    means = torch.rand(40, 2, generator=g) * torch.tensor([200.0, 150.0])
    scales = torch.log(torch.stack([torch.rand(40, generator=g) * 80 + 1, torch.rand(40, generator=g) + 0.3], 1))
    arrays = means, scales, torch.rand(40, generator=g), torch.rand(40, 3, generator=g)
    weight = torch.rand(3, 150, 200, generator=g)
    # Elongations up to 270 cancel that many units of binary32 in u = p·dx + q·dy: measured 1.5e-5.
    known = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    close(rasterizer.draw(arrays, o, weight), known, tolerance=1e-4)


def test_no_gaussian_in_reach_gives_the_background(rasterizer):
    o = RasterOptions(33, 20, background=(0.25, 0.5, 0.75))
    arrays = torch.full((1, 2), 1e4), torch.zeros(1, 2), torch.zeros(1), torch.ones(1, 3)
    image, *grads = rasterizer.draw(arrays, o, torch.ones(3, 20, 33))
    assert torch.equal(image, torch.tensor([0.25, 0.5, 0.75])[:, None, None].expand_as(image))
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.4, 0.5)])
@pytest.mark.parametrize("shape", [(3, 100, 170), (2, 45, 70), (1, 1, 1), (2, 1, 40), (1, 65, 3)])
def test_loss_is_the_reference(shape, weights, compiled):
    g = torch.Generator().manual_seed(1)
    image, target = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    leaf = image.double().requires_grad_()
    known = reference.loss_reference(leaf, target.double(), *weights)
    known.backward()
    e1, e2, s, grad = compiled.loss(image, target, weights)
    assert weights[0] * e1 + weights[1] * e2 + weights[2] * (1 - s) == pytest.approx(known.item(), rel=1e-5)
    close([grad], [leaf.grad], floor=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("gradient", [False, True])
def test_fused_step_is_forward_loss_and_backward(channels, gradient, compiled):
    o = RasterOptions(45, 33, gradient=gradient, reach2=4.0, pull=0.01, pull_share=0.8)
    arrays = scene(80, channels + 2 * gradient, 45, 33, seed=6)
    # No error is so near to 0 that rounding could change its sign.
    target = torch.rand(channels, 33, 45, generator=torch.Generator().manual_seed(70))
    factors = reference.factors_reference(*arrays[1:3])
    leaves = [a.clone().requires_grad_() for a in (arrays[0], factors, arrays[3])]
    error = reference.rasterize_reference(*leaves, o) - target
    known = 0.2 * error.abs().mean() + 0.8 * (error**2).mean()
    known.backward()
    e1, e2, grads = compiled.fused(arrays, o, target, 0.2, 0.8)
    assert 0.2 * e1 + 0.8 * e2 == pytest.approx(known.item(), rel=1e-5)
    close(grads, [leaf.grad for leaf in leaves], floor=1e-4)


@pytest.mark.parametrize(
    ("case", "channels", "gradient"),
    [
        *((c, 3, False) for c in CASES),
        *(("default", n, False) for n in (1, 5)),
        *((c, n, True) for c in ("default", "few", "sum") for n in (1, 3, 4, 5)),
    ],
)
def test_removal_costs_are_the_references(case, channels, gradient, rasterizer):
    arrays, o, _, _ = expected(case, channels, gradient)
    target = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(9))
    factors = reference.factors_reference(*(a.double() for a in arrays[1:3]))
    known = reference.removal_costs_reference(arrays[0].double(), factors, arrays[3].double(), o, target.double())
    assert known.std() > 0
    # Σw − w loses digits where one weight is nearly all: measured 1.2e-5 of the largest.
    close([rasterizer.removal_costs(arrays, o, target).double()], [known], tolerance=3e-5)


def pixel_weights(o):
    """Of mean 1 and with a part that hardly counts, [H, W]."""
    weight = torch.rand(o.height, o.width, generator=torch.Generator().manual_seed(11)) ** 3 + 0.02
    return weight / weight.mean()


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.4, 0.5)])
@pytest.mark.parametrize("shape", [(2, 45, 70), (1, 1, 1), (2, 100, 150)])
def test_weighted_loss_is_the_reference(shape, weights, compiled):
    g = torch.Generator().manual_seed(1)
    image, target = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    weight = pixel_weights(RasterOptions(shape[2], shape[1]))
    leaf = image.double().requires_grad_()
    known = reference.loss_reference(leaf, target.double(), *weights, weight.double())
    known.backward()
    e1, e2, s, grad = compiled.loss(image, target, weights, weight)
    assert weights[0] * e1 + weights[1] * e2 + weights[2] * (1 - s) == pytest.approx(known.item(), rel=1e-5)
    # Measured worst: 3.3e-7 of the largest.
    close([grad], [leaf.grad], floor=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("gradient", [False, True])
def test_weighted_fused_step_is_forward_loss_and_backward(channels, gradient, compiled):
    o = RasterOptions(45, 33, gradient=gradient, reach2=4.0, pull=0.01, pull_share=0.8)
    arrays, weight = scene(80, channels + 2 * gradient, 45, 33, seed=6), pixel_weights(o)
    target = torch.rand(channels, 33, 45, generator=torch.Generator().manual_seed(70))
    factors = reference.factors_reference(*arrays[1:3])
    leaves = [a.clone().requires_grad_() for a in (arrays[0], factors, arrays[3])]
    known = reference.loss_reference(reference.rasterize_reference(*leaves, o), target, 0.2, 0.8, 0.0, weight)
    known.backward()
    e1, e2, grads = compiled.fused(arrays, o, target, 0.2, 0.8, weight)
    assert 0.2 * e1 + 0.8 * e2 == pytest.approx(known.item(), rel=1e-5)
    # Measured worst: 3.5e-7 of the largest.
    close(grads, [leaf.grad for leaf in leaves], floor=1e-4)


def test_weights_of_1_are_none(compiled):
    o = RasterOptions(45, 33)
    arrays, one = scene(80, 3, 45, 33, seed=6), torch.ones(33, 45)
    target = torch.rand(3, 33, 45, generator=torch.Generator().manual_seed(70))
    for found, plain in zip(
        compiled.fused(arrays, o, target, 0.2, 0.8, one)[2], compiled.fused(arrays, o, target, 0.2, 0.8)[2],
        strict=True,
    ):  # fmt: skip
        assert torch.equal(found, plain)
    costs = [compiled.removal_costs(arrays, o, target, w) for w in (one, None)]
    assert torch.equal(*costs)
    grads = [compiled.loss(target.flip(0), target, (0.3, 0.4, 0.5), w)[3] for w in (one, None)]
    assert torch.equal(*grads)


@pytest.mark.parametrize(("case", "channels", "gradient"), [
    ("default", 3, False), ("holes", 3, False), ("sum", 3, False), ("few", 5, False), ("default", 4, True),
])  # fmt: skip
def test_weighted_removal_costs_are_the_references(case, channels, gradient, rasterizer):
    arrays, o, _, _ = expected(case, channels, gradient)
    target = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(9))
    factors = reference.factors_reference(*(a.double() for a in arrays[1:3]))
    double = arrays[0].double(), factors, arrays[3].double()
    weight = pixel_weights(o)
    known = reference.removal_costs_reference(*double, o, target.double(), weight.double())
    # A large share's cost is a small difference: measured 8.8e-7 of the largest here, 1.2e-5 above.
    close([rasterizer.removal_costs(arrays, o, target, weight).double()], [known], tolerance=3e-5)


def model_of(n, features, scale_map, seed=9):
    g = torch.Generator().manual_seed(seed)
    sigma = (6 * torch.rand(n, 2, generator=g) - 3).exp()
    shape = shapes.parameters(sigma, 3 * torch.rand(n, generator=g) - 1, scale_map)
    return Model(40 * torch.rand(n, 2, generator=g), *shape, torch.rand(n, features, generator=g), scale_map)


@pytest.mark.parametrize("unit", [None, (1.0, 1.0), (40.0, 30.0)], ids=["deviations", "pixels", "picture"])
@pytest.mark.parametrize("scale_map", ["log", "inverse", "raw", "cholesky", "covariance"])
def test_adam_is_the_reference(compiled, scale_map, unit):
    g = torch.Generator().manual_seed(8)
    models = [model_of(300, 5, scale_map) for _ in range(2)]
    moments = [[(torch.zeros_like(t), torch.zeros_like(t)) for t in model.tensors()] for model in models]
    ages = [torch.arange(300, dtype=torch.int32) % 7 * 300 for _ in range(2)]
    rates = Rates(
        0.05 if unit is None else 0.02,
        0.02,
        0.006,
        0.01,
        0.004,
        unit,
        (0.9, 0.999),
        1e-8,
        (2.0, 3.0),
        (38.0, 37.0),
        (0.1, 12.0),
    )
    for step in range(5):
        grads = [torch.rand(t.shape, generator=g) - 0.5 for t in models[0].tensors()]
        for k, adam in enumerate((compiled.adam, reference.adam_reference)):
            adam(models[k], grads, moments[k], ages[k], rates, 1.0 - 0.1 * step)
    assert torch.equal(*ages)
    for name, a, b in zip(Model.NAMES, *(model.tensors() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}")
    for a, b in zip(*([m for pair in its for m in pair] for its in moments), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6)
    position = models[0].position
    assert (position.amin(0).tolist(), position.amax(0).tolist()) == ([2.0, 3.0], [38.0, 37.0])
    if scale_map in ("log", "inverse", "raw"):
        sigma = models[0].sigmas()
        assert (sigma.min().item(), sigma.max().item()) == pytest.approx((0.1, 12.0), rel=1e-6)


def test_a_rate_of_nothing_leaves_a_parameter_and_its_moments(compiled):
    model = model_of(20, 3, "log")
    before, moments = model.clone(), [(torch.zeros_like(t), torch.zeros_like(t)) for t in model.tensors()]
    grads, age = [torch.ones_like(t) for t in model.tensors()], torch.zeros(20, dtype=torch.int32)
    compiled.adam(model, grads, moments, age, Rates(0.0, 0.1, 0.0, 0.0))
    changed = [not torch.equal(a, b) for a, b in zip(model.tensors(), before.tensors(), strict=True)]
    assert changed == [bool(m.any()) for m, _ in moments] == [False, True, False, False]
    assert (age == 1).all()


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("scale_map", ["log", "inverse", "raw"])
def test_noise_is_that_of_the_reference(compiled, scale_map, each):
    g = torch.Generator().manual_seed(10)
    n, features = 300, 5
    sigma = (5 * torch.rand(n, 2, generator=g) - 1).exp()
    scales, rotations = shapes.parameters(sigma, 3 * torch.rand(n, generator=g) - 1, scale_map)
    model = torch.rand(n, 2, generator=g), scales, rotations, torch.rand(n, features, generator=g)
    coarseness = torch.rand(n if each else 1, generator=g) + 0.2
    steps, mixed = torch.tensor([0.12, 0.1, 0.18, 0.45]), torch.rand(features, features, generator=g)
    u = torch.rand(n, 5 + features, generator=g) - 0.5
    found = compiled.add_noise(*model, scale_map, coarseness, steps, mixed, u)
    expected = reference.add_noise_reference(*model, scale_map, coarseness, steps, mixed, u)
    for a, b, before in zip(found, expected, model, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)
        assert (a != before).any(dim=0).all()  # noise on every attribute
