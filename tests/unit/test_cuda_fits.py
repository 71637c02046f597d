"""Whole fits and files by the CUDA backend. Emulated, or on a GPU where there is one."""

from __future__ import annotations

import dataclasses

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
from igs.encoder.raster.backend import KernelBackend, LossWeights, StepResult, TorchBackend
from igs.encoder.raster.cuda_backend import CudaBackend
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
    steps = [fit.backend.step(model, fit.options, fit.target, fit.loss_weights) for fit in fits]
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
        fit.noise = Noise(3, 3, [0], 3, backend.place)
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
    fit.noise = Noise(3, 3, [0], 0)
    fit.asked = 4
    fit.backend = backend
    with pytest.raises(igs.UsageError, match="checkpoint of a fit on cpu, this one is on meta: give --device cpu"):
        checkpoint.restore(fit, path)
<<<<<<< HEAD


# -- pictures fitted together


def test_pictures_are_fitted_together_and_each_improves(backend):
    pictures = [target(), 1 - target(), target().flip(2)]
    recipe = Recipe(steps=18, noise_from=0.8)
    first = None
    for _ in range(2):
        batch = FitBatch(pictures, 24, recipe, backend, seed=2)
        batch.noise = Noise(3, 3, [0], 3, backend.place)
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


def test_noise_may_start_with_the_first_step(backend):
    recipe = Recipe(steps=6, growth=False, relocate=0.0, noise_from=0.0)
    batch = FitBatch([target(), 1 - target()], 12, recipe, backend)
    batch.noise = Noise(3, 3, [0], 3, backend.place)
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
    batch = FitBatch(pictures, 24, Recipe(steps=18, relocate=0.1, **changes), backend, seed=2)
    drawn = batch.backend.render(batch.state.model, batch.options)
    first = [backend.measure(image, t, False)[0] for image, t in zip(drawn, pictures, strict=True)]
    models = batch.fit()
    assert [len(m) for m in models] == [24, 24]
    for model, t, before in zip(models, pictures, first, strict=True):
        assert backend.measure(backend.render(model, batch.options), t, False)[0] < 0.8 * before


# -- draws on the device


def test_all_of_a_fit_lies_where_its_backend_is(backend):
    """What grows and moves is drawn, sized and coloured by tensors of the device alone."""
    seen = []

    class Watched(DevicePlaces):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name not in ("gradient_map", "draw", "top", "neighbour_distance", "values"):
                return found

            def called(*arguments, **named):
                result = found(*arguments, **named)
                seen.append((name, {t.device for t in (*arguments, result) if isinstance(t, torch.Tensor)}))
                return result

            return called

    fit = Fit(target(), 30, Recipe(steps=26), backend, seed=3)
    fit._places = Watched(fit.rng)
    fit.run()
    assert {name for name, _ in seen} == {"draw", "neighbour_distance", "values"}
    assert {place for _, places in seen for place in places} == {fit.target.device}


@pytest.mark.parametrize("n", [1, 7, 25])
def test_the_largest_errors_are_found_alike(n):
    errors = torch.randint(0, 5, (2, 3, 4), generator=torch.Generator().manual_seed(n)).float()  # many are equal
    for error, found in zip(errors, init_device.top_positions(errors, n), strict=True):
        np.testing.assert_array_equal(found.numpy(), init.top_positions(error.double().numpy(), n))


def test_distances_and_values_at_points_agree():
    g = torch.Generator().manual_seed(1)
    points = torch.rand(2, 30, 2, generator=g, dtype=torch.float64) * torch.tensor([40.0, 30.0])
    among = torch.cat([points, torch.rand(2, 9, 2, generator=g, dtype=torch.float64) * 30], 1)
    pictures = torch.stack([target(), 1 - target()])
    for k in range(2):
        known = init.neighbour_distance(points[k].numpy(), among[k].numpy(), 7.0)
        found = init_device.neighbour_distance(points, among, 7.0)[k]
        torch.testing.assert_close(found, torch.from_numpy(known), rtol=1e-12, atol=0)
        known = init.sample_bilinear(pictures[k].permute(1, 2, 0).numpy(), points[k].numpy())
        torch.testing.assert_close(init_device.sample_bilinear(pictures, points)[k], torch.from_numpy(known))
    assert torch.equal(
        init_device.neighbour_distance(points[:, :1], points[:, :1], 7.0), torch.full((2, 1), 7.0).double()
    )


