"""Position maps and draws of :mod:`igs.encoder.init` in torch, for pictures that lie on a GPU.

The same distributions, with other random numbers: a picture of millions of pixels would take longer to bring home than
to fit for a hundred steps.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def gradient_map(target: Tensor) -> Tensor:
    """‖∇I‖ [H, W] of a picture [C, H, W]: central differences of every channel, root of the sum of squares."""
    total = torch.zeros_like(target[0])
    for plane in target:
        for axis in (0, 1):
            if plane.shape[axis] > 1:
                total += torch.gradient(plane, dim=axis)[0] ** 2
    return total.sqrt()


def draw_positions(weights: Tensor, n: int, uniform: float, power: float, seed: int) -> NDArray[np.float64]:
    """n positions [n, 2] (x, y in pixels) drawn from a map [H, W]; see :func:`igs.encoder.init.draw_positions`."""
    h, w = weights.shape
    generator = torch.Generator(weights.device).manual_seed(seed)
    p = weights.clamp_min(0).flatten().double() ** power
    total = p.sum()
    p = torch.where(total > 0, (1 - uniform) * p / total + uniform / (h * w), 1 / (h * w))
    # Exponential races, as there. Of binary64: of binary32 there are so few that equal times would be common.
    times = torch.empty_like(p).exponential_(generator=generator) / p  # inf where p is 0
    chosen = [torch.topk(times, min(n, len(p)), largest=False, sorted=False).indices]
    if n > len(p):
        chosen.append(torch.multinomial(p, n - len(p), replacement=True, generator=generator))
    index = torch.cat(chosen).sort().values
    within = torch.rand(n, 2, generator=generator, device=p.device, dtype=torch.float64)
    return np.asarray((torch.stack([index % w, index // w], dim=1) + within).cpu().numpy())
