"""Light the maps of a texture stack at any scale: albedo and normals sampled at the points of the output's own grid.

    python examples/shade.py brick.igs lit.png --region 100,100,64,64 --scale 8 --light 0.5,-0.4,0.8

The maps come by name from one file, so that they are always of the same point. Needs no PyTorch.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

import igs


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description="Light an .igs texture stack that has albedo and normals.")
    parser.add_argument("source", help="an .igs file with groups albedo and normal, normal_gl or normal_dx")
    parser.add_argument("output", help="the picture to write")
    parser.add_argument("--region", type=numbers, help="x,y,w,h in pixels of the maps (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="output pixels per pixel of the maps")
    parser.add_argument("--light", type=numbers, default=(0.5, 0.5, 0.7), help="direction to the light: x right, y up")
    arguments = parser.parse_args()
    with igs.open(arguments.source) as im:
        normal = next(name for name in ("normal", "normal_gl", "normal_dx") if name in im.groups)
        maps = im.decode_groups(
            groups=["albedo", normal], region=arguments.region, scale=arguments.scale, dtype="float32", renormalize=True
        )
    albedo = np.clip(maps["albedo"][..., :3], 0, 1) ** 2.2  # [h, w, 3], to linear light
    vectors = maps[normal][..., :3] * 2 - 1  # [h, w, 3] of length 1; green points up
    if normal == "normal_dx":
        vectors[..., 1] *= -1
    light = np.array(arguments.light) / np.linalg.norm(arguments.light)
    lit = albedo * (0.1 + 0.9 * np.maximum(vectors @ light, 0)[..., None])
    pixels = (np.clip(lit, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(arguments.output)


if __name__ == "__main__":
    main()
