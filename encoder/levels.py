"""Fitting levels of quality together: a union of nested sets of Gaussians, each prefix of which is a picture (spec §9).

Level l is drawn from the first ``ends[l]`` Gaussians, in the order in which the fit added them. A step lowers the
whole picture's loss and that of one shorter prefix, in turn. Their gradients are weighted so that a decibel of a prefix
is worth the same share of a decibel of the whole picture, whatever their errors are. docs/levels.md has what else was
tried. The whole is a :class:`Backend`, so that growth, freezing and compensation work as for one level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.interlace import ORDER
from igs.encoder.raster.backend import Backend, Pullback
from igs.encoder.raster.loss import MULTISCALE_EVERY, PERFECT, LossWeights, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.format.errors import UsageError

# What a decibel of all n prefixes together is worth in decibels of the whole picture, over n^¾, and how much more the
# first of them counts than their mean, and the last less (docs/levels.md).
WEIGHT, TILT = 0.275, 0.3


def ends_of(num_gaussians: int, levels: int) -> list[int]:
    """How many Gaussians levels 0 … l have together, for each l: equal shares, none empty."""
    if num_gaussians < levels:
        raise UsageError(f"levels: expected at most one per Gaussian, found {levels} for {num_gaussians} Gaussians")
    return [num_gaussians * (l + 1) // levels for l in range(levels)]


def steps_of(steps: int, levels: int) -> int:
    """A recipe's steps with so many levels: several pictures at once take longer to settle (docs/levels.md)."""
    return round(steps * min(1.5 + (levels - 2) / 3, 2.5)) if levels > 1 else steps


class LevelBackend:
    """A backend that draws the whole picture, and steps for it and its prefixes.

    backends: one per level, since each keeps lists of its own Gaussians. ``fit`` is to be set before the first step.
    Whatever is not of prefixes is the last backend's.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self.whole = self._backends[-1]
        self.name, self.device, self.scratch = self.whole.name, self.whole.device, self.whole.scratch
        self.place, self.asynchronous, self.separable = self.whole.place, self.whole.asynchronous, False
        self.num_levels = len(self._backends)
        for backend in self._backends[:-1]:  # steps come one after the other
            backend.scratch = self.whole.scratch
        self._fit: Fit | None = None
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def fit(self) -> Fit:
        """Whose Gaussians these are."""
        assert self._fit is not None
        return self._fit

    @fit.setter
    def fit(self, fit: Fit) -> None:
        self._fit, self._turn = fit, fit.state.step

    def ends(self, model: Model) -> list[int]:
        """``ends_of`` all Gaussians that are planned; of a model that lacks the last ones what it has of them.

        Prefixes that there are no Gaussians beyond, early in a fit, are left out: the last entry is the model's length.
        """
        planned = ends_of(max(self.fit.num_gaussians, len(self._backends)), len(self._backends))
        return [e for e in planned[:-1] if e < len(model)] + [len(model)]

    def _prefixes(self, model: Model) -> Iterator[tuple[Backend, Model, float]]:
        """All prefixes but the whole, and what a decibel of each is worth in decibels of the whole."""
        ends = self.ends(model)[:-1]
        for level, (backend, end) in enumerate(zip(self._backends, ends, strict=False)):
            yield backend, model.map(lambda t, e=end: t[:e].contiguous()), self._worth(level) / len(ends)  # type: ignore[misc]

    def pictures(self, model: Model, options: RasterOptions) -> Iterator[tuple[int, float, Tensor]]:
        """Of every prefix and of the whole: how many Gaussians, what a decibel is worth, and what they draw."""
        for backend, prefix, worth in self._prefixes(model):
            yield len(prefix), worth, backend.render(prefix, options)
        yield len(model), 1.0, self.whole.render(model, options)

    def _weighted(self, model: Model, options: RasterOptions) -> list[tuple[Backend, Model, float]]:
        """All prefixes but the whole, with what their squared errors count beside its: each has its turn in so many."""
        prefixes = list(self._prefixes(model))
        if not prefixes:
            return []
        error = self._error(self.whole, model, options)
        return [(b, prefix, _share(worth, error, self._error(b, prefix, options))) for b, prefix, worth in prefixes]

    def _worth(self, level: int) -> float:
        """What a decibel of a prefix is worth in decibels of the whole picture, times the number of prefixes."""
        n = len(self._backends) - 1
        tilt = 1 + TILT * (1 - 2 * level / (n - 1)) if n > 1 else 1.0
        return WEIGHT * n**0.75 * tilt

    def _error(self, backend: Backend, model: Model, options: RasterOptions) -> float:
        weight = self.fit.loss_weights.map
        return backend.measure(backend.render(model, options), self.fit.target, False, weight)[0]

    def step(self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights) -> StepResult:
        """Loss and errors of the whole picture; gradients of it and of one prefix."""
        result = self.whole.step(model, options, target, weights)
        ends = self.ends(model)[:-1]
        turn, self._turn = self._turn, self._turn + 1
        if not ends:
            return result
        # Each prefix sees every subset of the pixels, with and without the multiscale term, in its turn.
        period = math.lcm(len(ends), len(ORDER), MULTISCALE_EVERY)
        level = (turn + turn // period) % len(ends)
        end = ends[level]
        part = self._backends[level].step(model.map(lambda t: t[:end].contiguous()), options, target, weights)
        there = result.loss_there(weights), part.loss_there(weights)
        if there[0] is not None and there[1] is not None:  # neither is waited for
            factor = torch.where(there[1] > 0, self._worth(level) * there[0] / there[1], 0.0)
            for all_, few in zip(result.grads, part.grads, strict=True):
                all_[:end].addcmul_(few, factor.to(few.dtype))
            return result
        share = _share(self._worth(level), result.loss, part.loss)
        for all_, few in zip(result.grads, part.grads, strict=True):
            all_[:end].add_(few, alpha=share)
        return result

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """For random signs: Jᵀ of the whole picture and of all prefixes, so that JᵀJ is what ``step`` minimises."""
        weighted = self._weighted(model, options)
        whole = self.whole.pullback(model, options, pull)
        if whole is None:
            return None
        parts = [(backend.pullback(prefix, options, pull), share**0.5) for backend, prefix, share in weighted]
        weight = self.fit.loss_weights.map
        root = 1.0 if weight is None else weight.sqrt()  # that the signs come with, which stays where it is

        def apply(picture: Tensor) -> tuple[Tensor, ...]:
            total = whole(picture)
            height, width = picture.shape[-2:]
            for k, (part, share) in enumerate(parts):
                assert part is not None
                # Other signs at each point: what two levels do to the same pixel must not be taken for one effect.
                by = [(k + 1) * side // (len(parts) + 1) for side in (height, width)]
                rolled = torch.roll(picture / root, by, dims=(-2, -1)) * root
                for all_, few in zip(total, part(rolled), strict=True):
                    all_[: len(few)].add_(few, alpha=share)
            return total

        return apply

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian: of the whole picture, and prefixes as steps do."""
        costs = self.whole.removal_costs(model, options, target, weight)
        for backend, prefix, share in self._weighted(model, options):
            costs[: len(prefix)].add_(backend.removal_costs(prefix, options, target, weight), alpha=share)
        return costs


