"""Fits: initialisation, growth, relocation, schedule, divergence, the plain torch path."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from encoder_cases import picture, small

import igs
from igs.encoder import PRESETS
from igs.encoder.blur import blur, gaussian_taps
from igs.encoder.fitting import init
from igs.encoder.fitting.checkpoint import FitState
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.places import blur_planes
from igs.encoder.fitting.population import growth_plan
from igs.encoder.fitting.saliency import spectral_residual
from igs.encoder.raster import kernels
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise
from igs.encoder.rounding.quantize import straight_through

# -- initialisation


def test_positions_follow_the_map_and_the_uniform_share():
    rng = np.random.default_rng(0)
    weights = np.zeros((20, 30))
    weights[:, :10] = 1
    points = init.draw_positions(weights, 150, 0.0, 1.0, rng)
    assert points[:, 0].max() < 10
    points = init.draw_positions(weights, 300, 1.0, 1.0, rng)
    assert 0.5 < (points[:, 0] >= 10).mean() < 0.8
    cells = np.floor(points).astype(int)
    assert len(np.unique(cells[:, 1] * 30 + cells[:, 0])) == 300  # no pixel twice


def test_the_first_positions_of_a_draw_are_a_draw_of_fewer():
    """Row by row the first ones lie at the top; in the order of the draw they lie where the weights do."""
    weights = np.ones((40, 30))
    weights[30:] = 9
    rows, drawn = (
        np.stack([init.draw_positions(weights, 200, 0.0, 1.0, np.random.default_rng(s), as_drawn=d) for s in range(20)])
        for d in (False, True)
    )
    # Three quarters of all weight lie below; of 1000 points that varies by 0.014.
    assert (drawn[:, :50, 1] >= 30).mean() == pytest.approx(0.75, abs=0.06)
    assert (rows[:, :50, 1] >= 30).mean() < 0.1
    np.testing.assert_allclose(np.sort(np.floor(rows), axis=1), np.sort(np.floor(drawn), axis=1))  # the same pixels


def test_positions_are_drawn_one_after_the_other_without_replacement():
    """Pairs of pixels: the second in proportion to what is left."""
    shares, rng, count = np.array([0.1, 0.2, 0.3, 0.4]), np.random.default_rng(0), 4000
    pairs = np.zeros((4, 4))
    for _ in range(count):
        x = init.draw_positions(shares[None], 2, 0.0, 1.0, rng, as_drawn=True)[:, 0].astype(int)
        pairs[x[0], x[1]] += 1 / count
    expected = shares[:, None] * shares / (1 - shares[:, None])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(pairs, expected, atol=0.025)  # four deviations


def test_what_weighs_next_to_nothing_is_drawn_before_what_weighs_nothing():
    weights = np.zeros((4, 4))
    weights[2, 1], weights[3, 0] = 1, 1e-15
    points = np.floor(init.draw_positions(weights, 5, 0.0, 1.0, np.random.default_rng(0), as_drawn=True))
    assert points[:2].tolist() == [[1, 2], [0, 3]]
    assert len(np.unique(points, axis=0)) == 5


def test_more_positions_than_pixels_in_the_order_of_the_draw():
    """The first as many as there are pixels are one in each."""
    points = init.draw_positions(np.ones((2, 3)), 20, 0.3, 1.0, np.random.default_rng(0), as_drawn=True)
    assert len(np.unique(np.floor(points[:6]), axis=0)) == 6


@pytest.mark.parametrize("until", [0.3, 0.99, 1.0])
@pytest.mark.parametrize("steps", [2, 3, 8, 200])
def test_all_gaussians_join_before_the_last_step(until, steps):
    plan = growth_plan(Recipe(steps=steps, growth_until=until), 50)
    assert sum(plan.values()) == 50
    assert max(plan) < steps


def test_plain_rounding_is_judged_by_itself():
    """With few bits the state that was best without rounding isn't what steps with rounding must beat."""
    coarse = {"pos_bits": 6, "scale_bits": 3, "rot_bits": 3, "feat_bits": 3, "coding": "plain"}
    target = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(1))
    fit = Fit(target, 20, Recipe(steps=40, quantize_forward=0.5, **coarse), TorchBackend())
    fit.run()
    assert fit.best_loss == pytest.approx(fit.loss_of(fit.best))
    rounded = straight_through(fit.best, fit.recipe)
    fit.quantized = False
    assert fit.loss_of(rounded) == pytest.approx(fit.best_loss)


