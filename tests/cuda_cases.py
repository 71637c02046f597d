"""A picture to fit, and the CUDA backend to fit it with: emulated, or on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cuda_emulator import EmulatedKernels

from igs.encoder.raster import cuda_backend
from igs.encoder.raster.cuda_backend import CudaBackend


def picture(width=40, height=30):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    return np.stack([128 + 100 * np.sin(x / 6), 128 + 100 * np.cos(y / 5), 230 * disc], 2).astype(np.uint8)


def target(width=40, height=30):
    return torch.from_numpy(picture(width, height).astype(np.float32) / 255).permute(2, 0, 1).contiguous()


def emulated(seed=0):
    return CudaBackend(EmulatedKernels(seed), torch.device("cpu"), name="emulated")


BACKENDS = ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)]


def open_backend(name):
    if name == "emulated":
        return emulated()
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU that PyTorch can use")
    return cuda_backend.open_device()
