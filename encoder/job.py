"""What one encode works on: the stored target, its fit, and the way from a model to a file and back to its quality."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from igs import decoder
from igs.decoder import measure, output
from igs.encoder import colour, freeze, levels, metrics, pack, rate, regions, weighting
from igs.encoder.fitting import checkpoint, interlace
from igs.encoder.fitting.fit import Fit
from igs.encoder.fitting.init import resample_map, sample_bilinear
from igs.encoder.loading.downsample import reduce
from igs.encoder.loading.source import SourceImage, to_stored
from igs.encoder.options import EncodeOptions
from igs.encoder.pack import Chunks, Packed
from igs.encoder.raster.backend import Backend
from igs.encoder.raster.model import Model
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.recipe import Recipe
from igs.encoder.rounding.lattice import Noise, Steps
from igs.format import lit_channels
from igs.format.describe import with_level_psnr
from igs.format.errors import teller
from igs.format.groups import rgb_groups
from igs.format.limits import Limits
from igs.format.whole_file import whole_file

Strip = tuple[NDArray[np.float32], NDArray[np.float32]]  # of two pictures, [rows, W, C]
_STRIP = 256  # rows
_BATCHES = 16  # of what is left out after rounding the first is one of so many parts; each other one twice as large


@dataclasses.dataclass
class Result:
    """A file, and how it came about."""

    data: bytes
    packed: Packed | None  # None: of a file of several parts
    steps: int
    missed: str | None = None
    level_psnr: list[float | None] | None = None
    num_gaussians: int = 0

    def __post_init__(self) -> None:
        if self.packed is not None:
            self.num_gaussians = len(self.packed.codes)


Follow = Callable[["Job", Fit, float | None], None]


class Job:
    """What the rate loops share: the stored target, and the way from a model to a file."""

    def __init__(
        self,
        source: SourceImage,
        recipe: Recipe,
        options: EncodeOptions,
        backend: Backend,
        full: SourceImage,
        worth: float | None = None,
        share: float = 1.0,
    ) -> None:
        self.full = full  # what the decoded file is compared with: not reduced
        # Of one's own files: a picture that was let in is not refused once it is a file.
        self.limits = Limits().with_room(full.width, full.height)
        self.source, self.recipe, self.options, self.backend = source, recipe, options, backend
        self.warn = teller(options.on_warning)
        self.groups = colour.stored_groups(source, options.transfer, recipe.gamma, options.linear_light, self.warn)
        if recipe.coding == "lattice":
            colour.check_range(source, self.groups)
        self.gains = weighting.Gains.of(self.groups, source.weights, recipe)
        self.channels = source.channels
        # What a squared error counts where a quality buys bits: with more than three channels there is more to see.
        self.worth = max(1.0, self.channels / 3) if worth is None else worth
        self.share = share  # of what the Gaussians of a file may reach over
        self.pixels = source.width * source.height
        self.fewest = rate.fewest(self.pixels)  # Gaussians that a quality gives it
        self.sections = {**source.sections, **options.sections}
        if options.levels > 1:
            self.sections = with_level_psnr(self.sections, [None] * options.levels)
        path, by_network = options.saliency_map, regions.network_map(full, options, recipe, self.groups)
        self.position_map = None if path is None else regions.map_from_file(path, source.width, source.height)
        if by_network is not None and recipe.init == "saliency":
            self.position_map = resample_map(by_network, source.width, source.height)
        self.loss_map = regions.loss_map(full, options, recipe, by_network)  # regions are of the full picture
        if self.loss_map is not None and options.downsample != 1:
            small = reduce(self.loss_map[:, :, None].astype(np.float32), options.downsample)[:, :, 0]
            self.loss_map = small / small.mean(dtype=np.float64)

    @functools.cached_property
    def _stored(self) -> torch.Tensor:
        """The picture's stored values [C, H, W]."""
        height, width, channels = self.source.shape
        stored = np.empty((channels, height, width), np.float32)
        for rows, values in self._stored_rows():
            stored[:, rows] = values.transpose(2, 0, 1)
        return torch.from_numpy(stored)

    def _stored_rows(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The same by strips [rows, W, C], and where they lie."""
        for first in range(0, self.source.height, _STRIP):
            rows = slice(first, first + _STRIP)
            yield rows, to_stored(self.source[rows], self.groups)

    @functools.cached_property
    def target(self) -> torch.Tensor:
        """The picture as a fit sees it [C, H, W]."""
        return self.gains.weighted(self._stored)

    @functools.cached_property
    def background(self) -> tuple[float, ...]:
        """What is shown where nothing reaches: the mean of the stored values, or nothing beside a sum."""
        if self.recipe.blend != "topk":
            return (0.0,) * self.channels
        return tuple(self.mean.tolist())

    @functools.cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean of each channel's stored values, [C]."""
        sums = [values.sum(axis=(0, 1), dtype=np.float64) for _, values in self._stored_rows()]
        return np.asarray(np.sum(sums, axis=0) / (self.source.width * self.source.height))

    def _stored_at(self, points: np.ndarray) -> np.ndarray:
        """Stored values [n, C] at points [n, 2]."""
        return to_stored(sample_bilinear(self.source, points), self.groups)

    def take_more_steps(self, num_gaussians: int) -> None:
        """Where the compiled kernels take most steps on a quarter of the pixels; levels have more already."""
        o, width, height = self.options, self.source.width, self.source.height
        if "steps" in o.overrides or o.levels > 1 or self.backend.name == "torch":
            return
        steps = interlace.steps(self.recipe, width, height, num_gaussians)
        self.recipe = dataclasses.replace(self.recipe, steps=steps)

    def fit(self, num_gaussians: int) -> Fit:
        """A fit of so many Gaussians that is ready to run, from its first step or from ``resume``'s.

        With a lattice it has its noise, and with levels their number of Gaussians. Raises InputError, UsageError for a
        checkpoint that can't be read or is of another fit.
        """
        o = self.options
        kind = levels.LevelledFit if self.options.levels > 1 else Fit
        fit = kind(
            self.target,
            num_gaussians,
            self.recipe,
            self.backend,
            seed=o.seed,
            position_map=self.position_map,
            loss_map=self.loss_map,
            lit=lit_channels(self.groups),
            log_every=o.log_every,
            on_progress=o.on_progress,
            on_step=self._on_step if o.checkpoint or o.render_every or o.on_step else None,
        )
        if self.recipe.coding == "lattice":
            features = fit.state.model.feature.shape[1]
            fit.noise = Noise(self.channels, features, rgb_groups(self.groups), o.seed, self.backend)
        if o.resume is not None:
            checkpoint.restore(fit, o.resume)
        if isinstance(self.backend, levels.LevelBackend):
            self.backend.fit = fit
        return fit

    def fitted(self, num_gaussians: int, limit: float | None, follow: Follow) -> tuple[Fit, Model]:
        """A fit and its best model. follow: told of the fit before it runs, and of the ``limit`` in bytes, if any."""
        fit = self.fit(num_gaussians)
        follow(self, fit, limit)
        return fit, fit.run()

    def _on_step(self, fit: Fit) -> None:
        o, step = self.options, fit.state.step
        if o.on_step:
            o.on_step(fit)
        # None of a later round, which who resumes takes again.
        if (
            o.checkpoint
            and step > 0
            and (step % o.checkpoint_every == 0 or step == self.recipe.steps)
            and fit.first_round
        ):
            checkpoint.save(fit, o.checkpoint)
        if o.render_every and step % o.render_every == 0:
            assert o.render_dir is not None  # EncodeOptions.check
            with whole_file(o.render_dir / f"step_{step:06d}.png") as file:
                self._picture(fit.state.model.map(torch.Tensor.cpu), fit).save(file, "PNG")

    def _picture(self, model: Model, fit: Fit) -> Image.Image:
        """The fit's picture as it looks, RGB."""
        stored = self.backend.render(self.gains.unweighted(model), fit.options)
        rgb = output.visible_stored(stored.permute(1, 2, 0).numpy(), self.groups)
        pixels = np.empty(rgb.shape, np.uint8)
        output.to_dtype(rgb, pixels)
        return Image.fromarray(pixels)

    def idle(self, model: Model, fit: Fit) -> torch.Tensor:
        """Gaussians in the order in which they would be missed, the least first."""
        return torch.argsort(fit.removal_costs(model), stable=True)

    def without_idle(self, model: Model, fit: Fit, count: int) -> torch.Tensor:
        """Rows of a model but those Gaussians of the last level that would be missed least: first a few, then more.

        Two that stand in for each other seem idle both, and mustn't both go: of kodim01 14 at once once took 0.6 dB.
        """
        rows, batch = torch.arange(len(model), device=model.rotation.device), max(1, count // _BATCHES)
        while count > 0:
            left = model.rows(rows)
            first, order = [0, *self.ends(left)][-2], self.idle(left, fit)
            kept = torch.ones_like(rows, dtype=torch.bool)
            kept[order[order >= first][: min(batch, count)]] = False
            rows, count, batch = rows[kept], count - batch, 2 * batch
        return rows

    def freeze(self, fit: Fit, coarseness: float, rounds: int | None = None, file: Rescaled | None = None) -> Model:
        """The fit's best model with all Gaussians at values that a lattice of this coarseness holds.

        file: coordinates of the file's picture; None: the fit's.
        """
        rgb, features = rgb_groups(self.groups), fit.state.model.feature.shape[1]
        lattice = Steps.of(coarseness, self.channels, features, rgb).record(bool(rgb))
        return freeze.freeze(fit, lattice, rgb, self.options.seed, rounds, file)

    def pack(self, model: Model, fit: Fit, coarseness: float = 1.0) -> tuple[Packed, bytes]:
        """Codes and file. coarseness: of a lattice."""
        packed = self._quantized(model, fit, coarseness, self.idle(model, fit).numpy())
        return packed, self._to_bytes(packed)

    def sizes(self, model: Model, fit: Fit) -> Callable[[float], int]:
        """Bytes of the file by the coarseness of its lattice, nearly, in a fraction of the time of :meth:`pack`.

        Holes stay open, and all have the chunks of the first.
        """
        chunks: Chunks | None = None

        def size(coarseness: float) -> int:
            nonlocal chunks
            packed = self._quantized(model, fit, coarseness, None)
            if chunks is None:
                chunks = pack.chunks_of(packed, self.options.chunk_size)
            return len(self._to_bytes(packed, chunks))

        return size

    def _quantized(self, model: Model, fit: Fit, coarseness: float, idle: np.ndarray | None) -> Packed:
        plan = pack.Plan(
            self.recipe,
            self.source.width,
            self.source.height,
            self.groups,
            self.background,
            fit.options.lowpass,
            fit.quantizers,
            self.gains.finer,
            self.share,
        )
        model = self.gains.unweighted(model)
        return pack.quantize_model(model, plan, self._stored_at, idle, coarseness, self.ends(model))

    def _to_bytes(self, packed: Packed, chunks: Chunks | None = None) -> bytes:
        return pack.to_bytes(packed, self.options.codec, self.options.chunk_size, self.sections, chunks)

    def ends(self, model: Model) -> list[int]:
        """How many Gaussians levels 0 … l have together, for each l."""
        return self.backend.ends(model) if isinstance(self.backend, levels.LevelBackend) else [len(model)]

    def with_levels(self, result: Result) -> Result:
        """The same file with the PSNR of each of its levels in the metadata."""
        psnr = [self.errors(result.data, level).psnr() for level in range(self.options.levels)]
        sections = with_level_psnr(self.sections, psnr)
        assert result.packed is not None
        data = pack.to_bytes(result.packed, self.options.codec, self.options.chunk_size, sections)
        return dataclasses.replace(result, data=data, level_psnr=psnr)

    def comparison(self, data: bytes) -> metrics.Comparison:
        """The decoded file beside the source."""
        found = metrics.Comparison(self.full.shape)
        for strip in self.compared(data):
            found.add(*strip)
        return found

    def errors(self, data: bytes, level: int | None = None) -> metrics.Errors:
        """The same without MS-SSIM."""
        found = metrics.Errors(self.channels)
        for strip in self.compared(data, level):
            found.add(*strip)
        return found

    def compared(self, data: bytes, level: int | None = None) -> Iterator[Strip]:
        """Strips as quality is measured: alpha is multiplied in, and light above white is by its curve."""
        for decoded, source in self.strips(data, level):
            yield measure.compared(decoded, self.groups), measure.compared(source, self.groups)

    def strips(self, data: bytes, level: int | None = None) -> Iterator[Strip]:
        """The decoded file and the source by rows from the top, [rows, W, C].

        Picture values as a user gets them at the source's depth; enlarged if the picture was reduced.
        """
        full, r = self.full, self.options.downsample
        step = max(1, _STRIP // r)
        with decoder.open(data, limits=self.limits, threads=self.options.threads) as im:
            for first in range(0, im.height, step):
                rows = slice(first * r, min((first + step) * r, full.height))
                count = min(step, im.height - first)
                decoded = measure.rounded(im, self.source.bit_depth, r, level, (first, count))
                yield decoded[: rows.stop - rows.start, : full.width], full[rows]
