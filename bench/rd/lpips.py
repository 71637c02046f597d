"""LPIPS (Zhang et al. 2018, version 0.1, AlexNet) in plain PyTorch, with weights from a file of the user's.

No weights come with this repository. Whoever has the authors' package makes the file by
`torch.save(lpips.LPIPS(net="alex").state_dict(), "lpips_alex.pt")`; it is loaded with `weights_only=True`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# AlexNet's convolutions as torchvision has them: stride, padding, and whether a 3×3 maximum with stride 2 comes first.
_LAYERS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
_NAMES = ("net.slice1.0", "net.slice2.3", "net.slice3.6", "net.slice4.8", "net.slice5.10")
# The authors' scaling of values in [−1, 1], ImageNet's mean and deviation.
_SHIFT = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
_SCALE = torch.tensor([0.458, 0.448, 0.450])[:, None, None]


class Lpips:
    """The distance as a function of two 8-bit pictures [H, W, 3]; 0 for equal ones."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        missing = [k for n in _NAMES for k in (f"{n}.weight", f"{n}.bias") if k not in state]
        missing += [f"lin{i}.model.1.weight" for i in range(5) if f"lin{i}.model.1.weight" not in state]
        if missing:
            raise ValueError(f"expected LPIPS weights of AlexNet, but the file has no {missing[0]!r}")
        self._state = state

    @torch.inference_mode()
    def __call__(self, source: np.ndarray, decoded: np.ndarray) -> float:
        total = 0.0
        for i, (a, b) in enumerate(zip(self._features(source), self._features(decoded), strict=True)):
            difference = (_unit(a) - _unit(b)) ** 2  # [1, C, h, w]
            total += float(functional.conv2d(difference, self._state[f"lin{i}.model.1.weight"]).mean())
        return total

    def _features(self, pixels: np.ndarray) -> list[Tensor]:
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 127.5 - 1
        x = ((x - _SHIFT) / _SCALE)[None]
        outputs = []
        for name, (stride, padding, pool) in zip(_NAMES, _LAYERS, strict=True):
            if pool:
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = self._state[f"{name}.weight"], self._state[f"{name}.bias"]
            x = functional.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
            outputs.append(x)
        return outputs


def _unit(x: Tensor) -> Tensor:
    """Each pixel's feature vector scaled to length 1."""
    return x / (x.norm(dim=1, keepdim=True) + 1e-10)


@functools.lru_cache(maxsize=1)
def load(path: str) -> Lpips:
    """The metric with the weights in `path`."""
    return Lpips(torch.load(path, map_location="cpu", weights_only=True))
