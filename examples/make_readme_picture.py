"""Make docs/images/readme.png: the example picture, the same from an .igs file, and a part of both enlarged eightfold.

    python examples/make_readme_picture.py

The enlarged original is shown with square pixels, since any other enlargement would be an invention of the filter; the
enlarged .igs is what the file defines between the pixels. Prints the size and the quality of the file. Needs PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import igs

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "antelope_canyon.png"
TARGET = HERE.parent / "docs" / "images" / "readme.png"
QUALITY = 60
REGION = (364, 172, 36, 36)  # x, y, width, height: the tip of the ridge against the sky
SCALE = 8
PANEL = 288  # pixels a side: REGION · SCALE
GAP = 6
CUT = (138, 6, 506, 506)  # the square of the picture that is shown whole: x, y, width, height


def main() -> None:
    original = Image.open(SOURCE).convert("RGB")
    encoded = igs.encode(original, quality=QUALITY)
    x, y, width, height = REGION
    with igs.open(encoded.data) as im:
        decoded = Image.fromarray(im.decode())
        zoomed = Image.fromarray(im.region(x, y, width, height, scale=SCALE))
    squares = original.crop((x, y, x + width, y + height)).resize((PANEL, PANEL), Image.Resampling.NEAREST)
    panels = [_whole(original), _whole(decoded), squares, zoomed]
    sheet = Image.new("RGB", (len(panels) * (PANEL + GAP) - GAP, PANEL), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number * (PANEL + GAP), 0))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(TARGET, optimize=True)
    report = encoded.report
    print(
        f"{report['num_gaussians']} Gaussians, {report['bytes']} bytes, {report['bpp']:.3f} bpp, {report['psnr']:.2f} "
        f"dB; {TARGET.name} has {TARGET.stat().st_size} bytes"
    )


def _whole(picture: Image.Image) -> Image.Image:
    """The cut square at the panel's size, with a frame around what the enlargement shows."""
    left, top, width, height = CUT
    small = picture.crop((left, top, left + width, top + height)).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    pixels = np.array(small)
    x0, y0 = (round((REGION[i] - CUT[i]) * PANEL / CUT[i + 2]) for i in (0, 1))
    x1, y1 = x0 + round(REGION[2] * PANEL / width), y0 + round(REGION[3] * PANEL / height)
    for rows, columns in ((y0, slice(x0, x1)), (y1, slice(x0, x1 + 1)), (slice(y0, y1), x0), (slice(y0, y1), x1)):
        pixels[rows, columns] = 255
    return Image.fromarray(pixels)


if __name__ == "__main__":
    main()
