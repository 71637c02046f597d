"""Turn an .igs picture by any angle: every output pixel is sampled at the point it comes from.

    python examples/rotate.py antelope.igs turned.png --degrees 30

No pixel grid is resampled: the picture is a function of the plane, and `sample` evaluates it. Needs no PyTorch.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

import igs


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn an .igs picture about its centre.")
    parser.add_argument("source", help="an .igs file of one or three channels")
    parser.add_argument("output", help="the picture to write")
    parser.add_argument("--degrees", type=float, default=30.0, help="anticlockwise")
    arguments = parser.parse_args()
    angle = np.deg2rad(arguments.degrees)
    with igs.open(arguments.source) as im:
        centre = np.array([im.width / 2, im.height / 2])
        # The centre of the pixel in column c, row r is (c + 0.5, r + 0.5); y points down.
        columns, rows = np.meshgrid(np.arange(im.width) + 0.5, np.arange(im.height) + 0.5)
        offset = np.stack([columns, rows], axis=-1).reshape(-1, 2) - centre
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = offset @ turn.T + centre  # [pixels, 2] where each output pixel comes from
        values = im.sample(points)  # [pixels, channels] float32, nominally in [0, 1]
        inside = ((points >= 0) & (points < [im.width, im.height])).all(axis=1)
        values[~inside] = 1.0
        pixels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(im.height, im.width, im.channels)
    Image.fromarray(pixels.squeeze()).save(arguments.output)


if __name__ == "__main__":
    main()
