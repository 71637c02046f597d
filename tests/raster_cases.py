"""Scenes and cases that all rasterisers are tested on, and how their results are compared."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
import torch

from igs.csrc import library
from igs.encoder.raster.reference import RasterOptions

# Relative to the largest value: measured worst over all cases is 1.3e-6 (float32 sums in another order).
TOLERANCE = 1e-5

# Instruction sets that the CPU kernels are compiled for.
TARGETS = ["baseline", "avx2", "avx512"]


@contextlib.contextmanager
def with_target(target):
    """In it the CPU kernels are those for the instruction set ``target``; a test skips where there are none."""
    lib = library()
    if lib is None:
        pytest.skip("installed without a C++ compiler")
    before = lib.igs_target()
    if lib.igs_set_target(target.encode()):
        pytest.skip(f"this processor or build has no {target}")
    try:
        yield
    finally:
        lib.igs_set_target(before)


def scene(n, channels, width, height, seed, spread=1.5, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(n, 2, generator=g, dtype=dtype) * torch.tensor([width, height], dtype=dtype)
    scales = torch.rand(n, 2, generator=g, dtype=dtype) * spread + 0.2
    return means, scales, torch.rand(n, generator=g, dtype=dtype), torch.rand(n, channels, generator=g, dtype=dtype)


def run(rasterize, factors, arrays, options, weight):
    leaves = [a.clone().requires_grad_() for a in arrays]
    image = rasterize(leaves[0], factors(leaves[1], leaves[2]), leaves[3], options)
    (image * weight).sum().backward()
    return [image.detach(), *(leaf.grad for leaf in leaves)]


def close(found, expected, floor=0.1, tolerance=TOLERANCE):
    """Equal up to tolerance times the largest value, or times ``floor`` where all values are rounding noise about 0."""
    for a, b in zip(found, expected, strict=True):
        error = (a.detach().cpu() - b.detach()).abs().max().item()
        assert error <= tolerance * max(b.detach().abs().max().item(), floor)


CASES = {
    "default": RasterOptions(50, 37),
    "no_relative_reach": RasterOptions(50, 37, relative_reach2=math.inf),
    "few": RasterOptions(50, 37, top_k=3, relative_reach2=math.inf),
    "one": RasterOptions(50, 37, top_k=1),
    "most": RasterOptions(50, 37, top_k=32, relative_reach2=math.inf),
    "image_gs": RasterOptions(50, 37, reach2=9.0, relative_reach2=math.inf),
    "holes": RasterOptions(50, 37, reach2=2.0, background=(0.25, 0.5, 0.75, 1.0, 0.1)),
    "pull": RasterOptions(50, 37, reach2=2.0, pull=0.01),
    "pull_early": RasterOptions(50, 37, reach2=4.0, pull=0.01, pull_share=0.6),
    "sum": RasterOptions(50, 37, blend="sum", background=(0.25, 0.5, 0.75, 1.0, 0.1)),
    "far": RasterOptions(50, 37, reach2=1024.0, relative_reach2=math.inf),  # weights below the smallest binary32
    "sum_far": RasterOptions(50, 37, blend="sum", reach2=1024.0),
    "narrow": RasterOptions(1, 37),
    "flat": RasterOptions(40, 1),
}
# With a luma gradient, which the last channel of four (an alpha) does not take part in.
GRADIENT_CASES = {
    c: dataclasses.replace(CASES[c], gradient=True)
    for c in ("default", "no_relative_reach", "few", "holes", "pull", "sum", "narrow", "flat")
}
ALPHA = (True, True, True, False)
