"""Decode a part of an .igs picture at a large scale, reading only the chunks that reach it.

    python examples/zoom.py antelope.igs zoom.png --region 350,160,96,64 --scale 8

Prints how much of the file was read. Needs no PyTorch.
"""

from __future__ import annotations

import argparse

from PIL import Image

import igs


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode a part of an .igs picture at a large scale.")
    parser.add_argument("source", help="an .igs file of one or three channels")
    parser.add_argument("output", help="the picture to write")
    parser.add_argument("--region", default="350,160,96,64", help="x,y,width,height in pixels of the picture")
    parser.add_argument("--scale", type=float, default=8.0, help="output pixels per pixel")
    arguments = parser.parse_args()
    x, y, width, height = (float(number) for number in arguments.region.split(","))
    with igs.open(arguments.source) as im:
        pixels = im.region(x, y, width, height, scale=arguments.scale)  # [rows, columns, channels] uint8
        print(f"{pixels.shape[1]}×{pixels.shape[0]} pixels from {im.bytes_read} bytes of the file")
    Image.fromarray(pixels.squeeze()).save(arguments.output)


if __name__ == "__main__":
    main()