def test_draws_on_the_device_follow_the_map():
    weights = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    share = {}
    for draws in (
        [init_device.draw_positions(weights, 1, 0.25, 2.0, seed).numpy() for seed in range(2000)],
        [init.draw_positions(weights.numpy(), 1, 0.25, 2.0, np.random.default_rng(s)) for s in range(2000)],
    ):
        cells = np.floor(np.concatenate(draws)).astype(int)
        found = np.bincount(cells[:, 1] * 3 + cells[:, 0], minlength=6) / 2000
        share[len(share)] = found
        # 0.75·(1, 9)/10 and 0.25/6 each; four deviations of 2000 draws are 0.045
        assert found == pytest.approx([0.042, 0.117, 0.717, 0.042, 0.042, 0.042], abs=0.045)
    many = init_device.draw_positions(weights, 9, 0.0, 1.0, 1)
    assert many.shape == (9, 2)
    assert set(map(tuple, many[:2].floor().int().tolist())) == {(1, 0), (2, 0)}
    assert torch.equal(many, init_device.draw_positions(weights, 9, 0.0, 1.0, 1))
    assert init_device.draw_positions(torch.zeros(2, 3), 6, 0.0, 1.0, 1).shape == (6, 2)


def test_gradient_maps_agree():
    t = target(17, 1)
    for tensor in (t, target()):
        known = init.gradient_map(tensor.permute(1, 2, 0).numpy())
        torch.testing.assert_close(
            init_device.gradient_map(tensor).double(), torch.from_numpy(known), rtol=1e-5, atol=1e-6
        )


# -- which backend


def test_cuda_without_a_gpu_is_unsupported_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(igs.Unsupported, match=r"--device cuda: .*(install one for CUDA|no CUDA GPU).*--device cpu"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda")
    with pytest.raises(igs.UsageError, match="tiles: expected True on a GPU"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda", tiles=False)


@pytest.fixture
def unusable_gpu(monkeypatch):
    def open_device(*, atomic=False):
        raise CudaUnavailable("no CUDA compiler")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_backend, "open_device", open_device)
    monkeypatch.setattr(devices, "_said", set())


def test_a_gpu_that_cannot_be_used_is_told_once_and_leaves_the_cpu(unusable_gpu):
    said = []
    for _ in range(2):
        report = encode(picture(), num_gaussians=4, steps=2, on_warning=said.append).report
        assert report["device"] == "cpu"
    assert [s for s in said if "GPU" in s] == [
        "there is a GPU, but it can't be used, so encoding runs on the CPU: no CUDA compiler"
    ]
    with pytest.raises(igs.Unsupported, match="no CUDA compiler"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda")


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_backend, "open_device", lambda *, atomic: asked.append(atomic) or emulated())
    recipe, options = Recipe(), EncodeOptions(fast_nondeterministic=True)
    assert devices.choose_backend(options, recipe, pytest.fail).name == "emulated"
    assert asked == [True]
    cpu = dataclasses.replace(options, device="cpu", fast_nondeterministic=False)
    assert devices.choose_backend(cpu, recipe, pytest.fail).device == "cpu"
    reference = devices.choose_backend(EncodeOptions(), Recipe(tiles=False), pytest.fail)
    assert (reference.name, reference.device) == ("torch", "cpu")


def test_kernels_that_compute_nonsense_are_found_out(monkeypatch):
    backend = emulated()
    backend.try_out()
    nothing = Model(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3), "log")
    assert torch.equal(backend.render(nothing, Fit(target(), 1, Recipe(), backend).options), torch.zeros(3, 30, 40))
    monkeypatch.setattr(EmulatedKernels, "launch", lambda *_: None)
    broken = emulated()
    real = broken._rasterizer._totals
    monkeypatch.setattr(broken._rasterizer, "_totals", lambda: real().fill_(float("nan")))
    with pytest.raises(CudaUnavailable, match="error nan"):
        broken.try_out()
=======
>>>>>>> 704ebac6c93ac910b5081d61456bbd9a93873d63
