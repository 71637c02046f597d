"""What a fit comes back to: where it diverged, where noise spoilt it, and where Gaussians moved and it didn't heal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from igs.encoder.fitting.checkpoint import FitState, zero_moments
from igs.encoder.raster.loss import StepResult
from igs.encoder.raster.model import Model

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

# How many times the loss before a move is still there at the next one where the move is undone. Of a dozen fits one had
# such moves, 3.5 times: 40.10 dB without it, 38.82 with (road_runner, 0.08 bpp). Short fits have 1.6 without harm.
UNHEALED = 2.0


class Safeguards:
    """States of one fit, all of the same number of Gaussians, and how it comes back to them."""

    def __init__(self) -> None:
        # Before there was noise, as what comes after it may be worse: loss, mean squared error, model.
        self.before_noise: tuple[float, float, Model] | None = None
        self.before_move: tuple[float, FitState] | None = None  # before the last Gaussians moved, with its loss
        self.caution = 1.0  # factor of all learning rates, halved whenever the fit diverged

    def forget(self) -> None:
        """Of other numbers of Gaussians nothing is better or worse."""
        self.before_noise = self.before_move = None

    def keep_before_noise(self, fit: Fit) -> None:
        """Remember the best state so far as one to come back to, unless there is one."""
        model = fit.state.model if fit.best is None else fit.best
        if self.before_noise is None and model.is_finite():
            model = model.clone()
            loss, mse = fit.measures_of(model)
            if math.isfinite(loss):
                self.before_noise = loss, mse, model

    def choose_after_noise(self, fit: Fit) -> None:
        """Take the state before there was noise if it is better than the best one, both seen with the same noise.

        Without noise it often is, by a tenth of a decibel: what noise teaches shows when codes are rounded.
        """
        if self.before_noise is None:
            return
        loss, mse, model = self.before_noise
        assert fit.noise is not None
        state, losses = fit.noise.generator.get_state(), []
        for candidate in (model, fit.best):
            if candidate is None:
                losses.append(math.inf)
                continue
            fit.noise.generator.set_state(state)
            losses.append(fit.loss_of(fit.noise.add(candidate, fit.coarseness_of(mse))))
        if not losses[1] <= losses[0]:
            fit.best, fit.best_loss = model, loss
            fit.last = fit.last_whole = StepResult.of(loss, mse, None, fit.last.grads)

    def keep_before_move(self, fit: Fit) -> None:
        """Remember the state that Gaussians are about to move in; losses with noise tell nothing."""
        if not fit.noisy():
            self.before_move = fit.last_whole.loss, fit.state.gaussians()

    def undo_move(self, fit: Fit) -> bool:
        """Go back to before the last move if what it broke has not healed by the next one; each is asked of once."""
        before, self.before_move = self.before_move, None
        if before is None or fit.noisy() or not fit.last_whole.loss > UNHEALED * before[0]:
            return False
        gaussians = before[1]
        fit.state.model, fit.state.moments, fit.state.age = gaussians.model, gaussians.moments, gaussians.age
        return True

    def recover(self, fit: Fit) -> None:
        """Go back to the last state known to be good, and on in smaller steps; without one the fit is lost."""
        s, good = fit.state, fit.best
        if good is None and self.before_noise is not None:
            good = self.before_noise[2]
        elif good is None and self.before_move is not None:
            good = self.before_move[1].model
        if good is not None:
            s.model, s.moments = good.clone(), [zero_moments(t) for t in good.tensors()]
            s.age.zero_()
            self.caution *= 0.5
            fit.measure_state()
