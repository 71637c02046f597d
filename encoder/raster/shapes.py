"""The shape of a Gaussian as numbers that a fit can move: what ``Model.scale`` and ``Model.rotation`` hold.

``scale_map`` names the parameterisation: ``raw``, ``inverse`` or ``log`` (σ, 1/σ or ln σ per axis and an angle in
half-turns: spec §6.2 scale_rotation), ``cholesky`` (scale = l₁₁, l₂₂ and rotation = l₂₁, pixels) or ``covariance``
(scale = Σxx, Σyy and rotation = Σxy, pixels²). Factors and their gradients of the last two are here, by hand, in
binary64 (a long thin Gaussian's determinant cancels); those of the first three are compiled kernels.
Sources: GaussianImage (ECCV 2024) for Cholesky factors, GaussianImage++ (AAAI 2026) for covariance entries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igs.format.fields import SIGMA_MAX, SIGMA_MIN

SCALE_MAPS = {"raw": 0, "inverse": 1, "log": 2}  # IGS_SCALE_* of csrc/gaussian.h
MATRIX_MAPS = ("cholesky", "covariance")
_TINY = 1e-30


def is_matrix(scale_map: str) -> bool:
    """Whether the parameters are entries of a matrix, not deviations and an angle."""
    return scale_map in MATRIX_MAPS


def covariance_entries(scale: Tensor, rotation: Tensor, scale_map: str) -> tuple[Tensor, Tensor, Tensor]:
    """(Σxx, Σyy, Σxy), each [N] pixels², of matrix parameters; differentiable."""
    if scale_map == "covariance":
        return scale[:, 0], scale[:, 1], rotation
    a, b, t = scale[:, 0], scale[:, 1], rotation
    return a * a, t * t + b * b, a * t


def matrix_factors_reference(scale: Tensor, rotation: Tensor, scale_map: str, lowpass: float = 0.0) -> Tensor:
    """Factors [N, 3] (p, q, r) of spec §6.2 of matrix parameters; ``lowpass`` is added to both variances.

    No clamps: :func:`bound_shapes` keeps the parameters where the format has none to apply.
    """
    sxx, syy, sxy = covariance_entries(scale, rotation, scale_map)
    sxx, syy = sxx + lowpass, syy + lowpass
    d, g = (sxx * syy - sxy * sxy).clamp_min(_TINY).sqrt(), syy.clamp_min(_TINY).sqrt()
    return torch.stack([g / d, -sxy / (d * g), 1 / g], dim=1)


def matrix_factors(scale: Tensor, rotation: Tensor, scale_map: str, lowpass: float = 0.0) -> Tensor:
    """:func:`matrix_factors_reference` in binary64, float32 out."""
    return matrix_factors_reference(scale.double(), rotation.double(), scale_map, lowpass).to(scale.dtype)


def matrix_factors_gradient(
    scale: Tensor, rotation: Tensor, grad_factors: Tensor, scale_map: str, lowpass: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Gradients of scale [N, 2] and rotation [N] from dL/dfactors [N, 3], without an autograd graph."""
    dtype = scale.dtype
    scale, rotation = scale.double(), rotation.double()
    gp, gq, gr = grad_factors.double().unbind(1)
    sxx, syy, sxy = covariance_entries(scale, rotation, scale_map)
    sxx, syy = sxx + lowpass, syy + lowpass
    d, g = (sxx * syy - sxy * sxy).clamp_min(_TINY).sqrt(), syy.clamp_min(_TINY).sqrt()
    p, q, r = g / d, -sxy / (d * g), 1 / g
    by_g = gp / d - gq * q / g - gr * r * r
    by_d = -(gp * p + gq * q) / d
    by_xx = by_d * syy / (2 * d)
    by_yy = by_d * sxx / (2 * d) + by_g / (2 * g)
    by_xy = -by_d * sxy / d - gq / (d * g)
    if scale_map == "covariance":
        return torch.stack([by_xx, by_yy], dim=1).to(dtype), by_xy.to(dtype)
    a, b = scale.unbind(1)
    t = rotation
    grad_scale = torch.stack([2 * a * by_xx + t * by_xy, 2 * b * by_yy], dim=1)
    return grad_scale.to(dtype), (a * by_xy + 2 * t * by_yy).to(dtype)


def matrix_parameters(sxx: Tensor, syy: Tensor, sxy: Tensor, scale_map: str) -> tuple[Tensor, Tensor]:
    """(scale [N, 2], rotation [N]) of a positive definite covariance; the inverse of :func:`covariance_entries`."""
    if scale_map == "covariance":
        return torch.stack([sxx, syy], dim=1), sxy.clone()
    a = sxx.sqrt()
    t = sxy / a
    return torch.stack([a, (syy - t * t).clamp_min(0).sqrt()], dim=1), t


