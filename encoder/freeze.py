"""Rounding a fitted model to a lattice: some Gaussians after the others, while those that are left make up for it."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.fitting.checkpoint import zero_moments
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.interlace import ORDER, wide_enough
from igs.encoder.raster.loss import Grads
from igs.encoder.raster.model import Model
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.rounding import compensation, sensitivity
from igs.encoder.rounding.sensitivity import ANGLE, MAJOR, MINOR, SLOPES, Costs, Sensitivities, X, Y, numbers
from igs.format.lattice import Lattice

_MOMENTUM = 0.5
# Of the recipe's rate, which is of steps by matrices: as learning rates 0.05, 0.1 and 0.2 did the same within chance.
_ADAM = 0.25
# How far a number goes in all, and in one step: ln σ and values, half-turns, means in their smaller deviations.
_FAR_LN, _FAR_TURN, _FAR_MEAN, _AT_ONCE = 1.0, 0.3, 2.0, 0.1
_WORTH = 0.01  # what going so far has to be worth, of a Gaussian's share in the error


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
    interlaced = r.interlace > 0 and fit.interlaced(math.inf)

    def on_lattice(m: Model, known: Costs | None) -> Model:
        there = file.model(m.map(Tensor.cpu))
        codes = compensation.codes(there, lattice, rgb, known, size)
        return here.model(compensation.decoded(codes, lattice, rgb)).map(lambda t: t.to(place))

    plain = on_lattice(model, None)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(place)
    frozen = torch.zeros(n, dtype=torch.bool, device=place)
    plain_loss, mse = fit.measures_of(plain)
    rest: _ByMatrices | _ByAdam = _ByAdam(fit, model)
    if costs is not None and not (fit.loss_weights.l1 or fit.loss_weights.ssim) and fit.loss_weights.l2:
        rest = _ByMatrices(fit, model, costs, mse, 1 / len(ORDER) if interlaced else 1.0)
    rounds, done, turn = max(1, r.freeze_rounds if rounds is None else rounds), 0, 0
    for k in range(1, rounds + 1):
        part = 1 - (1 - k / rounds) ** 1.5  # many at first, few at the end
        rows = order[done : round(part * n)]
        done += len(rows)
        if len(rows) > 0:
            exact = on_lattice(model.rows(rows), None if costs is None else costs.rows(rows.cpu().numpy()))
            for value, there in zip(model.tensors(), exact.tensors(), strict=True):
                value[rows] = there
        frozen[rows] = True
        for _ in range(math.ceil(r.freeze_steps * r.steps) if done < n else 0):
            result = fit.gradient_step(model, turn, interlaced)
            rest.step(model, result.grads, ~frozen)
            turn += 1
    best = model if fit.loss_of(model) <= plain_loss else plain
    return best.map(Tensor.cpu)


def _sensitivities(fit: Fit, model: Model, seed: int) -> Sensitivities | None:
    """What rounding does to the picture (sensitivity.py); None on a backend that takes too long to tell.

    Where pixels can be seen apart each probe sees a quarter of them, so that all together take a quarter of the time:
    four sums with a quarter of the probes each are as exact as one with all of them.
    """
    if not (fit.backend.separable and wide_enough(fit.width, fit.height)):
        pullback = fit.backend.pullback(model, fit.options)
        if pullback is None:
            return None
        shape, place = tuple(fit.target.shape), fit.backend.place
        return sensitivity.sensitivities(pullback, shape, seed, place=place, weight=fit.error_weight)
    probes, place = sensitivity.PROBES // len(ORDER), fit.backend.place
    total, pullbacks = None, fit.interlace.pullbacks(fit.backend, model, fit.options, fit.error_weight)
    for k, (pullback, shape, weight) in enumerate(pullbacks):
        part = sensitivity.sensitivities(pullback, shape, seed + k, probes, place, weight)
        total = part if total is None else Sensitivities(*(a + b for a, b in zip(total, part, strict=True)))
    return total


class _ByMatrices:
    """Steps of Gaussians that are not frozen yet: each goes where the matrices say it is best, if the others stay.

    They don't, so that it goes a share of the way, the smaller the more there are at its place; what it has of the last
    step keeps going (block Jacobi, with momentum). The matrices hold nearby only, so that no number goes far; and what
    is worth next to nothing stays: of a flat picture Gaussians would grow without end.

    mse: the error there is. part: of the pixels, that a step sees: it goes so much shorter, or it would follow its own
    pixels, to the harm of the others.
    """

    def __init__(self, fit: Fit, model: Model, costs: Costs, mse: float, part: float) -> None:
        def there(a: NDArray[np.floating]) -> Tensor:
            return torch.from_numpy(a).float().to(fit.backend.place)

        count, channels, form = costs.response.shape
        numbers_of_picture = channels * fit.height * fit.width
        far = np.full((count, form + channels), _FAR_LN)
        far[:, ANGLE] = _FAR_TURN
        far[:, [X, Y]] = _FAR_MEAN * model.scale.amin(dim=1, keepdim=True).exp().double().cpu().numpy()
        least = max(_WORTH * mse * numbers_of_picture / count, 1e-30) / np.square(far)
        self._inverse = there(np.linalg.inv(costs.matrix + least[:, :form, None] * np.eye(form)))
        self._value = there(costs.value[:, None] + least[:, form:])
        self._response, self._far, self._channels = there(costs.response), there(far), channels
        self._share = (part * fit.recipe.freeze_rate) / _together(fit, model, self._value)
        # The matrices are of a sum over all numbers of the picture, half its derivative; the loss has their mean.
        self._scale = numbers_of_picture / (2 * fit.loss_weights.l2)
        self._speed, self._gone = torch.zeros_like(self._far), torch.zeros_like(self._far)

    def step(self, model: Model, grads: Grads, free: Tensor) -> None:
        form, values = (part * self._scale for part in numbers(grads, self._channels))
        form = form + torch.einsum("ncg,nc->ng", self._response, values)
        change = -torch.einsum("nij,nj->ni", self._inverse, form)
        follow = torch.einsum("ncg,ng->nc", self._response, change) - values / self._value
        self._speed.mul_(_MOMENTUM).add_(self._share * torch.cat([change, follow], dim=1))
        # One factor for all of a Gaussian's numbers: they belong together.
        too_fast = (self._speed.abs() / (_AT_ONCE * self._far)).amax(dim=1, keepdim=True)
        self._speed.div_(too_fast.clamp_min(1.0))
        gone = torch.minimum(torch.maximum(self._gone + self._speed, -self._far), self._far)
        moved = torch.where(free[:, None], gone - self._gone, 0.0)
        self._gone = gone
        slopes = moved.shape[1] - self._channels
        model.scale.add_(moved[:, MAJOR : MINOR + 1])
        model.rotation.add_(moved[:, ANGLE])
        model.position.add_(moved[:, X : Y + 1])
        model.feature.add_(torch.cat([moved[:, slopes:], moved[:, SLOPES:slopes]], dim=1))


def _together(fit: Fit, model: Model, value: Tensor) -> Tensor:
    """How many times as far as each Gaussian's values alone would go all go together, [N, 1]; at least once.

    Divided by this the steps of all values are none too long: it is the sum of a row of JᵀWJ over its diagonal.
    """
    channels, pullback = value.shape[1], fit.backend.pullback(model, fit.options)
    assert pullback is not None
    ones = torch.cat([torch.ones_like(model.feature[:, :channels]), model.feature[:, channels:] * 0], dim=1)
    image = fit.backend.render(Model(*model.tensors()[:3], ones, model.scale_map), fit.options)
    weight = fit.error_weight
    rows = pullback(image if weight is None else weight * image)[3][:, :channels]
    return (rows.mean(dim=1, keepdim=True) / value.mean(dim=1, keepdim=True)).abs().clamp_min(1.0)


class _ByAdam:
    """The same by the fit's own steps, shorter: where there are no matrices, or the loss is another than theirs."""

    def __init__(self, fit: Fit, model: Model) -> None:
        self._fit = fit
        self._moments = [zero_moments(t) for t in model.tensors()]
        self._age = torch.zeros(len(model), dtype=torch.int32, device=fit.backend.place)

    def step(self, model: Model, grads: Grads, free: Tensor) -> None:
        fit, kept = self._fit, model.clone()
        fit.backend.adam(model, grads, self._moments, self._age, fit.rates, _ADAM * fit.recipe.freeze_rate)
        for value, before in zip(model.tensors(), kept.tensors(), strict=True):
            # No selection by a mask, whose length the host would have to wait for.
            value.copy_(torch.where(free.view(-1, *(1,) * (value.dim() - 1)), value, before))
