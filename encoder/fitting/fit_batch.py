"""Fitting many pictures of one size together on a GPU: the same steps, in launches that all of them share.

A picture of some hundred thousand pixels leaves a large GPU mostly idle, and its host busy with launches. Here the
Gaussians of all pictures lie one after the other in one model, as many for each; growth and relocation are done for
all at once on the device. Random numbers differ from those of a :class:`Fit` of each picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.fitting import init_device
from igs.encoder.fitting.checkpoint import FitState, zero_moments
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.population import SIGMA_LOW
from igs.encoder.fitting.safeguards import Safeguards
from igs.encoder.raster import multiscale
from igs.encoder.raster.backend import Model, StepResult, scale_parameter
from igs.encoder.raster.cuda_backend import CudaBackend
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.learned import is_learned
from igs.format.errors import UsageError


class _BatchSafeguards(Safeguards):
    def keep_before_noise(self, fit: Fit) -> None:
        """Losses are per picture here: what noise did is not taken back …"""

    def keep_before_move(self, fit: Fit) -> None:
        """… nor what moving did."""


class FitBatch(Fit):
    """Pictures [C, H, W] of one shape, ``num_gaussians`` each. Call :meth:`fit`; histories are of the mean of all.

    Raises UsageError for recipes that change what is fitted on the way: learned quantisers, low-pass filters, plateau
    schedules, and positions from saliency.
    """

    def __init__(
        self, targets: Sequence[Tensor], num_gaussians: int, recipe: Recipe, backend: CudaBackend, *, seed: int = 0
    ) -> None:
        checks = {
            "init": recipe.init in ("gradient", "random"),
            "growth_where": recipe.growth_where == "sampled",
            "growth_color": recipe.growth_color == "picture",
            "init_color": recipe.init_color,
            "lr_schedule": recipe.lr_schedule != "plateau",
            "lowpass_alpha": not recipe.lowpass_alpha,
            "quantize_forward": not recipe.quantize_forward and not is_learned(recipe),
            "rate_weight": not recipe.rate_weight,
        }
        for name, ok in checks.items():
            if not ok:
                raise UsageError(
                    f"{name}: expected a value that pictures fitted together can share, found {getattr(recipe, name)}"
                )
        if len({t.shape for t in targets}) != 1:
            raise UsageError(f"expected pictures of one shape, found {sorted({tuple(t.shape) for t in targets})}")
        self.pictures = len(targets)
        many = backend.of_many(self.pictures)
        self._many = many
        together = torch.stack(list(targets)) if self.pictures > 1 else targets[0]
        super().__init__(together, num_gaussians, recipe, many, seed=seed, log_every=max(1, recipe.steps))
        self.guards = _BatchSafeguards()

    @property
    def count(self) -> int:
        return len(self.state.model) // self.pictures

    def fit(self) -> list[Model]:
        """Take all steps; the best model of each picture, on the host."""
        model, n = self.run(), self.count
        parts = zip(*(t.split(n) for t in model.tensors()), strict=True)
        return [Model.of((t.clone() for t in part), model.scale_map) for part in parts]

    # -- Gaussians come and go

    @property
    def _targets(self) -> Tensor:
        """[B, C, H, W]"""
        return self.target.view(self.pictures, self.channels, self.height, self.width)

    def _seed(self) -> int:
        return int(self.rng.integers(2**63))

    def _apart(self, t: Tensor) -> Tensor:
        """[B, N, …] of [B·N, …]"""
        return t.view(self.pictures, -1, *t.shape[1:])

    def _born(self, points: Tensor, among: Tensor, scale: float) -> Model:
        """Round Gaussians at ``points`` [B, n, 2], of the pictures' colours; as :meth:`Population._new`."""
        share = math.sqrt(self.width * self.height / max(among.shape[1], 1))
        mode = self.recipe.init_scale_mode
        if mode == "neighbours":
            sigma = scale * init_device.neighbour_distance(points, among, 2 * share + 1)
        else:
            sigma = torch.full_like(points[..., 0], scale * (share if mode == "area" else 1.0))
        sigma = sigma.clamp_min(max(SIGMA_LOW, 0.3)).flatten().float()
        feature = init_device.sample_bilinear(self._targets, points).flatten(0, 1)
        slopes = feature.new_zeros(len(feature), 2 * self.options.gradient)
        return Model(
            points.flatten(0, 1).float(),
            scale_parameter(sigma[:, None].repeat(1, 2), self.recipe.scale_map),
            torch.zeros_like(sigma),
            torch.cat([feature, slopes], dim=1),
            self.recipe.scale_map,
        )

    def _first(self, n: int) -> FitState:
        r = self.recipe
        targets = self._targets
        weights = init_device.gradient_map(targets) if r.init == "gradient" else torch.ones_like(targets[:, 0])
        points = init_device.draw_positions(weights, n, r.init_uniform, r.init_power, self._seed())
        model = self._born(points, points, r.init_scale)
        model.feature.mul_(r.init_color_gain)
        age = torch.zeros(len(model), dtype=torch.int32, device=self.backend.place)
        return FitState(model, [zero_moments(t) for t in model.tensors()], age)

    def _drawn(self, n: int) -> Tensor:
        """n positions [B, n, 2] where the error is, in random order."""
        error = (self.target - self.backend.render(self.state.model, self.options)).abs().sum(dim=-3)
        error = error.view(self.pictures, self.height, self.width)
        return init_device.draw_positions(error, n, 0.0, self.recipe.growth_error_power, self._seed())

    def _least_missed(self, n: int) -> Tensor:
        """n of each picture."""
        costs = self._apart(self.removal_costs(self.state.model))
        rows = torch.argsort(costs, dim=1, stable=True)[:, :n]  # [B, n]
        return (rows + self.count * torch.arange(self.pictures, device=rows.device)[:, None]).flatten()

    def grow(self, n: int) -> None:
        if n <= 0:
            return
        s, points = self.state, self._drawn(n)
        new = self._born(
            points, torch.cat([self._apart(s.model.position).double(), points], 1), self.recipe.growth_scale
        )

        def join(old: Tensor, fresh: Tensor) -> Tensor:
            return torch.cat([self._apart(old), self._apart(fresh)], dim=1).flatten(0, 1)

        s.model = Model.of(map(join, s.model.tensors(), new.tensors()), s.model.scale_map)
        if self.recipe.keep_adam_state:
            zeros = [torch.zeros_like(t) for t in new.tensors()]
            s.moments = [(join(m, z), join(v, z)) for (m, v), z in zip(s.moments, zeros, strict=True)]
            s.age = join(s.age, s.age.new_zeros(n * self.pictures))
        else:
            s.moments = [zero_moments(t) for t in s.model.tensors()]
            s.age = s.age.new_zeros(len(s.model))
        self.best, self.best_loss = None, math.inf

    def relocate(self) -> int:
        s, n = self.state, int(self.recipe.relocate * self.count)
        if n == 0:
            return 0
        rows, points = self._least_missed(n), self._drawn(n)
        among = s.model.position.double().index_copy(0, rows, points.flatten(0, 1))
        new = self._born(points, self._apart(among), self.recipe.growth_scale)
        for (m, v), old, fresh in zip(s.moments, s.model.tensors(), new.tensors(), strict=True):
            old[rows], m[rows], v[rows] = fresh, 0.0, 0.0
        s.age[rows] = 0
        return n * self.pictures

    def removal_costs(self, model: Model) -> Tensor:
        # The background seen where nothing else is would be each picture's mean: black will do for what hardly happens.
        return self.backend.removal_costs(model, self.options, self.target)

    # -- steps

    def _coarseness_there(self) -> Tensor:
        """One number per Gaussian."""
        assert self.last.means_there is not None
        mse = self.last.means_there.view(-1, 3)[:, 1]
        coarseness = (self.recipe.coarseness * mse.sqrt()).clamp_min(0.05).float()
        return coarseness.repeat_interleave(self.count)

    def _loss_of_means(self, means: Tensor, more: float | Tensor) -> Tensor:
        w, (e1, e2, s) = self.loss_weights, means.view(-1, 3).unbind(1)
        return w.l1 * e1 + w.l2 * e2 + w.ssim * (1 - s) + w.ms_ssim * more

    def _consider_step(self, result: StepResult) -> None:
        assert result.means_there is not None
        self._keep_better(self._loss_of_means(result.means_there, result.multiscale_there), self.state.model)

    def consider(self, loss: float, model: Model) -> None:
        """Remember each picture's model if it is its best so far (and finite); ``loss`` is the mean, and not used."""
        image = self.backend.render(model, self.options)
        means = self._many.means(image, self.target, self.loss_weights.ssim > 0)
        more = multiscale.loss(image, self.target, self._many.scales) if self.loss_weights.ms_ssim else 0.0
        self._keep_better(self._loss_of_means(means, more), model)

    def _keep_better(self, loss: Tensor, model: Model) -> None:
        finite = torch.stack([torch.isfinite(self._apart(t)).flatten(1).all(1) for t in model.tensors()]).all(0)
        better = finite & torch.isfinite(loss)
        if self.best is None:
            self.best, self._losses = model.clone(), torch.where(better, loss, math.inf)
            return
        better &= loss < self._losses
        self._losses = torch.where(better, loss, self._losses)
        rows = better.repeat_interleave(self.count)
        for kept, value in zip(self.best.tensors(), model.tensors(), strict=True):
            kept.copy_(torch.where(rows.view(-1, *(1,) * (value.dim() - 1)), value, kept))
