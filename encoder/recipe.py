"""A recipe: how Gaussians are fitted to a picture and rounded. Every field has its unit, and most why it is what it is.

Sources: Image-GS (Zhang et al., SIGGRAPH 2025), section 3 and its released code; GaussianImage++ (AAAI 2026).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Container, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from igs.format.binary import round_f16
from igs.format.errors import UsageError

Init = Literal["gradient", "saliency", "random"]
Saliency = Literal["spectral-residual", "fine-grained", "eml-net"]
ScaleParameter = Literal["raw", "inverse", "log"]
ShapeParameter = Literal["scale_rotation", "cholesky", "covariance"]
LrSchedule = Literal["constant", "exponential", "plateau", "steps"]


WIDTHS = ("pos_bits", "scale_bits", "rot_bits", "feat_bits")
_HALVES = ("reach2", "relative_reach2")  # binary16 in the header: fitted as they are decoded


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How Gaussians are fitted to a picture. Lengths are in pixels, angles in half-turns, colours in [0, 1]."""

    # -- length of the fit
    steps: int = 1600
    # -- model (spec §7)
    blend: Literal["topk", "sum"] = "topk"
    primitive: Literal["constant", "gradient"] = "constant"  # gradient: a slope of brightness besides the colour
    # The relative reach already keeps far Gaussians out; at 32 the K smallest rarely have to be selected (among 3.7 %
    # of the candidates instead of 96 % at K = 10). A step takes 44 instead of 54 ms (2048², 10K Gaussians, squared
    # error, bench/results/cpu.json); with the first kernels it was about half, at the same quality (−0.04 dB on four
    # Kodak images).
    top_k: int = 32
    # R²: squared absolute reach, in standard deviations, and Q², the relative one (inf: none). R² = 25, 20, 16 fit
    # equally well (32.22, 32.22, 32.20 dB on four Kodak images). What they trade are the bytes that a read of one pixel
    # takes (R² = 16, 17, 18: 7.8, 8.1, 8.3 % of a file of 10K Gaussians) and the smoothness of a zoom ((16, 12),
    # (17, 11), (18, 11): 0.009, 0.004, 0.002 steps of more than 2 of 255 levels per pixel of line). These were measured
    # on an early state of the encoder. Today (16.5, 11) reads 7.9 % and has 0.0032 such steps (bench/results/cpu.json).
    reach2: float = 16.5
    relative_reach2: float = 11.0
    # How the shape is fitted and stored (spec §6.2).
    shape: ShapeParameter = "scale_rotation"
    # α of GaussianImage++'s content-aware filter: s = HW/(αN), at most 300 pixels², is added to all variances, 0: not.
    # Theirs is 9π.
    lowpass_alpha: float = 0.0
    # -- initialisation
    init: Init = "gradient"
    saliency: Saliency = "spectral-residual"  # which map is meant by saliency (fitting/saliency.py, eml_net.py)
    init_uniform: float = 0.3  # share of positions drawn uniformly (λ in the paper)
    init_power: float = 2.0  # the map is raised to this power before drawing (paper 1, released code 2)
    init_scale: float = 0.6  # standard deviation at the start: pixels, or a multiple of the neighbour distance
    # area: multiples of √(HW/N), the side of a Gaussian's share of the picture
    init_scale_mode: Literal["fixed", "neighbours", "area"] = "neighbours"
    # New Gaussians, of the first and of those added, lie along edges: σ·e^(this·coherence) by σ·e^(−this·coherence)
    # (fitting/edges.py); 0: they are round.
    edge_stretch: float = 1.0
    init_color: bool = True  # colours start as the target's at the mean; otherwise random
    init_color_gain: float = 1.0  # factor of the first colours; 0 starts from a black picture
    # -- growth
    growth: bool = True
    growth_start: float = 0.25  # share of the Gaussians present at step 0
    growth_rounds: int = 12  # how many times Gaussians are added
    growth_until: float = 0.30  # the last addition, as a share of the steps (ignored if growth_interval is set)
    growth_interval: int | None = None  # steps between additions
    growth_where: Literal["sampled", "top"] = "sampled"  # top: at the centres of the pixels with the largest error
    growth_color: Literal["picture", "residual", "zero"] = "picture"  # what added Gaussians start with
    # A pixel's error is the geometric mean of what it lacks by itself and of what the pixels about it lack on average;
    # this is the share of the latter, of which noise, that no Gaussian mends, has little.
    growth_blur: float = 0.5
    growth_error_power: float = 4.0  # sampled: positions are drawn in proportion to that error to this power
    growth_scale: float = 0.27  # standard deviation of added Gaussians, same mode as init_scale
    relocate: float = 0.05  # share of the Gaussians that move to where the error is, at a time: those least missed
    # -- optimisation
    loss_l1: float = 0.0
    loss_l2: float = 1.0
    loss_ssim: float = 0.0  # weight of 1 − SSIM
    loss_ms_ssim: float = 0.005  # weight of 1 − SSIM of the picture reduced by 2, 4, 8 and 16
    scale_parameter: ScaleParameter = "log"
    # 0.05, 0.08 and 0.12 deviations gave 26.47, 26.49 and 26.47 dB (four Kodak pictures, 0.1 bpp), 0.3 pixels 26.42 dB;
    # 0.15 deviations cost road_runner 1 dB.
    lr_position: float = 0.08
    # deviations: of each Gaussian, along its own axes; picture: a share of the width (x) and height (y)
    lr_position_unit: Literal["deviations", "pixels", "picture"] = "deviations"
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
    # Of large pictures: up to this share of the steps each sees a quarter of the pixels (fitting/interlace.py).
    interlace: float = 0.95
    pull_empty: bool = True  # a pixel that nothing reaches pulls its nearest Gaussian
    # -- quantisation: lattice (spec §6.4, entropy-coded) or so many bits per code, where 32 stores float32
    coding: Literal["lattice", "plain"] = "lattice"
    # Steps of the lattice as a multiple of the root mean squared error that they are for: what all rounding together
    # costs is then about a tenth of the error, whatever the picture.
    coarseness: float = 25.0
    noise_from: float = 0.75  # share of the steps after which the fit runs with noise of one lattice step
    rate_weight: float = 0.0  # of the bits in the loss while there is noise; 0: none
    compensate: bool = True  # what rounding one attribute does to the picture the others make up for
    freeze_rounds: int = 32  # rounds in which Gaussians take their final codes while the others adapt
    freeze_steps: float = 0.0035  # steps between two of these, as a share of the recipe's
    freeze_rate: float = 0.2  # how far these steps go: 1 is where each Gaussian alone had best be
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

    def __post_init__(self) -> None:
        for name, types in _kinds().items():
            value = plain(getattr(self, name), types)
            if name in _HALVES and isinstance(value, float):
                value = round_f16(value)
            object.__setattr__(self, name, value)

    @property
    def scale_map(self) -> str:
        """What a model's ``scale`` and ``rotation`` hold (encoder/raster/shapes.py)."""
        return self.scale_parameter if self.shape == "scale_rotation" else self.shape

    def validate(self) -> None:
        """Raise :class:`UsageError` naming the first field that is of another kind or out of range."""
        for name, types in _kinds().items():
            value = getattr(self, name)
            if value is None and type(None) in types:
                continue
            if int in types and not is_number(value, whole=True):
                raise UsageError(f"{name}: expected a whole number, found {value!r}")
            if float in types and not is_number(value):
                raise UsageError(f"{name}: expected a number, found {value!r}")
            if bool in types:
                check_truth(name, value)
        kinds = {self.pos_quantizer, self.shape_quantizer, self.feat_quantizer}
        rotated = self.shape == "scale_rotation"
        checks: list[tuple[str, bool, str]] = [
            *(
                (name, is_one_of(getattr(self, name), known), ", ".join(known[:-1]) + " or " + known[-1])
                for name, known in choices().items()
            ),
            ("steps", 0 <= self.steps <= 1_000_000, "0 to 1000000"),
            ("top_k", 1 <= self.top_k <= 32, "1 to 32"),
            ("reach2", 0 < self.reach2 <= 1024, "above 0, up to 1024"),
            ("relative_reach2", self.relative_reach2 >= 0, "0 or more"),
            ("init_uniform", 0 <= self.init_uniform <= 1, "0 to 1"),
            ("init_scale", 0 < self.init_scale < 1e4, "above 0"),
            ("edge_stretch", 0 <= self.edge_stretch <= 4, "0 to 4"),
            ("growth_start", 0 < self.growth_start <= 1, "above 0, up to 1"),
            ("relocate", 0 <= self.relocate < 1, "0 or more, below 1"),
            ("growth_rounds", self.growth_rounds >= 0, "0 or more"),
            ("growth_interval", self.growth_interval is None or self.growth_interval >= 1, "1 or more"),
            ("growth_until", 0 <= self.growth_until <= 1, "0 to 1"),
            ("lr_decay_from", 0 <= self.lr_decay_from <= 1, "0 to 1"),
            ("lr_decay_to", 0 < self.lr_decay_to <= 1, "above 0, up to 1"),
            ("interlace", 0 <= self.interlace <= 1, "0 to 1"),
            ("adam_beta1", 0 <= self.adam_beta1 < 1, "0 or more, below 1"),
            ("adam_beta2", 0 <= self.adam_beta2 < 1, "0 or more, below 1"),
            ("adam_epsilon", 0 < self.adam_epsilon < 1, "above 0, below 1"),
            ("growth_scale", 0 < self.growth_scale < 1e4, "above 0"),
            ("growth_blur", 0 <= self.growth_blur <= 1, "0 to 1"),
            ("growth_error_power", 0 <= self.growth_error_power <= 16, "0 to 16"),
            ("init_power", 0 <= self.init_power <= 16, "0 to 16"),
            ("quantize_forward", 0 <= self.quantize_forward <= 1, "0 to 1"),
            ("plateau_steps", self.plateau_steps >= 1, "1 or more"),
            ("lowpass_alpha", self.lowpass_alpha == 0 or 1 <= self.lowpass_alpha <= 1e6, "0, or 1 to 1e6"),
            ("init_color_gain", 0 <= self.init_color_gain <= 16, "0 to 16"),
            ("feat_stages", 1 <= self.feat_stages <= 8, "1 to 8"),
            ("feat_bits", self.feat_quantizer != "codebook" or self.feat_bits <= 12, "1 to 12 for a codebook"),
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
            ("loss weights", min(self.loss_l1, self.loss_l2, self.loss_ssim, self.loss_ms_ssim) >= 0, "0 or more"),
            ("loss weights", self.loss_l1 + self.loss_l2 + self.loss_ssim + self.loss_ms_ssim > 0, "one above 0"),
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


@functools.cache
def _kinds() -> dict[str, tuple[Any, ...]]:
    """What each field may hold: types, or the names of a choice."""
    return {name: get_args(kind) or (kind,) for name, kind in get_type_hints(Recipe).items()}


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether a value is a real number, of Python's or NumPy's, and no truth value."""
    return isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)


def plain(value: Any, types: Sequence[Any]) -> Any:
    """A number or truth value as Python's own ``int``, ``float`` or ``bool``, the one that is among the types.

    Those of NumPy have bounds, which sums overflow, and JSON has no place for them. What is of another kind stays.
    """
    if int in types and is_number(value, whole=True):
        return int(value)
    if float in types and is_number(value):
        try:
            return float(value)
        except OverflowError:  # a whole number or a fraction beyond all floats
            return math.inf if value > 0 else -math.inf
    return bool(value) if bool in types and isinstance(value, np.bool_) else value


def check_truth(name: str, value: Any) -> None:
    """Raise UsageError unless a value is True or False: of texts and lists Python would take "no" for true."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name}: expected True or False, found {value!r}")


def is_one_of(value: Any, known: Container[str]) -> bool:
    """Whether a value is one of a few names."""
    return isinstance(value, str) and value in known


def choices() -> dict[str, tuple[str, ...]]:
    """The names that a recipe's fields may have, of those that hold one."""
    return {name: get_args(kind) for name, kind in get_type_hints(Recipe).items() if get_origin(kind) is Literal}
