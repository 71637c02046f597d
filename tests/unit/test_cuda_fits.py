"""Whole fits and files by the CUDA backend. Emulated, or on a GPU where there is one."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_cases import BACKENDS, emulated, open_backend, picture, target

import igs
from igs.encoder import encode, pipeline
from igs.encoder.fitting import checkpoint
from igs.encoder.fitting.fit import Fit
from igs.encoder.levels import LevelBackend
from igs.encoder.presets import PRESETS
from igs.encoder.raster import kernels
from igs.encoder.raster.cuda_backend import CudaBackend
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.loss import LossWeights, StepResult
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise


@pytest.fixture(params=BACKENDS)
def backend(request):
    return open_backend(request.param)


def other_backend():
    return KernelBackend() if kernels.available() else TorchBackend()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_ssim": 0.1, "loss_l1": 0.5},
        {"primitive": "gradient"},
        {"blend": "sum"},
        {"shape": "covariance", "coding": "plain", "lr_scale": 0.05, "lr_rotation": 0.05},
        {"scale_parameter": "inverse", "lr_scale": 0.01, "lr_position_unit": "picture", "lr_position": 5e-4},
    ],
    ids=lambda c: ",".join(c) or "default",
)
def test_a_fit_takes_the_same_steps_as_on_the_cpu(changes, backend):
    """From the same start; how far apart rounding drives them in 6 steps is measured at 1e-4."""
    recipe = Recipe(steps=6, growth=False, relocate=0.0, **changes)
    fits = [Fit(target(), 25, recipe, b) for b in (backend, other_backend())]
    # Not round: the turn of a round Gaussian has no gradient but rounding, which Adam makes a whole step of.
    fits[0].state.model.scale[:, 0].mul_(1.2)
    fits[1].state.model = fits[0].state.model.map(torch.Tensor.cpu).clone()
    models = [fit.run() for fit in fits]
    for found, known in zip(models[0].tensors(), models[1].tensors(), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-3, atol=1e-3)
    assert fits[0].last.mse == pytest.approx(fits[1].last.mse, rel=1e-3)
    costs = [b.removal_costs(models[0], fits[0].options, target()) for b in (backend, other_backend())]
    torch.testing.assert_close(*costs, rtol=1e-3, atol=1e-4)


def pixel_weights(seed=5):
    """Of mean 1, [30, 40]."""
    weight = torch.rand(30, 40, generator=torch.Generator().manual_seed(seed)) + 0.1
    return weight / weight.mean()


@pytest.mark.parametrize("changes", [{}, {"loss_ssim": 0.1, "loss_l1": 0.5}], ids=lambda c: ",".join(c) or "default")
def test_weights_of_pixels_count_as_on_the_cpu(changes, backend):
    recipe = Recipe(steps=6, growth=False, relocate=0.0, **changes)
    fits = [Fit(target(), 25, recipe, b, loss_map=pixel_weights().double().numpy()) for b in (backend, other_backend())]
    model = fits[0].state.model
    model.scale[:, 0].mul_(1.2)
    steps = [
        fit.backend.step(model.map(lambda t, b=fit.backend: t.to(b.place)), fit.options, fit.target, fit.loss_weights)
        for fit in fits
    ]
    for found, known in zip(steps[0].grads, steps[1].grads, strict=True):
        # Measured worst: 2.9e-6 of the largest.
        torch.testing.assert_close(found.cpu(), known, rtol=1e-3, atol=1e-5 * float(known.abs().max()))
    assert steps[0].loss == pytest.approx(steps[1].loss, rel=1e-5)
    assert fits[0].loss_of(model) == pytest.approx(steps[1].loss, rel=1e-4)
    here, weight = model.map(torch.Tensor.cpu), pixel_weights()
    costs = [fit.backend.removal_costs(here, fit.options, target(), weight) for fit in fits]
    torch.testing.assert_close(*costs, rtol=1e-3, atol=1e-4)
    plain = fits[1].backend.removal_costs(here, fits[1].options, target())
    assert not torch.allclose(costs[1], plain, rtol=1e-2)


def test_each_of_many_pictures_has_its_own_weights(backend):
    fit = Fit(target(), 25, Recipe(steps=6, growth=False), backend)
    model, weights = fit.state.model, torch.stack([pixel_weights(1), pixel_weights(2)]).to(backend.place)
    both = model.map(lambda t: torch.cat([t, t]))
    for ssim in (0.0, 0.1):
        many = backend.of_many(2).step(
            both, fit.options, torch.stack([fit.target, fit.target]), LossWeights(0.2, 1.0, ssim, weights)
        )
        for k in range(2):
            one = backend.step(model, fit.options, fit.target, LossWeights(0.2, 1.0, ssim, weights[k]))
            torch.testing.assert_close(many.means_there[k], one.means_there)
            for all_, few in zip(many.grads, one.grads, strict=True):
                torch.testing.assert_close(all_[25 * k : 25 * (k + 1)], few, rtol=1e-4, atol=1e-7)


def test_a_fit_grows_moves_and_improves_the_same_way_each_time(backend):
    models = []
    for _ in range(2):
        fit = Fit(target(), 30, Recipe(steps=26), backend, seed=3)
        fit.noise = Noise(3, 3, [0], 3, backend)
        models.append(fit.run())
        assert len(models[-1]) == 30
        assert fit.last.mse < 0.4 * fit.history[0].loss
        assert all(t.device.type == "cpu" for t in models[-1].tensors())
    assert all(torch.equal(a, b) for a, b in zip(models[0].tensors(), models[1].tensors(), strict=True))


@pytest.mark.parametrize("preset", ["gaussianimage", "gaussianimage++", "image-gs"])
def test_published_recipes_fit(preset, backend):
    recipe = dataclasses.replace(PRESETS[preset], steps=12, growth_interval=3)
    fit = Fit(target(), 25, recipe, backend)
    model = fit.run()
    assert model.is_finite()
    assert fit.last.loss < fit.history[0].loss


def test_a_step_is_not_waited_for(backend):
    fit = Fit(target(), 20, Recipe(steps=4), backend)
    result = backend.step(fit.state.model, fit.options, fit.target, LossWeights(0.0, 1.0, 0.0))
    assert "_measured" not in vars(result)
    assert result.mse == pytest.approx(float(result.means_there[1]), rel=1e-6)
    assert result.loss == result.mse
    assert result.ssim is None


def test_a_fit_waits_for_few_of_its_steps(backend):
    fit = Fit(target(), 20, Recipe(steps=40, growth=False, relocate=0.0), backend)
    waited = []
    for _ in range(12):
        fit._step(False)
        waited.append("_measured" in vars(fit.last))
    assert [step for step, one in enumerate(waited) if one] == [0, 9]  # CONSIDER_EVERY


def test_a_fit_that_diverged_goes_back(backend):
    def spoil(fit):
        if fit.state.step == 10:
            fit.state.model.feature[0, 0] = math.nan

    fit = Fit(target(), 20, Recipe(steps=24, growth=False, relocate=0.0), backend, on_step=spoil)
    assert fit.run().is_finite()
    assert fit.state.model.is_finite()
    assert fit.guards.caution == 0.5


def test_lists_are_looked_at_once_for_each_size(backend):
    fit, raster = Fit(target(), 20, Recipe(steps=4), backend), backend._rasterizer
    model = fit.state.model
    sizes = [dataclasses.replace(fit.options, width=width) for width in (20, 21)]
    for _ in range(3):
        for o in sizes:
            raster.bin(model.position, backend._factors(model, o), model.feature, o, trust=True)
    assert raster._trusted == {(len(model), o): 2 for o in sizes}


@pytest.mark.parametrize("weights", [LossWeights(0.2, 1.0, 0.1), LossWeights(0.0, 1.0, 0.0, None, 0.3)])
def test_steps_of_levels_wait_for_nothing_and_are_those_of_the_cpu(weights, backend, monkeypatch):
    model, found, known = None, [], []
    for results, make in ((found, lambda: backend.of_many(1)), (known, other_backend)):
        several = LevelBackend([make() for _ in range(3)])
        fit = several.fit = Fit(target(48, 32), 30, Recipe(steps=9, growth=False, relocate=0.0), several)
        if model is None:
            model = fit.state.model
            model.scale[:, 0].mul_(1.2)
            monkeypatch.setattr(StepResult, "_measured", property(lambda _: pytest.fail("a step was waited for")))
        else:
            monkeypatch.undo()
        for turn in range(4):
            here = model.map(lambda t, place=several.place: t.to(place))
            results.append(several.step(here, fit.options, fit.target, weights.at(turn)).grads)
    for a, b in zip(found, known, strict=True):
        for there, here in zip(a, b, strict=True):
            # Measured worst: 2.5e-6 of the largest.
            torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=2e-5 * float(here.abs().max()))


def test_models_on_the_host_give_results_there(backend):
    fit = Fit(target(), 20, Recipe(steps=4), backend)
    here = fit.state.model.map(torch.Tensor.cpu)
    image = backend.render(here, fit.options)
    assert image.device.type == backend.removal_costs(here, fit.options, target()).device.type == "cpu"
    pullback = backend.pullback(here, fit.options)
    assert all(t.device.type == "cpu" for t in pullback(torch.ones_like(image)))
    mse, ssim = backend.measure(image, target(), True)
    known = other_backend().measure(image, target(), True)
    assert (mse, ssim) == pytest.approx(known, rel=1e-4)


def coded(backend, monkeypatch, **settings):
    def another(*_):  # levels have one each, with the lists of its own Gaussians
        return CudaBackend(backend._launcher, backend.place, name=backend.name)

    monkeypatch.setattr(pipeline, "choose_backend", another)
    return encode(picture(), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_gaussians": 12},
        {"size": 220},
        {"preset": "gaussianimage", "num_gaussians": 8},
        {"num_gaussians": 12, "levels": 2},
        {"num_gaussians": 6, "downsample": 2},
    ],
    ids=lambda s: ",".join(s),
)
def test_whole_files(settings, backend, monkeypatch):
    steps = {"steps": 10, "growth_interval": None}
    encoded = coded(backend, monkeypatch, **settings, **steps)
    assert encoded.report["device"] == "cuda"
    assert encoded.report["psnr"] > 5
    assert igs.open(encoded.data).decode(scale=settings.get("downsample", 1)).shape == (30, 40, 3)
    if "size" in settings:
        assert len(encoded.data) <= settings["size"]
    else:
        assert encoded.data == coded(backend, monkeypatch, **settings, **steps).data


def test_going_on_from_a_checkpoint_gives_the_same_file(backend, monkeypatch, tmp_path):
    settings = {"num_gaussians": 8, "steps": 9, "seed": 5}
    whole = coded(backend, monkeypatch, **settings)
    path = tmp_path / "fit.npz"
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda fit, to: save(fit, to) if fit.state.step == 7 else None)
    coded(backend, monkeypatch, checkpoint=path, checkpoint_every=7, **settings)
    assert coded(backend, monkeypatch, resume=path, **settings).data == whole.data


def test_a_checkpoint_of_another_device_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "fit.npz"
    encode(picture(), num_gaussians=4, steps=4, checkpoint=path, device="cpu")
    backend = emulated()
    backend.place = torch.device("meta")
    fit = Fit(target(), 4, Recipe(steps=4), emulated())
    fit.noise = Noise(3, 3, [0], 0, fit.backend)
    fit.asked = 4
    fit.backend = backend
    with pytest.raises(igs.UsageError, match="checkpoint of a fit on cpu, this one is on meta: give --device cpu"):
        checkpoint.restore(fit, path)
