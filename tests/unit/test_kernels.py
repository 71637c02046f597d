"""The compiled kernels against their torch twins: pictures, gradients, loss, factors, Adam."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from raster_cases import ALPHA, CASES, GRADIENT_CASES, close, run, scene

from igs.csrc import library
from igs.encoder.raster import kernels, reference
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.tiled import rasterize_tiled, removal_costs_tiled

pytestmark = pytest.mark.skipif(not kernels.available(), reason="installed without a C++ compiler")


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def target_isa(request):
    lib = library()
    before = lib.igs_target()
    if lib.igs_set_target(request.param.encode()):
        pytest.skip(f"this processor or build has no {request.param}")
    yield request.param
    lib.igs_set_target(before)


@pytest.mark.parametrize(
    ("case", "channels"),
    [*((c, 3) for c in CASES), *((c, n) for c in ("default", "few", "pull", "sum") for n in (1, 4, 5, 9))],
)
def test_rasterize_agrees_with_reference(case, channels, target_isa):
    o = CASES[case]
    o = RasterOptions(**{**o.__dict__, "background": (o.background * 2)[:channels]})
    arrays = scene(60, channels, o.width, o.height, seed=channels)
    weight = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(9)) - 0.5
    expected = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    close(run(kernels.rasterize, kernels.factors, arrays, o, weight), expected)
    close(run(rasterize_tiled, reference.factors_reference, arrays, o, weight), expected)


@pytest.mark.parametrize(
    ("case", "channels"),
    [*((c, 3) for c in GRADIENT_CASES), *((c, n) for c in ("default", "few", "sum") for n in (1, 4, 5, 9))],
)
def test_gradient_primitive_agrees_with_reference(case, channels, target_isa):
    o = GRADIENT_CASES[case]
    o = dataclasses.replace(o, background=(o.background * 2)[:channels], lit=ALPHA if channels == 4 else ())
    arrays = scene(60, channels + 2, o.width, o.height, seed=channels)
    arrays[3][:, -2:] -= 0.5
    weight = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(9)) - 0.5
    expected = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    assert expected[4][:, -2:].abs().max() > 0
    close(run(kernels.rasterize, kernels.factors, arrays, o, weight), expected)
    close(run(rasterize_tiled, reference.factors_reference, arrays, o, weight), expected)


@pytest.mark.parametrize(
    ("case", "channels", "gradient"),
    [
        *((c, 3, False) for c in CASES if "pull" not in c),
        *(("default", n, False) for n in (1, 5)),
        *((c, 3, True) for c in ("few", "sum")),
    ],
)
def test_removal_costs_agree_with_reference(case, channels, gradient, target_isa):
    o = CASES[case]
    o = dataclasses.replace(o, background=o.background[:channels], gradient=gradient)
    means, scales, rotations, features = scene(60, channels + 2 * gradient, o.width, o.height, seed=channels)
    arrays = means, reference.factors_reference(scales, rotations), features
    target = torch.rand(channels, o.height, o.width, generator=torch.Generator().manual_seed(4))
    expected = reference.removal_costs_reference(*(a.double() for a in arrays), o, target.double())
    assert expected.std() > 0
    rasterizer = kernels.Rasterizer()
    rasterizer.bin(*arrays, o)
    # Σw − w loses digits where one weight is nearly all: 0.8e-5 of the largest seen.
    close([rasterizer.removal_costs(*arrays, o, target).double()], [expected], tolerance=3e-5)
    close([removal_costs_tiled(*arrays, o, target).double()], [expected], tolerance=3e-5)


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


@pytest.mark.parametrize("channels", [2, 64])
def test_any_channel_count(channels):
    o = RasterOptions(20, 18)
    arrays = scene(30, channels, o.width, o.height, seed=3)
    weight = torch.rand(channels, o.height, o.width)
    expected = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    close(run(kernels.rasterize, kernels.factors, arrays, o, weight), expected)


def test_long_thin_gaussians_reach_every_tile_they_cross(target_isa):
    o = RasterOptions(200, 150)
    g = torch.Generator().manual_seed(5)
    means = torch.rand(40, 2, generator=g) * torch.tensor([200.0, 150.0])
    scales = torch.log(torch.stack([torch.rand(40, generator=g) * 80 + 1, torch.rand(40, generator=g) + 0.3], 1))
    arrays = means, scales, torch.rand(40, generator=g), torch.rand(40, 3, generator=g)
    weight = torch.rand(3, 150, 200, generator=g)
    expected = run(reference.rasterize_reference, reference.factors_reference, arrays, o, weight)
    # Elongations up to 270 cancel that many units of binary32 in u = p·dx + q·dy: measured 1.5e-5.
    close(run(kernels.rasterize, kernels.factors, arrays, o, weight), expected, tolerance=1e-4)


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
    before = library().igs_num_threads()
    for threads in (1, 2, 5):
        kernels.set_num_threads(threads)
        results.append(
            [
                *run(kernels.rasterize, kernels.factors, arrays, o, weight),
                kernels.loss_and_gradient(arrays and weight, target, 0.3, 0.4, 0.5)[3],
            ]
        )
    kernels.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.4, 0.5)])
@pytest.mark.parametrize("shape", [(3, 100, 170), (1, 1, 1), (2, 1, 40), (1, 65, 3)])
def test_loss_agrees_with_reference(shape, weights, target_isa):
    g = torch.Generator().manual_seed(1)
    image, target = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    leaves = [image.double().requires_grad_(), image.clone().requires_grad_()]
    expected = reference.loss_reference(leaves[0], target.double(), *weights)
    found = kernels.loss(leaves[1], target, *weights)
    expected.backward()
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    close([leaves[1].grad], [leaves[0].grad], floor=1e-6)


def test_ssim_gradient_is_the_numerical_one():
    g = torch.Generator().manual_seed(2)
    image = torch.rand(1, 9, 8, generator=g, dtype=torch.float64).requires_grad_()
    target = torch.rand(1, 9, 8, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: reference.loss_reference(a, target, 0.0, 0.0, 1.0), [image], atol=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_fused_step_is_forward_loss_and_backward(gradient, target_isa):
    o = RasterOptions(45, 33, gradient=gradient)
    means, scales, rotations, features = scene(80, 5 if gradient else 3, 45, 33, seed=6)
    factors = kernels.factors(scales, rotations)
    target = torch.rand(3, 33, 45)
    rasterizer = kernels.Rasterizer()
    rasterizer.bin(means, factors, features, o)
    image = torch.empty(3, 33, 45)
    e1, e2, grads = rasterizer.fused(means, factors, features, o, target, 0.2, 0.8, image)
    close([image], [rasterizer.forward(means, factors, features, o)])
    l1, l2, _, grad = kernels.loss_and_gradient(image, target, 0.2, 0.8, 0.0)
    assert (e1, e2) == pytest.approx((l1, l2), rel=1e-5)
    close(grads, rasterizer.backward(means, factors, features, o, grad))


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


def test_adam_agrees_with_torch_and_corrects_each_row_by_its_age():
    g = torch.Generator().manual_seed(8)
    values = torch.rand(5, 3, generator=g)
    mine, twin, official = values.clone(), values.clone(), values.clone().requires_grad_()
    optimizer = torch.optim.Adam([official], lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    state = [[torch.zeros(5, 3), torch.zeros(5, 3)] for _ in range(2)]
    age = torch.zeros(5, dtype=torch.int32)
    for _ in range(20):
        grad = torch.rand(5, 3, generator=g) - 0.5
        age += 1
        kernels.adam(mine, grad, *state[0], age, 0.01, (0.9, 0.99), 1e-8)
        reference.adam_reference(twin, grad, *state[1], age, 0.01, (0.9, 0.99), 1e-8)
        official.grad = grad
        optimizer.step()
    torch.testing.assert_close(mine, official.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, twin, rtol=1e-5, atol=1e-6)
    age[2] = 1  # a new row takes a full first step: lr·sign(gradient)
    for m in state[0]:
        m[2] = 0
    before = mine[2].clone()
    kernels.adam(mine, torch.ones(5, 3), *state[0], age, 0.01, (0.9, 0.99), 1e-8)
    torch.testing.assert_close(before - mine[2], torch.full((3,), 0.01), rtol=1e-4, atol=1e-6)
