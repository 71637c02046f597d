"""A stack in parts (spec §3.6): which maps share Gaussians, each part encoded alone, and all of them in one file."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from igs.encoder import colour, parts, rate, weighting
from igs.encoder.job import Job, Result
from igs.encoder.loading import downsample
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import EncodeOptions, Progress
from igs.encoder.parts import Curve, Found, Parts
from igs.encoder.progress import OneOfSeveral
from igs.encoder.raster.backend import Backend
from igs.encoder.recipe import Recipe
from igs.format import each_group, join, open_file
from igs.format.errors import UsageError, teller
from igs.format.parts import table_bytes

Fitted = Callable[..., tuple[Job, Result]]  # pipeline.fitted

_PROBE_EFFORT = 1
_LEAST_EFFORT = 3  # below it time is worth more than bytes: no search
_LEAST_BYTES = 400  # for each map: below it heads are too much of a file in parts
_SMALL_PARTS = 1.5  # times its smallest file is what a part gets at least
# Where the parts as they came out tell that another split of the bytes would lower the error by so much, those whose
# bytes change by more than a tenth are encoded again.
_WORTH_AGAIN, _CHANGED = 0.97, 0.1
# So often at most parts are encoded together, as they will be, where quick encodes left open whether that is better.
_DOUBTS = 2


@dataclasses.dataclass(frozen=True)
class Search:
    """parts: that are known; None: to be looked for.

    limit: bytes of the file; None: each part has what a quality buys, or so many Gaussians, or meets a PSNR.
    """

    parts: Parts | None
    limit: float | None


def wanted(options: EncodeOptions, source: SourceImage, recipe: Recipe) -> Search | None:
    """Whether a picture is to be encoded in parts, and what is known of them. None: in one.

    Raises UsageError for parts that were asked for where there can't be any.
    """
    asked = options.parts
    if asked == parts.ONE:
        return None
    problem = _problem(options, source, recipe)
    limit = _limit(options, source)
    if asked == parts.AUTO:
        least = sum(max(_LEAST_BYTES, _smallest(recipe, source, (i,))) for i in range(len(source.groups)))
        small = limit is not None and limit - _metadata_bytes(options, source) < least
        counted = options.num_gaussians is not None or options.psnr is not None
        quick = options.effort < _LEAST_EFFORT
        return None if problem is not None or counted or small or quick else Search(None, limit)
    if problem is not None:
        raise UsageError(f"parts: expected {problem}")
    chosen = tuple((i,) for i in range(len(source.groups))) if isinstance(asked, str) else parts.by_names(asked, source)
    return None if len(chosen) == 1 else Search(chosen, limit)


def _problem(options: EncodeOptions, source: SourceImage, recipe: Recipe) -> str | None:
    """What stands in the way of parts: what was expected and found."""
    o = options
    if len(source.groups) < 2:
        return "a stack of maps, found a picture of one group"
    if o.levels > 1:
        return f"one level beside them, found {o.levels}"
    for name in ("checkpoint", "resume", "render_every", "on_step"):
        if getattr(o, name) is not None:
            return f"no {name} beside them: there are several fits"
    if recipe.lowpass_alpha:
        return "a recipe without a lowpass, which depends on the number of Gaussians"
    return None


def _limit(options: EncodeOptions, source: SourceImage) -> float | None:
    """Bytes of the file."""
    if options.size is not None:
        return float(options.size)
    if options.bpp is None:
        return None
    width, height = (-(-side // options.downsample) for side in (source.width, source.height))
    return options.bpp * width * height / 8


def _metadata_bytes(options: EncodeOptions, source: SourceImage) -> int:
    """What sections take of the file."""
    return rate.metadata_bytes({**source.sections, **options.sections})


def _smallest(recipe: Recipe, source: SourceImage, part: Sequence[int]) -> float:
    """Bytes that a part gets at least."""
    return _SMALL_PARTS * rate.smallest_file(recipe, tuple(source.groups[i] for i in part), {})


def in_parts(
    source: SourceImage, options: EncodeOptions, search: Search, fitted: Fitted
) -> tuple[Job, Result, list[dict[str, Any]]]:
    """The file of a stack in parts; the job is that of the whole, for measuring. With what is in each part.

    bytes there are those of payloads.
    """
    encoder = _Encoder(source, options, fitted)
    plan = encoder.plan(search)
    made = encoder.encode(plan.curves, search.limit)
    if search.limit is not None:
        made = encoder.joined(made, plan.doubtful)
        made = encoder.again(made, search.limit)
    found = tuple(one.curve.groups for one in made)
    whole = encoder.whole()
    sections = {**source.sections, **options.sections}
    data = join([one.result.data for one in made], found, sections, whole.limits)
    if search.limit is not None and len(data) > search.limit:
        made = encoder.smaller(made, math.ceil(len(data) - search.limit))
        data = join([one.result.data for one in made], found, sections, whole.limits)
    results = [one.result for one in made]
    missed = next((r.missed for r in results if r.missed), None)
    if search.limit is not None and len(data) > search.limit:
        missed = _too_large(options, len(data), whole)
    count = sum(r.num_gaussians for r in results)
    result = Result(data, None, max(r.steps for r in results), missed, num_gaussians=count)
    with open_file(data, whole.limits) as file:
        extents = [file.part_extent(part) for part in file.parts]
    about = [
        {"groups": [source.groups[i].name for i in part], "num_gaussians": e.num_gaussians, "bytes": e.num_bytes}
        for part, e in zip(found, extents, strict=True)
    ]
    return whole, result, about


def _too_large(options: EncodeOptions, size: int, job: Job) -> str:
    if options.size is not None:
        raise UsageError(f"size: expected {size} or more, the smallest file of these parts, found {options.size}")
    return f"--bpp {options.bpp:g}: the smallest file of these parts has {size * 8 / job.pixels:.4g} bpp"


@dataclasses.dataclass(frozen=True)
class _Made:
    """A part as it came out. curve: through its bytes and its error, which is 0 where nothing asks for it."""

    curve: Curve
    result: Result


class _Encoder:
    """Encodes parts of a picture, quickly for the search and then each as it will be."""

    def __init__(self, source: SourceImage, options: EncodeOptions, fitted: Fitted) -> None:
        self.source, self.options, self.fitted = source, options, fitted
        self.started = time.perf_counter()
        self.backend: Backend | None = None  # of the latest fit
        # Of the whole picture, before a fit: parts know less of what is wrong with it.
        recipe, warn = options.recipe(), teller(options.on_warning)
        colour.stored_groups(source, options.transfer, recipe.gamma, options.linear_light, warn)
        weighting.Gains.of(source.groups, source.weights, recipe)
        self.reduced = source if options.downsample == 1 else downsample.reduced(source, options.downsample)
        weights = source.weights or (1.0,) * len(source.groups)
        self.weights = dict(zip((g.name for g in source.groups), weights, strict=True))
        channels = [w * g.channels for w, g in zip(weights, source.groups, strict=True)]
        self.weighted_channels, self.channels = channels, source.channels

    def plan(self, search: Search) -> Found:
        """The parts with their errors by bytes, as far as these matter."""
        if search.limit is not None:
            total = search.limit - _metadata_bytes(self.options, self.source)
        else:
            bpp = rate.quality_to_bpp(rate.quality_of(self.options)) * max(1.0, self.channels / 3)
            total = bpp * self.reduced.width * self.reduced.height / 8
        if search.parts is None:
            return parts.search(self.reduced, total, self.probe)
        if search.limit is None:  # nothing is to be shared out
            return Found([Curve(part, total, 0.0) for part in search.parts], [])
        return Found(parts.measured(search.parts, self.reduced, total, self.probe), [])

    def divided(self, curves: Sequence[Curve], limit: float) -> list[float]:
        """Sizes of files of one part each that make a file of ``limit`` bytes together: heads and metadata apart.

        Where the limit is too low for all of them a size is refused, and a rate will be missed.
        """
        n, limit = len(curves), limit - _metadata_bytes(self.options, self.source)
        left = limit + rate.FIXED_BYTES * (n - 1) - table_bytes(n, len(self.source.groups))
        floors = [self._smallest(curve.groups) for curve in curves]
        if sum(floors) > left:
            if self.options.size is None:
                return floors
            least = math.ceil(sum(floors) + self.options.size - left)
            raise UsageError(f"size: expected {least} bytes or more for these parts, found {self.options.size}")
        sizes = parts.divide(curves, limit)
        kept = list(sizes)
        for _ in curves:  # what the smallest ones need comes from the others
            spare = left - sum(f for f, k in zip(floors, kept, strict=True) if k <= f)
            wanted = sum(k for f, k in zip(floors, kept, strict=True) if k > f)
            kept = [f if k <= f else k * spare / wanted for f, k in zip(floors, kept, strict=True)]
        return kept

    def _smallest(self, part: Sequence[int]) -> float:
        """Bytes that a part gets at least."""
        return _smallest(self.options.recipe(), self.source, part)

    def probe(self, part: tuple[int, ...], size: float) -> tuple[float, float]:
        """A quick encode of a part in about so many bytes: how many they are, and its weighted squared error."""
        source = parts.part_of(self.reduced, part)
        o = dataclasses.replace(
            self._alone(), effort=min(self.options.effort, _PROBE_EFFORT), downsample=1, quality=None, on_progress=None,
            log_every=2**31,
        )  # fmt: skip
        if self.options.downsample != 1:
            o = dataclasses.replace(o, roi=())  # regions are of the full picture
        given = {name: value for name, value in o.overrides.items() if name != "steps"}
        steps = dataclasses.replace(o, overrides=given).recipe().steps
        # So many and no more, as large pictures else get; and all are rounded at once. Of four stacks at two rates
        # (512²) this finds the same parts, or leaves open (Found.doubtful) what differs.
        given["steps"] = min(steps, o.overrides.get("steps", steps))
        o = dataclasses.replace(o, overrides=given)
        recipe = dataclasses.replace(o.recipe(), compensate=False, freeze_rounds=1)
        most = max(1, int(rate.MAX_SHARE * source.width * source.height))
        count = min(max(rate.gaussians_for_bytes(size, recipe, source.groups, {}), rate.SMALLEST), most)
        job, result = self.fitted(source, dataclasses.replace(o, num_gaussians=count), recipe, _ignore)
        if self.options.on_progress is not None:  # that something happens
            steps = self.options.recipe().steps * len(self.source.groups)
            self.options.on_progress(Progress(0, steps, time.perf_counter() - self.started, count, 0.0))
        return float(len(result.data)), self._error(job, result)

    def _error(self, job: Job, result: Result) -> float:
        """The squared error of a part, summed over its channels with their weights."""
        weights = [self.weights[at.group.name] for at in each_group(job.groups) for _ in range(at.group.channels)]
        return float((job.errors(result.data).means() * weights).sum())

    def _alone(self) -> EncodeOptions:
        """The options of one part."""
        return dataclasses.replace(
            self.options, sections={}, parts=parts.ONE, bpp=None, size=None, strict_rate=False, on_warning=_ignore
        )

    def encode(self, curves: Sequence[Curve], limit: float | None) -> list[_Made]:
        """All parts in order. What one leaves of its bytes the next ones get."""
        made: list[_Made] = []
        sizes = None if limit is None else self.divided(curves, limit)
        left, started = sum(sizes or ()), time.perf_counter()
        for number, curve in enumerate(curves):
            tell = self.options.on_progress
            taken = sum(one.result.steps for one in made)
            later = None if tell is None else OneOfSeveral(tell, taken, len(curves) - number, started)
            size = None if sizes is None else left * sizes[number] / sum(sizes[number:])
            made.append(self._one(curve, size, later))
            left -= len(made[-1].result.data)
        return made

    def _one(self, curve: Curve, size: float | None, tell: Callable[[Progress], None] | None = None) -> _Made:
        """One part as it will be, in so many bytes; None: as the options say."""
        o, part = dataclasses.replace(self._alone(), on_progress=tell), curve.groups
        worth = None
        if size is None:
            own = sum(self.weighted_channels[i] for i in part) / sum(self.weighted_channels)
            worth = max(1.0, self.channels / 3) * own
        else:
            o = dataclasses.replace(o, size=int(max(size, self._smallest(part))), quality=None)
        share = len(part) / len(self.source.groups)  # all parts together are held against a reader's limits
        job, result = self.fitted(parts.part_of(self.source, part), o, o.recipe(), _ignore, worth, share)
        self.backend = job.backend
        error = 0.0 if size is None else self._error(job, result)
        return _Made(Curve(part, float(len(result.data)), error, curve.fall), result)

    def joined(self, made: list[_Made], doubtful: Sequence[Parts]) -> list[_Made]:
        """The parts, those that were doubtful together where that is better at the same bytes."""
        for some in doubtful[:_DOUBTS]:
            apart = [one for one in made if one.curve.groups in some]
            if len(apart) == len(some):  # none is part of others by now
                size, error = sum(one.curve.size for one in apart), sum(one.curve.error for one in apart)
                fall = sum(one.curve.fall for one in apart) / len(apart)
                both = self._one(Curve(parts.together(some), size, error, fall), size)
                if both.curve.error < error:
                    made = [one for one in made if one not in apart] + [both]
        return sorted(made, key=lambda one: one.curve.groups)

    def again(self, made: list[_Made], limit: float) -> list[_Made]:
        """The same parts, some with other bytes where the split turned out bad; as they are where that is no better."""
        curves = [one.curve for one in made]
        sizes, error = self.divided(curves, limit), sum(c.error for c in curves)
        changes = [abs(size / c.size - 1) > _CHANGED for c, size in zip(curves, sizes, strict=True)]
        if sum(c.at(b) for c, b in zip(curves, sizes, strict=True)) >= _WORTH_AGAIN * error or not any(changes):
            return made
        # Those that stay have the bytes that they have; the others share what these leave.
        spare = sum(sizes) - sum(c.size for c, change in zip(curves, changes, strict=True) if not change)
        if spare <= 0:
            return made
        factor = spare / sum(b for b, change in zip(sizes, changes, strict=True) if change)
        other = [
            self._one(one.curve, size * factor) if change else one
            for one, size, change in zip(made, sizes, changes, strict=True)
        ]
        fits = sum(one.curve.size for one in other) <= max(sum(sizes), sum(c.size for c in curves))
        return other if fits and sum(one.curve.error for one in other) < error else made

    def smaller(self, made: list[_Made], excess: int) -> list[_Made]:
        """The same with so many bytes fewer in the largest part, if that is possible.

        All parts together may have an index of two stages where none alone has one (spec §4).
        """
        largest = max(made, key=lambda one: one.curve.size)
        size = largest.curve.size - excess
        if size < self._smallest(largest.curve.groups):
            return made
        return [self._one(one.curve, size) if one is largest else one for one in made]

    def whole(self) -> Job:
        """A job for measuring all parts together."""
        o = dataclasses.replace(self.options, on_warning=_ignore)
        assert self.backend is not None
        return Job(self.reduced, o.recipe(), o, self.backend, self.source)


def _ignore(message: str) -> None:
    """Say nothing: it was said of the whole picture."""
