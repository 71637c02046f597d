"""What an encode can be asked for: the recipe (how Gaussians are fitted) and the request (rate, effort, outputs).

A preset is a named :class:`Recipe`; every field of it can be overridden. ``docs/presets.md`` shows them side by side.
Sources: Image-GS (Zhang et al., SIGGRAPH 2025), section 3 and its released code; GaussianImage++ (AAAI 2026).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from igs.format.errors import UsageError

if TYPE_CHECKING:
    from igs.encoder.fitting.fit import Fit

Init = Literal["gradient", "saliency", "random"]
Saliency = Literal["spectral-residual", "fine-grained"]
ScaleParameter = Literal["raw", "inverse", "log"]
ShapeParameter = Literal["scale_rotation", "cholesky", "covariance"]
LrSchedule = Literal["constant", "exponential", "plateau", "steps"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How Gaussians are fitted to a picture. Lengths are in pixels, angles in half-turns, colours in [0, 1]."""

    # -- length of the fit
    steps: int = 1600
    # -- model (spec §7)
    blend: Literal["topk", "sum"] = "topk"
    primitive: Literal["constant", "gradient"] = "constant"  # gradient: a slope of brightness besides the colour
    # The relative reach already keeps far Gaussians out; at 32 the K smallest rarely have to be selected. Against K =
    # 10: the same quality (−0.04 dB on four Kodak images) in about half the time.
    top_k: int = 32
    # R²: squared absolute reach, in standard deviations, and Q², the relative one (inf: none). R² = 25, 20, 16 fit
    # equally well (32.22, 32.22, 32.20 dB on four Kodak images). What they trade are the bytes that a read of one pixel
    # takes (R² = 16, 17, 18: 7.8, 8.1, 8.3 % of a file of 10K Gaussians) and the smoothness of a zoom ((16, 12),
    # (17, 11), (18, 11): 0.009, 0.004, 0.002 steps of more than 2 of 255 levels per pixel of line).
    reach2: float = 16.5
    relative_reach2: float = 11.0
    # How the shape is fitted and stored (spec §6.2).
    shape: ShapeParameter = "scale_rotation"
    # α of GaussianImage++'s content-aware filter: s = HW/(αN), at most 300 pixels², is added to all variances, 0: not.
    # Theirs is 9π.
    lowpass_alpha: float = 0.0
    # -- initialisation
    init: Init = "gradient"
    saliency: Saliency = "spectral-residual"  # which built-in map (fitting/saliency.py) is meant by saliency
    init_uniform: float = 0.3  # share of positions drawn uniformly (λ in the paper)
    init_power: float = 2.0  # the map is raised to this power before drawing (paper 1, released code 2)
    init_scale: float = 0.6  # standard deviation at the start: pixels, or a multiple of the neighbour distance
    # area: multiples of √(HW/N), the side of a Gaussian's share of the picture
    init_scale_mode: Literal["fixed", "neighbours", "area"] = "neighbours"
    init_color: bool = True  # colours start as the target's at the mean; otherwise random
    init_color_gain: float = 1.0  # factor of the first colours; 0 starts from a black picture
    # -- growth
    growth: bool = True
    growth_start: float = 0.25  # share of the Gaussians present at step 0
    growth_rounds: int = 6  # how many times Gaussians are added
    growth_until: float = 0.30  # the last addition, as a share of the steps (ignored if growth_interval is set)
    growth_interval: int | None = None  # steps between additions
    growth_where: Literal["sampled", "top"] = "sampled"  # top: at the centres of the pixels with the largest error
    growth_color: Literal["picture", "residual", "zero"] = "picture"  # what added Gaussians start with
    growth_error_power: float = 3.0  # sampled: positions are drawn in proportion to |error| to this power
    growth_scale: float = 0.4  # standard deviation of added Gaussians, same mode as init_scale
    relocate: float = 0.05  # share of the Gaussians that move to where the error is, at a time: those least missed
    # -- optimisation
    loss_l1: float = 0.0
    loss_l2: float = 1.0
    loss_ssim: float = 0.0  # weight of 1 − SSIM
    scale_parameter: ScaleParameter = "log"
    lr_position: float = 0.3
    lr_position_unit: Literal["pixels", "picture"] = "pixels"  # picture: a share of the width (x) and height (y)
    lr_scale: float = 0.12
    lr_rotation: float = 0.02 / math.pi
    lr_feature: float = 0.01
    # Of the gradient primitive, colour per standard deviation. 0.001, 0.002, 0.004, 0.01, 0.03 gained 0.40, 0.48, 0.53,
    # 0.55, 0.35 dB over constant colours (four Kodak images, 2500 Gaussians), at 1000 Gaussians 0.29, 0.32, 0.37, 0.32,
    # 0.15 dB. The higher the rate, the larger the values, and the bits that they take.
    lr_gradient: float = 0.004
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    adam_epsilon: float = 1e-15
    keep_adam_state: bool = True  # when Gaussians are added
    lr_schedule: LrSchedule = "exponential"
    lr_decay_from: float = 0.6  # exponential: constant up to this share of the steps; steps: one decay after each share
    lr_decay_to: float = 0.01  # exponential: then down to this factor at the end. plateau, steps: that of one decay
    plateau_steps: int = (
        1000  # plateau: steps without +plateau_psnr / +plateau_ssim before a decay; the second time stops
    )
    plateau_psnr: float = 0.1
    plateau_ssim: float = 1e-3
    pull_empty: bool = True  # a pixel that nothing reaches pulls its nearest Gaussian
    # -- quantisation: lattice (spec §6.4, entropy-coded) or so many bits per code, where 32 stores float32
    coding: Literal["lattice", "plain"] = "lattice"
    # Steps of the lattice as a multiple of the root mean squared error that they are for: what all rounding together
    # costs is then about a tenth of the error, whatever the picture.
    coarseness: float = 25.0
    noise_from: float = 0.75  # share of the steps after which the fit runs with noise of one lattice step
    rate_weight: float = 0.0  # of the bits in the loss while there is noise; 0: none
    compensate: bool = True  # what rounding one attribute does to the picture the others make up for
    freeze_rounds: int = 6  # rounds in which Gaussians take their final codes while the others adapt
    freeze_steps: float = 0.02  # steps between two of these, as a share of the recipe's
    freeze_rate: float = 0.05  # learning rates of these steps
    pos_bits: int = 14
    scale_bits: int = 8
    rot_bits: int = 10
    feat_bits: int = 8
    # uniform: over the range of the values; learned: offset and step per column, by gradient (LSQ+); codebook: the sum
    # of one row each of feat_stages tables of 2^feat_bits. shape_quantizer is for both scale_bits and rot_bits.
    pos_quantizer: Literal["uniform", "learned", "float16"] = "uniform"
    shape_quantizer: Literal["uniform", "learned"] = "uniform"
    feat_quantizer: Literal["uniform", "learned", "float16", "codebook"] = "uniform"
    feat_stages: int = 2
    quantize_forward: float = 0.0  # the last share of the steps runs with quantised attributes (straight-through)
    quantize_lr: float = 1.0  # factor of all learning rates in that share
    lr_quantizer: float = 0.1  # learned: in first steps
    codebook_commit: float = 1.0  # codebook: weight of the mean squared distance of colours to their codes
    gamma: float = 1.0  # the fit sees v^(1/gamma)
    tiles: bool = True  # False: every Gaussian is tried at every pixel (the reference; slow)

    @property
    def scale_map(self) -> str:
        """What a model's ``scale`` and ``rotation`` hold (encoder/raster/shapes.py)."""
        return self.scale_parameter if self.shape == "scale_rotation" else self.shape

    def validate(self) -> None:
        """Raise :class:`UsageError` naming the first field that is out of range."""
        kinds = {self.pos_quantizer, self.shape_quantizer, self.feat_quantizer}
        rotated = self.shape == "scale_rotation"
        checks: list[tuple[str, bool, str]] = [
            ("steps", 0 <= self.steps <= 1_000_000, "0 to 1000000"),
            ("top_k", 1 <= self.top_k <= 32, "1 to 32"),
            ("reach2", 0 < self.reach2 <= 1024, "above 0, up to 1024"),
            ("relative_reach2", self.relative_reach2 >= 0, "0 or more"),
            ("init_uniform", 0 <= self.init_uniform <= 1, "0 to 1"),
            ("init_scale", 0 < self.init_scale < 1e4, "above 0"),
            ("growth_start", 0 < self.growth_start <= 1, "above 0, up to 1"),
            ("relocate", 0 <= self.relocate < 1, "0 or more, below 1"),
            ("growth_rounds", self.growth_rounds >= 0, "0 or more"),
            ("growth_interval", self.growth_interval is None or self.growth_interval >= 1, "1 or more"),
            ("growth_until", 0 <= self.growth_until <= 1, "0 to 1"),
            ("lr_decay_from", 0 <= self.lr_decay_from <= 1, "0 to 1"),
            ("lr_decay_to", 0 < self.lr_decay_to <= 1, "above 0, up to 1"),
            ("adam_beta1", 0 <= self.adam_beta1 < 1, "0 or more, below 1"),
            ("adam_beta2", 0 <= self.adam_beta2 < 1, "0 or more, below 1"),
            ("adam_epsilon", 0 < self.adam_epsilon < 1, "above 0, below 1"),
            ("growth_scale", 0 < self.growth_scale < 1e4, "above 0"),
            ("growth_error_power", 0 <= self.growth_error_power <= 16, "0 to 16"),
            ("init_power", 0 <= self.init_power <= 16, "0 to 16"),
            ("quantize_forward", 0 <= self.quantize_forward <= 1, "0 to 1"),
            ("plateau_steps", self.plateau_steps >= 1, "1 or more"),
            ("blend", self.blend in ("topk", "sum"), "topk or sum"),
            (
                "shape",
                self.shape in ("scale_rotation", "cholesky", "covariance"),
                "scale_rotation, cholesky or covariance",
            ),
            ("lowpass_alpha", self.lowpass_alpha == 0 or 1 <= self.lowpass_alpha <= 1e6, "0, or 1 to 1e6"),
            ("init_color_gain", 0 <= self.init_color_gain <= 16, "0 to 16"),
            ("growth_where", self.growth_where in ("sampled", "top"), "sampled or top"),
            ("growth_color", self.growth_color in ("picture", "residual", "zero"), "picture, residual or zero"),
            ("primitive", self.primitive in ("constant", "gradient"), "constant or gradient"),
            ("init", self.init in ("gradient", "saliency", "random"), "gradient, saliency or random"),
            (
                "saliency",
                self.saliency in ("spectral-residual", "fine-grained"),
                "spectral-residual or fine-grained",
            ),
            ("scale_parameter", self.scale_parameter in ("raw", "inverse", "log"), "raw, inverse or log"),
            (
                "lr_schedule",
                self.lr_schedule in ("constant", "exponential", "plateau", "steps"),
                "constant, exponential, plateau or steps",
            ),
            ("feat_stages", 1 <= self.feat_stages <= 8, "1 to 8"),
            ("feat_bits", self.feat_quantizer != "codebook" or self.feat_bits <= 12, "1 to 12 for a codebook"),
            ("pos_quantizer", self.pos_quantizer in ("uniform", "learned", "float16"), "uniform, learned or float16"),
            ("shape_quantizer", self.shape_quantizer in ("uniform", "learned"), "uniform or learned"),
            (
                "feat_quantizer",
                self.feat_quantizer in ("uniform", "learned", "float16", "codebook"),
                "uniform, learned, float16 or codebook",
            ),
            ("coding", self.coding in ("lattice", "plain"), "lattice or plain"),
            (
                "coding",
                self.coding == "plain" or (kinds == {"uniform"} and rotated and not self.lowpass_alpha),
                "plain with such a shape, filter or quantisers",
            ),
            ("coarseness", 0 < self.coarseness <= 1000, "above 0, up to 1000"),
            ("noise_from", 0 <= self.noise_from <= 1, "0 to 1"),
            ("rate_weight", 0 <= self.rate_weight <= 100, "0 to 100"),
            ("freeze_rounds", 0 <= self.freeze_rounds <= 64, "0 to 64"),
            ("freeze_steps", 0 <= self.freeze_steps <= 1, "0 to 1"),
            ("freeze_rate", 0 <= self.freeze_rate <= 1, "0 to 1"),
            ("gamma", 1 / 16 <= self.gamma <= 16, "1/16 to 16"),
            ("loss weights", min(self.loss_l1, self.loss_l2, self.loss_ssim) >= 0, "0 or more"),
            ("loss weights", self.loss_l1 + self.loss_l2 + self.loss_ssim > 0, "one above 0"),
            *((n, 1 <= getattr(self, n) <= 32, "1 to 32") for n in WIDTHS),
            *(
                (n, getattr(self, n) >= 0, "0 or more")
                for n in (
                    *("lr_position", "lr_scale", "lr_rotation", "lr_feature", "lr_gradient"),
                    *("quantize_lr", "lr_quantizer", "codebook_commit"),
                )
            ),
        ]
        for name, ok, expected in checks:
            if not ok:
                raise UsageError(f"{name}: expected {expected}, found {getattr(self, name, '…')}")