def test_more_positions_than_pixels():
    points = init.draw_positions(np.ones((2, 3)), 20, 0.3, 1.0, np.random.default_rng(0))
    assert points.shape == (20, 2)
    assert (points >= 0).all()
    assert (points <= [3, 2]).all()


def test_gradient_map_is_high_at_an_edge():
    image = np.zeros((10, 12, 3), np.float32)
    image[:, 6:] = 1
    gradient = init.gradient_map(image)
    assert gradient[:, 5:7].min() > 0
    assert gradient[:, :4].max() == 0


def test_spectral_residual_finds_the_odd_one_out():
    rng = np.random.default_rng(0)
    image = (0.5 + 0.05 * rng.standard_normal((64, 64, 1))).astype(np.float32)
    image[40:44, 20:24] = 1
    saliency = spectral_residual(image)
    assert saliency.shape == (64, 64)
    y, x = np.unravel_index(saliency.argmax(), saliency.shape)
    assert abs(y - 41.5) < 8
    assert abs(x - 21.5) < 8


# -- growth and schedule


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("preset", PRESETS)
def test_growth_adds_up(preset, n):
    plan = growth_plan(PRESETS[preset], n)
    assert sum(plan.values()) == n
    assert all(count >= 0 for count in plan.values())
    assert max(plan) < PRESETS[preset].steps


def test_fit_improves_and_returns_its_best():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    backend = KernelBackend() if kernels.available() else TorchBackend()
    losses = []
    fit = Fit(target, 40, Recipe(steps=60), backend, on_step=lambda f: losses.append(f.best_loss))
    model = fit.run()
    final, _ = backend.measure(backend.render(model, fit.options), target, False)
    assert final <= min(losses) + 1e-9
    assert final < 0.5 * fit.history[0].loss or final < 1e-3
    assert model.is_finite()


def test_relocation_moves_those_that_would_be_missed_least():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    recipe = Recipe(steps=40, growth=False, relocate=0.1)
    fit = Fit(target, 60, recipe, TorchBackend(), seed=1)
    fit.run(20)
    before, costs = fit.state.model.clone(), fit.removal_costs(fit.state.model)
    assert fit.relocate() == 6
    moved = (fit.state.model.position != before.position).any(dim=1)
    assert moved.sum() == 6
    assert costs[moved].max() <= costs[~moved].min()
    assert (fit.state.age[moved] == 0).all()


@pytest.mark.parametrize(("shape", "sigma"), [((3, 20, 31), 1.0), ((1, 1, 1), 1.0), ((2, 2, 9), 2.0)])
def test_planes_are_blurred_as_pictures_are(shape, sigma):
    taps = gaussian_taps(sigma, 5)
    planes = np.random.default_rng(1).random(shape)
    found = blur_planes(torch.from_numpy(planes), taps).numpy()
    for plane, blurred in zip(planes, found, strict=True):
        np.testing.assert_allclose(blurred, blur(np.pad(plane, 5, mode="edge"), taps), rtol=0, atol=1e-14)


