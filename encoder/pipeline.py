"""One picture to one file: load → plan the rate → fit → quantise → write → decode again and report.

The report's quality is that of the decoded file, never of the fit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from igs import decoder
from igs.encoder import area, checkpoint, colour, freeze, init, levels, metrics, pack, rate, weighting
from igs.encoder.backend import Backend, Model, TorchBackend
from igs.encoder.devices import FALLBACK_STEPS, choose_backend
from igs.encoder.fit import Fit
from igs.encoder.lattice import Noise, Steps
from igs.encoder.load import SourceImage, load_image, to_stored
from igs.encoder.options import EncodeOptions, Recipe
from igs.format import lit_channels, open_file
from igs.format.describe import bits_per_gaussian
from igs.format.errors import IgsError, InputError, UsageError
from igs.format.lattice import rgb_groups

# --psnr: the number of Gaussians grows by such factors from round to round, from this share of the pixels.
_PSNR_GROWTH, _PSNR_LEAST, _PSNR_START = 1.6, 1.06, 1 / 400
_MUCH_METADATA = 0.25  # of the bytes asked for
_TRIM_TRIALS = 8
# Rate control of lattice files
_RATE_AIM = 1.004  # of the limit before freezing, which takes 0.2 to 0.6 % off; what is too much is left out after it
_LATE_ERROR = 0.9  # the error when all is done, as a share of that when the last Gaussians come
_COARSENESS_SPAN, _COARSENESS_TRIALS = 0.7, 8
# Upwards further: where the error fell more than foreseen after the last Gaussians came (flat pictures), files are too
# large by a half, and coarser steps cost less than Gaussians left out (a stack with flat parts: 39.7 dB, so 43.4 dB).
_COARSENESS_ABOVE = 2.1
_CLOSE = 0.997
_COARSENESS_SLOPE = 3.3  # a factor of 2 in the steps is about 8 bits of a Gaussian's 38
_LOWEST = 0.985  # of the limit: below, a second try
_PSNR_ROUND_STEPS = 0.35  # of the recipe's, per further round


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The file's bytes, and the report that ``igs-encode --json`` prints."""

    data: bytes
    report: dict[str, Any]


def encode(image: Any, options: EncodeOptions | None = None, **settings: Any) -> Encoded:
    """Encode a picture.

    image: a path, a binary file, a ``PIL.Image``, or an array uint8/uint16/float [H, W] or [H, W, C], C ≤ 64, floats
    nominally in [0, 1]; of a texture stack a directory of maps, or a dict of names to any of these or to
    :class:`igs.encoder.TextureMap`. options or settings: fields of :class:`EncodeOptions`; any other name is a field of
    the preset's :class:`Recipe`, such as ``encode(a, bpp=0.2, effort=3, blend="sum")``.
    Raises UsageError for settings that make no sense, InputError for pictures that can't be read, IgsError with
    ``strict_rate`` where a target can't be met.
    """
    options = _options(options, settings)
    started = time.perf_counter()
    rate.check_one_target(options)
    if options.resume is not None and options.psnr is not None:
        raise UsageError("resume: expected a fit with a known number of Gaussians, found a PSNR target")
    if options.checkpoint is not None and not Path(options.checkpoint).absolute().parent.is_dir():
        raise InputError(f"{options.checkpoint}: expected a file in an existing folder for the checkpoint")
    recipe = options.recipe()
    warn = options.on_warning or (lambda message: None)
    source = load_image(image, resample=options.resample)
    if source is not image:  # who loaded the picture has seen its warnings
        for message in source.warnings:
            warn(message)
    backend = choose_backend(options, recipe, warn)
    if recipe.tiles and isinstance(backend, TorchBackend) and "steps" not in options.overrides:
        recipe = dataclasses.replace(recipe, steps=max(1, round(FALLBACK_STEPS * recipe.steps)))
    full = source
    if options.downsample != 1:
        source = area.reduced(source, options.downsample)
        backend = area.AreaBackend(backend, min(options.downsample, area.MOST_POINTS))
    if options.levels > 1:
        if "steps" not in options.overrides:
            recipe = dataclasses.replace(recipe, steps=round(levels.STEPS * recipe.steps))
        others = [choose_backend(options, recipe, lambda message: None) for _ in range(options.levels - 1)]
        if isinstance(backend, area.AreaBackend):
            others = [area.AreaBackend(other, backend.points) for other in others]
        backend = levels.LevelBackend([*others, backend])
    job = _Job(source, recipe, options, backend, full)
    if options.psnr is not None:
        result = _to_psnr(job, options.psnr)
    else:
        result = _to_count(job)
    if result.missed:
        if options.strict_rate:
            raise IgsError(result.missed)
        warn(result.missed)
    if options.levels > 1:
        result = job.with_levels(result)
    report = _report(job, result, time.perf_counter() - started)
    return Encoded(result.data, report)


