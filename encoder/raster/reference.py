"""The rasteriser, the loss and the factors in plain torch: slow, obvious, differentiable by autograd.

Same signatures as the functions of :mod:`igs.encoder.raster.kernels`, which are tested against these, also backward.
``rasterize_reference`` tries every Gaussian at every pixel; :mod:`igs.encoder.raster.tiled` is its practical twin.
Sources: spec §6.2 and §7; Image-GS eq. 5; SSIM as in Wang et al. 2004, zero padding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from igs.encoder.raster import shapes
from igs.encoder.raster.adam import Moments, Rates
from igs.encoder.raster.model import Model
from igs.format.fields import SIGMA_MAX, SIGMA_MIN
from igs.format.lattice import FEATURE_GAIN_MIN


@dataclasses.dataclass(frozen=True)
class RasterOptions:
    """The picture and who counts in it. ``relative_reach2`` may be inf; for ``pull`` see the rasteriser."""

    width: int
    height: int
    blend: str = "topk"
    top_k: int = 10
    reach2: float = 20.0
    relative_reach2: float = 9.0
    pull: float = 0.0
    pull_share: float = 1.0  # of reach2: from which smallest d² on a pixel pulls
    background: tuple[float, ...] = ()
    lowpass: float = 0.0  # pixels², added to both variances of every Gaussian (spec §6.2)
    # Features are c[C], a, b and a colour is c + a·u + b·v at a point, u and v as in spec §7 …
    gradient: bool = False
    lit: tuple[bool, ...] = ()  # … in these channels; none given: in all

    def channels(self, features: Tensor) -> int:
        """C, given the features [N, F]."""
        return features.shape[1] - 2 * self.gradient

    def lit_channels(self, features: Tensor) -> Tensor:
        """1 for each of the C channels that a gradient is added to, 0 for the others, of the features' kind."""
        return features.new_tensor(self.lit or (True,) * self.channels(features))


def factors_reference(
    scales: Tensor,  # [N, 2]
    rotations: Tensor,  # [N] half-turns
    scale_map: str = "log",
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    lowpass: float = 0.0,
) -> Tensor:
    """Factors [N, 3] (p, q, r) of scale parameters (raw σ, inverse 1/σ, natural log σ) and rotations (spec §6.2)."""
    sigma = _deviations(scales, scale_map, sigma_min, sigma_max)
    a, b = sigma[:, 0] ** 2 + lowpass, sigma[:, 1] ** 2 + lowpass
    c, s = torch.cos(math.pi * rotations), torch.sin(math.pi * rotations)
    syy, sxy, d = a * s * s + b * c * c, (a - b) * s * c, a.sqrt() * b.sqrt()
    g = syy.sqrt()
    return torch.stack([g / d, -sxy / (d * g), 1 / g], dim=1)


def _deviations(scales: Tensor, scale_map: str, sigma_min: float, sigma_max: float) -> Tensor:
    if scale_map == "log":
        sigma = scales.exp()
    elif scale_map == "inverse":
        sigma = 1 / scales.clamp_min(1e-6)
    else:
        sigma = scales
    return sigma.clamp(sigma_min, sigma_max)


