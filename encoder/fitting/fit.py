"""Fitting Gaussians to a picture: optimise, grow, relocate, decay, stop (Image-GS section 3, and more).

The fit knows nothing of files, bits or rates; it returns the best model that it has seen. Everything random comes from
one generator, so that a seed fixes the result for a given backend.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.decoder.measure import psnr_of
from igs.encoder import rate
from igs.encoder.fitting.fence import Fence
from igs.encoder.fitting.interlace import Interlace
from igs.encoder.fitting.learning_rates import plateau, rates_of, schedule
from igs.encoder.fitting.population import Population
from igs.encoder.fitting.safeguards import Safeguards
from igs.encoder.options import Progress
from igs.encoder.raster import multiscale
from igs.encoder.raster.backend import Backend
from igs.encoder.raster.loss import MULTISCALE_EVERY, PERFECT, LossWeights, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise, rate_gradients
from igs.encoder.rounding.learned import Quantizers, Rounding, is_learned
from igs.encoder.rounding.quantize import straight_through
from igs.format.errors import IgsError

EXTEND_RATE = 0.3  # learning rates of a later round: most Gaussians are in place already
# When Gaussians move, in shares of the steps; while the learning rates are high, so that all can settle again. On four
# pictures every 0.04 of the steps was 1 % of bytes worse, up to 0.7 no better.
RELOCATE_EVERY, RELOCATE_FROM, RELOCATE_TO = 0.02, 0.04, 0.62
RELOCATE_LEAST = 16  # steps between two moves in short fits
# When a fit with a budget looks whether its Gaussians still fit into it, in shares of the steps.
REVIEWS = (0.62, 0.75, 0.87)
# Steps: how often the state may become the best one, where the whole loss is known.
CONSIDER_EVERY = 3 * MULTISCALE_EVERY


class Fit(Population):
    """One picture, one recipe. Call :meth:`run`; then :attr:`best` is the model and :attr:`history` the log."""

    def __init__(
        self,
        target: Tensor,  # [C, H, W] stored values
        num_gaussians: int,
        recipe: Recipe,
        backend: Backend,
        *,
        seed: int = 0,
        position_map: NDArray[np.float64] | None = None,  # [H, W] where first positions are drawn; None: the recipe's
        loss_map: NDArray[np.float64] | None = None,  # [H, W] LossWeights.map; first positions are drawn by it as well
        lit: tuple[bool, ...] = (),  # the channels that a gradient is added to; none given: all
        log_every: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_step: Callable[[Fit], None] | None = None,  # checkpoints, pictures
    ) -> None:
        super().__init__(
            target, num_gaussians, recipe, backend, seed=seed, position_map=position_map, loss_map=loss_map, lit=lit
        )
        self.log_every = max(1, min(100, recipe.steps // 10) if log_every is None else log_every)
        self.on_progress, self.on_step = on_progress, on_step
        self.history: list[Progress] = []
        self.quantized = False  # whether steps see the model rounded
        self._plain = True  # whether the last step saw all pixels, and no noise
        self._measured_step = 0  # when somebody who listens was last told more than steps know
        self.best: Model | None = None
        # Learned together with ``best`` (None: nothing is), as is what they were learned with.
        self.quantizers: Quantizers | None = None
        self.learned: Rounding | None = None
        self.best_rounding: dict[str, Tensor] = {}
        self.seed = seed
        self.best_loss = math.inf
        self.guards = Safeguards()
        self.loss_weights = LossWeights(
            recipe.loss_l1, recipe.loss_l2, recipe.loss_ssim, self.loss_map, recipe.loss_ms_ssim
        )
        self.interlace = Interlace(self.target, self.loss_weights)
        # The weights' own mean weight: where they lie the error is about so many times smaller than the weighted one.
        self._emphasis = 1.0 if loss_map is None else float(np.mean(np.square(loss_map)))
        # (a, b): the mean squared error of the file's picture, of which this may be a part, is about a + b·this one's.
        self.error_of_file = (0.0, 1.0)
        self.fence: Fence | None = None  # what this picture's Gaussians must not reach
        self._started = time.perf_counter()
        self.rates = rates_of(recipe, self.options)
        self.noise: Noise | None = None  # set by who knows the channels' meaning; used from recipe.noise_from on
        # How many Gaussians there shall be, asked before the last ones are added, or before any are, and at reviews.
        self.retarget: Callable[[Fit], int] | None = None
        self.retarget_often = False
        self.review: Callable[[Fit], int] | None = None
        self.reviews = {round(share * recipe.steps) for share in REVIEWS}
        self._phase = (0, recipe.steps, 1.0)  # first step, steps and peak factor of the current learning-rate schedule

    @property
    def first_round(self) -> bool:
        """Whether these are the recipe's own steps, and not those of :meth:`extend`."""
        return self._phase[0] == 0

    # -- Gaussians come and go

    def _forget(self) -> None:
        self.best, self.best_loss = None, math.inf
        self.guards.forget()

    def _move(self) -> None:
        """Let Gaussians move, while that does good, unless the last move is to be undone."""
        s, steps = self.state, self.recipe.steps
        if self.guards.undo_move(self) or not RELOCATE_FROM * steps <= s.step <= RELOCATE_TO * steps:
            return
        self.guards.keep_before_move(self)
        if not self.relocate():
            self.guards.before_move = None

    def _plan_anew(self) -> None:
        """Where Gaussians join, let them be as many as are wanted now, shared among the times that are left."""
        step, last = self.state.step, max(self.plan)
        if self.retarget is None or not step or step not in self.plan or not (self.retarget_often or step == last):
            return
        self.num_gaussians = max(self.count, self.retarget(self))
        times = sum(at >= step for at in self.plan)
        self.plan[step] = math.ceil((self.num_gaussians - self.count) / times)

    # -- steps

    def learning_rate(self) -> float:
        """The schedule's factor at the current step."""
        return schedule(self.recipe, self.state, self._phase)

    def run(self, until: int | None = None) -> Model:
        """Take steps up to ``until`` (default: the recipe's) and return the best model seen."""
        r, s = self.recipe, self.state
        end = r.steps if until is None else until
        relocate_every = max(RELOCATE_LEAST, round(RELOCATE_EVERY * r.steps))
        if not s.step and (r.steps == 0 or r.noise_from == 0):  # no step tells how coarse the lattice may be
            self.measure_state()
        while s.step < end:
            if self.on_step:  # before Gaussians come: who goes on from a checkpoint lets them come again
                self.on_step(self)
            if s.step > 0:
                self._plan_anew()
                self.grow(min(self.plan.get(s.step, 0), self.num_gaussians - self.count))
                if r.relocate and s.step % relocate_every == 0:
                    self._move()
                if self.review is not None and s.step in self.reviews:
                    self.shrink(self.review(self))
            self._step(quantized=s.step >= self._phase[0] + self._phase[1] * (1 - r.quantize_forward))
            if s.step % self.log_every == 0 or s.step == end:
                self._log()
            if r.lr_schedule == "plateau" and self._plateau():
                break
        if is_learned(r) and self.learned is None and (until is None or until >= sum(self._phase[:2])):
            self._start_rounding()
        if self.on_step:  # before what is chosen by random numbers: who goes on from here chooses the same
            self.on_step(self)
        if self.fence is not None:
            self.fence.hold(s.model)
        self.consider(self.loss_of(s.model), s.model)
        self.guards.choose_after_noise(self)
        if self.best is None or not self.best.is_finite():
            raise IgsError("the fit diverged: no finite state was reached; try a lower learning rate")
        return self.best.map(Tensor.cpu)

    def extend(self, n: int, steps: int) -> Model:
        """Add n Gaussians to the best model, or leave out −n, and refine all for a number of steps."""
        s = self.state
        if self.best is not None:
            s.model = self.best.clone()
        self.learned = None
        self.guards.before_move = None
        if n < 0:
            self.shrink(self.count + n)
        else:
            self.num_gaussians = self.count + n
            self.grow(n)
        self._phase = (s.step, steps, EXTEND_RATE)
        return self.run(s.step + steps)

    def _step(self, quantized: bool) -> None:
        r, s = self.recipe, self.state
        if quantized and not self.quantized:
            if not is_learned(r):  # losses of plain rounding can't be compared with those before
                self.best, self.best_loss = None, math.inf
            elif self.learned is None:
                self._start_rounding()
        self.quantized = quantized
        if self.fence is not None:
            self.fence.hold(s.model)
        noisy = self.noisy()
        if noisy:
            assert self.noise is not None
            self.guards.keep_before_noise(self)
            seen = self.noise.add(s.model, self._coarseness_there())
        else:
            seen = self._seen(s.model)
        interlaced = self.interlaced(r.interlace)
        result = self.gradient_step(seen, s.step, interlaced)
        self.last, self._plain = result, not (noisy or interlaced)
        grown, whole = self.count >= self.num_gaussians, self.loss_weights.whole_at(s.step)
        if whole:
            self.last_whole = result  # whose loss log lines tell
        if noisy:  # losses of different noise can't be compared: the last state counts
            self.best, self.best_loss = None, math.inf
        elif grown and not interlaced and whole and (s.step % CONSIDER_EVERY == 0 or self.best is None):
            self._consider_step(result)
        if noisy and r.rate_weight:
            # What a bit is worth where more Gaussians would lower the error as usual: their number to the power −⅔.
            bits = rate.bits_per_gaussian(r, self.channels) * len(s.model)
            worth = r.rate_weight * rate.ERROR_FALL * result.mse * self.loss_weights.l2 / bits
            assert self.noise is not None
            scale, feature = rate_gradients(s.model, self.noise.rgb)
            position, by_scale, rotation, by_feature = result.grads
            grads = position, by_scale + worth * scale, rotation, by_feature + worth * feature
            result = dataclasses.replace(result, grads=grads)
        if self._is_settled(result):
            s.step += 1
            return
        factor = self.learning_rate() * self.guards.caution * (r.quantize_lr if quantized else 1.0)
        grads = result.grads
        if self.learned is not None:
            grads = self.learned.learn(s.model, seen, grads, factor)
        self.backend.adam(s.model, grads, s.moments, s.age, self.rates, factor)
        s.step += 1

    def _seen(self, model: Model) -> Model:
        """The model as steps see it now, but for noise: rounded as its file will hold it, or as it is."""
        if self.learned is not None:
            return self.learned.round(model)
        return straight_through(model, self.recipe) if self.quantized else model

    def _is_settled(self, result: StepResult) -> bool:
        """Whether there is no step to take: the fit diverged, and goes back, or is perfect.

        Then gradients are rounding noise, which Adam would blow up to full steps. A device that would have to be waited
        for gives gradients of zero then, and is asked now and then whether the fit diverged.
        """
        if self.backend.asynchronous:
            return self.state.step % CONSIDER_EVERY == 0 and self._came_back(result)
        if not math.isfinite(result.loss):
            self.guards.recover(self)
            return True
        # The multiscale term has rounding of its own, above what is perfect.
        return (result.mse if self.loss_weights.ms_ssim else result.loss) < PERFECT

    def _came_back(self, result: StepResult) -> bool:
        """Whether the fit had diverged, and went back. What isn't finite isn't drawn: the model is looked at, too."""
        diverged = not (math.isfinite(result.loss) and self.state.model.is_finite())
        if diverged:
            self.guards.recover(self)
        return diverged

    def measure_state(self) -> None:
        """Let ``last`` be of the state as it is."""
        loss, mse = self.measures_of(self.state.model)
        nothing = torch.empty(0)
        self.last = self.last_whole = StepResult.of(loss, mse, None, (nothing, nothing, nothing, nothing))

    def gradient_step(self, model: Model, turn: int, interlaced: bool) -> StepResult:
        """Loss and gradients of a model; ``interlaced``: a quarter of the pixels will do (fitting/interlace.py)."""
        if interlaced:
            return self.interlace.step(self.backend, model, self.options, turn)
        return self.backend.step(model, self.options, self.target, self.loss_weights.at(turn))

    def interlaced(self, until: float) -> bool:
        """Whether steps may see a quarter of the pixels now; ``until``: a share of the schedule's steps."""
        progress = (self.state.step - self._phase[0]) / max(1, self._phase[1])
        return progress < until and not self.loss_weights.ssim and self.interlace.suits(self.count)

    def noisy(self) -> bool:
        """Whether this step runs with the noise of the lattice that the model will be rounded to."""
        progress = (self.state.step - self._phase[0]) / max(1, self._phase[1])
        return self.noise is not None and progress >= self.recipe.noise_from

    @property
    def coarseness(self) -> float:
        """How coarse a lattice the current error deserves; 1 at an error of 1/recipe.coarseness.

        With a map of the loss that is the error where the weights lie: the weighted error over the weights' own mean
        weight. Without that division regions of weight 16 had 0.9 to 2.1 dB less and the rest 0.3 to 0.5 dB more (three
        pictures at 0.2 bpp, effort 2), and QR codes 3 and 7 dB less.
        """
        return self.coarseness_of(self.last.mse)

    def coarseness_of(self, mse: float) -> float:
        """The same at a mean squared error of the loss."""
        rest, share = self.error_of_file
        return max(self.recipe.coarseness * math.sqrt(rest + share * mse / self._emphasis), 0.05)

    def _coarseness_there(self) -> float | Tensor:
        """The same without waiting for a device that computes it."""
        if self.last.means_there is None:
            return self.coarseness
        rest, share = self.error_of_file
        mse = rest + share * self.last.means_there[..., 1] / self._emphasis
        return (self.recipe.coarseness * mse.sqrt()).clamp_min(0.05).float()

    def consider(self, loss: float, model: Model) -> None:
        """Remember the model if it is the best so far (and finite)."""
        if math.isfinite(loss) and loss < self.best_loss and model.is_finite():
            self.best, self.best_loss = model.clone(), loss
            if self.learned is not None:
                self.quantizers, self.best_rounding = self.learned.quantizers(), self.learned.state()

    def _consider_step(self, result: StepResult) -> None:
        self.consider(result.loss, self.state.model)

    def _start_rounding(self) -> None:
        """From here on the model is seen as its file will hold it, starting from the best one so far.

        The first one seen is that with plain rounding: what is best from here on is never worse.
        """
        s = self.state
        if self.best is not None and len(self.best) == len(s.model):
            s.model = self.best.clone()
        self.learned = Rounding(s.model, self.recipe, self.seed)
        self.best, self.best_loss = None, math.inf
        self.guards.before_move = None

    def loss_of(self, model: Model) -> float:
        """Loss of a model as it will be seen."""
        return self.measures_of(model)[0]

    def measures_of(self, model: Model) -> tuple[float, float]:
        """Loss and mean squared error of a model as it will be seen."""
        model = model.map(lambda t: t.to(self.backend.place))
        image = self.backend.render(self._seen(model), self.options)
        w = self.loss_weights
        mse, ssim = self.backend.measure(image, self.target, w.ssim > 0, w.map)
        loss = w.l2 * mse + w.ssim * (1 - (ssim or 0.0))
        if w.ms_ssim:

            def ssim_of(a: Tensor, b: Tensor, weight: Tensor | None) -> tuple[float, Tensor]:
                return self.backend.measure(a, b, True, weight)[1] or 0.0, a

            loss += w.ms_ssim * float(multiscale.loss(image, self.target, multiscale.Operations(ssim_of), w.map))
        if w.l1:
            error = (image - self.target).abs()
            loss += w.l1 * float((error if w.map is None else w.map * error).mean())
        return loss, mse

    def _log(self) -> None:
        s, ssim = self.state, self.last.ssim
        mse = self.last.mse if self._plain else None
        due = s.step - self._measured_step >= max(1, min(100, self.recipe.steps // 10)) or s.step == self.recipe.steps
        if ssim is None and self.on_progress and due:  # not part of the loss, and as slow as a step
            self._measured_step = s.step
            image = self.backend.render(s.model, self.options)
            mse, ssim = self.backend.measure(image, self.target, True, self.loss_weights.map)
        entry = Progress(
            s.step,
            self.recipe.steps,
            time.perf_counter() - self._started,
            self.count,
            self.last_whole.loss,
            None if mse is None else psnr_of(mse),
            ssim,
        )
        self.history.append(entry)
        if self.on_progress:
            self.on_progress(entry)

    def _plateau(self) -> bool:
        """Whether to end, as there is no more progress."""
        if self.state.step % 100 or self.count < self.num_gaussians:
            return False
        return plateau(self.recipe, self.state, psnr_of(self.last.mse), self.last.ssim or 0.0)