_IMAGE_GS = Recipe(
    steps=5000,
    top_k=10,
    reach2=9.0,
    relative_reach2=math.inf,
    init_uniform=0.3,
    init_power=1.0,
    init_scale=5.0,
    init_scale_mode="fixed",
    growth_start=0.5,
    growth_rounds=4,
    growth_interval=500,
    growth_scale=5.0,
    growth_error_power=1.0,
    relocate=0.0,
    loss_l1=1.0,
    loss_l2=0.0,
    loss_ssim=0.1,
    scale_parameter="inverse",
    lr_position=5e-4,
    lr_position_unit="picture",
    lr_scale=2e-3,
    lr_rotation=2e-3 / math.pi,
    lr_feature=5e-3,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    keep_adam_state=False,
    lr_schedule="constant",
    coding="plain",
    pull_empty=True,  # mended: published, the picture fades to black where nothing reaches
    pos_bits=16,
    scale_bits=16,
    rot_bits=16,
    feat_bits=16,
)

# Both published with 50 000 steps and about as many again for quantisation: here 5000 in all, and learning rates that
# suit these. docs/peers.md has all constants, theirs and these, and what was measured.
_GAUSSIANIMAGE = Recipe(
    steps=5000,
    blend="sum",
    shape="cholesky",
    reach2=2 * math.log(255),  # their rasteriser leaves out what weighs less than 1/255
    relative_reach2=math.inf,
    init="random",
    init_scale=1.0,
    init_scale_mode="fixed",
    init_color=False,
    growth=False,
    relocate=0.0,
    pull_empty=False,
    lr_position=1e-2,
    lr_position_unit="picture",
    lr_scale=2e-2,
    lr_rotation=2e-2,
    lr_feature=2e-2,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    lr_schedule="steps",
    lr_decay_from=0.4,
    lr_decay_to=0.5,
    coding="plain",
    pos_quantizer="float16",
    pos_bits=16,
    shape_quantizer="learned",
    scale_bits=6,
    rot_bits=6,
    feat_quantizer="codebook",
    feat_bits=3,
    feat_stages=2,
    quantize_forward=0.5,
)
_GAUSSIANIMAGE_PLUS = dataclasses.replace(
    _GAUSSIANIMAGE,
    shape="covariance",
    init_scale=1 / math.sqrt(9 * math.pi),
    init_scale_mode="area",
    init_color_gain=0.0,
    growth=True,
    growth_start=0.5,
    growth_rounds=2,
    growth_until=0.2,
    growth_where="top",
    growth_color="zero",
    growth_scale=1 / math.sqrt(9 * math.pi),
    lr_position=0.18,
    lr_position_unit="pixels",
    lr_scale=0.18,
    lr_rotation=0.18,
    lr_feature=0.18,
    adam_epsilon=1e-15,
    pos_quantizer="learned",
    pos_bits=12,
    scale_bits=10,
    rot_bits=10,
    feat_quantizer="learned",
    feat_bits=6,
)

PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    "image-gs": _IMAGE_GS,
    "image-gs-code": dataclasses.replace(
        _IMAGE_GS,
        steps=10_000,
        init_power=2.0,
        growth_error_power=2.0,
        lr_schedule="plateau",
        lr_decay_to=0.1,
    ),
    "gaussianimage": _GAUSSIANIMAGE,
    "gaussianimage++": _GAUSSIANIMAGE_PLUS,
}


WIDTHS = ("pos_bits", "scale_bits", "rot_bits", "feat_bits")

# Effort → how many of the preset's steps are taken. docs/presets.md shows what each gains; 4000 and 7000 steps gained
# nothing over 2500.
EFFORT_FACTOR = {1: 0.1, 2: 0.2, 3: 0.35, 4: 0.6, 5: 1.0, 6: 1.3, 7: 1.6, 8: 2.0, 9: 2.5}


# Of a region of interest that is given without one.
ROI_WEIGHT = 4.0

# --tune: weight of 1 − SSIM beside the squared error. On kodim01 and kodim07 at 0.15 bpp, effort 3, weights 0, 0.003,
# 0.01, 0.03, 0.1 gave 24.55, 24.54, 24.49, 24.25, 23.87 dB and MS-SSIM 0.879, 0.882, 0.884, 0.880, 0.870; and 30.17,
# 30.20, 30.18, 30.03, 29.70 dB and 0.9581, 0.9581, 0.9597, 0.9608, 0.9590.
TUNE_SSIM = {"psnr": 0.0, "mixed": 0.005, "ms-ssim": 0.015}