def _whitened(means: Tensor, factors: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """u, v [P, N] of points [P, 2]: d² = u² + v²."""
    delta = points[:, None, :] - means[None, :, :]
    u = factors[:, 0] * delta[..., 0] + factors[:, 1] * delta[..., 1]
    return u, factors[:, 2] * delta[..., 1]


def _weighted(weight: Tensor, u: Tensor, v: Tensor, features: Tensor, o: RasterOptions) -> Tensor:
    """Σ weight·colour [P, C] with weights, u and v [P, N]."""
    if not o.gradient:
        return weight @ features
    a, b = features[:, -2], features[:, -1]
    tilt = (weight * (a * u + b * v)).sum(dim=1, keepdim=True)
    return weight @ features[:, :-2] + o.lit_channels(features) * tilt


def _weights(d2: Tensor, o: RasterOptions) -> Tensor:
    """What each Gaussian counts at each point, [P, N]: 0 for those that don't. N > 0 for topk."""
    if o.blend == "sum":
        return torch.where(d2 <= o.reach2, torch.exp(-d2 / 2), torch.zeros_like(d2))
    nearest = d2.detach().min(dim=1, keepdim=True).values
    limit = (nearest + o.relative_reach2).clamp_max(o.reach2)
    if o.pull > 0:
        limit = torch.maximum(limit, nearest)
    if d2.shape[1] > o.top_k:
        kth = d2.detach().kthvalue(o.top_k, dim=1, keepdim=True).values
        limit = torch.minimum(limit, kth)
    return torch.where(d2 <= limit, torch.exp(-(d2 - nearest) / 2), torch.zeros_like(d2))


def _blend(u: Tensor, v: Tensor, features: Tensor, background: Tensor, o: RasterOptions) -> Tensor:
    """Values [P, C] from u, v [P, N]."""
    d2 = u * u + v * v
    if o.blend == "sum":
        return background + _weighted(_weights(d2, o), u, v, features, o)
    if d2.shape[1] == 0:
        return background.expand(d2.shape[0], -1)
    weight = _weights(d2, o)
    total = weight.sum(dim=1, keepdim=True)
    value = _weighted(weight, u, v, features, o) / total.clamp_min(1e-30)
    if o.pull > 0:  # no change of the value, but a gradient: Gaussians are drawn to a pixel at the edge of every reach
        nearest = d2.detach().min(dim=1, keepdim=True).values
        far = (nearest > o.pull_share * o.reach2).to(d2.dtype)
        pulled = (far * weight.detach() * d2).sum(dim=1, keepdim=True)
        value = value + _PullLoss.apply(pulled, o.pull, value.shape[1])
    return torch.where(total > 0, value, background)


class _PullLoss(torch.autograd.Function):
    """Zero forward; backward gives dL/dd² = pull, whatever the loss."""

    @staticmethod
    def forward(ctx, pulled: Tensor, pull: float, channels: int) -> Tensor:
        ctx.pull = pull
        ctx.save_for_backward(pulled)
        return pulled.new_zeros(pulled.shape[0], channels)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (pulled,) = ctx.saved_tensors
        return (pulled > 0).to(pulled.dtype) * ctx.pull, None, None


def rasterize_reference(means: Tensor, factors: Tensor, features: Tensor, options: RasterOptions) -> Tensor:
    """The picture [C, H, W] of Gaussians with means [N, 2] (pixels), factors [N, 3] and features [N, F].

    F is C, or C + 2 with ``options.gradient``. Differentiable in all three. With ``options.pull`` > 0 a pixel that
    nothing reaches takes its nearest Gaussian's colour; and where the smallest d² is above ``pull_share``·R², the d²
    of those that count get the gradient pull·exp(−(d² − d²min)/2): an edge of support has none of its own.
    """
    o = options
    background = features.new_tensor(o.background or (0.0,) * o.channels(features))
    value = _blend(*_whitened(means, factors, _pixel_centres(means, o)), features, background, o)
    return value.T.reshape(-1, o.height, o.width)


def _pixel_centres(means: Tensor, o: RasterOptions) -> Tensor:
    """Points [H·W, 2] in the order of a plane of the picture."""
    rows, columns = (torch.arange(n, dtype=means.dtype, device=means.device) for n in (o.height, o.width))
    y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)


