"""What an error at each pixel counts in the loss, structure included: where Gaussians pay, and where rounding costs.

Steps follow the loss's gradient. What adds, moves, leaves out and rounds Gaussians asks for squared errors instead, and
the multiscale term (raster/multiscale.py) is none. But by the definition of SSIM (Wang et al. 2004) a small error e
costs about e² / (2σ² + C₂) of it, where σ² is the contrast of the window: a squared error after all, which counts more
where there is little to see.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from igs.encoder.blur import gaussian_taps
from igs.encoder.fitting.places import blur_planes
from igs.encoder.raster import multiscale

_WINDOW = gaussian_taps(1.5, 5)  # SSIM's own, and its constant for values in [0, 1]
_C2 = 0.03**2
# What is left of a squared error in a picture reduced by 2, 4, 8 and 16: of what 0.2 bpp leave of four Kodak pictures.
_LEFT = (0.52, 0.21, 0.08, 0.03)
# How many times what small errors count by that. MS-SSIM gains by more than the loss itself would ask for, and the
# loss's own weight can't grow as far without harm to the steps.
_STRESS = 3.0


def error_weight(target: Tensor, l2: float, ms_ssim: float, loss_map: Tensor | None) -> Tensor | None:
    """How much each pixel's squared error counts, [..., H, W], of mean 1 over a picture; None where all count the same.

    target: pictures [..., C, H, W]. l2, ms_ssim: the loss's weights. loss_map: its weights of pixels [..., H, W].
    """
    if not (l2 and ms_ssim):
        return loss_map
    weight = 1 + _STRESS * ms_ssim / l2 * _structure(target)
    if loss_map is not None:
        weight = weight * loss_map
    return weight / weight.mean((-2, -1), keepdim=True)


def _structure(target: Tensor) -> Tensor:
    """What a squared error, the mean over channels, adds to the multiscale term at each pixel, about: [..., H, W]."""
    size = target.shape[-2:]
    total = target.new_zeros(target.shape[:-3] + size)
    for scale, left in zip(multiscale.scales_of(target, None, multiscale.SHARES), _LEFT, strict=False):
        planes = scale.target.flatten(0, -3)  # [B·C, h, w]
        contrast = (blur_planes(planes.square(), _WINDOW) - blur_planes(planes, _WINDOW).square_()).clamp_min_(0)
        cost = (1 / (2 * contrast + _C2)).view(scale.target.shape).mean(-3)
        # A pixel lies in all the windows about it.
        cost = blur_planes(cost.view(-1, *cost.shape[-2:]), _WINDOW)
        total += scale.share * left * interpolate(cost[:, None], size, mode="nearest-exact").view(total.shape)
    return total
