"""The references against numerical gradients, and of the compiled CPU kernels what no other rasteriser has.

The tests that all rasterisers share are in test_rasterizers.py.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from raster_cases import TARGETS, close, run, scene, with_target

from igs.encoder.raster import kernels, reference
from igs.encoder.raster.adam import Rates
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.tiled import rasterize_tiled
from igs.format.threads import default_threads

pytestmark = pytest.mark.skipif(not kernels.available(), reason="installed without a C++ compiler")


def test_gradient_of_zero_is_the_constant_primitive():
    o = RasterOptions(50, 37)
    arrays = scene(60, 3, o.width, o.height, seed=3)
    factors = kernels.factors(*arrays[1:3])
    flat = torch.cat([arrays[3], torch.zeros(60, 2)], dim=1)
    expected = kernels.rasterize(arrays[0], factors, arrays[3], o)
    assert torch.equal(kernels.rasterize(arrays[0], factors, flat, dataclasses.replace(o, gradient=True)), expected)


def test_gradient_is_measured_in_deviations():
    """σ = 2 pixels: the colour of a lone Gaussian changes by a per two pixels along x, by b per two along y."""
    o = RasterOptions(7, 5, gradient=True, lit=(True, False))
    factors = kernels.factors(torch.log(torch.full((1, 2), 2.0)), torch.zeros(1))
    features = torch.tensor([[0.5, 0.25, 0.1, 0.02]])
    lit, unlit = kernels.rasterize(torch.tensor([[3.5, 2.5]]), factors, features, o)
    assert lit[2, 3] == pytest.approx(0.5)
    assert lit[2, 5] == pytest.approx(0.6)
    assert lit[0, 3] == pytest.approx(0.48)
    assert torch.equal(unlit, torch.full((5, 7), 0.25))


@pytest.mark.parametrize("rasterize", [reference.rasterize_reference, rasterize_tiled])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_gradcheck_of_the_references(blend, gradient, rasterize):
    o = RasterOptions(7, 6, blend=blend, top_k=4, gradient=gradient, lit=(True, False))
    columns = 4 if gradient else 2
    arrays = [a.requires_grad_() for a in scene(8, columns, 7, 6, seed=1, dtype=torch.float64)]

    def picture(means, scales, rotations, features):
        return rasterize(means, reference.factors_reference(scales, rotations), features, o)

    assert torch.autograd.gradcheck(picture, arrays, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("scale_map", ["raw", "inverse", "log"])
def test_gradient_of_scale_and_rotation_is_the_numerical_one(scale_map):
    """The published code counts the off-diagonal term of the covariance up to four times and has wrong signs here."""
    o = RasterOptions(24, 20)
    means, scales, rotations, features = scene(6, 3, 24, 20, seed=2)
    scales = scales.clamp(0.3, 1.2)
    weight = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(3))
    leaves = [scales.clone().requires_grad_(), rotations.clone().requires_grad_()]
    image = kernels.rasterize(means, kernels.factors(*leaves, scale_map), features, o)
    (image * weight).sum().backward()

    def value(s, r):
        d = (means.double(), reference.factors_reference(s, r, scale_map), features.double())
        return float((reference.rasterize_reference(*d, o) * weight.double()).sum())

    step = 1e-6
    for leaf, index in (
        (leaves[0], (0, 0)),
        (leaves[0], (2, 1)),
        (leaves[0], (5, 0)),
        (leaves[1], (1,)),
        (leaves[1], (4,)),
    ):
        values = [scales.double(), rotations.double()]
        which = 0 if leaf is leaves[0] else 1
        difference = []
        for sign in (1, -1):
            moved = [v.clone() for v in values]
            moved[which][index] += sign * step
            difference.append(value(*moved))
        numerical = (difference[0] - difference[1]) / (2 * step)
        assert float(leaf.grad[index]) == pytest.approx(numerical, rel=2e-3, abs=2e-4)


def test_pixels_are_sampled_at_their_centres():
    """The published code samples at integer coordinates: a centred Gaussian would not be symmetric."""
    o = RasterOptions(7, 5, blend="sum")
    factors = kernels.factors(torch.log(torch.ones(1, 2)), torch.zeros(1))
    image = kernels.rasterize(torch.tensor([[3.5, 2.5]]), factors, torch.ones(1, 1), o)[0]
    assert image[2, 3] == 1
    assert torch.equal(image, image.flip(0))
    assert torch.equal(image, image.flip(1))
    assert image[2, 4] == pytest.approx(math.exp(-0.5), rel=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_results_do_not_depend_on_threads(gradient):
    o = RasterOptions(150, 100, gradient=gradient)
    arrays = scene(300, 5 if gradient else 3, 150, 100, seed=4)
    weight = torch.rand(3, 100, 150)
    target = torch.rand(3, 100, 150)
    results = []
    for threads in (1, 2, 5):
        kernels.set_num_threads(threads)
        results.append(
            [
                *run(kernels.rasterize, kernels.factors, arrays, o, weight),
                kernels.loss_and_gradient(arrays and weight, target, 0.3, 0.4, 0.5)[3],
            ]
        )
    kernels.set_num_threads(default_threads())
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_of_the_caller_do_not_meet():
    """Losses of pictures of several sizes, taken at the same time: those that each has alone."""
    generator = torch.Generator().manual_seed(5)
    sizes = [(64 + 16 * k, 48 + 8 * k) for k in range(6)]
    pairs = [[torch.rand(3, h, w, generator=generator) for _ in range(2)] for h, w in sizes]
    alone = [kernels.loss_and_gradient(*pair, 0.3, 0.4, 0.5)[:3] for pair in pairs]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda k: kernels.loss_and_gradient(*pairs[k % 6], 0.3, 0.4, 0.5)[:3], range(600)))
    assert found == alone * 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_child_process_has_threads_of_its_own():
    """Threads do not survive fork(); whoever waits for the parent's waits for ever."""
    code = """
import os, sys, torch
from igs.encoder.raster import kernels
kernels.set_num_threads(3)
torch.set_num_threads(1)  # whose own threads are not what is tested
pictures = torch.rand(2, 3, 200, 200)
for _ in range(3):
    expected = kernels.loss_and_gradient(*pictures, 0.3, 0.4, 0.5)[:3]
child = os.fork()
for _ in range(5):
    assert kernels.loss_and_gradient(*pictures, 0.3, 0.4, 0.5)[:3] == expected
if not child:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]  # fork() beside threads warns from Python 3.12 on
    assert subprocess.run(command, timeout=120, check=False).returncode == 0


def test_gradients_need_not_be_contiguous():
    o = RasterOptions(90, 90)
    arrays = scene(40, 3, o.width, o.height, seed=6)
    weight = torch.rand(3, 90, 90).transpose(1, 2)
    expected = run(kernels.rasterize, kernels.factors, arrays, o, weight.contiguous())
    for a, b in zip(run(kernels.rasterize, kernels.factors, arrays, o, weight), expected, strict=True):
        assert torch.equal(a, b)


def test_ssim_gradient_is_the_numerical_one():
    g = torch.Generator().manual_seed(2)
    image = torch.rand(1, 9, 8, generator=g, dtype=torch.float64).requires_grad_()
    target = torch.rand(1, 9, 8, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: reference.loss_reference(a, target, 0.0, 0.0, 1.0), [image], atol=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_fused_step_leaves_its_picture(target, gradient):
    o = RasterOptions(45, 33, gradient=gradient)
    means, scales, rotations, features = scene(80, 5 if gradient else 3, 45, 33, seed=6)
    image = torch.empty(3, 33, 45)
    with with_target(target):
        arrays = means, kernels.factors(scales, rotations), features, o
        rasterizer = kernels.Rasterizer()
        rasterizer.bin(*arrays)
        rasterizer.fused(*arrays, torch.rand(3, 33, 45), 0.2, 0.8, image)
        close([image], [rasterizer.forward(*arrays)])


@pytest.mark.parametrize("scale_map", ["raw", "inverse", "log"])
def test_factors_agree_with_reference(scale_map):
    _, scales, rotations, _ = scene(50, 1, 10, 10, seed=7)
    weight = torch.rand(50, 3)
    leaves = [[scales.clone().requires_grad_(), rotations.clone().requires_grad_()] for _ in range(2)]
    functions = kernels.factors, reference.factors_reference
    results = [f(*leaf, scale_map, lowpass=0.1) for f, leaf in zip(functions, leaves, strict=True)]
    for r in results:
        (r * weight).sum().backward()
    close(results[:1], results[1:])
    close([x.grad for x in leaves[0]], [x.grad for x in leaves[1]])


def gaussians(n, seed, dtype=torch.float32):
    """(a model, its moments and ages before the first step)"""
    g = torch.Generator().manual_seed(seed)
    shapes = (n, 2), (n, 2), (n,), (n, 3)
    model = Model.of([torch.rand(shape, generator=g, dtype=dtype) for shape in shapes], "log")
    moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in model.tensors()]
    return model, moments, torch.zeros(n, dtype=torch.int32)


def test_adam_agrees_with_torch_and_a_new_gaussian_takes_a_full_first_step():
    mine, moments, age = gaussians(5, 8)
    official = [t.clone().requires_grad_() for t in mine.tensors()]
    rates = Rates(0.04, 0.03, 0.02, 0.01, unit=(1.0, 1.0), epsilon=1e-8)
    groups = [{"params": [p], "lr": rate} for p, rate in zip(official, rates.columns, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=rates.betas, eps=rates.epsilon)
    g = torch.Generator().manual_seed(9)
    for _ in range(20):
        grads = [torch.rand(t.shape, generator=g) - 0.5 for t in official]
        kernels.adam(mine, grads, moments, age, rates)
        for parameter, grad in zip(official, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
    for a, b in zip(mine.tensors(), official, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)
    assert (age == 20).all()
    age[2] = 0  # rate·sign(gradient)
    for pair in moments:
        for m in pair:
            m[2] = 0
    before = mine.clone()
    kernels.adam(mine, [torch.ones_like(t) for t in mine.tensors()], moments, age, rates, 0.5)
    for a, b, rate in zip(mine.tensors(), before.tensors(), rates.columns, strict=True):
        torch.testing.assert_close(b[2] - a[2], torch.full_like(a[2], 0.5 * rate), rtol=1e-4, atol=1e-6)


def test_positions_go_a_share_of_the_deviation_along_each_axis_whichever_way_the_picture_is_turned():
    g = torch.Generator().manual_seed(9)
    grad = torch.rand(50, 2, generator=g, dtype=torch.float64) - 0.5
    steps = []
    for turn in (0.0, 0.3):
        model, moments, age = gaussians(50, 9, torch.float64)
        scales = model.scale.mul_(4).clone()
        c, s = math.cos(math.pi * turn), math.sin(math.pi * turn)
        back = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        model.position.zero_(), model.rotation.fill_(turn)
        grads = [grad @ back.T, *(torch.zeros_like(t) for t in model.tensors()[1:])]
        reference.adam_reference(model, grads, moments, age, Rates(0.1, 0.0, 0.0, 0.0))
        steps.append(model.position @ back)
    torch.testing.assert_close(steps[0], -0.1 * scales.exp() * grad.sign())
    torch.testing.assert_close(steps[1], steps[0])


def test_what_is_not_a_number_stays_that():
    model, moments, age = gaussians(4, 3)
    model.position[1, 0] = math.nan
    kernels.adam(model, [torch.ones_like(t) for t in model.tensors()], moments, age, Rates(0.1, 0.1, 0.1, 0.1))
    assert torch.isnan(model.position).sum() == 1
    assert torch.isfinite(model.scale).all()
