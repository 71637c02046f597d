"""Encoding reduced pictures to be enlarged: means over areas, their gradients, and what is reported."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import EmulatedKernels

torch = pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import encode
from igs.encoder.fitting.fit import Fit
from igs.encoder.levels import LevelBackend
from igs.encoder.loading.downsample import reduce
from igs.encoder.raster import kernels
from igs.encoder.raster.area import AreaBackend
from igs.encoder.raster.backend import averaged, spread
from igs.encoder.raster.cuda_backend import CudaBackend
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.loss import LossWeights
from igs.encoder.raster.model import Model
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.format.errors import UsageError

needs_kernels = pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")


def picture(side: int = 64) -> np.ndarray:
    """A slanted edge on a ramp, float32."""
    y, x = np.mgrid[:side, :side] / side
    edge = np.clip((x + 0.4 * y - 0.6) * side / 2 + 0.5, 0, 1) * 0.5
    return np.stack([0.2 + 0.3 * x, 0.2 + edge, 0.8 - 0.5 * y], axis=2).astype(np.float32)


def test_reduce_is_the_mean_of_squares():
    pixels = np.arange(5 * 7 * 2, dtype=np.float32).reshape(5, 7, 2)
    found = reduce(pixels, 3)
    assert found.shape == (2, 3, 2)
    for i in range(2):
        for j in range(3):
            expected = pixels[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean(axis=(0, 1))
            assert found[i, j] == pytest.approx(expected)


@needs_kernels
@pytest.mark.parametrize("weights", [LossWeights(0.0, 1.0, 0.0), LossWeights(0.3, 1.0, 0.2, ms_ssim=0.4)])
@pytest.mark.parametrize("scale_map", ["log", "inverse", "raw", "cholesky", "covariance"])
def test_gradients_are_those_of_the_mean(scale_map, weights):
    from igs.encoder.raster.shapes import parameters

    generator = torch.Generator().manual_seed(0)
    n, r = 6, 2
    sigma, turn = torch.rand(n, 2, generator=generator) * 4 + 2, torch.rand(n, generator=generator)
    scale, rotation = parameters(sigma, turn, scale_map)
    model = Model(
        torch.rand(n, 2, generator=generator) * 24, scale, rotation, torch.rand(n, 3, generator=generator), scale_map
    )
    target = torch.from_numpy(np.ascontiguousarray(picture(24).transpose(2, 0, 1)))
    options = Fit(target, n, Recipe(growth=False, pull_empty=False), KernelBackend()).options
    backend = AreaBackend(KernelBackend(), r)
    found = backend.step(model, options, target, weights)

    # The same by plain torch, through the larger picture.
    plain = TorchBackend()
    leaves = [t.clone().requires_grad_() for t in model.tensors()]
    there = backend._larger(options)
    larger, wide = there.model(Model.of(leaves, scale_map)), there.options(options)
    image = torch.nn.functional.avg_pool2d(plain._image(larger.tensors(), scale_map, wide)[None], r)[0]
    loss = plain._loss(image, target, weights)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-4)
    assert found.mse == pytest.approx(float(((image - target) ** 2).mean().detach()), rel=1e-4)
    for grad, expected in zip(found.grads, torch.autograd.grad(loss, leaves), strict=True):
        # Worst seen 3e-5 of the largest.
        assert torch.allclose(grad, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()) + 1e-9)


@needs_kernels
@pytest.mark.parametrize("weights", [LossWeights(0.0, 1.0, 0.0), LossWeights(0.0, 1.0, 0.2, ms_ssim=0.4)])
def test_steps_of_the_cuda_backend(weights):
    target = torch.from_numpy(np.ascontiguousarray(picture(26).transpose(2, 0, 1)))
    fit = Fit(target, 12, Recipe(growth=False, pull_empty=False), KernelBackend())
    cuda = CudaBackend(EmulatedKernels(0), torch.device("cpu"), name="emulated")
    expected, found = (
        AreaBackend(backend, 3).step(fit.state.model, fit.options, target, weights)
        for backend in (KernelBackend(), cuda)
    )
    assert found.means_there is not None  # so that nobody waits for the loss
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for a, b in zip(found.grads, expected.grads, strict=True):
        assert torch.allclose(a, b, atol=3e-4 * float(b.abs().max()))  # measured: 6e-5, of SSIM


@pytest.mark.parametrize("points", [1, 3])
def test_spreading_is_the_adjoint_of_averaging(points):
    generator = torch.Generator().manual_seed(1)
    large = torch.rand(2, 3, 4 * points, 5 * points, generator=generator, dtype=torch.float64)
    small = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    room = torch.empty_like(large)
    for found in (spread(small, points), spread(small, points, room)):
        assert float((found * large).sum()) == pytest.approx(float((small * averaged(large, points)).sum()))
    if points > 1:
        assert torch.equal(room, spread(small, points))


def test_plain_torch_can_do_it_too():
    report = encode(picture(24), num_gaussians=20, downsample=2, steps=20, tiles=False).report
    assert report["backend"] == "torch"
    assert report["psnr"] > 18


@needs_kernels
def test_quality_is_that_of_the_enlargement():
    source = picture(61)
    found = encode(source, num_gaussians=40, downsample=2, steps=80, bpp=None)
    report = found.report
    assert (report["width"], report["height"], report["downsample"]) == (31, 31, 2)
    with igs.open(found.data) as im:
        assert (im.width, im.height) == (31, 31)
        large = im.decode(scale=2, dtype="float32")[:61, :61]
    assert report["psnr"] == pytest.approx(-10 * np.log10(np.mean((large - source) ** 2)), abs=1e-3)
    assert report["psnr"] > 25


@needs_kernels
def test_with_ssim_in_the_loss():
    found = encode(picture(128), num_gaussians=40, downsample=2, steps=20, tune="ms-ssim").report
    assert found["psnr"] > 20


@needs_kernels
def test_with_levels():
    found = encode(picture(), num_gaussians=40, downsample=2, levels=2, steps=20).report
    assert [level["num_gaussians"] for level in found["levels"]] == [20, 40]


@needs_kernels
def test_levels_of_means_share_their_room():
    inner = [KernelBackend() for _ in range(3)]
    LevelBackend([AreaBackend(backend, 2) for backend in inner])
    assert len({id(backend.scratch) for backend in inner}) == 1


@pytest.mark.parametrize(("settings", "message"), [
    ({"downsample": 0}, "1 to 16"), ({"downsample": 17}, "1 to 16"), ({"downsample": 2.5}, "1 to 16"),
    ({"downsample": 9}, "shorter side"),
])  # fmt: skip
def test_what_makes_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        encode(picture(8), num_gaussians=4, steps=2, **settings)