def _options(options: EncodeOptions | None, settings: dict[str, Any]) -> EncodeOptions:
    options = options or EncodeOptions()
    fields = {f.name for f in dataclasses.fields(EncodeOptions)}
    recipe_fields = {f.name for f in dataclasses.fields(Recipe)}
    for name in settings:
        if name not in fields and name not in recipe_fields:
            raise UsageError(f"expected an encode option or a recipe field, found {name!r}")
    overrides = options.overrides | {k: v for k, v in settings.items() if k not in fields}
    return dataclasses.replace(
        options, **({k: v for k, v in settings.items() if k in fields} | {"overrides": overrides})
    )


@dataclasses.dataclass
class _Result:
    data: bytes
    packed: pack.Packed
    steps: int
    missed: str | None = None
    level_psnr: list[float | None] | None = None


class _Job:
    """What the rate loops share: the stored target, and the way from a model to a file."""

    def __init__(
        self, source: SourceImage, recipe: Recipe, options: EncodeOptions, backend: Backend, full: SourceImage
    ) -> None:
        self.full = full  # what the decoded file is compared with: not reduced
        self.source, self.recipe, self.options, self.backend = source, recipe, options, backend
        self.warn = options.on_warning or (lambda message: None)
        self.groups = colour.stored_groups(source, options.transfer, recipe.gamma, options.linear_light, self.warn)
        stored = to_stored(source.pixels, self.groups)
        target = torch.from_numpy(np.ascontiguousarray(stored.transpose(2, 0, 1)))
        self.stored = target.permute(1, 2, 0).numpy()  # a view
        self.gains = weighting.Gains.of(self.groups, source.weights, recipe)
        self.target = self.gains.weighted(target)
        self.channels = source.channels
        self.pixels = source.width * source.height
        self.sections = {**source.sections, **options.sections}
        if options.levels > 1:
            self.sections = levels.with_psnr(self.sections, [None] * options.levels)
        mean = target.double().mean(dim=(1, 2)).tolist()
        self.background = tuple(mean) if recipe.blend == "topk" else (0.0,) * self.channels
        self.weights = self._weights()

    def _weights(self) -> Any:
        path = self.options.saliency_map
        if path is None:
            return None
        values = load_image(path).pixels.mean(axis=2, dtype=np.float64)
        return init.resample_map(values, self.source.width, self.source.height)

    def fit(self, num_gaussians: int) -> Fit:
        o = self.options
        fit = Fit(
            self.target,
            num_gaussians,
            self.recipe,
            self.backend,
            seed=o.seed,
            weights=self.weights,
            lit=lit_channels(self.groups),
            log_every=o.log_every,
            on_progress=o.on_progress,
            on_step=self._on_step if o.checkpoint or o.render_every or o.on_step else None,
        )
        if self.recipe.coding == "lattice":
            fit.noise = Noise(
                self.channels, len(fit.state.model.feature[0]), rgb_groups(self.groups), o.seed, self.backend.place
            )
        if o.resume is not None:
            checkpoint.restore(fit, o.resume)
        if isinstance(self.backend, levels.LevelBackend):
            self.backend.fit = fit
        return fit

    def _on_step(self, fit: Fit) -> None:
        o, step = self.options, fit.state.step
        if o.on_step:
            o.on_step(fit)
        if o.checkpoint and step and (step % o.checkpoint_every == 0 or step >= self.recipe.steps):
            checkpoint.save(fit, o.checkpoint)
        if o.render_every and step % o.render_every == 0:
            folder = Path(o.render_dir or ".")
            folder.mkdir(parents=True, exist_ok=True)
            self._picture(fit.state.model.map(torch.Tensor.cpu), fit).save(folder / f"step_{step:06d}.png")

    def _picture(self, model: Model, fit: Fit) -> Image.Image:
        stored = self.backend.render(self.gains.unweighted(model), fit.options)
        values = stored.permute(1, 2, 0).numpy().clip(0) ** self.recipe.gamma
        levels = np.floor(np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
        return Image.fromarray(levels[:, :, 0] if levels.shape[2] < 3 else levels[:, :, :3])

    def idle(self, model: Model, fit: Fit) -> torch.Tensor:
        """Gaussians in the order in which they would be missed, the least first."""
        return torch.argsort(fit.removal_costs(model), stable=True)

    def freeze(self, fit: Fit, coarseness: float, rounds: int | None = None) -> Model:
        """The fit's best model with all Gaussians at values that a lattice of this coarseness holds."""
        rgb, features = rgb_groups(self.groups), fit.state.model.feature.shape[1]
        lattice = Steps.of(coarseness, self.channels, features, rgb).record(bool(rgb))
        return freeze.freeze(fit, lattice, rgb, self.options.seed, rounds)

    def pack(self, model: Model, fit: Fit, coarseness: float = 1.0) -> tuple[pack.Packed, bytes]:
        """Codes and file. coarseness: of a lattice."""
        idle = self.idle(model, fit).numpy()
        packed = pack.quantize_model(
            self.gains.unweighted(model), self.recipe, self.stored, self.groups, self.background, idle, coarseness,
            lowpass=fit.options.lowpass, quantizers=fit.quantizers, finer=self.gains.finer,
            ends=self.ends(model),
        )  # fmt: skip
        return packed, pack.to_bytes(packed, self.options.codec, self.options.chunk_size, self.sections)

    def ends(self, model: Model) -> list[int]:
        """How many Gaussians levels 0 … l have together, for each l."""
        return self.backend.ends(model) if isinstance(self.backend, levels.LevelBackend) else [len(model)]

    def with_levels(self, result: _Result) -> _Result:
        """The same file with the PSNR of each of its levels in the metadata."""
        psnr = [self.quality(result.data, level)[0] for level in range(self.options.levels)]
        sections = levels.with_psnr(self.sections, psnr)
        data = pack.to_bytes(result.packed, self.options.codec, self.options.chunk_size, sections)
        return dataclasses.replace(result, data=data, level_psnr=psnr)

    def decoded(self, data: bytes, level: int | None = None) -> np.ndarray:
        """Picture values [H, W, C] in [0, 1] as a user gets them at the source's depth; enlarged if reduced."""
        depth, scale = self.source.bit_depth, self.options.downsample
        size = slice(self.full.height), slice(self.full.width)
        with decoder.open(data, threads=self.options.threads) as im:
            if depth == 32:
                return np.asarray(im.decode(scale, level, "float32"))[size]
            dtype, top = ("uint8", 255) if depth == 8 else ("uint16", 65535)
            return im.decode(scale, level, dtype)[size].astype(np.float32) / np.float32(top)

    def quality(self, data: bytes, level: int | None = None) -> tuple[float | None, float | None]:
        """(PSNR or None where infinite, MS-SSIM or None where too small) of the decoded file."""
        decoded, source = self.compared(data, level)
        return metrics.psnr(decoded, source), metrics.ms_ssim(decoded, source)

    def compared(self, data: bytes, level: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The decoded file and the source, [H, W, C], as quality is measured.

        What can be seen is compared: alpha is multiplied in on both sides, and light above white is by its curve.
        """
        decoded, source = (colour.visible(p, self.groups) for p in (self.decoded(data, level), self.full.pixels))
        return decoded, source


def _to_count(job: _Job) -> _Result:
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
            quality = 75.0 if o.quality is None else o.quality
            n = rate.gaussians_for_quality(quality, job.recipe, job.channels, job.pixels)
            if job.recipe.coding == "lattice" and n > rate.FEWEST:
                # What a Gaussian takes is known only on the way: the rate is kept, not the count.
                payload = rate.quality_to_bpp(quality) * job.pixels / 8
                limit = payload + rate.head_bytes(job.recipe, job.groups, job.sections, job.options.levels)
        else:
            n = rate.gaussians_for_bytes(limit, job.recipe, job.groups, job.sections, o.levels)
            metadata = sum(map(len, job.sections.values()))
            if metadata > _MUCH_METADATA * limit:
                job.warn(f"metadata takes {metadata} of {limit:.0f} bytes; without it the picture could have them")
        smallest = rate.smallest_file(job.recipe, job.groups, job.sections, o.levels)
        if o.size is not None and o.size < smallest:
            raise UsageError(f"size: expected {smallest} or more, the smallest file of this picture, found {o.size}")
        n = max(rate.SMALLEST, o.levels, n)
    if job.recipe.coding == "lattice":
        return _to_lattice(job, n, limit)
    fit = job.fit(n)
    model = fit.run()
    packed, data = job.pack(model, fit)
    return _within(job, fit, limit, model, packed, data, 1.0)


def _within(
    job: _Job, fit: Fit, limit: float | None, model: Model, packed: pack.Packed, data: bytes, coarseness: float
) -> _Result:
    """The file, without the Gaussians that count least where they take it above the limit."""
    while limit is not None and len(data) > limit and _spare(job, model):
        excess = math.ceil((len(data) - limit) * len(model) / len(data))
        model = _without_least(job, fit, model, min(excess, _spare(job, model)))
        packed, data = job.pack(model, fit, coarseness)
    missed, bpp = None, job.options.bpp
    if bpp is not None and limit is not None and len(data) > limit:
        missed = f"--bpp {bpp:g}: the smallest file of this picture has {len(data) * 8 / job.pixels:.4g} bpp"
    return _Result(data, packed, fit.state.step, missed)


def _to_lattice(job: _Job, n: int, limit: float | None) -> _Result:
    """A coded file of n Gaussians, or of at most ``limit`` bytes: one fit, count and coarseness chosen on the way."""
    fit = job.fit(n)
    if limit is not None:
        fit.retarget = lambda f: _affordable(job, f, limit)
    model = fit.run()
    coarseness = fit.coarseness
    if limit is not None:
        coarseness = _coarseness_for(job, fit, model, limit * _RATE_AIM)
    model, packed, data = _frozen(job, fit, coarseness)
    if limit is not None and len(data) < _LOWEST * limit:  # freezing made it smaller than foreseen: finer steps
        finer = coarseness * math.exp((len(data) / (limit * _RATE_AIM) - 1) * _COARSENESS_SLOPE)
        again = _frozen(job, fit, finer)
        if len(again[2]) <= limit * (2 - _LOWEST):  # what is too much below is left out
            coarseness, (model, packed, data) = finer, again
    return _within(job, fit, limit, model, packed, data, coarseness)


def _frozen(job: _Job, fit: Fit, coarseness: float, rounds: int | None = None) -> tuple[Model, pack.Packed, bytes]:
    model = job.freeze(fit, coarseness, rounds)
    return model, *job.pack(model, fit, coarseness)


def _affordable(job: _Job, fit: Fit, limit: float) -> int:
    """How many Gaussians a file of ``limit`` bytes holds, judging by those there are."""
    model = fit.state.model.map(torch.Tensor.cpu)
    _, data = job.pack(model, fit, fit.coarseness * _LATE_ERROR)
    fixed = rate.head_bytes(job.recipe, job.groups, job.sections, job.options.levels)
    return max(1, math.floor((limit - fixed) * len(model) / max(1, len(data) - fixed)))


def _coarseness_for(job: _Job, fit: Fit, model: Model, size: float) -> float:
    """The coarseness at which a model's file has at most ``size`` bytes: a few trials by secants in the logarithm."""
    low, high = math.log(fit.coarseness) - _COARSENESS_SPAN, math.log(fit.coarseness) + _COARSENESS_ABOVE
    at = math.log(fit.coarseness)
    for _ in range(_COARSENESS_TRIALS):
        _, data = job.pack(model, fit, math.exp(at))
        if len(data) > size:
            low = at
        else:
            high = at
            if len(data) > size * _CLOSE:
                break
        # Aim a little below.
        guess = at + (len(data) / (size * (1 + _CLOSE) / 2) - 1) * _COARSENESS_SLOPE
        at = guess if low < guess < high else (low + high) / 2
    return math.exp(high)


def _spare(job: _Job, model: Model) -> int:
    """How many Gaussians can be left out: all but one, of the last level only."""
    return len(model) - [0, *job.ends(model)][-2] - 1


def _without_least(job: _Job, fit: Fit, model: Model, count: int) -> Model:
    first = [0, *job.ends(model)][-2]
    order = job.idle(model, fit)
    keep = torch.ones(len(model), dtype=torch.bool)
    keep[order[order >= first][:count]] = False
    return model.map(lambda t: t[keep].clone())


def _to_psnr(job: _Job, target: float) -> _Result:
    """--psnr: grow, refine, decode, until met, or as many as pixels/8; then as few bytes as still meet it."""
    lattice = job.recipe.coding == "lattice"
    most = max(min(job.pixels, rate.FEWEST), int(job.pixels * rate.MAX_SHARE))
    fit = job.fit(max(job.options.levels, min(most, round(job.pixels * _PSNR_START))))
    model = fit.run()
    steps = max(1, round(_PSNR_ROUND_STEPS * job.recipe.steps))
    while True:
        coarseness = fit.coarseness
        if lattice:
            model, packed, data = _frozen(job, fit, coarseness, 1)
        else:
            packed, data = job.pack(model, fit)
        reached = _reached(job, data)
        n = len(model)
        if reached >= target or n >= most:
            break
        # Twice the Gaussians gain two decibels or more.
        growth = min(max(2 ** ((target - reached) / 2.5), _PSNR_LEAST), _PSNR_GROWTH)
        more = min(most, max(n + 1, math.ceil(n * growth))) - n
        model = fit.extend(more, steps)
    if reached >= target:
        if lattice:
            packed, data = _coarsest(job, fit, target, coarseness)
        else:
            packed, data = _trim(job, fit, model, target, (packed, data))
        reached = _reached(job, data)
    missed = None
    if reached < target:
        missed = f"--psnr {target:g}: reached {reached:.2f} dB with {n} Gaussians, the most that --psnr takes here"
    return _Result(data, packed, fit.state.step, missed)


def _reached(job: _Job, data: bytes) -> float:
    measured, _ = job.quality(data)
    return math.inf if measured is None else measured


def _coarsest(job: _Job, fit: Fit, target: float, coarseness: float) -> tuple[pack.Packed, bytes]:
    """The coarsest lattice on which the decoded file still meets the target; ``coarseness`` does."""
    low, high = math.log(coarseness), math.log(coarseness) + _COARSENESS_SPAN
    for _ in range(_COARSENESS_TRIALS - 2):
        at = (low + high) / 2
        if _reached(job, _frozen(job, fit, math.exp(at), 1)[2]) >= target:
            low = at
        else:
            high = at
    for at in (high, low, low - 0.1, low - 0.3):  # freezing in rounds gains a little, nearly always
        _, packed, data = _frozen(job, fit, math.exp(at))
        if _reached(job, data) >= target:
            return packed, data
    _, packed, data = _frozen(job, fit, coarseness, 1)
    return packed, data


def _trim(
    job: _Job, fit: Fit, model: Model, target: float, met: tuple[pack.Packed, bytes]
) -> tuple[pack.Packed, bytes]:
    """Leave out the Gaussians that count least while the decoded file still meets the target: bisection on how many."""
    low, high = 0, min(int(0.7 * len(model)), _spare(job, model))
    for _ in range(_TRIM_TRIALS):
        count = (low + high + 1) // 2
        if count <= low:
            break
        packed, data = job.pack(_without_least(job, fit, model, count), fit)
        measured, _ = job.quality(data)
        if measured is None or measured >= target:
            low, met = count, (packed, data)
        else:
            high = count - 1
    return met


def _report(job: _Job, result: _Result, seconds: float) -> dict[str, Any]:
    decoded, source = job.compared(result.data)
    psnr, ms_ssim = metrics.psnr(decoded, source), metrics.ms_ssim(decoded, source)
    more: dict[str, Any] = {}
    if len(job.groups) > 1:
        more["bppc"] = len(result.data) * 8 / (job.pixels * job.channels)
        more["groups"] = metrics.by_group(decoded, source, job.groups)
    if job.options.downsample != 1:
        more["downsample"] = job.options.downsample
    if result.level_psnr is not None:
        more["levels"] = _level_report(result, job.pixels)
    return {
        "width": job.source.width,
        "height": job.source.height,
        "channels": job.channels,
        "num_gaussians": len(result.packed.codes),
        "bytes": len(result.data),
        "bpp": len(result.data) * 8 / job.pixels,
        "bits_per_gaussian": bits_per_gaussian(open_file(result.data)),
        "psnr": psnr,
        "exact": psnr is None,
        **colour.alpha_quality(job.decoded(result.data), job.full.pixels, job.groups),
        "ms_ssim": ms_ssim,
        "seconds": round(seconds, 3),
        "steps": result.steps,
        "effort": job.options.effort,
        "preset": job.options.preset,
        "seed": job.options.seed,
        "device": job.backend.device,
        "backend": job.backend.name,
        "rate_met": result.missed is None,
    } | more


def _level_report(result: _Result, pixels: int) -> list[dict[str, Any]]:
    """Bytes up to each level's end, and what they give."""
    ends, counts = [l.end for l in open_file(result.data).levels], result.packed.ends
    rows = zip(counts, ends, result.level_psnr or [], strict=True)
    return [{"num_gaussians": n, "bytes": b, "bpp": 8 * b / pixels, "psnr": p} for n, b, p in rows]
