"""Targets: from a number of Gaussians, bytes, bits per pixel, a quality or a PSNR to the file that meets it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch

from igs.encoder import levels, pack, rate
from igs.encoder.fitting.fit import Fit
from igs.encoder.job import Job, Result
from igs.encoder.raster.model import Model
from igs.encoder.rounding.learned import is_learned
from igs.format.errors import UsageError

# --psnr: from this share of the pixels on the fit finds the number of Gaussians on its way. Then, in rounds, it grows
# by such factors, or, a few times at most, shrinks where the file is so many decibels above the target.
_PSNR_START, _PSNR_GROWTH, _PSNR_LEAST, _PSNR_ABOVE, _PSNR_SHRINKS = 1 / 400, 1.6, 1.06, 0.4, 3
_PSNR_AIM = 0.1  # dB above the target
# By how many decibels the file will be better than the fit is now, at shares of the steps when Gaussians join and at
# reviews: rather too few, since those that turn out not to be needed are left out. At 0.05, 0.3, 0.62, 0.75 and 0.87 it
# was 0 to 5, 0 to 1.5, −0.3 to 0.3, −0.6 to −0.2, 0.1 to 0.7 on photographs, much more on flat pictures early.
_STILL = np.array([(0.05, 3.0), (0.3, 0.5), (0.62, 0.0), (0.75, -0.4), (0.87, 0.3)]).T
_FACTOR = 3.0
# -q: a multiple of what photographs get. The forecast knows no error that never falls, as noise and grain have: those
# would take Gaussians without end, and gain nothing.
_MOST_OF_QUALITY = 2
# A picture with large flat parts gets far better than was foreseen while Gaussians came, and then has more than it
# deserves. They go while the rest can still make up for it (shares of the steps), half of them at a time at most, and
# only those whose error, of which the rest makes up for a half, buys no more than bits do elsewhere. Four crops of 512²
# at qualities of 50, 75 and 100, effort 2, beside files of the same size (--size): before, when at 0.62, 0.75 and 0.87
# two thirds could go at once, whatever they were worth, −17 to +0.4 dB, −4.3 on the mean; so −3.1 to +4.1, +0.2.
_QUALITY_REVIEWS = (0.36, 0.42, 0.48, 0.55, 0.62, 0.69)
_HEALED, _KEPT_AT_ONCE = 2.0, 0.5
_TRIM_TRIALS = 8
# Rate control of lattice files
_RATE_AIM = 1.004  # of the limit before freezing, which takes 0.2 to 0.6 % off; what is too much is left out after it
_LATE_ERROR = 0.9  # the error when all is done, as a share of that when the last Gaussians come
_COARSENESS_SPAN, _COARSENESS_TRIALS = 0.7, 8
# A picture with large flat parts may end with half the error foreseen when its last Gaussians came. Each then deserves
# finer codes, and all of them more bytes than there are: up to this factor they take coarser codes, beyond it those
# least missed are left out while the fit goes on. Factors of 1, 1.8, 2.6, 4 and 6 gave flying_konqui 49.03, 49.95,
# 50.79, 50.63 and 50.40 dB at 0.03 bpp, canopee 44.21, 44.44, 44.51, 44.51 and 44.52; without a review the
# first had 40.85. On kodim07 at 0.4 bpp there was nothing to do.
_LATE_COARSER = 3.0
# Upwards further: where the error fell more than foreseen after the last Gaussians came (flat pictures), files are too
# large by a half, and coarser steps cost less than Gaussians left out (a stack with flat parts: 39.7 dB, so 43.4 dB).
_COARSENESS_ABOVE = 2.1
_CLOSE = 0.997
_NOTCH = math.log(2) / 8  # steps are codes of eighths of an octave: less changes nothing
_COARSENESS_SLOPE = 3.3  # a factor of 2 in the steps is about 8 bits of a Gaussian's 38
_LOWEST = 0.985  # of the limit: below, a second try
_LEAST_SAVING = 0.25  # of a Gaussian's mean bytes: what leaving out the least one is taken to save, when it saved less
_PSNR_ROUND_STEPS = 0.35  # of the recipe's, per further round
# Where a file of plain codes has room for more Gaussians: a round's steps, a share of the recipe's, and rounds at most.
_MORE_STEPS, _MORE_ROUNDS = 0.2, 2


def to_count(job: Job) -> Result:
    """--num-gaussians, --bpp, --size, -q: the count is known before the fit."""
    o, limit = job.options, None
    if o.num_gaussians is not None:
        n = levels.ends_of(o.num_gaussians, o.levels)[-1]
    else:
        if o.size is not None:
            limit = float(o.size)
        elif o.bpp is not None:
            limit = o.bpp * job.pixels / 8
        if limit is None:
            n = rate.gaussians_for_quality(rate.quality_of(o), job.recipe, job.channels, job.pixels)
        else:
            n = rate.gaussians_for_bytes(limit, job.recipe, job.groups, job.sections, o.levels)
        smallest = rate.smallest_file(job.recipe, job.groups, job.sections, o.levels)
        if o.size is not None and o.size < smallest:
            raise UsageError(f"size: expected {smallest} or more, about the smallest file of it, found {o.size}")
        n = max(rate.SMALLEST, o.levels, min(n, job.pixels))
    job.take_more_steps(n)
    if job.recipe.coding == "lattice":
        return _to_lattice(job, n, limit)
    fit = job.fit(n)
    if limit is None or o.codec == "raw":  # raw takes just the bits that the count was planned with
        model = fit.run()
        return _within(job, fit, limit, model, *job.pack(model, fit), 1.0)
    if not is_learned(job.recipe):  # what learned codes will take is not known while Gaussians come
        fit.retarget = lambda f: _affordable(job, f, limit, 1.0)
    model = fit.run()
    packed, data = job.pack(model, fit)
    for _ in range(_MORE_ROUNDS):
        more, loss = _room(job, len(model), len(data), limit), fit.best_loss
        if not more:
            break
        larger = fit.extend(more, max(1, round(_MORE_STEPS * job.recipe.steps)))
        if fit.best_loss > loss:
            break
        model, (packed, data) = larger, job.pack(larger, fit)
    return _within(job, fit, limit, model, packed, data, 1.0)


def _room(job: Job, count: int, size: int, limit: float) -> int:
    """How many more Gaussians a file can hold whose codec took fewer bits than its codes have."""
    if size >= _LOWEST * limit:
        return 0
    fixed = rate.head_bytes(job.recipe, job.groups, job.sections, job.options.levels)
    wanted = math.ceil(count * (limit - fixed) / max(1, size - fixed))
    return max(0, min(wanted, _most(job)) - count)


def _within(
    job: Job, fit: Fit, limit: float | None, model: Model, packed: pack.Packed, data: bytes, coarseness: float
) -> Result:
    """The file, without the Gaussians that count least where they take it above the limit."""
    mean = saving = len(data) / len(model)  # bytes that one Gaussian less takes off; the least ones are small
    while limit is not None and len(data) > limit and _spare(job, model):
        before, excess = len(data), min(math.ceil((len(data) - limit) / saving), _spare(job, model))
        model = model.rows(job.without_idle(model, fit, excess))
        packed, data = job.pack(model, fit, coarseness)
        saving = max((before - len(data)) / excess, _LEAST_SAVING * mean)
    missed, bpp, size = None, job.options.bpp, job.options.size
    what = "the smallest file of this picture"
    if job.options.levels > 1:  # what earlier levels show can't be changed after the fit
        what = "the smallest file of this fit, with one Gaussian left in the last level,"
    if size is not None and len(data) > size:
        raise UsageError(f"size: expected {len(data)} or more, {what.rstrip(',')}, found {size}")
    if bpp is not None and limit is not None and len(data) > limit:
        missed = f"--bpp {bpp:g}: {what} has {len(data) * 8 / job.pixels:.4g} bpp"
    return Result(data, packed, fit.state.step, missed)


def _to_lattice(job: Job, n: int, limit: float | None) -> Result:
    """A coded file of n Gaussians, or of at most ``limit`` bytes: one fit, count and coarseness chosen on the way."""
    fit, model = job.fitted(n, limit, _follow)
    coarseness = fit.coarseness
    if limit is not None:
        coarseness = _coarseness_for(job.sizes(model, fit), coarseness, limit * _RATE_AIM)
    model, packed, data = _frozen(job, fit, coarseness)
    if limit is not None and len(data) < _LOWEST * limit:  # freezing made it smaller than foreseen: finer steps
        finer = coarseness * math.exp((len(data) / (limit * _RATE_AIM) - 1) * _COARSENESS_SLOPE)
        again = _frozen(job, fit, finer)
        if len(again[2]) <= limit * (2 - _LOWEST):  # what is too much below is left out
            coarseness, (model, packed, data) = finer, again
    return _within(job, fit, limit, model, packed, data, coarseness)


def _follow(job: Job, fit: Fit, limit: float | None) -> None:
    """Let a fit choose its number of Gaussians on the way: as many as ``limit`` bytes hold, or as a quality buys."""
    if limit is not None:
        fit.retarget = lambda f: _affordable(job, f, limit, _LATE_ERROR)
        fit.review = lambda f: _affordable(job, f, limit, _LATE_COARSER)
    elif job.options.num_gaussians is None:
        quality = rate.quality_of(job.options)
        fit.retarget, fit.retarget_often = functools.partial(_worthwhile, job, quality), True
        fit.review = functools.partial(_worth_keeping, job, quality)
        fit.reviews = {round(share * fit.recipe.steps) for share in _QUALITY_REVIEWS}


def _forecast(fit: Fit) -> float:
    """The mean squared error that a file of as many Gaussians as there are now will have, about."""
    still = np.interp(fit.state.step / max(1, fit.recipe.steps), *_STILL)
    return float(fit.last.mse * 10 ** (-still / 10))


def _most(job: Job) -> int:
    """Gaussians beyond which there is no compression."""
    return max(min(job.pixels, rate.FEWEST), int(job.pixels * rate.MAX_SHARE))


def _worthwhile(job: Job, quality: float, fit: Fit) -> int:
    """How many Gaussians a quality buys: as long as the error over the rate is above what it says a bit is worth."""
    n = fit.count
    bpp = n * rate.bits_per_gaussian(job.recipe, job.channels) / job.pixels
    worth = _forecast(fit) * job.worth / bpp
    wanted = n * (worth / rate.least_worth(quality)) ** (1 / (1 + rate.ERROR_FALL))
    most = _MOST_OF_QUALITY * rate.gaussians_for_quality(quality, job.recipe, job.channels, job.pixels)
    return max(job.options.levels, job.fewest, min(round(_near(n, wanted)), most, _most(job)))


def _worth_keeping(job: Job, quality: float, fit: Fit) -> int:
    """How many of its Gaussians a quality keeps: as :func:`_worthwhile`, but all that are worth their bits."""
    wanted = _worthwhile(job, quality, fit)
    if wanted >= fit.count:
        return wanted
    # By so much the mean squared error rises per bit and pixel, where it falls with the rate as usual.
    least = rate.ERROR_FALL * rate.least_worth(quality) / job.worth
    bits = rate.bits_per_gaussian(job.recipe, job.channels)
    costs = fit.removal_costs(fit.state.model)
    idle = int((costs < _HEALED * least * bits * job.channels).sum())
    return max(wanted, fit.count - idle, math.ceil(_KEPT_AT_ONCE * fit.count))


def _near(count: int, wanted: float) -> float:
    """At most so many times more or fewer Gaussians at once: forecasts reach no further."""
    return min(max(wanted, count / _FACTOR), count * _FACTOR)


def _sufficient(job: Job, target: float, fit: Fit) -> int:
    """How many Gaussians a PSNR takes."""
    error = 10 ** (-(target + _PSNR_AIM) / 10)
    wanted = fit.count * (_forecast(fit) / error) ** (1 / rate.ERROR_FALL)
    return max(job.options.levels, min(math.ceil(_near(fit.count, wanted)), _most(job)))


def _frozen(job: Job, fit: Fit, coarseness: float, rounds: int | None = None) -> tuple[Model, pack.Packed, bytes]:
    model = job.freeze(fit, coarseness, rounds)
    return model, *job.pack(model, fit, coarseness)


def _affordable(job: Job, fit: Fit, limit: float, coarser: float) -> int:
    """How many Gaussians a file of ``limit`` bytes holds, judging by those there are; one for each pixel at most.

    coarser: how many times as coarse as their current error deserves they may be.
    """
    model = fit.state.model.map(torch.Tensor.cpu)
    size = job.sizes(model, fit)(fit.coarseness * coarser)
    fixed = rate.head_bytes(job.recipe, job.groups, job.sections, job.options.levels)
    wanted = math.floor((limit - fixed) * len(model) / max(1, size - fixed))
    return max(job.options.levels, min(wanted, job.pixels))


def _coarseness_for(size_at: Callable[[float], int], start: float, aim: float) -> float:
    """The coarseness at which a file has at most ``aim`` bytes: a few trials by secants in the logarithm."""
    at = math.log(start)
    low, high = at - _COARSENESS_SPAN, at + _COARSENESS_ABOVE
    bold = _NOTCH
    fits = False  # whether ``high`` was tried
    for _ in range(_COARSENESS_TRIALS):
        size = size_at(math.exp(at))
        if size > aim:
            low = at
        else:
            high, fits = at, True
            if size > aim * _CLOSE or high - low < _NOTCH / 4:
                break
        # Aim a little below.
        guess = at + (size / (aim * (1 + _CLOSE) / 2) - 1) * _COARSENESS_SLOPE
        if not fits:  # steps grow, or the slope of a picture that pays little for precision would never get there
            guess, bold = max(guess, at + bold), 2 * bold
        at = guess if low < guess < high else (low + high) / 2
    return math.exp(high)


def _spare(job: Job, model: Model) -> int:
    """How many Gaussians can be left out: all but one, of the last level only."""
    return len(model) - [0, *job.ends(model)][-2] - 1


def to_psnr(job: Job, target: float) -> Result:
    """--psnr: fit, decode, add or leave out, until met, or as many as pixels/8; then as few bytes as still meet it."""
    lattice, most = job.recipe.coding == "lattice", _most(job)
    start = max(job.options.levels, min(most, round(job.pixels * _PSNR_START)))
    job.take_more_steps(start)
    fit = job.fit(start)
    if lattice:
        fit.retarget, fit.retarget_often = functools.partial(_sufficient, job, target), True
        fit.review = fit.retarget
    model = fit.run()
    fit.retarget = fit.review = None
    steps = max(1, round(_PSNR_ROUND_STEPS * job.recipe.steps))
    shrinks, short = _PSNR_SHRINKS if lattice else 0, job.options.levels - 1  # the most Gaussians that were too few
    while True:
        coarseness = fit.coarseness
        if lattice:
            model, packed, data = _frozen(job, fit, coarseness, 1)
        else:
            packed, data = job.pack(model, fit)
        reached, n = _reached(job, data), len(model)
        if reached < target and n < most:
            # Twice the Gaussians gain two decibels or more.
            growth, short = min(max(2 ** ((target - reached) / 2.5), _PSNR_LEAST), _PSNR_GROWTH), n
            wanted = min(most, max(n + 1, math.ceil(n * growth)))
        elif reached > target + _PSNR_ABOVE and shrinks and n > short + 1:
            if reached > target + 1.0:
                short = job.options.levels - 1  # of a fit that has taken more steps since
            fewer, shrinks = n * 10 ** ((target + _PSNR_AIM - reached) / (10 * rate.ERROR_FALL)), shrinks - 1
            wanted = min(n - 1, max(short + 1, math.ceil(fewer)))
        else:
            break
        model = fit.extend(wanted - n, steps)
    if reached >= target:
        if lattice:
            model, packed, data, coarseness = _coarsest(job, fit, target, coarseness)
        packed, data = _trim(job, fit, model, target, (packed, data), coarseness)
        reached = _reached(job, data)
    missed = None
    if reached < target:
        missed = f"--psnr {target:g}: reached {reached:.2f} dB with {n} Gaussians, the most that --psnr takes here"
    return Result(data, packed, fit.state.step, missed)


def _reached(job: Job, data: bytes) -> float:
    measured = job.errors(data).psnr()
    return math.inf if measured is None else measured


def _coarsest(job: Job, fit: Fit, target: float, coarseness: float) -> tuple[Model, pack.Packed, bytes, float]:
    """Model and file on the coarsest lattice on which it still meets the target, and that; ``coarseness`` does."""
    low, high = math.log(coarseness), math.log(coarseness) + _COARSENESS_SPAN
    for _ in range(_COARSENESS_TRIALS - 2):
        at = (low + high) / 2
        if _reached(job, _frozen(job, fit, math.exp(at), 1)[2]) >= target:
            low = at
        else:
            high = at
    for at in (high, low, low - 0.1, low - 0.3):  # freezing in rounds gains a little, nearly always
        frozen = _frozen(job, fit, math.exp(at))
        if _reached(job, frozen[2]) >= target:
            return *frozen, math.exp(at)
    return *_frozen(job, fit, coarseness, 1), coarseness


def _trim(
    job: Job, fit: Fit, model: Model, target: float, met: tuple[pack.Packed, bytes], coarseness: float
) -> tuple[pack.Packed, bytes]:
    """Leave out the Gaussians that count least while the decoded file still meets the target: bisection on how many."""
    low, high = 0, min(int(0.7 * len(model)), _spare(job, model))
    for _ in range(_TRIM_TRIALS):
        count = (low + high + 1) // 2
        if count <= low:
            break
        packed, data = job.pack(model.rows(job.without_idle(model, fit, count)), fit, coarseness)
        if _reached(job, data) >= target:
            low, met = count, (packed, data)
        else:
            high = count - 1
    return met