def _share(worth: float, whole: float, part: float) -> float:
    """Factor of a prefix's gradient beside the whole picture's: what counts are relative changes of the loss."""
    return worth * whole / part if part > 0 else 0.0


class LevelledFit(Fit):
    """A fit of levels, by a :class:`LevelBackend`.

    The first Gaussians are spread over the picture like all of them: when they came row by row, the first level was the
    upper part of the picture, and of nine pictures at 512 pixels five levels lost 0.98 dB. And of every level those
    move that it misses least, to where the pictures that it is in have errors, each beside its own mean error: on seven
    of these that gave the three first of five levels 0.15, 0.4 and 0.3 dB, and cost the whole nothing.
    """

    backend: LevelBackend
    nested = True
    at_once = 1.0  # levels end elsewhere when some are gone: costs are those of the prefixes that were fitted

    def _moving(self) -> Tensor:
        ends = self.backend.ends(self.state.model)
        return self._least_of_each(ends, [round(self.recipe.relocate * (b - a)) for a, b in pairwise([0, *ends])])

    def _goals(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        ends, errors = [], []
        for end, worth, image in self.backend.pictures(self.state.model, self.options):
            error, residual = self._error(image)
            ends.append(end)
            mean = error.square_().mean()
            errors.append(error.mul_(worth / mean.clamp_min(PERFECT)))
        points = []
        for level, (start, end) in enumerate(pairwise([0, *ends])):
            if n := int(((rows >= start) & (rows < end)).sum()):
                points.append(self._where(torch.stack(errors[level:]).sum(0).sqrt(), n))
        return torch.cat(points, dim=1), residual

    def _leaving(self, n: int) -> Tensor:
        """Of every level its share, so that those that stay keep their levels."""
        left, ends = self.count - n, self.backend.ends(self.state.model)
        after = ends_of(max(left, self.backend.num_levels), self.backend.num_levels)[: len(ends) - 1]
        shares: list[int] = []
        for start, end, stays in zip([0, *ends], ends, [*after, left], strict=False):
            gone = sum(shares)
            shares.append(min(max(end - stays - gone, 0), end - start, n - gone))
        return self._least_of_each(ends, shares)

    def _least_of_each(self, ends: list[int], shares: list[int]) -> Tensor:
        """Rows of those of each level that would be missed least, so many of each, in their order."""
        costs = self.removal_costs(self.state.model)
        found = [
            start + torch.argsort(costs[start:end], stable=True)[:share]
            for (start, end), share in zip(pairwise([0, *ends]), shares, strict=True)
        ]
        return torch.sort(torch.cat(found)).values
