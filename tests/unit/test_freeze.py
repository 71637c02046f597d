"""Rounding in rounds: those that are left make up for it, those that are rounded stay, and none goes far."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from igs.encoder import freeze
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.model import Model
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Steps
from igs.encoder.rounding.sensitivity import ANGLE, MAJOR, MINOR, SLOPES, Costs, X, Y

needs_kernels = pytest.mark.skipif(not kernels.available(), reason="needs the compiled kernels")


def waves(height: int = 48, width: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height) / 7.0, torch.arange(width) / 9.0, indexing="ij")
    return torch.stack([torch.sin(x + y), torch.cos(x - 2 * y), torch.sin(2 * x) * torch.cos(y)]) * 0.4 + 0.5


def fitted(picture: torch.Tensor, n: int, recipe: Recipe) -> Fit:
    from igs.encoder.raster.kernel_backend import KernelBackend

    fit = Fit(picture, n, recipe, KernelBackend())
    fit.run()
    return fit


@needs_kernels
@pytest.mark.parametrize("changes", [{}, {"blend": "sum"}, {"primitive": "gradient"}], ids=str)
def test_those_left_make_up_for_what_is_rounded(changes: dict) -> None:
    """Rounding adds 1.5 to 2.6 times as much to the error where all is rounded at once (measured)."""
    fit = fitted(waves(), 60, Recipe(steps=200, noise_from=1.0, loss_ms_ssim=0.0, **changes))
    before = fit.best_loss
    lattice = Steps.of(25 * before**0.5, 3, fit.best.feature.shape[1], [0]).record(True)
    at_once, in_rounds = (fit.loss_of(freeze.freeze(fit, lattice, [0], rounds=rounds)) for rounds in (1, 32))
    assert in_rounds - before < 0.8 * (at_once - before)


@needs_kernels
def test_gaussians_of_a_flat_picture_dont_grow_without_end() -> None:
    """Nothing is gained where they are larger, and nothing lost; further than e times there is rounding only."""
    fit = fitted(torch.full((3, 48, 64), 0.35), 60, Recipe(steps=20))
    lattice = Steps.of(1.0, 3, 3, [0]).record(True)
    model = freeze.freeze(fit, lattice, [0])
    assert float(model.sigmas().max()) < 3.5 * float(fit.best.sigmas().max())


def one_fit(model: Model, size: tuple[int, int] = (24, 16)) -> Fit:
    fit = Fit(torch.zeros(3, size[1], size[0]), len(model), Recipe(init="random", growth=False), TorchBackend())
    fit.state.model = fit.best = model
    return fit


def gaussians(n: int) -> Model:
    rng = np.random.default_rng(n)
    parts = rng.uniform(4, 12, (n, 2)), np.full((n, 2), [1.0, 0.5]), rng.uniform(0, 1, n), rng.uniform(0, 1, (n, 3))
    return Model.of((torch.from_numpy(part).float() for part in parts), "log")


@needs_kernels
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("blend", ["topk", "sum"])
def test_equal_gaussians_go_the_way_together(n: int, blend: str) -> None:
    from igs.encoder.raster.kernel_backend import KernelBackend

    model = gaussians(1).map(lambda t: t.expand(n, *t.shape[1:]).contiguous())
    recipe = Recipe(init="random", growth=False, blend=blend, reach2=1000.0, relative_reach2=float("inf"))
    fit = Fit(torch.zeros(3, 16, 24), n, recipe, KernelBackend())
    pullback = fit.backend.pullback(model, fit.options)
    value = torch.zeros(n, 3)
    for x in range(16 * 24):  # each pixel by itself: the diagonal of JᵀJ
        picture = torch.zeros(3, 16 * 24)
        picture[:, x] = 1.0
        value += pullback(picture.view(3, 16, 24))[3].square()
    found = freeze._together(fit, model, value)
    torch.testing.assert_close(found, torch.full((n, 1), float(n)), rtol=1e-3, atol=1e-3)


def test_steps_stay_near_and_leave_alone_what_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze, "_together", lambda fit, model, value: torch.ones(len(model), 1))
    model = gaussians(40)
    fit = one_fit(model)
    start, free = model.clone(), torch.arange(40) % 3 > 0
    costs = Costs(np.eye(5)[None].repeat(40, 0) * 1e-6, np.zeros((40, 3, 5)), np.full(40, 1e-6))
    steps = freeze._ByMatrices(fit, model, costs, 1e-9, 1.0)
    generator = torch.Generator().manual_seed(1)
    pull = [torch.randn(t.shape, generator=generator) for t in model.tensors()]
    for turn in range(1, 31):
        steps.step(model, tuple(p.clone() for p in pull), free)
        for value, before in zip(model.tensors(), start.tensors(), strict=True):
            assert torch.equal(value[~free], before[~free])
        reached = min(1.0, turn * freeze._AT_ONCE) + 1e-5
        assert float((model.scale - start.scale).abs().max()) <= reached * freeze._FAR_LN
        assert float((model.rotation - start.rotation).abs().max()) <= reached * freeze._FAR_TURN
        moved = (model.position - start.position).abs().amax(dim=1) / start.sigmas().amin(dim=1)
        assert float(moved.max()) <= reached * freeze._FAR_MEAN
        assert float((model.feature - start.feature).abs().max()) <= reached * freeze._FAR_LN
    assert float((model.scale - start.scale)[free].abs().max()) > 0.9 * freeze._FAR_LN
    # Downhill, each by itself.
    for value, before, gradient in zip(model.tensors(), start.tensors(), pull, strict=True):
        assert bool(((value - before)[free] * gradient[free] <= 0).all())


def test_the_numbers_of_a_form() -> None:
    from igs.encoder.rounding.sensitivity import numbers

    model = gaussians(3)
    feature = torch.cat([model.feature, torch.full((3, 2), 7.0)], dim=1)
    form, values = numbers((model.position, model.scale, model.rotation, feature), 3)
    assert torch.equal(form[:, [MAJOR, MINOR]], model.scale)
    assert torch.equal(form[:, ANGLE], model.rotation)
    assert torch.equal(form[:, [X, Y]], model.position)
    assert bool((form[:, SLOPES:] == 7).all())
    assert torch.equal(values, model.feature)