@pytest.mark.parametrize("color", ["picture", "residual"])
def test_new_gaussians_pass_over_noise(color):
    """On the left the picture lacks noise, on the right shapes; pixel by pixel it is as much."""
    rng = np.random.default_rng(0)
    target = np.empty((3, 48, 96), np.float32)
    target[..., :48] = rng.choice([-0.1, 0.1], (3, 48, 48))
    target[..., 48:] = np.kron(rng.choice([-0.1, 0.1], (3, 6, 6)), np.ones((8, 8)))
    shares = []
    for blurred in (0.0, 0.5):
        recipe = Recipe(steps=2, growth_blur=blurred, growth_color=color, init="random", loss_ms_ssim=0.0)
        fit = Fit(torch.from_numpy(target), 200, recipe, TorchBackend())
        error, residual = fit._error(torch.zeros(3, 48, 96))
        assert (residual is None) == (color == "picture")
        shares.append((fit._where(error, 400)[0, :, 0] >= 48).double().mean().item())
    assert shares[0] == pytest.approx(0.5, abs=0.08)  # of 400 points that varies by 0.025
    assert shares[1] > 0.8


@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_removal_costs_are_what_the_error_rises_by(blend):
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1)
    # Everything counts everywhere, so that whoever is left out leaves the others as they are.
    recipe = Recipe(steps=10, growth=False, blend=blend, top_k=32, reach2=1e4, relative_reach2=math.inf)
    fit = Fit(target, 12, recipe, TorchBackend(), seed=1)
    model = fit.run()

    def squared_error(m):
        return (fit.error_weight * (fit.backend.render(m, fit.options) - target) ** 2).sum().item()

    rises = []
    for i in range(12):
        others = [k for k in range(12) if k != i]
        rises.append(squared_error(model.map(lambda t, rows=others: t[rows])) - squared_error(model))
    assert fit.removal_costs(model).tolist() == pytest.approx(rises, rel=1e-2, abs=1e-2)


def test_a_wild_learning_rate_still_gives_a_finite_file():
    encoded = small(picture(), lr_scale=5.0, lr_position=50.0, lr_feature=2.0)
    assert np.isfinite(igs.open(encoded.data).decode(dtype="float32")).all()


def noisy_fit(steps=60, **fields):
    """A fit whose last quarter runs with the noise of a lattice."""
    target = torch.from_numpy(picture().transpose(2, 0, 1).astype(np.float32) / 255)
    fit = Fit(target, 40, Recipe(steps=steps, **fields), KernelBackend() if kernels.available() else TorchBackend())
    fit.noise = Noise(3, 3, [0], 0, fit.backend)
    return fit


@pytest.mark.parametrize(
    "fields", [{"coarseness": 100.0}, {"coarseness": 200.0}, {"lr_schedule": "constant", "lr_position": 3.0}], ids=str
)
def test_noise_never_leaves_a_fit_worse(fields):
    fit = noisy_fit(**fields)
    before = fit.run(45)
    fit.run()

    def seen(model):
        noise = Noise(3, 3, [0], 5, fit.backend)
        return np.mean([fit.loss_of(noise.add(model, fit.coarseness)) for _ in range(8)])

    assert seen(fit.best) <= 1.05 * seen(before)
    assert fit.best_loss == pytest.approx(fit.loss_of(fit.best), rel=1e-6)


def test_what_noise_spoils_is_taken_back(monkeypatch):
    fit = noisy_fit()
    before, plain = fit.run(45).clone(), fit.backend.adam

    def wild(model, grads, moments, age, rates, factor):
        plain(model, grads, moments, age, rates, 100 * factor)

    monkeypatch.setattr(fit.backend, "adam", wild)
    fit.run()
    assert all(torch.equal(a, b) for a, b in zip(fit.best.tensors(), before.tensors(), strict=True))
    assert fit.coarseness == pytest.approx(fit.recipe.coarseness * fit.measures_of(fit.best)[1] ** 0.5)


