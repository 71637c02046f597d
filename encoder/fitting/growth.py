"""Where and how Gaussians join a fit: the plan of their numbers, and new ones by position or by error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.fitting import init, init_device
from igs.encoder.raster.backend import Model, scale_parameter
from igs.encoder.recipe import Recipe

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

# Pixels. Thinner Gaussians only pay at the pixels' centres and leave holes between them: closing these made long fits
# of kodim01 worse than short ones (efforts 5 and 7: 26.31 and 26.25 dB at 0.05, 26.25 and 26.40 dB at 0.3).
SIGMA_LOW = 0.3


def growth_plan(recipe: Recipe, n: int) -> dict[int, int]:
    """How many Gaussians join at which step; step 0 holds the first ones. The counts sum to n."""
    if not recipe.growth or recipe.growth_rounds == 0 or recipe.growth_start >= 1 or n < 2 or recipe.steps < 2:
        return {0: n}
    start = max(1, round(recipe.growth_start * n))
    rounds = min(recipe.growth_rounds, n - start, recipe.steps - 1)
    plan = {0: start}
    for k in range(1, rounds + 1):
        if recipe.growth_interval is not None:
            at = min(k * recipe.growth_interval, recipe.steps - 1)
        else:
            at = max(1, round(recipe.growth_until * recipe.steps * k / rounds))
        share = (n - start) * k // rounds - (n - start) * (k - 1) // rounds
        plan[at] = plan.get(at, 0) + share
    return plan


def new_gaussians(
    fit: Fit, points: NDArray[np.float64], among: NDArray[np.float64], scale: float, color: bool
) -> Model:
    """Round Gaussians at ``points`` [n, 2] pixels, as large as the recipe says of ``scale`` and of all positions.

    among: all positions there will be, [m, 2]. color: take the picture's; otherwise random ones.
    """
    n, workers = len(points), -1 if fit.backend.asynchronous else 1  # the processor's cores idle beside a GPU
    if fit.recipe.init_scale_mode == "neighbours":
        limit = 2 * math.sqrt(fit.width * fit.height / max(len(among), 1)) + 1
        sigma = scale * init.neighbour_distance(points, among, limit, workers)
    elif fit.recipe.init_scale_mode == "area":
        sigma = np.full(n, scale * math.sqrt(fit.width * fit.height / max(len(among), 1)))
    else:
        sigma = np.full(n, scale)
    if color:
        feature = init.sample_bilinear(fit.pixels, points)
    else:
        feature = fit.rng.random((n, fit.channels), dtype=np.float32)
    map_ = fit.recipe.scale_map
    if fit.options.gradient:
        feature = np.pad(feature, ((0, 0), (0, 2)))
    # A filter widens what is fitted: the deviations asked for are those of the picture.
    sigma = np.sqrt(np.maximum(np.maximum(sigma, 0.3) ** 2 - fit.options.lowpass, SIGMA_LOW**2))
    sigmas = torch.from_numpy(np.repeat(sigma[:, None], 2, axis=1).astype(np.float32))
    new = Model(
        torch.from_numpy(points.astype(np.float32)),
        scale_parameter(sigmas, map_),
        torch.zeros(n),
        torch.from_numpy(feature),
        map_,
    )
    return new.map(lambda t: t.to(fit.backend.place))


def draw(
    fit: Fit, weights: NDArray[np.floating] | Tensor, n: int, uniform: float, power: float, factor: Tensor | None = None
) -> NDArray[np.float64]:
    """:func:`igs.encoder.fitting.init.draw_positions` of a map [H, W], on the device that holds it."""
    if isinstance(weights, Tensor):
        seed = int(fit.rng.integers(2**63))
        return np.asarray(init_device.draw_positions(weights, n, uniform, power, seed, factor).cpu().numpy())
    by = None if factor is None else factor.cpu().numpy().astype(np.float64)
    return init.draw_positions(weights, n, uniform, power, fit.rng, by)


def added(fit: Fit, n: int, among: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Model:
    """n new Gaussians where the error is; ``among`` gives all positions for the new ones."""
    r = fit.recipe
    residual = fit.target - fit.backend.render(fit.state.model, fit.options)
    error = residual.abs().sum(dim=0)
    if fit.loss_weights.map is not None:  # what the loss sees is the weight times the error squared
        error = error * fit.loss_weights.map.sqrt()
    if r.growth_where == "top":
        points = init.top_positions(error.cpu().numpy().astype(np.float64), n)
    else:
        there = fit.backend.asynchronous
        points = draw(fit, error if there else error.numpy(), n, 0.0, r.growth_error_power)
    new = new_gaussians(fit, points, among(points), r.growth_scale, True)
    if r.growth_color == "zero":
        new.feature.zero_()
    elif r.growth_color == "residual":
        missing = init.sample_bilinear(residual.permute(1, 2, 0).cpu().numpy(), points)
        new.feature[:, : fit.channels] = torch.from_numpy(missing).to(new.feature.device)
    return new
