"""The Gaussians of a fit: the first ones, and how they come, move and go (Image-GS section 3, and more)."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.blur import gaussian_taps
from igs.encoder.fitting import edges, saliency
from igs.encoder.fitting.checkpoint import FitState, zero_moments
from igs.encoder.fitting.error_weight import error_weight
from igs.encoder.fitting.neighbours import neighbour_distance
from igs.encoder.fitting.places import DevicePlaces, HostPlaces, Places, blur_planes
from igs.encoder.raster import shapes
from igs.encoder.raster.backend import Backend
from igs.encoder.raster.model import Model
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
# Standard deviation of the blur of `Recipe.growth_blur`, as a share of the Gaussians' mean distance and in pixels. With
# less than one 16 Kodak pictures at 0.65 bpp, effort 3, had 0.9750 of MS-SSIM instead of 0.9761, and 0.04 dB more. Wide
# ones take long, and only where few Gaussians fill a large picture is more than eight asked for.
BLUR, BLUR_LEAST, BLUR_MOST = 0.075, 1.0, 8.0
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
            at = min(max(1, round(recipe.growth_until * recipe.steps * k / rounds)), recipe.steps - 1)
        share = (n - start) * k // rounds - (n - start) * (k - 1) // rounds
        plan[at] = plan.get(at, 0) + share
    return plan


class Population:
    """The Gaussians that there are now, with what Adam knows of them, in :attr:`state`.

    Of one picture or, where the backend draws many at once, of each as many: those of the first picture, then those of
    the second, and so on. Everything random comes from :attr:`rng`.
    """

    # Whether the first Gaussians are a picture by themselves, and therefore must not all be from its top.
    nested = False
    # The share of Gaussians that are left out at once: of two that each could do without the other both must not go.
    # All together instead took arcade_room (512², -q 50, effort 2) from 33.4 to 15.9 dB.
    at_once = 0.1

    def __init__(
        self,
        target: Tensor,  # [C, H, W] stored values, or [B, C, H, W] of B > 1 pictures
        num_gaussians: int,
        recipe: Recipe,
        backend: Backend,
        *,
        seed: int = 0,
        position_map: NDArray[np.float64] | None = None,  # [H, W] where first positions are drawn; None: the recipe's
        loss_map: NDArray[np.float64] | None = None,  # [H, W] how much errors count
        lit: tuple[bool, ...] = (),  # the channels that a gradient is added to; none given: all
    ) -> None:
        self.target, self.recipe, self.backend = target.contiguous().to(backend.place), recipe, backend
        self.num_gaussians = self.asked = max(1, num_gaussians)  # the first may change on the way
        self.rng = np.random.default_rng(seed)
        self.channels, self.height, self.width = target.shape[-3:]
        self.pictures = math.prod(target.shape[:-3])
        there = backend.asynchronous
        self._places: Places = DevicePlaces(self.rng) if there else HostPlaces(self.rng, as_drawn=self.nested)
        self.loss_map = None if loss_map is None else torch.from_numpy(loss_map.astype(np.float32)).to(backend.place)
        self.error_weight = error_weight(self.target, recipe.loss_l2, recipe.loss_ms_ssim, self.loss_map)
        self._given_map = position_map
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
        """Gaussians there are, of each picture."""
        return len(self.state.model) // self.pictures

    def apart(self, t: Tensor) -> Tensor:
        """[B, N, …] of one row per Gaussian, [B·N, …]."""
        return t.view(self.pictures, -1, *t.shape[1:])

    def lowpass(self, n: int) -> float:
        """Pixels² that the recipe's filter adds to every variance where there are n Gaussians, as binary32."""
        alpha = self.recipe.lowpass_alpha
        return float(np.float32(min(self.width * self.height / (alpha * n), LOWPASS_MOST))) if alpha else 0.0

    def _first(self, n: int) -> FitState:
        r = self.recipe
        points = self._places.draw(self._position_map(), n, self._uniform, r.init_power, self.loss_map)
        model = self._new(points, points, r.init_scale, r.init_color)
        model.feature.mul_(r.init_color_gain)
        age = torch.zeros(len(model), dtype=torch.int32, device=self.backend.place)
        return FitState(model, [zero_moments(t) for t in model.tensors()], age)

    @property
    def _uniform(self) -> float:
        """The share of first positions that the map of positions has no say in."""
        return 1.0 if self._given_map is None and self.recipe.init == "random" else self.recipe.init_uniform

    def _position_map(self) -> Tensor:
        """How likely first positions are, up to a factor: [B, H, W]."""
        r, place = self.recipe, self.backend.place
        if self._given_map is not None:
            return torch.from_numpy(self._given_map)[None].to(place)
        if r.init == "gradient":
            return self._places.gradient_map(self.target)
        if r.init == "saliency":
            pictures = self.target.cpu().view(-1, *self.target.shape[-3:]).movedim(-3, -1).numpy()
            return torch.stack([torch.from_numpy(saliency.MAPS[r.saliency](p)) for p in pictures]).to(place)
        return torch.ones(self.pictures, self.height, self.width, dtype=torch.float64, device=place)

    def grow(self, n: int) -> None:
        """Add n Gaussians to each picture where the error is, with the colours that the recipe says."""
        if n <= 0:
            return
        s = self.state
        lowpass = self.lowpass(self.count + n)
        if lowpass != self.options.lowpass:  # more Gaussians, a narrower filter: what it gave so far becomes theirs
            shapes.widen(s.model.scale, s.model.rotation, s.model.scale_map, self.options.lowpass - lowpass, SIGMA_LOW)
            self.options = dataclasses.replace(self.options, lowpass=lowpass)
        error, residual = self._error(self.backend.render(s.model, self.options))
        points = self._where(error, n)
        new = self._added(points, torch.cat([self.apart(s.model.position).double(), points], dim=1), residual)

        def join(old: Tensor, fresh: Tensor) -> Tensor:
            return torch.cat([self.apart(old), self.apart(fresh)], dim=1).flatten(0, 1)

        s.model = Model.of(map(join, s.model.tensors(), new.tensors()), s.model.scale_map)
        if self.recipe.keep_adam_state:
            zeros = [torch.zeros_like(t) for t in new.tensors()]
            s.moments = [(join(m, z), join(v, z)) for (m, v), z in zip(s.moments, zeros, strict=True)]
            s.age = join(s.age, s.age.new_zeros(n * self.pictures))
        else:
            s.moments = [zero_moments(t) for t in s.model.tensors()]
            s.age = s.age.new_zeros(len(s.model))
        self.num_gaussians = max(self.num_gaussians, self.count)
        self._forget()

    def shrink(self, n: int) -> None:
        """Keep n Gaussians of each picture, without those that would be missed least."""
        if n >= self.count:
            return
        while n < self.count:
            self._leave_out(min(self.count - n, max(1, int(self.at_once * self.count))))
        self.num_gaussians = n
        self._forget()

    def _leave_out(self, n: int) -> None:
        """Go on without the n Gaussians that would be missed least."""
        s = self.state
        kept = torch.ones(len(s.model), dtype=torch.bool, device=self.backend.place)
        kept[self._leaving(n)] = False
        rows = kept.nonzero().squeeze(1)
        s.model = s.model.rows(rows)
        s.moments = [(m[rows].clone(), v[rows].clone()) for m, v in s.moments]
        s.age = s.age[rows].clone()

    def relocate(self) -> int:
        """Move the Gaussians that would be missed least to where the error is; returns how many."""
        s, rows = self.state, self._moving()
        if len(rows) == 0:
            return 0
        points, residual = self._goals(rows)
        among = s.model.position.double().index_copy(0, rows, points.flatten(0, 1))
        new = self._added(points, self.apart(among), residual)
        for (m, v), old, fresh in zip(s.moments, s.model.tensors(), new.tensors(), strict=True):
            old[rows], m[rows], v[rows] = fresh, 0.0, 0.0
        s.age[rows] = 0
        return len(rows)

    def _moving(self) -> Tensor:
        """Rows of the Gaussians that are to move."""
        return self._first_rows(self._by_costs(), int(self.recipe.relocate * self.count))

    def _leaving(self, n: int) -> Tensor:
        """Rows of the n Gaussians of each picture that are to be left out at once.

        Of those in one pixel the first goes before any other does: equal ones, which stand in for each other, also cost
        the same, so that in the order of costs both would go.
        """
        order = self._by_costs()
        corner = self.apart(self.state.model.position).floor().long()
        pixels = (corner[..., 1] * (self.width + 1) + corner[..., 0]).gather(1, order)
        found = torch.sort(pixels, dim=1, stable=True)
        again = torch.zeros_like(found.values)
        again[:, 1:] = found.values[:, 1:] == found.values[:, :-1]
        later = torch.empty_like(again).scatter_(1, found.indices, again)  # another of its pixel comes before it
        return self._first_rows(order.gather(1, torch.argsort(later, dim=1, stable=True)), n)

    def _goals(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Points [B, n, 2] for Gaussians to move to, and of their pictures what ``_error`` has besides."""
        error, residual = self._error(self.backend.render(self.state.model, self.options))
        return self._where(error, len(rows) // self.pictures), residual

    def _by_costs(self) -> Tensor:
        """Each picture's Gaussians, those first without which its error would rise least: [B, N] within the picture."""
        return torch.argsort(self.apart(self.removal_costs(self.state.model)), dim=1, stable=True)

    def _first_rows(self, order: Tensor, n: int) -> Tensor:
        """Rows of the first n Gaussians of each picture in an order of its own [B, N]; ascending."""
        rows = torch.sort(order[:, :n], dim=1).values
        return (rows + self.count * torch.arange(self.pictures, device=rows.device)[:, None]).flatten()

    def removal_costs(self, model: Model) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian, about, [B·N].

        Where nothing else is, the mean is seen, of many pictures theirs together.
        """
        options = self.options
        if options.blend == "topk":  # to a sum the background is added everywhere, and the fit knows none
            options = dataclasses.replace(options, background=self._mean)
        return self.backend.removal_costs(model, options, self.target, self.error_weight)

    @functools.cached_property
    def _mean(self) -> tuple[float, ...]:
        """Of each channel."""
        return tuple(
            self.target.mean(dim=(-2, -1)).view(-1, self.channels).mean(0).tolist()
        )  # waits for a device, once

    def _forget(self) -> None:
        """What was known of other numbers of Gaussians is no longer so."""

    # -- new ones

    def _error(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The error of each pixel as the loss sees it and the recipe says [B, H, W], and what the target has more
        [B, C, H, W] where that becomes new Gaussians' colour. The image is used up: with fresh memory this took 62 ms
        instead of 11 (2048²).
        """
        residual = torch.sub(self.target, image, out=image)
        residual = residual.view(-1, *residual.shape[-3:])
        wanted, share = self.recipe.growth_color == "residual", self.recipe.growth_blur
        about = self._blurred(residual).pow_(share) if share else None
        error = (residual.abs() if wanted else residual.abs_()).sum(dim=1)
        if about is not None:
            error.pow_(1 - share).mul_(about)
        if self.error_weight is not None:  # what the loss sees is the weight times the error squared
            error *= self.error_weight.sqrt()
        return error, residual if wanted else None

    def _blurred(self, residual: Tensor) -> Tensor:
        """What the pixels about each pixel lack on average, of all channels [B, H, W] together."""
        sigma = min(max(BLUR * math.sqrt(self.width * self.height / self.count), BLUR_LEAST), BLUR_MOST)
        taps = gaussian_taps(sigma, math.ceil(2.5 * sigma))
        total = torch.zeros_like(residual[:, 0])
        for channel in residual.unbind(1):
            total += blur_planes(channel, taps).abs_()
        return total

    def _where(self, error: Tensor, n: int) -> Tensor:
        """n points [B, n, 2] by the error."""
        if self.recipe.growth_where == "top":
            return self._places.top(error, n)
        return self._places.draw(error, n, 0.0, self.recipe.growth_error_power)

    def _added(self, points: Tensor, among: Tensor, residual: Tensor | None) -> Model:
        """Gaussians that join others, at ``points`` [B, n, 2]; ``among``: all positions there will be, [B, m, 2]."""
        new = self._new(points, among, self.recipe.growth_scale, True)
        if self.recipe.growth_color == "zero":
            new.feature.zero_()
        elif residual is not None:
            new.feature[:, : self.channels] = self._places.values(residual, points).flatten(0, 1)
        return new

    def _new(self, points: Tensor, among: Tensor, scale: float, color: bool) -> Model:
        """Gaussians at ``points`` [B, n, 2], as large as the recipe says of ``scale`` and of all positions.

        among: all positions there will be, [B, m, 2]. color: take the picture's; otherwise random ones.
        """
        share = math.sqrt(self.width * self.height / max(among.shape[1], 1))
        mode = self.recipe.init_scale_mode
        if mode == "neighbours":
            sigma = scale * neighbour_distance(points, among, 2 * share + 1)
        else:
            sigma = torch.full_like(points[..., 0], scale * share if mode == "area" else scale)
        if color:
            feature = self._places.values(self.target, points).flatten(0, 1)
        else:
            drawn = self.rng.random((math.prod(points.shape[:2]), self.channels), dtype=np.float32)
            feature = torch.from_numpy(drawn).to(self.backend.place)
        if self.options.gradient:
            feature = torch.nn.functional.pad(feature, (0, 2))
        sigma = sigma.clamp_min(0.3).flatten()
        both, rotation = torch.stack([sigma, sigma], dim=1), torch.zeros_like(sigma, dtype=torch.float32)
        if self.recipe.edge_stretch:
            found = self._places.values(self._edges, points).flatten(0, 1)
            longer, rotation = edges.along(found, self.recipe.edge_stretch)
            both *= torch.stack([longer, 1 / longer], dim=1)
        # A filter widens what is fitted: the deviations asked for are those of the picture.
        both = (both.square() - self.options.lowpass).clamp_min(SIGMA_LOW**2).sqrt().float()
        map_ = self.recipe.scale_map
        return Model(points.flatten(0, 1).float(), *shapes.parameters(both, rotation, map_), feature, map_)

    @functools.cached_property
    def _edges(self) -> Tensor:
        """How they run in the pictures: [B, 2, H, W]."""
        return edges.edge_map(self.target.view(-1, *self.target.shape[-3:]))
