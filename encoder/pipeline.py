"""One picture to one file: load → plan the rate → fit → quantise → write → decode again and report.

The report's quality is that of the decoded file, never of the fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from igs.csrc.cuda_compile import CudaUnavailable
from igs.decoder.grid import MAX_SIDE
from igs.encoder import colour, levels, metrics, multipart, rate, regions, super_tiles, targets
from igs.encoder.job import Job, Result
from igs.encoder.loading import downsample
from igs.encoder.loading.image import load_image
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import EncodeOptions
from igs.encoder.raster import area
from igs.encoder.raster.backend import Backend
from igs.encoder.raster.devices import FALLBACK_STEPS, choose_backend, torch_threads
from igs.encoder.recipe import Recipe
from igs.format import Alpha, open_file
from igs.format.describe import bits_per_gaussian
from igs.format.errors import IgsError, InputError, Unsupported, UsageError, teller
from igs.format.limits import Limits

_NO_MEMORY = ("can't allocate memory", "not enough memory")  # PyTorch's words, on the CPU
MUCH_METADATA = 0.25  # of a file's bytes


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
    Maps of a stack that share no edges become parts of the file, with Gaussians of their own (``EncodeOptions.parts``).
    Raises UsageError for settings that make no sense or have no effect, InputError for pictures that can't be read and
    for places that can't be written to, IgsError with ``strict_rate`` where a target can't be met.
    """
    options = _options(options, settings)
    options.check()
    started = time.perf_counter()
    rate.check_one_target(options)
    _check_checkpoint(options)
    recipe = options.recipe()
    warn = teller(options.on_warning)
    source = _load(image, options, warn)
    tiled = super_tiles.side_of(options, source, recipe) is not None
    _make_render_dir(options)
    search = None if tiled else multipart.wanted(options, source, recipe)
    if search is None:
        job, result = fitted(source, options, recipe, warn)
        found = _report(job, result, started)
    else:
        job, result, parts = multipart.in_parts(source, options, search, fitted)
        found = _report(job, result, started) | ({"parts": parts} if len(parts) > 1 else {})
    if result.missed:
        if options.strict_rate:
            raise IgsError(result.missed)
        warn(result.missed)
    metadata = sum(map(len, (source.sections | options.sections).values()))
    if metadata > MUCH_METADATA * len(result.data):
        warn(f"metadata takes {metadata} of {len(result.data)} bytes; without it the picture could have them")
    return Encoded(result.data, found)


def fitted(
    source: SourceImage,
    options: EncodeOptions,
    recipe: Recipe,
    warn: Callable[[str], None],
    worth: float | None = None,
    share: float = 1.0,
) -> tuple[Job, Result]:
    """A picture as a file of one part. worth, share: see ``Job``."""
    tiled = super_tiles.side_of(options, source, recipe) is not None
    if max(source.width, source.height) > MAX_SIDE:
        raise InputError(
            f"{source.name}: expected at most {MAX_SIDE} pixels a side, found {source.width}×{source.height}"
        )
    backend = _backend(options, recipe, warn)
    if recipe.tiles and backend.name == "torch" and "steps" not in options.overrides:
        recipe = dataclasses.replace(recipe, steps=max(1, round(FALLBACK_STEPS * recipe.steps)))
    full = source
    if options.downsample != 1:
        source = downsample.reduced(source, options.downsample)
        recipe = dataclasses.replace(recipe, interlace=0.0)  # of means there are no point samples
    if source.width * source.height > Limits.pixels or max(source.width, source.height) > Limits.side:
        warn(
            f"a picture of {source.width}×{source.height} pixels is above the default limits: readers of the file "
            "refuse it unless theirs are raised"
        )
    if options.levels > 1 and "steps" not in options.overrides:
        recipe = dataclasses.replace(recipe, steps=levels.steps_of(recipe.steps, options.levels))
    with torch_threads(backend, options), _errors_of_the_fit(backend):
        kind = super_tiles.SuperTiledJob if tiled else Job
        job = kind(source, recipe, options, backend, full, worth, share)
        result = targets.to_count(job) if options.psnr is None else targets.to_psnr(job, options.psnr)
    if options.levels > 1:
        result = job.with_levels(result)
    return job, result


@contextlib.contextmanager
def _errors_of_the_fit(backend: Backend) -> Iterator[None]:
    """PyTorch's errors of memory, and the GPU's, as what they are."""
    try:
        yield
    except CudaUnavailable as error:  # it was there when the fit began
        raise Unsupported(f"{backend.name}: {error}") from error
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, torch.cuda.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
            raise MemoryError(f"{backend.name}: {error}") from error
        raise


def _check_checkpoint(options: EncodeOptions) -> None:
    """Raise where a checkpoint can't be gone on from (UsageError) or written (InputError), before a fit for nothing."""
    path = options.checkpoint
    for name, given in (("resume", options.resume), ("checkpoint", path)):
        if given is not None and options.psnr is not None:
            raise UsageError(f"{name}: expected a fit with a known number of Gaussians, found a PSNR target")
    if path is None:
        return
    try:
        ok = not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        ok = path.absolute().parent.is_dir()
    except (OSError, ValueError):  # a name too long, or with characters that names don't have
        ok = False
    if not ok:
        raise InputError(f"{str(path)!r}: expected a file in an existing folder for the checkpoint")


