"""Rounding a fitted model to a lattice: some Gaussians after the others, while those that are left make up for it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from igs.encoder.fitting.checkpoint import zero_moments
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.interlace import ORDER, wide_enough
from igs.encoder.raster.model import Model
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.rounding import compensation
from igs.encoder.rounding.compensation import Costs, Sensitivities
from igs.format.lattice import Lattice


def freeze(
    fit: Fit,
    lattice: Lattice,
    rgb: list[int],
    seed: int = 0,
    rounds: int | None = None,
    file: Rescaled | None = None,
) -> Model:
    """Let the best model take values that a lattice holds, random Gaussians first, while the others make up for it.

    rgb: first channels of the groups that the lattice stores as luma and chroma. rounds: the recipe's unless given; in
    one round all Gaussians are rounded at once. file: coordinates of the file's picture, whose lattice it
    is; None: those of the fit's picture. Returns a model all of whose Gaussians are on the lattice, not worse
    than plain rounding.
    """
    r = fit.recipe
    assert fit.best is not None
    model = compensation.sorted_axes(fit.best.clone())
    model = Model(model.position, model.sigmas().log(), model.rotation, model.feature, "log")
    n, place = len(model), fit.backend.place
    model = model.map(lambda t: t.to(place))
    found = _sensitivities(fit, model, seed) if r.compensate else None
    costs = None if found is None else found.without_values()
    file = file or Rescaled(1.0, fit.width, fit.height)
    here = file.back(fit.width, fit.height)
    size = file.width, file.height

    def on_lattice(m: Model, known: Costs | None) -> Model:
        there = file.model(m.map(Tensor.cpu))
        codes = compensation.codes(there, lattice, rgb, known, size)
        return here.model(compensation.decoded(codes, lattice, rgb)).map(lambda t: t.to(place))

    plain = on_lattice(model, None)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(place)
    frozen = torch.zeros(n, dtype=torch.bool, device=place)
    moments = [zero_moments(t) for t in model.tensors()]
    age = torch.zeros(n, dtype=torch.int32, device=place)
    rounds, done = max(1, r.freeze_rounds if rounds is None else rounds), 0
    for k in range(1, rounds + 1):
        part = 1 - (1 - k / rounds) ** 1.5  # many at first, few at the end
        rows = order[done : round(part * n)]
        done += len(rows)
        if len(rows) > 0:
            exact = on_lattice(model.rows(rows), None if costs is None else costs.rows(rows.cpu().numpy()))
            for value, there in zip(model.tensors(), exact.tensors(), strict=True):
                value[rows] = there
        frozen[rows] = True
        if done < n:
            _adapt(fit, model, moments, age, frozen)
    best = model if fit.loss_of(model) <= fit.loss_of(plain) else plain
    return best.map(Tensor.cpu)


def _sensitivities(fit: Fit, model: Model, seed: int) -> Sensitivities | None:
    """What rounding does to the picture (compensation.py); None on a backend that takes too long to tell.

    Where pixels can be seen apart each probe sees a quarter of them, so that all together take a quarter of the time:
    four sums with a quarter of the probes each are as exact as one with all of them.
    """
    if not (fit.backend.separable and wide_enough(fit.width, fit.height)):
        pullback = fit.backend.pullback(model, fit.options)
        if pullback is None:
            return None
        shape, weight = tuple(fit.target.shape), fit.loss_weights.map
        return compensation.sensitivities(pullback, shape, seed, place=fit.backend.place, weight=weight)
    probes, place = compensation.PROBES // len(ORDER), fit.backend.place
    total = None
    for k, (pullback, shape, weight) in enumerate(fit.interlace.pullbacks(fit.backend, model, fit.options)):
        part = compensation.sensitivities(pullback, shape, seed + k, probes, place, weight)
        total = part if total is None else Sensitivities(*(a + b for a, b in zip(total, part, strict=True)))
    return total


def _adapt(fit: Fit, model: Model, moments: list[tuple[Tensor, Tensor]], age: Tensor, frozen: Tensor) -> None:
    """Some steps of the Gaussians that are not frozen."""
    r = fit.recipe
    interlaced = r.interlace > 0 and fit.interlaced(math.inf)
    for turn in range(round(r.freeze_steps * r.steps)):
        result, kept = fit.gradient_step(model, turn, interlaced), model.clone()
        fit.backend.adam(model, result.grads, moments, age, fit.rates, r.freeze_rate)
        for value, before in zip(model.tensors(), kept.tensors(), strict=True):
            # No selection by a mask, whose length the host would have to wait for.
            value.copy_(torch.where(frozen.view(-1, *(1,) * (value.dim() - 1)), before, value))
