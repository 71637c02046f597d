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

from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.safeguards import Safeguards
from igs.encoder.raster import multiscale
from igs.encoder.raster.cuda_backend import CudaBackend
from igs.encoder.raster.loss import StepResult, loss_of_means
from igs.encoder.raster.model import Model
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

    Raises UsageError for recipes that change what is fitted on the way: learned quantisers, plateau schedules and
    rate terms.
    """

    def __init__(
        self, targets: Sequence[Tensor], num_gaussians: int, recipe: Recipe, backend: CudaBackend, *, seed: int = 0
    ) -> None:
        checks = {
            "lr_schedule": recipe.lr_schedule != "plateau",
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
        self._many = backend.of_many(len(targets))
        together = torch.stack(list(targets)) if len(targets) > 1 else targets[0]
        super().__init__(together, num_gaussians, recipe, self._many, seed=seed, log_every=max(1, recipe.steps))
        self.guards = _BatchSafeguards()

    def fit(self) -> list[Model]:
        """Take all steps; the best model of each picture, on the host."""
        model, n = self.run(), self.count
        parts = zip(*(t.split(n) for t in model.tensors()), strict=True)
        return [Model.of((t.clone() for t in part), model.scale_map) for part in parts]

    # -- steps

    def _coarseness_there(self) -> Tensor:
        """One number per Gaussian."""
        coarseness = super()._coarseness_there()
        assert isinstance(coarseness, Tensor)
        return coarseness.flatten().repeat_interleave(self.count)

    def measure_state(self) -> None:
        """Let ``last`` be of the state as it is, for each picture."""
        super().measure_state()
        image = self.backend.render(self.state.model, self.options)
        self.last.means_there = self._many.means(image, self.target, self.loss_weights.ssim > 0)

    def _consider_step(self, result: StepResult) -> None:
        loss = result.loss_there(self.loss_weights)
        assert loss is not None
        self._keep_better(loss, self.state.model)

    def consider(self, loss: float, model: Model) -> None:
        """Remember each picture's model if it is its best so far (and finite); ``loss`` is the mean, and not used."""
        image = self.backend.render(model, self.options)
        means = self._many.means(image, self.target, self.loss_weights.ssim > 0)
        more = multiscale.loss(image, self.target, self._many.scales) if self.loss_weights.ms_ssim else 0.0
        self._keep_better(loss_of_means(means, self.loss_weights, more), model)

    def _came_back(self, result: StepResult) -> bool:
        """Let pictures that diverged go back to the best that they were; the others go on."""
        if self.best is not None:
            rows = ~self._finite(self.state.model).repeat_interleave(self.count)
            now = self.state.model.tensors(), self.state.moments, result.grads
            for kept, value, moments, grad in zip(self.best.tensors(), *now, strict=True):
                lost = rows.view(-1, *(1,) * (value.dim() - 1))
                value.copy_(torch.where(lost, kept, value))
                for learned in (*moments, grad):
                    learned.masked_fill_(lost, 0.0)
            self.state.age.masked_fill_(rows, 0)
        return False

    def _finite(self, model: Model) -> Tensor:
        """Whether all numbers of each picture's Gaussians are finite, [B]."""
        return torch.stack([torch.isfinite(self.apart(t)).flatten(1).all(1) for t in model.tensors()]).all(0)

    def _keep_better(self, loss: Tensor, model: Model) -> None:
        better = self._finite(model) & torch.isfinite(loss)
        if self.best is None:
            self.best, self._losses = model.clone(), torch.where(better, loss, math.inf)
            return
        better &= loss < self._losses
        self._losses = torch.where(better, loss, self._losses)
        rows = better.repeat_interleave(self.count)
        for kept, value in zip(self.best.tensors(), model.tensors(), strict=True):
            kept.copy_(torch.where(rows.view(-1, *(1,) * (value.dim() - 1)), value, kept))