@dataclasses.dataclass(frozen=True)
class Progress:
    """One line of the encode log. ``psnr`` and ``ssim`` are of the unquantised fit, None where not measured.

    Where pixels have weights in the loss these are weighted means.
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
    # -- how
    effort: int = 5
    preset: str = "default"
    tune: Literal["psnr", "mixed", "ms-ssim"] | None = None  # what the loss is for; None: the preset's own loss
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)  # Recipe fields
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if one can be used
    fast_nondeterministic: bool = False  # on a GPU: sums in any order, which differ from run to run
    threads: int | None = None  # None: one per core
    seed: int = 0
    saliency_map: Path | None = None  # any image instead of a built-in map; resampled to the picture's size
    # The loss counts a pixel 1 + saliency_weight·saliency, 0 to 1000, with saliency in [0, 1] of the map (regions.py).
    saliency_weight: float = 0.0
    # Regions of interest, (x, y, w, h) or (x, y, w, h, weight): whole pixels inside the upright picture, and what an
    # error there counts beside one elsewhere, 0.001 to 1000. Of those that overlap the last counts.
    roi: Sequence[tuple[float, ...]] = ()
    resample: str | None = None  # maps of different size: "largest", "smallest" or "WxH"; None refuses them
    # Of the picture's values (spec §3.4): sRGB or linear say what they mean, PQ and log also how they are stored.
    transfer: Literal["auto", "srgb", "linear", "pq", "log"] = "auto"  # auto: pq or log for EXR, sRGB for all else
    linear_light: bool = False  # sRGB pictures are fitted, stored and reduced in linear light
    codec: Literal["raw", "zstd", "columns"] = "zstd"  # of plain codes
    chunk_size: int | None = None  # Gaussians per chunk; None: what makes small reads smallest
    sections: dict[str, bytes] = dataclasses.field(default_factory=dict)  # metadata to embed, by section type
    # -- along the way
    log_every: int | None = None  # steps between log lines; None: a tenth of the steps, at most 100
    render_every: int | None = None  # write the fit as PNG every n steps into render_dir
    render_dir: Path | None = None
    checkpoint: Path | None = None  # written every checkpoint_every steps (npz)
    checkpoint_every: int = 500
    resume: Path | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_step: Callable[[Fit], None] | None = None  # sees the fit before every step and after the last (record.py)
    on_warning: Callable[[str], None] | None = None

    def recipe(self) -> Recipe:
        """The preset with effort and overrides applied; raises UsageError for an unknown name or value.

        The effort scales the preset's steps (and the interval of growth with them); an override of ``steps`` wins.
        Bits per code are what plain coding has: an override of ``WIDTHS`` asks for it, unless ``coding`` is given too.
        """
        if self.preset not in PRESETS:
            raise UsageError(f"preset: expected one of {', '.join(PRESETS)}, found {self.preset!r}")
        if self.effort not in EFFORT_FACTOR:
            raise UsageError(f"effort: expected 1 to 9, found {self.effort}")
        recipe = PRESETS[self.preset]
        factor = EFFORT_FACTOR[self.effort]
        recipe = dataclasses.replace(recipe, steps=max(1, round(recipe.steps * factor)))
        if recipe.growth_interval is not None:
            recipe = dataclasses.replace(recipe, growth_interval=max(1, round(recipe.growth_interval * factor)))
        if self.preset.startswith("image-gs") and self.overrides.get("init") == "saliency":
            recipe = dataclasses.replace(recipe, init_uniform=0.1)  # the paper's λ for saliency maps
        if self.tune is not None:
            if self.tune not in TUNE_SSIM:
                raise UsageError(f"tune: expected one of {', '.join(TUNE_SSIM)}, found {self.tune!r}")
            recipe = dataclasses.replace(recipe, loss_l1=0.0, loss_l2=1.0, loss_ssim=TUNE_SSIM[self.tune])
        known = {f.name for f in dataclasses.fields(Recipe)}
        for name in self.overrides:
            if name not in known:
                raise UsageError(f"recipe: expected a field of Recipe, found {name!r}")
        if "coding" not in self.overrides and any(name in self.overrides for name in WIDTHS):
            recipe = dataclasses.replace(recipe, coding="plain")
        recipe = dataclasses.replace(recipe, **self.overrides)
        recipe.validate()
        return recipe
