"""Rates of the steps downhill: what a recipe says, the schedule on which they fall, and when a fit ends by itself."""

from __future__ import annotations

from igs.encoder.fitting.checkpoint import FitState
from igs.encoder.fitting.population import SIGMA_LOW
from igs.encoder.raster.adam import Rates
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.recipe import Recipe

FAR = 0.75  # how far out a mean may be, as a share of the picture's side; a chunk's grid of cells holds 1


def rates_of(recipe: Recipe, options: RasterOptions) -> Rates:
    """A recipe's rates at a factor of 1, for pictures of one size, and what the format can hold."""
    width, height, r = options.width, options.height, recipe
    units = {"deviations": None, "picture": (float(width), float(height)), "pixels": (1.0, 1.0)}
    return Rates(
        position=r.lr_position,
        scale=r.lr_scale,
        rotation=r.lr_rotation,
        feature=r.lr_feature,
        slope=r.lr_gradient if options.gradient else None,
        unit=units[r.lr_position_unit],
        betas=(r.adam_beta1, r.adam_beta2),
        epsilon=r.adam_epsilon,
        least=(-FAR * width, -FAR * height),
        most=((1 + FAR) * width, (1 + FAR) * height),
        deviations=(SIGMA_LOW, 4.0 * max(width, height) + 4.0),
    )


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
