"""Pictures fitted together by the CUDA backend. Emulated, or on a GPU where there is one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_cases import BACKENDS, open_backend, target

import igs
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.fit_batch import FitBatch
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise


@pytest.fixture(params=BACKENDS)
def backend(request):
    return open_backend(request.param)


def test_pictures_are_fitted_together_and_each_improves(backend):
    pictures = [target(), 1 - target(), target().flip(2)]
    recipe = Recipe(steps=18, noise_from=0.8)
    first = None
    for _ in range(2):
        batch = FitBatch(pictures, 24, recipe, backend, seed=2)
        batch.noise = Noise(3, 3, [0], 3, batch.backend)
        models = batch.fit()
        assert [len(m) for m in models] == [24] * 3
        for model, t in zip(models, pictures, strict=True):
            assert backend.measure(backend.render(model, batch.options), t, False)[0] < 0.03
        first = first or models
    assert all(
        torch.equal(a, b)
        for m, n in zip(first, models, strict=True)
        for a, b in zip(m.tensors(), n.tensors(), strict=True)
    )


def test_a_picture_that_diverged_goes_back_and_the_others_go_on(backend):
    recipe = Recipe(steps=20, growth=False, relocate=0.0)
    plain = FitBatch([target(), 1 - target()], 12, recipe, backend).fit()
    batch = FitBatch([target(), 1 - target()], 12, recipe, backend)

    def spoil(fit):
        if fit.state.step == 10:
            fit.state.model.feature[0, 0] = float("nan")

    batch.on_step = spoil
    models = batch.fit()
    assert batch.state.model.is_finite()
    for spoilt, one in zip(models[1].tensors(), plain[1].tensors(), strict=True):
        assert torch.equal(spoilt, one)
    assert not torch.equal(models[0].feature, plain[0].feature)


def test_noise_may_start_with_the_first_step(backend):
    recipe = Recipe(steps=6, growth=False, relocate=0.0, noise_from=0.0)
    batch = FitBatch([target(), 1 - target()], 12, recipe, backend)
    batch.noise = Noise(3, 3, [0], 3, batch.backend)
    for model, t in zip(batch.fit(), (target(), 1 - target()), strict=True):
        assert backend.measure(backend.render(model, batch.options), t, False)[0] < 0.1


def test_a_batch_of_one_starts_and_steps_like_any(backend):
    recipe = Recipe(steps=5, growth=False, relocate=0.0, loss_ssim=0.1)
    batch = FitBatch([target()], 20, recipe, backend)
    fit = Fit(target(), 20, recipe, backend)
    fit.state.model = batch.state.model.clone()
    (model,) = batch.fit()
    for a, b in zip(model.tensors(), fit.run().tensors(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_gaussians_of_each_picture_that_are_missed_least_move_where_its_error_is(backend):
    batch = FitBatch([target(), 1 - target()], 20, Recipe(steps=9, growth=False, relocate=0.1), backend)
    moments = batch.state.moments[0][0].fill_(1.0)
    least = batch.removal_costs(batch.state.model).view(2, 20).argsort(1)[:, :2].cpu() + torch.tensor([[0], [20]])
    before = batch.state.model.clone()
    assert batch.relocate() == 4
    moved = (batch.state.model.position != before.position).any(1).nonzero().squeeze(1).tolist()
    assert moved == sorted(least.flatten().tolist())
    assert (moments == 0).all(1).nonzero().squeeze(1).tolist() == moved


def test_a_smaller_batch_keeps_the_same_number_of_each_picture(backend):
    batch = FitBatch([target(), 1 - target()], 20, Recipe(steps=9, growth=False, relocate=0.0), backend)
    batch.at_once = 1.0  # costs are those of before
    before = batch.state.model.clone()
    kept = batch.removal_costs(before).view(2, 20).argsort(1)[:, 6:].sort(1).values.cpu() + torch.tensor([[0], [20]])
    batch.shrink(14)
    assert (batch.count, batch.num_gaussians, batch.best) == (14, 14, None)
    assert torch.equal(batch.state.model.position, before.position[kept.flatten().to(before.position.device)])
    assert all(len(model) == 14 for model in batch.fit())


def test_what_pictures_cannot_share_is_refused(backend):
    for changes, name in (({"rate_weight": 1.0}, "rate_weight"), ({"lr_schedule": "plateau"}, "lr_schedule")):
        with pytest.raises(igs.UsageError, match=f"{name}: expected a value that pictures fitted together can share"):
            FitBatch([target()], 4, Recipe(**changes), backend)
    with pytest.raises(igs.UsageError, match="expected pictures of one shape"):
        FitBatch([target(), target(20, 20)], 4, Recipe(), backend)


@pytest.mark.parametrize(
    "changes",
    [
        {"init": "saliency"},
        {"init": "random", "init_color": False},
        {"growth_where": "top", "growth_color": "zero"},
        {"growth_color": "residual"},
        {"blend": "sum", "lowpass_alpha": 20.0},
        {"primitive": "gradient"},
    ],
    ids=lambda c: ",".join(c),
)
def test_recipes_of_one_picture_are_those_of_many(changes, backend):
    pictures = [target(), 1 - target()]
    batch = FitBatch(pictures, 24, Recipe(steps=36, relocate=0.1, **changes), backend, seed=2)
    drawn = batch.backend.render(batch.state.model, batch.options)
    first = [backend.measure(image, t, False)[0] for image, t in zip(drawn, pictures, strict=True)]
    models = batch.fit()
    assert [len(m) for m in models] == [24, 24]
    for model, t, before in zip(models, pictures, first, strict=True):
        assert backend.measure(backend.render(model, batch.options), t, False)[0] < 0.8 * before