def parameters(sigma: Tensor, rotation: Tensor, scale_map: str) -> tuple[Tensor, Tensor]:
    """(scale, rotation) in the parameterisation, of deviations [N, 2] in pixels and angles [N] in half-turns."""
    if not is_matrix(scale_map):
        scale = sigma.log() if scale_map == "log" else 1 / sigma if scale_map == "inverse" else sigma.clone()
        return scale, rotation.clone()
    a, b = (sigma * sigma).double().unbind(1)
    c, s = torch.cos(math.pi * rotation.double()), torch.sin(math.pi * rotation.double())
    scale, entry = matrix_parameters(a * c * c + b * s * s, a * s * s + b * c * c, (a - b) * s * c, scale_map)
    return scale.to(sigma.dtype), entry.to(sigma.dtype)


def _eigen(sxx: Tensor, syy: Tensor, sxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean variance m, half difference h of the eigenvalues m ± h, half difference of the entries)."""
    m, d = (sxx + syy) / 2, (sxx - syy) / 2
    return m, (d * d + sxy * sxy).sqrt(), d


def deviations(scale: Tensor, rotation: Tensor, scale_map: str) -> Tensor:
    """Standard deviations [N, 2] in pixels, clamped as the format does; of matrices the larger one first."""
    if scale_map == "log":
        sigma = scale.exp()
    elif scale_map == "inverse":
        sigma = 1 / scale.clamp_min(1e-6)
    elif scale_map == "raw":
        sigma = scale
    else:
        m, h, _ = _eigen(*covariance_entries(scale.double(), rotation.double(), scale_map))
        sigma = torch.stack([m + h, m - h], dim=1).clamp_min(0).sqrt().to(scale.dtype)
    return sigma.clamp(SIGMA_MIN, SIGMA_MAX)


def axes(scale: Tensor, rotation: Tensor, scale_map: str) -> tuple[Tensor, Tensor, str]:
    """The same shapes with deviations along axes and an angle, as kernels know them: (scale, rotation, scale_map)."""
    if not is_matrix(scale_map):
        return scale, rotation, scale_map
    sxx, syy, sxy = covariance_entries(scale.double(), rotation.double(), scale_map)
    turn = torch.atan2(2 * sxy, sxx - syy) / (2 * math.pi)
    return deviations(scale, rotation, scale_map).contiguous(), turn.to(rotation.dtype), "raw"


def scale_bounds(scale_map: str, low: float, high: float) -> tuple[float, float]:
    """The least and the largest parameter of deviations along axes from ``low`` to ``high``, above 0."""
    if scale_map == "log":
        return math.log(low), math.log(high)
    return (1 / high, 1 / low) if scale_map == "inverse" else (low, high)


def bound_shapes(scale: Tensor, rotation: Tensor, scale_map: str, low: float, high: float) -> None:
    """Bring deviations back into [low, high] pixels, in place; matrices keep their axes."""
    if not is_matrix(scale_map):
        scale.clamp_(*scale_bounds(scale_map, low, high))
    else:
        sxx, syy, sxy = covariance_entries(scale.double(), rotation.double(), scale_map)
        m, h, d = _eigen(sxx, syy, sxy)
        bad = (m - h < low * low) | (m + h > high * high)
        big, small = (m + h).clamp(low * low, high * high), (m - h).clamp(low * low, high * high)
        mean, half = (big + small) / 2, (big - small) / 2
        stretch = torch.where(h > 0, half / h.clamp_min(_TINY), torch.zeros_like(h))
        new = matrix_parameters(mean + d * stretch, mean - d * stretch, sxy * stretch, scale_map)
        # Chosen, not written by index: a device needn't say how many there are.
        scale.copy_(torch.where(bad[:, None], new[0].to(scale.dtype), scale))
        rotation.copy_(torch.where(bad, new[1].to(rotation.dtype), rotation))


def enlarge(scale: Tensor, rotation: Tensor, scale_map: str, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(scale, rotation) with all deviations of Gaussian i multiplied by ``factor`` [N]."""
    f = factor.to(scale.dtype)
    if scale_map == "covariance":
        return scale * (f * f)[:, None], rotation * f * f
    if scale_map == "cholesky":
        return scale * f[:, None], rotation * f
    sigma = deviations(scale, rotation, scale_map) * f[:, None]
    return parameters(sigma, rotation, scale_map)


def widen(scale: Tensor, rotation: Tensor, scale_map: str, variance: float, low: float) -> None:
    """Add ``variance`` (pixels², may be negative) to both variances of every Gaussian, in place; none below low²."""
    if is_matrix(scale_map):
        sxx, syy, sxy = covariance_entries(scale.double(), rotation.double(), scale_map)
        m, h, _ = _eigen(sxx, syy, sxy)
        extra = torch.maximum(torch.full_like(m, variance), low * low - (m - h))
        new = matrix_parameters(sxx + extra, syy + extra, sxy, scale_map)
        scale.copy_(new[0]), rotation.copy_(new[1])
    else:
        sigma = deviations(scale, rotation, scale_map)
        sigma = (sigma * sigma + variance).clamp_min(low * low).sqrt()
        scale.copy_(parameters(sigma, rotation, scale_map)[0])
