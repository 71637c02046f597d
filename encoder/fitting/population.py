"""The Gaussians of a fit: the first ones, and how they come, move and go (Image-GS section 3, and more)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.fitting import init, init_device, saliency
from igs.encoder.fitting.checkpoint import FitState, zero_moments
from igs.encoder.raster import shapes
from igs.encoder.raster.backend import Backend, Model, scale_parameter
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.recipe import Recipe

# Pixels. Thinner Gaussians only pay at the pixels' centres and leave holes between them: closing these made long fits
# of kodim01 worse than short ones (efforts 5 and 7: 26.31 and 26.25 dB at 0.05, 26.25 and 26.40 dB at 0.3).
SIGMA_LOW = 0.3


# dL/dd² of a pixel that nothing reaches, times the number of pixels …
PULL = 0.3
# … and the pull begins at this share of R², before a pixel falls out of reach: between the centres, and after
# rounding, less is in reach. Together these leave no hole to close after the fit, which is what costs: without them it
# took 0.5 to 1.3 dB off stylised pictures. (1, 0.7), (1, 0.85), (0.3, 0.85), (0.3, 0.8) gave 31.11, 31.20, 31.26, 31.25
# dB on four of them, and the last is the best on kodim07 and kodim24.
PULL_SHARE = 0.8
LOWPASS_MOST = 300.0  # pixels², GaussianImage++


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


class Population:
    """As many Gaussians for one picture as there are now, with what Adam knows of them, in :attr:`state`.

    Everything random comes from :attr:`rng`.
    """

    def __init__(
        self,
        target: Tensor,  # [C, H, W] stored values
        num_gaussians: int,
        recipe: Recipe,
        backend: Backend,
        *,
        seed: int = 0,
        weights: NDArray[np.float64] | None = None,  # [H, W] position map instead of the recipe's
        loss_map: NDArray[np.float64] | None = None,  # [H, W] how much errors count
        lit: tuple[bool, ...] = (),  # the channels that a gradient is added to; none given: all
    ) -> None:
        self.target, self.recipe, self.backend = target.contiguous().to(backend.place), recipe, backend
        self.num_gaussians = self.asked = max(1, num_gaussians)  # the first may change on the way
        self.rng = np.random.default_rng(seed)
        self.channels, self.height, self.width = target.shape[-3:]
        self.pixels = target.cpu().movedim(-3, -1).numpy()  # a view
        self.loss_map = None if loss_map is None else torch.from_numpy(loss_map.astype(np.float32)).to(backend.place)
        self._weights = weights
        self.plan = growth_plan(recipe, self.num_gaussians)
        self.options = RasterOptions(
            self.width,
            self.height,
            recipe.blend,
            recipe.top_k,
            recipe.reach2,
            recipe.relative_reach2,
            PULL / (self.width * self.height) if recipe.pull_empty and recipe.blend == "topk" else 0.0,
            PULL_SHARE,
            gradient=recipe.primitive == "gradient",
            lowpass=self.lowpass(self.plan[0]),
            lit=lit,
        )
        self.state = self._first(self.plan[0])

    @property
    def count(self) -> int:
        """Gaussians there are."""
        return len(self.state.model)

    def lowpass(self, n: int) -> float:
        """Pixels² that the recipe's filter adds to every variance where there are n Gaussians, as binary32."""
        alpha = self.recipe.lowpass_alpha
        return float(np.float32(min(self.width * self.height / (alpha * n), LOWPASS_MOST))) if alpha else 0.0

    def _first(self, n: int) -> FitState:
        r = self.recipe
        weights: NDArray[np.float64] | Tensor
        if self._weights is not None:
            weights, uniform = self._weights, r.init_uniform
        elif r.init == "gradient":
            there = self.backend.asynchronous
            weights = init_device.gradient_map(self.target) if there else init.gradient_map(self.pixels)
            uniform = r.init_uniform
        elif r.init == "saliency":
            weights, uniform = saliency.MAPS[r.saliency](self.pixels), r.init_uniform
        else:
            weights, uniform = np.ones((self.height, self.width)), 1.0
        points = self._draw(weights, n, uniform, r.init_power, self.loss_map)
        model = self._new(points, points, r.init_scale, r.init_color)
        model.feature.mul_(r.init_color_gain)
        return FitState(
            model,
            [zero_moments(t) for t in model.tensors()],
            torch.zeros(n, dtype=torch.int32, device=self.backend.place),
        )

    def grow(self, n: int) -> None:
        """Add n Gaussians where the error is, with the colours that the recipe says."""
        if n <= 0:
            return
        s = self.state
        lowpass = self.lowpass(len(s.model) + n)
        if lowpass != self.options.lowpass:  # more Gaussians, a narrower filter: what it gave so far becomes theirs
            shapes.widen(s.model.scale, s.model.rotation, s.model.scale_map, self.options.lowpass - lowpass, SIGMA_LOW)
            self.options = dataclasses.replace(self.options, lowpass=lowpass)
        new = self._added(n, lambda points: np.concatenate([s.model.position.cpu().numpy().astype(np.float64), points]))
        pairs = zip(s.model.tensors(), new.tensors(), strict=True)
        s.model = Model.of(map(torch.cat, pairs), s.model.scale_map)
        if self.recipe.keep_adam_state:
            s.moments = [
                (torch.cat([m, torch.zeros_like(b)]), torch.cat([v, torch.zeros_like(b)]))
                for (m, v), b in zip(s.moments, new.tensors(), strict=True)
            ]
            s.age = torch.cat([s.age, s.age.new_zeros(n)])
        else:
            s.moments = [zero_moments(t) for t in s.model.tensors()]
            s.age = s.age.new_zeros(len(s.model))
        self.num_gaussians = max(self.num_gaussians, len(s.model))
        self._forget()

    def shrink(self, n: int) -> None:
        """Keep n Gaussians, without those that would be missed least."""
        s = self.state
        if n >= self.count:
            return
        kept = torch.ones(len(s.model), dtype=torch.bool, device=self.backend.place)
        kept[self._least_missed(self.count - n)] = False
        rows = kept.nonzero().squeeze(1)
        s.model = s.model.map(lambda t: t[rows].clone())
        s.moments = [(m[rows].clone(), v[rows].clone()) for m, v in s.moments]
        s.age = s.age[rows].clone()
        self.num_gaussians = n
        self._forget()

    def relocate(self) -> int:
        """Move the Gaussians that would be missed least to where the error is; returns how many."""
        s = self.state
        n = int(self.recipe.relocate * len(s.model))
        if n == 0:
            return 0
        idle = self._least_missed(n)

        def among(points: NDArray[np.float64]) -> NDArray[np.float64]:
            positions = s.model.position.cpu().numpy().astype(np.float64).copy()
            positions[idle.cpu().numpy()] = points
            return positions

        new = self._added(n, among)
        for (m, v), old, fresh in zip(s.moments, s.model.tensors(), new.tensors(), strict=True):
            old[idle], m[idle], v[idle] = fresh, 0.0, 0.0
        s.age[idle] = 0
        return n

    def _least_missed(self, n: int) -> Tensor:
        """Rows of the n Gaussians without which the error would rise least, in their order."""
        return torch.sort(torch.argsort(self.removal_costs(self.state.model), stable=True)[:n]).values

    def removal_costs(self, model: Model) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian, about, [N]; where nothing else is, the mean is seen."""
        options = self.options
        if options.blend == "topk":  # to a sum the background is added everywhere, and the fit knows none
            mean = tuple(self.target.mean(dim=(1, 2)).tolist())  # waits for a device
            options = dataclasses.replace(options, background=mean)
        return self.backend.removal_costs(model, options, self.target, self.loss_map)

    def _forget(self) -> None:
        """What was known of other numbers of Gaussians is no longer so."""

    # -- new ones

    def _draw(
        self, weights: NDArray[np.floating] | Tensor, n: int, uniform: float, power: float, factor: Tensor | None = None
    ) -> NDArray[np.float64]:
        """:func:`igs.encoder.fitting.init.draw_positions` of a map [H, W], on the device that holds it."""
        if isinstance(weights, Tensor):
            seed = int(self.rng.integers(2**63))
            return np.asarray(init_device.draw_positions(weights, n, uniform, power, seed, factor).cpu().numpy())
        by = None if factor is None else factor.cpu().numpy().astype(np.float64)
        return init.draw_positions(weights, n, uniform, power, self.rng, by)

    def _new(self, points: NDArray[np.float64], among: NDArray[np.float64], scale: float, color: bool) -> Model:
        """Round Gaussians at ``points`` [n, 2] pixels, as large as the recipe says of ``scale`` and of all positions.

        among: all positions there will be, [m, 2]. color: take the picture's; otherwise random ones.
        """
        n, workers = len(points), -1 if self.backend.asynchronous else 1  # the processor's cores idle beside a GPU
        if self.recipe.init_scale_mode == "neighbours":
            limit = 2 * math.sqrt(self.width * self.height / max(len(among), 1)) + 1
            sigma = scale * init.neighbour_distance(points, among, limit, workers)
        elif self.recipe.init_scale_mode == "area":
            sigma = np.full(n, scale * math.sqrt(self.width * self.height / max(len(among), 1)))
        else:
            sigma = np.full(n, scale)
        if color:
            feature = init.sample_bilinear(self.pixels, points)
        else:
            feature = self.rng.random((n, self.channels), dtype=np.float32)
        map_ = self.recipe.scale_map
        if self.options.gradient:
            feature = np.pad(feature, ((0, 0), (0, 2)))
        # A filter widens what is fitted: the deviations asked for are those of the picture.
        sigma = np.sqrt(np.maximum(np.maximum(sigma, 0.3) ** 2 - self.options.lowpass, SIGMA_LOW**2))
        sigmas = torch.from_numpy(np.repeat(sigma[:, None], 2, axis=1).astype(np.float32))
        new = Model(
            torch.from_numpy(points.astype(np.float32)),
            scale_parameter(sigmas, map_),
            torch.zeros(n),
            torch.from_numpy(feature),
            map_,
        )
        return new.map(lambda t: t.to(self.backend.place))

    def _added(self, n: int, among: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Model:
        """n new Gaussians where the error is; ``among`` gives all positions for the new ones."""
        r = self.recipe
        residual = self.target - self.backend.render(self.state.model, self.options)
        error = residual.abs().sum(dim=0)
        if self.loss_map is not None:  # what the loss sees is the weight times the error squared
            error = error * self.loss_map.sqrt()
        if r.growth_where == "top":
            points = init.top_positions(error.cpu().numpy().astype(np.float64), n)
        else:
            there = self.backend.asynchronous
            points = self._draw(error if there else error.numpy(), n, 0.0, r.growth_error_power)
        new = self._new(points, among(points), r.growth_scale, True)
        if r.growth_color == "zero":
            new.feature.zero_()
        elif r.growth_color == "residual":
            missing = init.sample_bilinear(residual.permute(1, 2, 0).cpu().numpy(), points)
            new.feature[:, : self.channels] = torch.from_numpy(missing).to(new.feature.device)
        return new