def _make_render_dir(options: EncodeOptions) -> None:
    """Make the folder for pictures of the fit, where there shall be any. Raises InputError where none can be."""
    path = options.render_dir
    if path is None or options.render_every is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r}: expected a folder for render_dir, found none that can be made") from error


def _load(image: Any, options: EncodeOptions, warn: Callable[[str], None]) -> SourceImage:
    """The picture; of one that is loaded already its warnings were seen, and its limits chosen."""
    if isinstance(image, SourceImage):
        if options.resample is not None:
            raise UsageError(f"resample: expected several maps beside it, found a loaded picture, {image.name}")
        return image
    source = load_image(image, resample=options.resample)
    for message in source.warnings:
        warn(message)
    return source


def _backend(options: EncodeOptions, recipe: Recipe, warn: Callable[[str], None]) -> Backend:
    """Where the fit computes: of levels one for each, of a picture to be enlarged one of means over areas."""

    def one(warn: Callable[[str], None]) -> Backend:
        plain = choose_backend(options, recipe, warn)
        return plain if options.downsample == 1 else area.AreaBackend(plain, min(options.downsample, area.MOST_POINTS))

    whole = one(warn)
    if options.levels == 1:
        return whole
    return levels.LevelBackend([*(one(lambda message: None) for _ in range(options.levels - 1)), whole])


def _options(options: EncodeOptions | None, settings: dict[str, Any]) -> EncodeOptions:
    options = EncodeOptions() if options is None else options
    if not isinstance(options, EncodeOptions):
        raise UsageError(f"options: expected EncodeOptions, found {type(options).__name__}")
    fields = {f.name for f in dataclasses.fields(EncodeOptions)}
    recipe_fields = {f.name for f in dataclasses.fields(Recipe)}
    for name in settings:
        if name not in fields and name not in recipe_fields:
            raise UsageError(f"expected an encode option or a recipe field, found {name!r}")
    given = settings.get("overrides", {})
    if not isinstance(given, Mapping):
        raise UsageError(f"overrides: expected fields of the recipe by name, found {given!r}")
    overrides = options.overrides | dict(given) | {k: v for k, v in settings.items() if k not in fields}
    return dataclasses.replace(
        options, **({k: v for k, v in settings.items() if k in fields} | {"overrides": overrides})
    )


def _report(job: Job, result: Result, started: float) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    found = job.comparison(result.data)
    psnr = found.psnr()
    more: dict[str, Any] = {}
    if len(job.groups) > 1:
        more["bppc"] = len(result.data) * 8 / (job.pixels * job.channels)
        more["groups"] = metrics.by_group(found, job.groups)
    if job.options.roi:
        full = job.full
        roi = regions.checked(job.options.roi, full.width, full.height)
        mask = regions.inside(roi, full.width, full.height)
        more |= regions.quality(job.compared(result.data), mask, job.channels)
        more["roi_share"] = float(mask.mean())
    if job.options.downsample != 1:
        more["downsample"] = job.options.downsample
    if isinstance(job, super_tiles.SuperTiledJob):
        more |= {"super_tiles": len(job.squares), "steps": job.steps}
    if result.level_psnr is not None:
        more["levels"] = _level_report(job, result)
    return {
        "width": job.source.width,
        "height": job.source.height,
        "channels": job.channels,
        "num_gaussians": result.num_gaussians,
        "bytes": len(result.data),
        "bpp": len(result.data) * 8 / job.pixels,
        "bits_per_gaussian": bits_per_gaussian(open_file(result.data, job.limits)),
        "psnr": psnr,
        "exact": psnr is None,
        **_alpha_quality(job, result),
        "ms_ssim": found.ms_ssim(),
        "seconds": round(seconds, 3),
        "steps": result.steps,
        "effort": job.options.effort,
        "preset": job.options.preset,
        "seed": job.options.seed,
        "device": job.backend.device,
        "backend": job.backend.name,
        "rate_met": result.missed is None,
    } | more


def _alpha_quality(job: Job, result: Result) -> dict[str, float | None]:
    if all(group.alpha == Alpha.NONE for group in job.groups):
        return {}
    return colour.alpha_quality(job.strips(result.data), job.groups)


def _level_report(job: Job, result: Result) -> list[dict[str, Any]]:
    """Bytes up to each level's end, and what they give."""
    assert result.packed is not None
    ends, counts = [l.end for l in open_file(result.data, job.limits).levels], result.packed.ends
    rows = zip(counts, ends, result.level_psnr or [], strict=True)
    return [{"num_gaussians": n, "bytes": b, "bpp": 8 * b / job.pixels, "psnr": p} for n, b, p in rows]
