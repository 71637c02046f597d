"""Steps downhill: Adam on a model's parameters, at rates that fall on a schedule, within what the format can hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.fitting.checkpoint import FitState
from igs.encoder.fitting.population import SIGMA_LOW
from igs.encoder.raster import shapes
from igs.encoder.raster.backend import Backend
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.recipe import Recipe

FAR = 0.75  # how far out a mean may be, as a share of the picture's side; a chunk's grid of cells holds 1


class Descent:
    """Adam with a recipe's rates, on the parameters of pictures of one size."""

    def __init__(self, recipe: Recipe, options: RasterOptions, channels: int, backend: Backend) -> None:
        self._recipe, self._backend = recipe, backend
        self._width, self._height = options.width, options.height
        self._side = torch.tensor([options.width, options.height], dtype=torch.float32, device=backend.place)
        # Of the feature columns: values, then the two slopes of a gradient.
        rates = [recipe.lr_feature] * channels + [recipe.lr_gradient] * (2 * options.gradient)
        self._feature_rate = max(rates)
        self._feature_shares = None
        if options.gradient and self._feature_rate:
            shares = [rate / self._feature_rate for rate in rates]
            self._feature_shares = torch.tensor(shares, dtype=torch.float32, device=backend.place)

    def step(
        self,
        model: Model,
        grads: Sequence[Tensor],
        moments: Sequence[tuple[Tensor, Tensor]],
        age: Tensor,
        factor: float,
    ) -> None:
        """Move a model against the gradients; ``factor`` of all rates. moments, age: Adam's, of each Gaussian."""
        r = self._recipe
        rates = (r.lr_position, r.lr_scale, r.lr_rotation, self._feature_rate)
        betas = r.adam_beta1, r.adam_beta2
        # Position first: its step is along the axes that the gradient was taken with.
        for name, value, grad, (m, v), rate in zip(Model.NAMES, model.tensors(), grads, moments, rates, strict=True):
            if rate == 0:
                continue
            if name == "position" and r.lr_position_unit == "deviations":
                self._backend.adam_means(model, grad, m, v, age, rate * factor, betas, r.adam_epsilon)
                continue
            unit = None
            if name == "position" and r.lr_position_unit == "picture":
                # The parameter is a share of the picture: Adam's step is the same share of each side.
                unit, grad = self._side, grad * self._side
            elif name == "feature":
                unit = self._feature_shares
            before = value if unit is None else value.clone()
            self._backend.adam(value, grad, m, v, age, rate * factor, betas, r.adam_epsilon)
            if unit is not None:
                value.copy_(before + (value - before) * unit)
        bound_model(model, self._width, self._height)


def schedule(recipe: Recipe, state: FitState, phase: tuple[int, int, float]) -> float:
    """The factor of all rates at the state's step. phase: its first step, its steps and its highest factor."""
    progress = (state.step - phase[0]) / max(1, phase[1])
    if recipe.lr_schedule == "steps":
        decays = progress // recipe.lr_decay_from if recipe.lr_decay_from else 0
        return float(phase[2] * recipe.lr_decay_to**decays)
    if recipe.lr_schedule == "exponential":
        late = max(0.0, (progress - recipe.lr_decay_from) / max(1e-9, 1 - recipe.lr_decay_from))
        return float(phase[2] * recipe.lr_decay_to**late)
    return state.lr_factor


def plateau(recipe: Recipe, state: FitState, psnr: float, ssim: float) -> bool:
    """Image-GS's stop: without progress for a while the rates fall, the second time the fit ends. To be asked often."""
    if psnr > state.plateau_best[0] + recipe.plateau_psnr or ssim > state.plateau_best[1] + recipe.plateau_ssim:
        state.plateau_best, state.plateau_step = (psnr, ssim), state.step
    if state.step - state.plateau_step < recipe.plateau_steps:
        return False
    state.plateau_step, state.decays = state.step, state.decays + 1
    state.lr_factor *= recipe.lr_decay_to
    return state.decays >= 2


def bound_model(model: Model, width: int, height: int) -> None:
    """Keep what the format can hold: means within ¾ picture of the picture (room for rounding), bounded deviations."""
    side = max(width, height)
    model.position[:, 0].clamp_(-FAR * width, (1 + FAR) * width)
    model.position[:, 1].clamp_(-FAR * height, (1 + FAR) * height)
    shapes.bound_shapes(model.scale, model.rotation, model.scale_map, SIGMA_LOW, 4.0 * side + 4.0)
