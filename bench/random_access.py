"""What random access costs and how smooth a zoom is: `python bench/random_access.py [reads] [smooth]`.

reads: bytes read for a region of 1 % of the area and for one pixel, head and index included, mean of 100 at random.
smooth: steps of more than 2 of 255 levels between samples 1/512 pixel apart along random lines, per pixel of line, and
points that no Gaussian reaches.
"""

from __future__ import annotations

import io
import math
import sys

import common
import numpy as np

import igs
from igs.decoder import holes
from igs.encoder import PRESETS, encode
from igs.format import Colour, Gaussians, Group, Header, Quantizer, open_file, quantize, write


def synthetic(side: int, n: int, seed: int = 0) -> bytes:
    """A file with the statistics of fitted ones: log-normal deviations, a few long Gaussians."""
    rng = np.random.default_rng(seed)
    recipe = PRESETS["default"]
    position = rng.random((n, 2)) * side
    minor = 0.25 * math.sqrt(side * side / n) * np.exp(0.6 * rng.standard_normal(n))
    ratio = 1 + rng.exponential(2.0, n)
    ratio[rng.random(n) < 0.03] *= 5
    scale = np.log2(np.stack([minor * ratio, minor], axis=1))
    bounds = float(scale.min()), float(scale.max())
    header = Header(
        width=side,
        height=side,
        channels=3,
        groups=(Group(channels=3, colour=Colour.RGB),),
        background=(0.0,) * 3,
        position=Quantizer.uniform([0, 0], [side, side], recipe.pos_bits + 2),
        scale=Quantizer.uniform([bounds[0]] * 2, [bounds[1]] * 2, recipe.scale_bits, shared=True),
        rotation=Quantizer.uniform([0], [1], recipe.rot_bits),
        feature=Quantizer.uniform([0] * 3, [1] * 3, recipe.feat_bits, shared=True),
    )
    return write(header, [quantize(header, position, scale, rng.random((n, 1)), rng.random((n, 3)))])


def _shares(data: bytes, requests: int = 100) -> dict[str, float]:
    rng = np.random.default_rng(1)
    shares: dict[str, list[float]] = {"region": [], "pixel": []}
    with igs.open(data) as whole:
        width, height = whole.width, whole.height
    for _ in range(requests):
        with igs.open(io.BytesIO(data)) as im:
            w, h = width // 10, height // 10
            im.region(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
            shares["region"].append(im.bytes_read / len(data))
        with igs.open(io.BytesIO(data)) as im:
            im.pixel(int(rng.integers(width)), int(rng.integers(height)))
            shares["pixel"].append(im.bytes_read / len(data))
    return {f"{k}_share": float(np.mean(v)) for k, v in shares.items()}


def reads() -> None:
    """Share of the file read."""
    rows = []
    canopee = common.DATA / "stylized/digital_art/canopee.png"
    fitted = encode(canopee, num_gaussians=10_000, effort=3).data
    for name, data in {
        "canopee 2048x2048, 10K Gaussians": fitted,
        "synthetic 2048x2048, 10K Gaussians": synthetic(2048, 10_000),
        "synthetic 8192x8192, 160K Gaussians": synthetic(8192, 160_000),
    }.items():
        with igs.open(data) as im:
            rows.append({"file": name, "bytes": len(data), "gaussians": im.num_gaussians, **_shares(data)})
    common.save("bytes read for 1 % of the area, for one pixel", rows)


def smooth() -> None:
    """Discontinuities along random lines."""
    rows = []
    names = (
        "kodak/kodim15",
        "kodak/kodim07",
        "stylized/painting/vevey_rainforest",
        "stylized/photograph/forest_stream",
    )
    for name in names:
        data = encode(common.DATA / f"{name}.png", num_gaussians=3000).data
        rng = np.random.default_rng(0)
        steps = 0
        with igs.open(data) as im:
            for _ in range(10):  # ten lines of 100 pixels
                angle = rng.random() * 2 * math.pi
                direction = np.array([math.cos(angle), math.sin(angle)])
                start = 100 + rng.random(2) * (np.array([im.width, im.height]) - 200)
                values = im.sample(start + direction * np.arange(0, 100, 1 / 512)[:, None]) * 255
                steps += int((np.abs(np.diff(values, axis=0)).max(axis=1) > 2).sum())
        reader = open_file(data)
        gaussians = Gaussians.concatenate([reader.gaussians(i) for i in range(reader.num_chunks)])
        rows.append(
            {"image": name, "steps_per_px": steps / 1000, "bare_points": len(holes(reader.header, gaussians, 4))}
        )
        print(rows[-1], flush=True)
    rows.append({"image": "mean", "steps_per_px": float(np.mean([r["steps_per_px"] for r in rows]))})
    common.save("steps above 2 of 255 levels per pixel of line", rows)


SECTIONS = {f.__name__: f for f in (reads, smooth)}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or SECTIONS:
        SECTIONS[wanted]()