def removal_costs_reference(
    means: Tensor, factors: Tensor, features: Tensor, options: RasterOptions, target: Tensor,
    weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """By how much Σw·e² against target [C, H, W] would rise without each Gaussian, [N].

    The others that count at a pixel stay as they are, and none moves up; where there is none, the background is seen.
    weight: w of each pixel [H, W], none: 1.
    """
    o = options
    background = features.new_tensor(o.background or (0.0,) * o.channels(features))
    u, v = _whitened(means, factors, _pixel_centres(means, o))
    blend, wanted = _weights(u * u + v * v, o), target.reshape(target.shape[0], -1).T
    each = 1.0 if weight is None else weight.reshape(-1, 1)

    def squared_error(blend: Tensor) -> Tensor:
        value, total = _weighted(blend, u, v, features, o), blend.sum(dim=1, keepdim=True)
        if o.blend == "sum":
            value = value + background
        else:
            value = torch.where(total > 0, value / total.clamp_min(1e-30), background)
        return (each * (value - wanted) ** 2).sum()

    present = torch.ones(len(means), dtype=blend.dtype)
    rises = []
    for i in range(len(means)):
        present[i] = 0
        rises.append(squared_error(blend * present) - squared_error(blend))
        present[i] = 1
    return torch.stack(rises) if rises else means.new_zeros(0)


def ssim_map_reference(image: Tensor, target: Tensor) -> Tensor:
    """SSIM [C, H, W] of two pictures [C, H, W]: 11×11 Gaussian window, deviation 1.5, zero padding."""
    k = torch.arange(-5, 6, dtype=torch.float64, device=image.device)
    w = torch.exp(-k * k / (2 * 1.5**2))
    w = (w / w.sum()).to(image.dtype)

    def blur(t: Tensor) -> Tensor:
        t = F.conv2d(t[:, None], w.view(1, 1, 1, -1), padding=(0, 5))
        return F.conv2d(t, w.view(1, 1, -1, 1), padding=(5, 0))[:, 0]

    ma, mb = blur(image), blur(target)
    saa, sbb = blur(image * image) - ma * ma, blur(target * target) - mb * mb
    sab = blur(image * target) - ma * mb
    return ((2 * ma * mb + 1e-4) * (2 * sab + 9e-4)) / ((ma * ma + mb * mb + 1e-4) * (saa + sbb + 9e-4))


def loss_reference(
    image: Tensor, target: Tensor, l1: float, l2: float, ssim: float, weight: Tensor | None = None
) -> Tensor:
    """l1·mean w|e| + l2·mean w·e² + ssim·(1 − mean w·SSIM), a scalar. weight: w of each pixel [H, W], none: 1."""
    e, w = image - target, 1.0 if weight is None else weight
    total = l1 * (w * e.abs()).mean() + l2 * (w * e * e).mean()
    if ssim:
        total = total + ssim * (1 - (w * ssim_map_reference(image, target)).mean())
    return total


def add_noise_reference(
    means: Tensor, scales: Tensor, rotations: Tensor, features: Tensor, scale_map: str, coarseness: Tensor,
    steps: Tensor, mixed: Tensor, u: Tensor, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gaussians with noise of one lattice step on all they have (spec §6.4).

    At a coarseness of 1 and σ = 1: steps [4] of the mean in deviations, of ln σ₂, of ln(σ₁/σ₂) and of the apparent turn
    in radians; mixed [F, F]: how the step of feature j moves feature k. coarseness: [1] for all, or [N]. u [N, 5 + F]:
    numbers in −½ … ½, of minor, ratio, rotation, both axes and the features.
    """
    sigma = _deviations(scales, scale_map, sigma_min, sigma_max)
    log = scales if scale_map == "log" else sigma.log()
    by_mean, by_minor, by_ratio, by_turn = (steps[:, None] * coarseness).unbind(0)
    ln1, ln2 = log.amax(dim=1), log.amin(dim=1)
    turned = log[:, 1] > log[:, 0]  # the second axis is the major one
    gain, root = torch.exp(-(ln1 + 3 * ln2) / 8), torch.exp(-ln2 / 2)
    minor = u[:, 0] * by_minor * root
    major = minor + u[:, 1] * by_ratio * root
    noisy = log + torch.where(turned[:, None], torch.stack([minor, major], 1), torch.stack([major, minor], 1))
    if scale_map != "log":
        noisy = (-noisy if scale_map == "inverse" else noisy).exp()
    ratio = torch.exp(ln1 - ln2)
    angles = ((ratio - 1 / ratio) * math.pi / (by_turn * gain)).ceil().clamp_min(1)
    rotation = rotations + torch.where(angles > 1, u[:, 2] / angles, 0.0)
    c, s = torch.cos(math.pi * rotations), torch.sin(math.pi * rotations)
    x, y = (u[:, 3:5] * (by_mean * gain)[:, None] * sigma).unbind(1)
    mean = means + torch.stack([x * c - y * s, x * s + y * c], 1)
    factor = coarseness * torch.exp(-(3 * ln1 + 4 * ln2) / 8).clamp_min(FEATURE_GAIN_MIN)
    return mean, noisy, rotation, features + factor[:, None] * (u[:, 5:] @ mixed)


def adam_reference(
    model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float = 1.0,
) -> None:  # fmt: skip
    """One step of Adam (Kingma and Ba 2015) on a model in place, after which each Gaussian is a step older.

    grads: as ``Model.NAMES``. moments: m and v of each. age: int32 [N], the steps that each Gaussian has taken, so that
    one that was added later gets its own bias correction. factor: of all rates. Positions and deviations are brought
    back to what the rates allow.
    """
    age += 1
    for name, value, grad, (m, v), rate in zip(
        Model.NAMES, model.tensors(), grads, moments, rates.columns, strict=True
    ):
        if not rate:
            continue
        step = torch.ones_like(value) * rate * factor
        if name == "position":  # first: along the axes that its gradient was taken with
            if rates.unit is None:
                _along_axes(model, grad, m, v, age, rate * factor, rates)
                continue
            unit = value.new_tensor(rates.unit)
            grad, step = grad * unit, step * unit
        if name == "feature":
            step[:] = rates.feature * factor
            if rates.slope is not None:
                step[:, -2:] = rates.slope * factor
        value.sub_(_adam_step(grad, m, v, age, step, rates))
    model.position.clamp_(model.position.new_tensor(rates.least), model.position.new_tensor(rates.most))
    shapes.bound_shapes(model.scale, model.rotation, model.scale_map, *rates.deviations)


def _adam_step(grad: Tensor, m: Tensor, v: Tensor, age: Tensor, rate: Tensor, rates: Rates) -> Tensor:
    """By how much values [N, …] fall; m and v learn of the gradient."""
    beta1, beta2 = rates.betas
    t = age.to(torch.float64).view(-1, *(1,) * (grad.dim() - 1))
    m.mul_(beta1).add_(grad, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    c1, c2 = (1 / (1 - beta1**t)).to(grad.dtype), (1 / (1 - beta2**t)).to(grad.dtype)
    return rate * (m * c1) / ((v * c2).sqrt() + rates.epsilon)


def _along_axes(model: Model, grad: Tensor, m: Tensor, v: Tensor, age: Tensor, rate: float, rates: Rates) -> None:
    """A step of positions in each Gaussian's own axes: gradients are turned into them, moments are along them, and the
    rate is a multiple of the deviation along each."""
    scales, rotations, scale_map = shapes.axes(model.scale, model.rotation, model.scale_map)
    sigma = _deviations(scales, scale_map, SIGMA_MIN, SIGMA_MAX)
    c, s = torch.cos(math.pi * rotations), torch.sin(math.pi * rotations)
    x, y = grad.unbind(1)
    a, b = _adam_step(torch.stack([c * x + s * y, c * y - s * x], dim=1), m, v, age, rate * sigma, rates).unbind(1)
    model.position.sub_(torch.stack([c * a - s * b, s * a + c * b], dim=1))
