"""Bend an .igs picture on a GPU: a kernel of one's own fetches it at points, as it would a texture.

    python examples/warp_cuda.py antelope.igs waves.png --waves 3 --amplitude 12

Needs `pip install 'igs-codec[cuda]'` and a GPU. Only the last line of the work, the copy of the result, leaves the GPU.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numba import cuda, float32
from PIL import Image

import igs
import igs.decoder.cuda


def warp(source: Path | str, output: Path | str, waves: float, amplitude: float) -> None:
    """Write ``source``, shifted across by a sine of its height; amplitude: pixels."""
    with igs.open(source, device="cuda") as im:
        fetch, texture = igs.decoder.cuda.sampler(im)
        channels = im.channels  # a constant of the kernel below

        @cuda.jit
        def bend(texture, waves, amplitude, out):
            column, row = cuda.grid(2)
            value = cuda.local.array(channels, float32)
            if row < out.shape[0] and column < out.shape[1]:
                # The centre of the pixel in column c, row r is (c + 0.5, r + 0.5).
                y = row + 0.5
                x = column + 0.5 + amplitude * math.sin(2.0 * math.pi * waves * y / out.shape[0])
                fetch(texture, x, y, value)
                for c in range(channels):
                    out[row, column, c] = int(min(max(value[c], float32(0.0)), float32(1.0)) * 255.0 + 0.5)

        out = cuda.device_array((im.height, im.width, channels), np.uint8)
        threads = (8, 8)
        blocks = (-(-im.width // threads[0]), -(-im.height // threads[1]))
        bend[blocks, threads](texture, waves, amplitude, out)
        pixels = out.copy_to_host()
    Image.fromarray(pixels.squeeze()).save(output)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bend an .igs picture on a GPU.")
    parser.add_argument("source", help="an .igs file of one, three or four channels")
    parser.add_argument("output", help="the picture to write")
    parser.add_argument("--waves", type=float, default=3.0, help="over the height")
    parser.add_argument("--amplitude", type=float, default=12.0, help="pixels")
    arguments = parser.parse_args()
    warp(arguments.source, arguments.output, arguments.waves, arguments.amplitude)


if __name__ == "__main__":
    main()
