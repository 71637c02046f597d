"""Saliency: where a picture draws the eye, as maps [H, W] of its pixels. Built in are two that need no trained weights.

Sources: *spectral residual*, Hou and Zhang, CVPR 2007: large things that the rest of the picture doesn't resemble, at
the resolution of 64 × 64. *Fine-grained*, Montabone and Soto, Image and Vision Computing 2010: differences between a
pixel and its surroundings, of several sizes, at full resolution. EML-Net, a trained network, is in eml_net.py; maps of
others come in as files (``--saliency-map``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igs.decoder.output import visible
from igs.encoder.fitting.init import Map, resample_map
from igs.encoder.options import check_saliency
from igs.format import Colour, Group, each_group
from igs.format.errors import Unsupported

# Half sides of the surroundings in pixels: three octaves of 12 and of 28, as published.
_SURROUNDS = (12, 24, 48, 28, 56, 112)
_NOTHING = 1e-6  # differences of means that are rounding: far below a 16-bit level
_BRIGHT = 99.0  # the percentile of a map that counts as fully salient: single peaks would leave nothing else


def spectral_residual(pixels: NDArray[np.float32], size: int = 64) -> Map:
    """Saliency [H, W] of pixels [H, W, C]: what the small grey picture's log spectrum has beyond its own local mean."""
    grey = pixels.mean(axis=2)
    h, w = grey.shape
    small = np.asarray(
        Image.fromarray(grey.astype(np.float32)).resize((min(size, w), min(size, h)), Image.Resampling.BOX),
        np.float64,
    )
    spectrum = np.fft.fft2(small)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - _box3(log_amplitude)
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    for _ in range(3):  # three 3×3 box filters: about the Gaussian blur of the paper
        saliency = _box3(saliency)
    return resample_map(saliency, w, h)


def _box3(a: Map) -> Map:
    padded = np.pad(a, 1, mode="edge")
    h, w = a.shape
    total = np.zeros_like(a)
    for i in range(3):
        for j in range(3):
            total += padded[i : i + h, j : j + w]
    return total / 9


def fine_grained(pixels: NDArray[np.float32]) -> Map:
    """Saliency [H, W] in [0, 1] of pixels [H, W, C]: mean of an on-centre and an off-centre map, each of maximum 1.

    On-centre is by how much a pixel's grey is above the mean of its surroundings, off-centre by how much below, summed
    over surroundings of several sizes; these are squares without their centre, cut at the picture's edges, whose sums
    come from one integral image. All zeros for a picture of one colour.
    """
    grey = pixels.mean(axis=2, dtype=np.float64)
    h, w = grey.shape
    integral = np.zeros((h + 1, w + 1))
    integral[1:, 1:] = grey.cumsum(axis=0).cumsum(axis=1)
    on, off = np.zeros_like(grey), np.zeros_like(grey)
    for reach in _SURROUNDS:
        top, bottom = _window(h, reach)
        left, right = _window(w, reach)
        count = (bottom - top)[:, None] * (right - left)[None, :] - 1
        above, below = integral[top], integral[bottom]
        inside = below[:, right] - below[:, left] - above[:, right] + above[:, left]
        surround = np.where(count > 0, (inside - grey) / np.maximum(count, 1), grey)
        difference = grey - surround
        difference[np.abs(difference) < _NOTHING] = 0
        on += np.maximum(difference, 0)
        off += np.maximum(-difference, 0)
    parts = [part / part.max() for part in (on, off) if part.max() > 0]
    return np.asarray(sum(parts, np.zeros_like(grey)) / 2)


def _window(n: int, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row of each pixel's window along a side of n pixels, and one past its last."""
    at = np.arange(n)
    return np.maximum(at - reach, 0), np.minimum(at + reach + 1, n)


MAPS = {"spectral-residual": spectral_residual, "fine-grained": fine_grained}


def map_of(name: str, pixels: NDArray[np.float32], groups: Sequence[Group], network: str | Path | None = None) -> Map:
    """The map [H, W], 0 or more, that a name stands for, of picture values [H, W, C] of these groups.

    network: weights of ``eml-net``, a .safetensors file. Raises UsageError for eml-net without or another map with
    them, InputError for a file that isn't one, Unsupported where PyTorch or safetensors is missing.
    """
    check_saliency(name, network)
    if network is None:
        return MAPS[name](flat(pixels, groups))
    try:
        from igs.encoder.fitting.eml_net import eml_net
    except ImportError as error:
        raise Unsupported('eml-net needs PyTorch and safetensors: pip install "igs-codec[encoder,saliency]"') from error
    return eml_net(visible(pixels, groups, paper=0), Path(network))


def flat(pixels: NDArray[np.float32], groups: Sequence[Group]) -> NDArray[np.float32]:
    """Picture values [H, W, C] without alpha, [H, W, C']: colours are over black, and ink is turned into light."""
    parts = []
    for group, _, lit, alpha in each_group(groups):
        colours = pixels[..., lit]
        if group.colour == Colour.CMYK:
            colours = 1 - colours
        parts.append(colours if alpha is None else colours * np.clip(pixels[..., alpha], 0, 1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def normalized(saliency: Map) -> Map:
    """A map [H, W] scaled to [0, 1]: its 99th percentile, or its maximum where that is 0, and all above become 1."""
    top = float(np.percentile(saliency, _BRIGHT)) or float(saliency.max())
    return np.clip(saliency / top, 0, 1) if top > 0 else np.zeros_like(saliency)
