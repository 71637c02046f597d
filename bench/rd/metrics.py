"""How far a decoded picture is from its source: RGB PSNR, MS-SSIM, FLIP, LPIPS.

PSNR is taken over all values of the three channels. MS-SSIM: Wang, Simoncelli, Bovik 2003, an 11-tap Gaussian of
deviation 1.5, five scales, the valid part of each, computed per channel and averaged. FLIP (Andersson et al. 2020)
comes from the package flip-evaluator at its 67 pixels per degree, LPIPS from `rd.lpips` with a weight file that the
user brings. What is not installed is left out of the point, never guessed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

# Part of every point's key: raised when a definition in this file changes, so that older points are measured again.
DEFINITION = 1
EXACT = 99.0  # dB, written where the pictures are equal and PSNR would be infinite

_TAPS = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
_TAPS /= _TAPS.sum()
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # the paper's, fine to coarse
C1, C2 = 0.01**2, 0.03**2  # the paper's constants for values in [0, 1]

Pixels = NDArray[np.uint8]  # [H, W, 3]


def psnr(source: NDArray, decoded: NDArray) -> float:
    """Peak signal-to-noise ratio in dB of pictures [H, W, C] with values in [0, 1]; 99 where they are equal."""
    error = float(np.mean(np.square(np.asarray(source, np.float64) - np.asarray(decoded, np.float64))))
    return EXACT if error == 0 else -10 * math.log10(error)


def ms_ssim(source: NDArray, decoded: NDArray) -> float:
    """Multi-scale SSIM in [0, 1] of pictures [H, W, C] with values in [0, 1].

    A picture too small for five scales (below 161 pixels) is compared at those that it has.
    """
    a, b = np.asarray(source, np.float64), np.asarray(decoded, np.float64)
    score = np.ones(a.shape[2])  # [C]
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if min(a.shape[:2]) < len(_TAPS):
            break
        mean_a, mean_b = smooth(a), smooth(b)
        variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
        covariance = smooth(a * b) - mean_a * mean_b
        similarity = (2 * covariance + C2) / (variance_a + variance_b + C2)
        if scale == len(_SCALE_WEIGHTS) - 1:  # luminance counts at the coarsest scale only
            similarity *= (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        # A negative mean has no real power; it takes pictures that have nothing in common.
        score *= np.maximum(similarity.mean((0, 1)), 1e-6) ** weight
        a, b = _half(a), _half(b)
    return float(score.mean())


def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """[H, W, C] → [H − 10, W − 10, C]: the window's weighted mean where it lies inside."""
    x = correlate1d(x, _TAPS, axis=0)[5:-5]
    return correlate1d(x, _TAPS, axis=1)[:, 5:-5]


def _half(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 2×2 pixels; an odd last row or column is dropped."""
    rows, columns = x.shape[0] // 2, x.shape[1] // 2
    return x[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean((1, 3))


def flip_available() -> bool:
    """Whether FLIP can be measured here."""
    try:
        import flip_evaluator  # noqa: F401
    except ImportError:
        return False
    return True


def flip(source: Pixels, decoded: Pixels) -> float:
    """Mean FLIP error in [0, 1] (0: equal) of 8-bit sRGB pictures. Needs flip-evaluator."""
    from flip_evaluator import evaluate

    # Fresh arrays: the package takes them as its own.
    pair = (np.ascontiguousarray(p, np.float32) / np.float32(255) for p in (source, decoded))
    _, error, _ = evaluate(*pair, "LDR", inputsRGB=True, applyMagma=False, computeMeanError=True)
    return float(error)


def wanted(lpips_weights: str | None, quick: bool = False) -> tuple[str, ...]:
    """The metrics that a point gets on this machine; `quick` leaves out FLIP, which takes longer than all the rest."""
    names = ["psnr", "ms_ssim"]
    if flip_available() and not quick:
        names.append("flip")
    if lpips_weights:
        names.append("lpips")
    return tuple(names)


def measure(source: Pixels, decoded: Pixels, names: tuple[str, ...], lpips_weights: str | None = None) -> dict:
    """The named metrics of 8-bit pictures [H, W, 3], as {name: value}."""
    a, b = source / 255.0, decoded / 255.0
    values = {}
    for name in names:
        if name == "psnr":
            values[name] = psnr(a, b)
        elif name == "ms_ssim":
            values[name] = ms_ssim(a, b)
        elif name == "flip":
            values[name] = flip(source, decoded)
        elif name == "lpips" and lpips_weights:
            from rd import lpips

            values[name] = lpips.load(lpips_weights)(source, decoded)
    return values
