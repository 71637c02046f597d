"""How picture values are stored and judged: transfer and gamma of the groups, and what a quality compares.

Spec §3.4, §8.3. A colour that can't be seen counts for nothing: alpha is multiplied in, or the picture laid over black
and over white. Light that may exceed white is judged as it is stored, by its curve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from igs.encoder import metrics
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import TRANSFERS
from igs.format import Channels, Colour, Group, Transfer, each_group
from igs.format.errors import UsageError
from igs.format.transfer import CURVED, from_linear, linear_range

Floats = NDArray[np.float32]
LINEAR_GAMMA = 1 / 2.2  # v = s^(1/2.2): stored values are linear light but for sRGB's short straight piece
_LIGHT = (Colour.GREY, Colour.RGB, Colour.UNSPECIFIED)
# A fit's errors and steps are of values of about 1: files of a kodim15 crop (300 Gaussians) were 32.1, 28.5, 23.0 and
# 23.3 dB below its white where that was 1, 8, 16 and 128. A lattice's models hold values up to 165 from their centre
# (12 spreads of 2^(63/16), spec §5.3), and a Gaussian's may be beyond those of the picture.
_MOST = 100.0
_BRIGHT = 2.0  # a float picture that goes beyond is hardly one of [0, 1] with some overshoot


def stored_groups(
    source: SourceImage, transfer: str, gamma: float, linear_light: bool, warn: Callable[[str], None]
) -> tuple[Group, ...]:
    """The source's groups with the transfer and gamma to store them by; tells what that transfer can't hold.

    transfer: one of TRANSFERS, auto being the source's own. linear_light: sRGB colours are stored as linear light.
    """
    if transfer not in TRANSFERS:
        raise UsageError(f"transfer: expected one of {', '.join(TRANSFERS)}, found {transfer!r}")
    if linear_light and gamma != 1:
        raise UsageError(f"linear_light: expected gamma 1 beside it, found {gamma:g}")
    groups = []
    for group in source.groups:
        if transfer != "auto":
            group = dataclasses.replace(group, transfer=Transfer[transfer.upper()])
        is_srgb = group.transfer == Transfer.SRGB and group.colour in _LIGHT
        groups.append(dataclasses.replace(group, gamma=LINEAR_GAMMA if linear_light and is_srgb else gamma))
    if linear_light and all(group.gamma == 1 for group in groups):
        warn(f"{source.name}: --linear-light changes nothing: no colours of this picture are sRGB")
    if not source.is_within_unit:
        for group, _, lit, _ in each_group(groups):
            _tell(source.name, group, source[..., lit], warn)
    return tuple(groups)


def _tell(name: str, group: Group, pixels: Floats, warn: Callable[[str], None]) -> None:
    if group.transfer in CURVED:
        low, high = linear_range(group.transfer)
        count = int(np.count_nonzero((pixels < low) | (pixels > high)))
        if count:
            hint = "" if group.transfer == Transfer.LOG else "; --transfer log holds them"
            kind = {Transfer.PQ: "PQ"}.get(group.transfer, "the log curve")
            warn(f"{name}: {count} of {pixels.size} values are clipped: {kind} holds {low:g} to {high:g}{hint}")
    elif group.bit_depth == 32 and group.transfer == Transfer.SRGB and pixels.max(initial=0) > _BRIGHT:
        hint = "the higher, the worse they fit; --transfer log or pq is for light above white"
        warn(f"{name}: values up to {pixels.max():.4g}; {hint}")


def check_range(source: SourceImage, groups: tuple[Group, ...]) -> None:
    """Raise UsageError for values so far beyond 1 that a lattice can't hold them; curves bring all near it."""
    if source.is_within_unit:
        return
    for group, _, lit, _ in each_group(groups):
        pixels = source[..., lit]
        if group.transfer not in CURVED and np.abs(pixels).max(initial=0) > _MOST:
            raise UsageError(
                f"{source.name}: expected values of about 0 to 1, at most ±{_MOST:g}, found {pixels.min():.4g} to "
                f"{pixels.max():.4g}: ask for transfer log or pq or for plain coding, or divide them"
            )


def alpha_quality(strips: Iterable[tuple[Floats, Floats]], groups: tuple[Group, ...]) -> dict[str, float | None]:
    """PSNR in dB (None where infinite) of two pictures over black, over white, and of alpha by itself.

    strips: both by rows, picture values [rows, W, C]. Only groups with alpha count. Over a backdrop b: c·a + b·(1 − a).
    """
    parts = [part for part in each_group(groups) if part.alpha is not None]
    views: dict[str, Callable[[Floats, Channels], Floats]] = {
        "psnr_black": lambda values, part: _laid(values, part, 0.0),
        "psnr_white": lambda values, part: _laid(values, part, 1.0),
        "psnr_alpha": lambda values, part: values[..., part.alpha],
    }
    colours = sum(part.group.channels - 1 for part in parts)
    found = {name: metrics.Errors(len(parts) if name == "psnr_alpha" else colours) for name in views}
    for strip in strips:
        for name, view in views.items():
            found[name].add(*(np.concatenate([view(values, part) for part in parts], axis=-1) for values in strip))
    return {name: errors.psnr() for name, errors in found.items()}


def _laid(values: Floats, part: Channels, backdrop: float) -> Floats:
    group, alpha = part.group, values[..., part.alpha]
    flat = values[..., part.colours] * alpha + np.float32(backdrop) * (1 - alpha)
    return from_linear(flat, group.transfer).astype(np.float32) if group.transfer in CURVED else flat
