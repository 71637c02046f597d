"""The loss of reduced pictures: against its twin by autograd, on every backend, and what it is good for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_emulator import EmulatedKernels
from encoder_cases import picture
from PIL import Image

from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.fit_batch import FitBatch
from igs.encoder.raster import cuda_backend, kernels, multiscale, reference
from igs.encoder.raster.backend import KernelBackend, LossWeights, TorchBackend
from igs.encoder.raster.cuda_backend import CudaBackend
from igs.encoder.recipe import Recipe
from igs.format.errors import UsageError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "antelope_canyon.png"
WEIGHTS = LossWeights(0.2, 1.0, 0.0, ms_ssim=0.5)


def pair(width, height, channels=3, dtype=torch.float32):
    return tuple(
        torch.from_numpy(picture(width, height, channels, seed).transpose(2, 0, 1).copy()).to(dtype) / 255
        for seed in (0, 1)
    )


def weight_of(width, height):
    weight = torch.from_numpy(np.random.default_rng(0).uniform(0.5, 2.0, (height, width)).astype(np.float32))
    return weight / weight.mean()


def by_autograd(image, target, weight=None):
    """(SSIM, gradient of 1 − SSIM) of one scale."""
    image = image.detach().clone().requires_grad_()
    ssim = ((1.0 if weight is None else weight) * reference.ssim_map_reference(image, target)).mean()
    return ssim.detach(), torch.autograd.grad(1 - ssim, image)[0]


@pytest.mark.parametrize(("width", "height"), [(64, 48), (47, 95), (22, 23), (21, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_the_twin(width, height, weighted):
    image, target = pair(width, height, dtype=torch.float64)
    weight = weight_of(width, height).double() if weighted else None
    leaf = image.clone().requires_grad_()
    expected = multiscale.loss_reference(leaf, target, reference.ssim_map_reference, weight)
    found, gradient = multiscale.loss_and_gradient(image, target, by_autograd, weight)
    assert float(found) == pytest.approx(float(expected.detach()), abs=1e-12)
    assert float(multiscale.loss(image, target, by_autograd, weight)) == pytest.approx(float(found), abs=1e-12)
    if min(width, height) < 22:
        assert float(found) == 0.0
        assert not gradient.any()
        return
    assert 0.05 < float(found) < 1
    wanted = torch.autograd.grad(expected, leaf)[0]
    assert torch.allclose(gradient, wanted, atol=1e-12)


def test_the_twin_by_finite_differences():
    image, target = pair(24, 22, 1, torch.float64)

    def loss(x):
        return multiscale.loss_reference(x, target, reference.ssim_map_reference)

    assert torch.autograd.gradcheck(loss, image.clone().requires_grad_())


def backend_of(name):
    if name == "emulated":
        return CudaBackend(EmulatedKernels(0), torch.device("cpu"), name="emulated")
    if name == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU that PyTorch can use")
        return cuda_backend.open_device()
    if not kernels.available():
        pytest.skip("needs the compiled kernels")
    return KernelBackend()


@pytest.mark.parametrize("name", ["kernels", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("channels", [3, 5])
def test_steps_of_every_backend(name, weighted, channels):
    backend = backend_of(name)
    _, target = pair(50, 46, channels)
    fit = Fit(target, 40, Recipe(growth=False, relocate=0.0, steps=3), TorchBackend())
    weights = dataclasses.replace(WEIGHTS, map=weight_of(50, 46) if weighted else None)
    there = weights if weights.map is None else dataclasses.replace(weights, map=weights.map.to(backend.place))
    expected = TorchBackend().step(fit.state.model, fit.options, target, weights)
    options = dataclasses.replace(fit.options, pull=0.0)
    found = backend.step(fit.state.model, options, target.to(backend.place), there)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert found.mse == pytest.approx(expected.mse, rel=1e-4)
    assert found.ssim is None
    for a, b in zip(found.grads, expected.grads, strict=True):
        assert torch.allclose(a.cpu(), b, atol=2e-4 * float(b.abs().max()))
    alone = backend.step(fit.state.model, options, target.to(backend.place), dataclasses.replace(there, ms_ssim=0.0))
    assert found.loss > alone.loss + 0.01  # the term was there


@pytest.mark.parametrize("name", ["kernels", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ssim", "ms_ssim"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.5)])
def test_losses_of_pictures_on_every_backend(name, weighted, ssim, ms_ssim):
    backend = backend_of(name)
    image, target = pair(50, 46)
    weights = LossWeights(0.2, 1.0, ssim, weight_of(50, 46) if weighted else None, ms_ssim)
    there = weights if weights.map is None else dataclasses.replace(weights, map=weights.map.to(backend.place))
    loss, mse, mean, gradient = TorchBackend().picture_loss(image, target, weights)
    found = backend.picture_loss(image.to(backend.place), target.to(backend.place), there)
    assert found[:2] == pytest.approx((loss, mse), rel=1e-5)
    assert found[2] == (mean if mean is None else pytest.approx(mean, rel=1e-5))
    assert torch.allclose(found[3].cpu(), gradient, atol=2e-5 * float(gradient.abs().max()))


def test_a_fit_for_it_has_more_of_it():
    photo = Image.open(EXAMPLE).convert("RGB").crop((300, 100, 460, 260))
    target = torch.from_numpy(np.asarray(photo, np.float32).transpose(2, 0, 1) / 255).contiguous()
    backend = KernelBackend() if kernels.available() else TorchBackend()
    losses = []
    for weight in (0.0, 0.01):
        fit = Fit(target, 100, Recipe(steps=200, loss_ms_ssim=weight), backend)
        assert fit.loss_of(fit.run()) == pytest.approx(fit.best_loss, rel=1e-4)
        image = backend.render(fit.best, fit.options)
        losses.append(float(multiscale.loss(image, target, by_autograd)))
    assert losses[1] < 0.98 * losses[0]


def test_weights_keep_their_mean_where_a_row_is_left_out():
    weight = torch.full((47, 47), 0.5)
    weight[:40, :40] = 4.0  # what reductions leave out has the small weights
    image = pair(47, 47)[0]
    found = multiscale.loss(image, image, by_autograd, weight / weight.mean())
    assert float(found) == pytest.approx(0.0, abs=1e-6)


def test_where_it_is_refused():
    target = pair(40, 40)[0]
    recipe = Recipe(growth=False, steps=2, loss_ms_ssim=0.1)
    with pytest.raises(UsageError, match="loss_ms_ssim"):
        FitBatch([target], 20, recipe, CudaBackend(EmulatedKernels(0), torch.device("cpu"), name="emulated"))
