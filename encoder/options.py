"""What an encode can be asked for: a rate, an effort, a preset with changes, and what to write along the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from igs.encoder.presets import PRESETS
from igs.encoder.recipe import WIDTHS, Recipe, check_truth, is_number, is_one_of, plain
from igs.format.errors import UsageError
from igs.format.fields import MAX_COUNT, MAX_LEVELS
from igs.format.limits import Limits
from igs.format.sections import content_problem, section_name
from igs.format.threads import MOST as MOST_THREADS

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

# Effort → how many of the preset's steps are taken. docs/presets.md shows what each gains. Beyond 3200 steps nothing
# does: on four Kodak images at 0.2 bpp 3200, 4000, 4800 and 8000 gave 27.59, 27.59, 27.56 and 27.57 dB.
EFFORT_FACTOR = {1: 0.1, 2: 0.2, 3: 0.35, 4: 0.6, 5: 1.0, 6: 1.3, 7: 1.4, 8: 1.6, 9: 2.0}
# By when, as a share of the steps, the last Gaussians join where a preset states the interval: image-gs, 2000 of 5000.
GROWN_BY = 0.4

Device = Literal["auto", "cpu", "cuda"]
TransferName = Literal["auto", "srgb", "linear", "pq", "log"]  # auto, or a Transfer of the format
CodecName = Literal["raw", "zstd", "columns"]  # a Codec of the format: those for plain codes
DEVICES: tuple[str, ...] = get_args(Device)
TRANSFERS: tuple[str, ...] = get_args(TransferName)
CODECS: tuple[str, ...] = get_args(CodecName)

# Of a region of interest that is given without one, and the most of any weight: 30 dB between what matters and what
# doesn't.
ROI_WEIGHT, MOST_WEIGHT = 4.0, 1000.0

RATES = ("num_gaussians", "bpp", "size", "psnr", "quality")  # targets, of which an encode has at most one
# What the fields that are numbers may be, ends included: of these checks, and of the command line's.
RANGES: dict[str, tuple[Any, Any]] = {
    "num_gaussians": (1, int(Limits.gaussians)),
    "bpp": (1e-6, 64.0),
    "size": (1, 2**40),
    "psnr": (1.0, 100.0),
    "quality": (0.0, 100.0),
    "threads": (1, MOST_THREADS),
    "seed": (0, 2**63 - 1),
    "levels": (1, MAX_LEVELS),
    "downsample": (1, 16),
    "super_tile": (64, 65536),
    "saliency_weight": (0.0, MOST_WEIGHT),
    "chunk_size": (1, MAX_COUNT),
    "log_every": (1, 2**31),
    "render_every": (1, 2**31),
    "checkpoint_every": (1, 2**31),
}
_WHOLE = tuple(name for name, (low, _) in RANGES.items() if isinstance(low, int))
_NUMBERS = tuple(name for name in RANGES if name not in _WHOLE)
_NEEDED = ("seed", "levels", "downsample", "checkpoint_every")  # of these the ones that can't be None
_TRUTHS = ("strict_rate", "fast_nondeterministic", "linear_light")
_CALLED = ("on_progress", "on_step", "on_warning")
_PATHS = ("render_dir", "checkpoint", "resume", "saliency_map", "saliency_network")

# --tune: weight of 1 − SSIM of the reduced picture beside the squared error; docs/presets.md has what each gives. (SSIM
# of the full picture lost both: 0.015 gave 29.99 dB and MS-SSIM 0.9220 where 0 had 30.19 and 0.9236.)
TUNE_MS_SSIM = {"psnr": 0.0, "mixed": Recipe.loss_ms_ssim, "ms-ssim": 0.01}


def check_saliency(name: str, network: str | Path | None) -> None:
    """Raise UsageError unless the network has a file of its weights, and no other map of saliency has one."""
    if name == "eml-net" and network is None:
        raise UsageError("saliency: expected saliency_network with eml-net, a .safetensors file, found none")
    if name != "eml-net" and network is not None:
        raise UsageError(f"saliency_network: expected none but for saliency eml-net, found {network} for {name}")


@dataclasses.dataclass(frozen=True)
class Progress:
    """One line of the encode log. ``psnr`` and ``ssim`` are of the unquantised fit, None where not measured.

    What steps don't know, SSIM unless it is part of the loss and PSNR where they see a quarter of the pixels or noise,
    is measured at the end and every tenth of the steps, at most every 100. Where pixels have weights in the loss these
    are weighted means.
    """

    step: int
    steps: int
    seconds: float
    num_gaussians: int
    loss: float
    psnr: float | None = None
    ssim: float | None = None


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """One encode: at most one rate target, an effort, a preset with overrides, and what to write along the way."""

    # -- rate: at most one; none means quality=75
    num_gaussians: int | None = None
    bpp: float | None = None
    size: int | None = None  # bytes
    psnr: float | None = None  # dB
    quality: float | None = None  # 0–100
    strict_rate: bool = False  # a target that is missed is an error (exit 4) instead of a warning
    levels: int = 1  # of quality, 1 to 16: prefixes of the file that are pictures
    # Encode the picture reduced so many times, for enlarging; quality is that of the enlargement (raster/area.py).
    downsample: int = 1
    # Fit the picture by squares of at most so many pixels a side, in the memory of one (super_tiles.py). None: only a
    # picture above 2²⁶ pixels, with 4096.
    super_tile: int | None = None
    # Which maps of a stack share Gaussians (encoder/parts.py): "auto" looks for it, from effort 3 on, for a size, rate
    # or quality; "one" is all, "each" none; or sequences of names: groups that none names are a part of their own.
    # Each part that was asked for has num_gaussians, or meets psnr, where one of these is the target.
    parts: str | Sequence[Sequence[str]] = "auto"
    # -- how
    effort: int = 5
    preset: str = "default"
    tune: Literal["psnr", "mixed", "ms-ssim"] | None = None  # what the loss is for; None: the preset's own loss
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)  # Recipe fields
    device: Device = "auto"  # auto: a GPU if one can be used
    fast_nondeterministic: bool = False  # on a GPU: sums in any order, which differ from run to run
    threads: int | None = None  # None: one per core
    seed: int = 0
    saliency_map: Path | None = None  # any image instead of the recipe's map; resampled to the picture's size
    saliency_network: Path | None = None  # weights of saliency "eml-net", .safetensors (fitting/eml_net.py)
    # The loss counts a pixel 1 + saliency_weight·saliency, 0 to 1000, with saliency in [0, 1] of the map (regions.py).
    saliency_weight: float = 0.0
    # Regions of interest, (x, y, w, h) or (x, y, w, h, weight): whole pixels inside the upright picture, and what an
    # error there counts beside one elsewhere, 0.001 to 1000. Of those that overlap the last counts.
    roi: Sequence[tuple[float, ...]] = ()
    resample: str | None = None  # maps of different size: "largest", "smallest" or "WxH"; None refuses them
    # Of the picture's values (spec §3.4): sRGB or linear say what they mean, PQ and log also how they are stored.
    transfer: TransferName = "auto"  # auto: pq or log for EXR, sRGB for all else
    linear_light: bool = False  # sRGB pictures are fitted, stored and reduced in linear light
    codec: CodecName = "zstd"  # of plain codes
    chunk_size: int | None = None  # Gaussians per chunk; None: what makes small reads smallest
    sections: dict[str, bytes] = dataclasses.field(default_factory=dict)  # metadata to embed, by section type
    # -- along the way
    log_every: int | None = None  # steps between log lines; None: a tenth of the steps, at most 100
    render_every: int | None = None  # write the fit as PNG every n steps into render_dir, which it needs
    render_dir: Path | None = None
    checkpoint: Path | None = None  # written every checkpoint_every steps, or after each super-tile (npz)
    checkpoint_every: int = 500
    resume: Path | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_step: Callable[[Fit], None] | None = None  # sees the fit before every step and after the last (record.py)
    on_warning: Callable[[str], None] | None = None  # is told what went otherwise than asked; None: IgsWarning

    def __post_init__(self) -> None:
        """Paths, numbers and truth values of any kind become Python's own; :meth:`check` refuses what is none."""
        for name in _PATHS:
            value = getattr(self, name)
            if value is not None:
                try:
                    object.__setattr__(self, name, Path(value))
                except TypeError:
                    raise UsageError(f"{name}: expected a path, found {value!r}") from None
        if not isinstance(self.overrides, Mapping):
            raise UsageError(f"overrides: expected fields of the recipe by name, found {self.overrides!r}")
        object.__setattr__(self, "overrides", dict(self.overrides))
        for names, kind in (((*_WHOLE, "effort"), int), (_NUMBERS, float), (_TRUTHS, bool)):
            for name in names:
                object.__setattr__(self, name, plain(getattr(self, name), (kind,)))
        if not isinstance(self.parts, str):
            try:
                parts = tuple((p,) if isinstance(p, str) else tuple(p) for p in self.parts)
                if not all(isinstance(name, str) for part in parts for name in part):
                    raise TypeError
            except TypeError:
                raise UsageError(f"parts: expected auto, one, each, or names of maps, found {self.parts!r}") from None
            object.__setattr__(self, "parts", parts)
        try:
            object.__setattr__(self, "roi", tuple(tuple(region) for region in self.roi))
        except TypeError:
            raise UsageError(f"roi: expected x, y, w, h and perhaps a weight of each, found {self.roi!r}") from None

    def check(self) -> None:
        """Raise UsageError for a value that nothing else looks at before a fit has begun."""
        words = {"device": DEVICES, "codec": CODECS}
        if isinstance(self.parts, str):
            words["parts"] = ("auto", "one", "each")
        for name, known in words.items():
            if not is_one_of(getattr(self, name), known):
                raise UsageError(f"{name}: expected one of {', '.join(known)}, found {getattr(self, name)!r}")
        for name in _WHOLE:
            value, (low, high) = getattr(self, name), RANGES[name]
            if value is None and name not in _NEEDED:
                continue
            if not (is_number(value, whole=True) and low <= value <= high):
                raise UsageError(f"{name}: expected a whole number of {low} to {high}, found {value!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (is_number(value) or (value is None and name != "saliency_weight")):
                raise UsageError(f"{name}: expected a number, found {value!r}")
        for name in _TRUTHS:
            check_truth(name, getattr(self, name))
        for name in _CALLED:
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise UsageError(f"{name}: expected a function, found {value!r}")
        if self.render_every is not None and self.render_dir is None:
            raise UsageError("render_every: expected render_dir beside it, the folder to write into, found none")
        if not isinstance(self.sections, Mapping):
            raise UsageError(f"sections: expected bytes by section type, found {self.sections!r}")
        for section, data in self.sections.items():
            if not isinstance(data, bytes):
                raise UsageError(f"sections: expected bytes in {section}, found {type(data).__name__}")
            problem = content_problem(section_name(section), data)
            if problem is not None:
                raise UsageError(f"sections: expected {problem[0]} in {section}, found {problem[1]}")

    def recipe(self) -> Recipe:
        """The preset with effort and overrides applied.

        Raises UsageError for an unknown name or value, and for one that would have no effect.
        The effort scales the preset's steps (and the interval of growth with them); an override of ``steps`` wins, and
        shortens the interval where the last Gaussians would join after GROWN_BY of the steps. An override of
        ``growth_until`` takes the place of a preset's interval.
        Bits per code are what plain coding has: an override of ``WIDTHS`` asks for it.
        """
        if not is_one_of(self.preset, PRESETS):
            raise UsageError(f"preset: expected one of {', '.join(PRESETS)}, found {self.preset!r}")
        if not is_number(self.effort, whole=True) or self.effort not in EFFORT_FACTOR:
            raise UsageError(f"effort: expected {min(EFFORT_FACTOR)} to {max(EFFORT_FACTOR)}, found {self.effort!r}")
        recipe = PRESETS[self.preset]
        factor = EFFORT_FACTOR[self.effort]
        recipe = dataclasses.replace(recipe, steps=max(1, round(recipe.steps * factor)))
        if recipe.growth_interval is not None:
            recipe = dataclasses.replace(recipe, growth_interval=max(1, round(recipe.growth_interval * factor)))
        if self.preset.startswith("image-gs") and self.overrides.get("init") == "saliency":
            recipe = dataclasses.replace(recipe, init_uniform=0.1)  # the paper's λ for saliency maps
        if self.tune is not None:
            if not is_one_of(self.tune, TUNE_MS_SSIM):
                raise UsageError(f"tune: expected one of {', '.join(TUNE_MS_SSIM)}, found {self.tune!r}")
            weight = TUNE_MS_SSIM[self.tune]
            recipe = dataclasses.replace(recipe, loss_l1=0.0, loss_l2=1.0, loss_ssim=0.0, loss_ms_ssim=weight)
        known = {f.name for f in dataclasses.fields(Recipe)}
        for name in self.overrides:
            if name not in known:
                raise UsageError(f"recipe: expected a field of Recipe, found {name!r}")
        widths = [name for name in WIDTHS if name in self.overrides]
        if widths and self.overrides.get("coding") == "lattice":
            raise UsageError(
                f"{widths[0]}: expected plain coding beside it, found a lattice, which has steps, not bits"
            )
        if widths and "coding" not in self.overrides:
            recipe = dataclasses.replace(recipe, coding="plain")
        if self.tune is None and any(name in self.overrides for name in ("loss_l1", "loss_l2", "loss_ssim")):
            recipe = dataclasses.replace(recipe, loss_ms_ssim=0.0)  # a loss of one's own: what is said, and no more
        recipe = dataclasses.replace(recipe, **self.overrides)
        if self.overrides.get("growth_until") is not None:
            if self.overrides.get("growth_interval") is not None:
                raise UsageError("growth_until: expected no growth_interval beside it, which says the same, found both")
            recipe = dataclasses.replace(recipe, growth_interval=None)  # the preset's
        recipe.validate()
        if recipe.growth_interval is not None and "growth_interval" not in self.overrides and recipe.growth_rounds > 0:
            latest = max(1, int(GROWN_BY * recipe.steps / recipe.growth_rounds))
            recipe = dataclasses.replace(recipe, growth_interval=min(recipe.growth_interval, latest))
        check_saliency(recipe.saliency, self.saliency_network)
        used = recipe.init == "saliency" or self.saliency_weight
        if "saliency" in self.overrides and not used:
            raise UsageError(
                f"saliency: expected init saliency or a saliency_weight beside {recipe.saliency}, found neither"
            )
        return recipe