def test_a_move_that_does_not_heal_is_undone():
    fit = noisy_fit(steps=200, noise_from=1.0)
    fit.run(100)
    assert fit.guards.before_move is not None
    loss, before = fit.guards.before_move
    fit.last_whole = dataclasses.replace(fit.last_whole, measures=lambda: (1.9 * loss, 0.0, None))
    assert not fit.guards.undo_move(fit)
    fit.guards.before_move = loss, before
    fit.last_whole = dataclasses.replace(fit.last_whole, measures=lambda: (2.1 * loss, 0.0, None))
    assert fit.guards.undo_move(fit)
    assert fit.state.model is before.model
    assert fit.guards.before_move is None
    assert not fit.guards.undo_move(fit)


@pytest.mark.parametrize("step", [20, 46, 50, 60])
def test_a_fit_that_diverges_goes_back_and_on(step, monkeypatch):
    fit = noisy_fit(growth=False, relocate=0.0)
    plain, losses = fit.backend.step, []

    def wrong(*arguments):
        result = plain(*arguments)
        losses.append(result.loss)
        if len(losses) == step:
            grads = tuple(torch.full_like(g, math.nan) for g in result.grads)
            return dataclasses.replace(result, measures=lambda: (math.nan, math.nan, None), grads=grads)
        return result

    monkeypatch.setattr(fit.backend, "step", wrong)
    fit.run()
    assert fit.best.is_finite()
    assert fit.best_loss < 0.5 * losses[0]
    assert math.isfinite(fit.coarseness)
    assert fit.state.step == 60


@pytest.mark.parametrize("fields", [{"steps": 0}, {"noise_from": 0.0}], ids=str)
def test_nothing_is_known_before_the_first_step(fields):
    assert small(picture(), **fields).report["num_gaussians"] == 30


def test_gradients_are_born_flat_and_fit_better():
    target = torch.from_numpy(picture().astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    losses = {}
    for primitive in ("constant", "gradient"):
        fit = Fit(
            target,
            30,
            Recipe(steps=60, primitive=primitive),
            KernelBackend() if kernels.available() else TorchBackend(),
        )
        slopes = fit.state.model.feature[:, 3:]
        assert slopes.shape == (fit.plan[0], 2 * (primitive == "gradient"))
        assert not slopes.any()
        fit.run()
        losses[primitive] = fit.best_loss
    assert losses["gradient"] < losses["constant"]


@pytest.mark.parametrize("primitive", ["constant", "gradient"])
@pytest.mark.parametrize("tiles", [True, False])
def test_torch_backend_agrees_with_the_kernels(tiles, primitive):
    if not kernels.available():
        pytest.skip("installed without a C++ compiler")
    target = torch.from_numpy(picture(24, 20).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    recipe = Recipe(steps=4, growth=False, loss_ssim=0.1, primitive=primitive)
    pictures = []
    for backend in (KernelBackend(), TorchBackend(tiles)):
        fit = Fit(target, 20, recipe, backend)
        pictures.append(backend.render(fit.run(), fit.options))
    # In single samples a Gaussian at the end of its reach counts in one and not in the other, of exp(−Q²/2) in weight.
    difference = (pictures[0] - pictures[1]).abs()
    assert difference.max() < math.exp(-recipe.relative_reach2 / 2)
    assert (difference > 2e-3).double().mean() < 0.002


def test_of_gaussians_that_stand_in_for_each_other_one_is_left_out():
    """All are there twice, in any order: one of each stays, and is worth 1.2 to 1.8 times the loss (five seeds).

    With both going where they cost least it was 4 to 11 times.
    """
    pixels = torch.from_numpy(picture(48, 40).astype(np.float32) / 255).permute(2, 0, 1)
    fit = Fit(pixels, 30, dataclasses.replace(Recipe(), steps=60, growth=False), TorchBackend())
    fit.run()
    model = fit.state.model
    loss = fit.loss_of(model)
    for seed in range(3):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed)) % 30
        fit.state = FitState(model.rows(order), [(torch.zeros_like(t[order]),) * 2 for t in model.tensors()], order)
        fit.shrink(30)
        assert fit.count == fit.num_gaussians == 30
        assert fit.loss_of(fit.state.model) < 2.5 * loss
