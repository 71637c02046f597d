"""Image-GS Table 1 with our encoder: `python bench/ablation.py [image-gs] [default]`. Resumable: each encode is kept.

Six rows (full, no colour init, no position init, random, no top-K, no inverse scale) on one picture of each stylised
category, reduced to 320 pixels on the longer side so that two cores manage it, 800 Gaussians, 16 bits per attribute.
"""

from __future__ import annotations

import sys

import common
import numpy as np
from encodes import encode_once
from PIL import Image

PICTURES = (
    "anime_cartoon/concert",
    "digital_art/safe_landing",
    "painting/vevey_rainforest",
    "photograph/antelope_canyon",
)
ROWS = {
    "full": {},
    "no colour init": {"init_color": False},
    "no position init": {"init": "random"},
    "random": {"init": "random", "init_color": False},
    "no top-K": {"blend": "sum"},
    "no inverse scale": {"scale_parameter": "raw"},
}
BITS = {"pos_bits": 16, "scale_bits": 16, "rot_bits": 16, "feat_bits": 16}
SIDE, GAUSSIANS = 320, 800


def picture(name: str) -> np.ndarray:
    """The reduced picture, uint8 [H, W, 3]."""
    with Image.open(common.DATA / f"stylized/{name}.png") as im:
        im = im.convert("RGB")
        im.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(im)


def main(presets: list[str]) -> None:
    for preset in presets:
        table = []
        for label, change in ROWS.items():
            reports = []
            for name in PICTURES:
                settings = BITS | change
                if preset == "default" and label == "no inverse scale":
                    settings |= {"lr_scale": 0.3}  # pixels: the rate of the logarithm makes no sense there
                _, report = encode_once(picture(name), preset=preset, num_gaussians=GAUSSIANS, **settings)
                print(preset, label, name, f"{report['psnr']:.2f} dB {report['seconds']:.0f} s", flush=True)
                reports.append(report)
            table.append(
                {
                    "row": label,
                    "psnr": float(np.mean([r["psnr"] for r in reports])),
                    "ms_ssim": float(np.mean([r["ms_ssim"] for r in reports])),
                    **{n.split("/")[1]: round(r["psnr"], 2) for n, r in zip(PICTURES, reports, strict=True)},
                }
            )
        common.save(f"ablation, preset {preset}, {SIDE} px, {GAUSSIANS} Gaussians, 16 bits", table)


if __name__ == "__main__":
    main(sys.argv[1:] or ["default", "image-gs"])
