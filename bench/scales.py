"""Enlarging and reducing: `python bench/scales.py [up] [down] [--set stylized|kodak|textures|stacks] [--subset N] …`.

`up`: pictures reduced R = 2 and 4 times, encoded with one Gaussian per 20 pixels of the small picture, enlarged again,
and compared with the originals; beside them the small picture enlarged by bicubic and Lanczos filters, and an AVIF file
of it of the same bytes, enlarged by Lanczos. Stacks are whole ones, all maps in one file: in one part; at the same
bytes in parts as they are found; and each map a part, with as many Gaussians each. As AVIF they are three RGB textures
of one quality: albedo, normals, and the three grey maps together. `down`: a file of five levels decoded at ½,
¼ and ⅛, all levels and fewer: PSNR against means of the original, and seconds. Resumable: each encode is kept
(encodes.py). Results go to bench/results/scales.json.
"""

from __future__ import annotations

import argparse
import functools
import io
from pathlib import Path
from typing import Any

import common
import levels
import numpy as np
from encodes import encode_once
from PIL import Image
from rd import stacks

from igs.decoder import open as open_igs
from igs.encoder.loading.downsample import reduce

PIXELS_PER_GAUSSIAN = 20
SCALES = (0.5, 0.25, 0.125)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB, of pictures in 0 … 255."""
    return float(-10 * np.log10(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2) / 255**2))


def enlarged(small: np.ndarray, like: np.ndarray, r: int, filter_: Image.Resampling) -> np.ndarray:
    """A small picture [h, w, C] r times as large, cut to the original's size."""
    size = small.shape[1] * r, small.shape[0] * r
    planes = [np.asarray(Image.fromarray(plane).resize(size, filter_)) for plane in np.moveaxis(small, 2, 0)]
    return np.stack(planes, axis=2)[: like.shape[0], : like.shape[1]]


def avif_of(small: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    """The best AVIF of at most ``size`` bytes (the smallest one if none is), and what it decodes to, [h, w, C].

    A file for every three channels, all of one quality. The better of 4:2:0 and 4:4:4, whose quality goes further.
    """
    textures = [Image.fromarray(np.ascontiguousarray(small[..., c : c + 3])) for c in range(0, small.shape[2], 3)]
    found = []
    for subsampling in ("4:2:0", "4:4:4"):
        best: list[bytes] = []
        low, high = 0, 100
        while low <= high:
            quality = (low + high) // 2
            outs = [io.BytesIO() for _ in textures]
            for texture, out in zip(textures, outs, strict=True):
                texture.save(out, "AVIF", quality=quality, speed=6, subsampling=subsampling)
            data = [out.getvalue() for out in outs]
            fits = sum(map(len, data)) <= size
            if fits or not best:
                best = data
            low, high = (quality + 1, high) if fits else (low, quality - 1)
        decoded = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in best]
        found.append((sum(map(len, best)), np.concatenate(decoded, axis=2)))
    fitting = [f for f in found if f[0] <= size] or found
    return max(fitting, key=lambda f: psnr(f[1], small))


def up(pixels: np.ndarray, r: int, settings: dict[str, Any], maps: tuple[tuple[str, int], ...] = ()) -> dict[str, Any]:
    """One row: bytes, and PSNR of each way to the full size. maps: what the channels [H, W, C] are, of a stack."""
    small = np.floor(reduce(pixels.astype(np.float32), r) + 0.5).astype(np.uint8)
    count = max(1, small.shape[0] * small.shape[1] // PIXELS_PER_GAUSSIAN)
    _, report = encode_once(pixels, maps, num_gaussians=count, downsample=r, **settings)
    avif_bytes, avif = avif_of(small, report["bytes"])
    parts = {}
    if maps:
        found = encode_once(pixels, maps, size=report["bytes"], downsample=r, **settings)[1]
        each = encode_once(pixels, maps, num_gaussians=count, parts="each", downsample=r, **settings)[1]
        parts = {"bytes_in_parts": found["bytes"], "igs_in_parts": found["psnr"]}
        parts |= {"bytes_of_each": each["bytes"], "igs_of_each": each["psnr"]}
    return {
        "gaussians": count,
        "bytes": report["bytes"],
        "igs": report["psnr"],
        **parts,
        "bicubic": psnr(enlarged(small, pixels, r, Image.Resampling.BICUBIC), pixels),
        "lanczos": psnr(enlarged(small, pixels, r, Image.Resampling.LANCZOS), pixels),
        "avif_bytes": avif_bytes,
        "avif_lanczos": psnr(enlarged(avif, pixels, r, Image.Resampling.LANCZOS), pixels),
    }


def down(pixels: np.ndarray, bpp: float, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of (scale, levels): PSNR against the original's means, against all levels', and seconds."""
    data, _ = encode_once(pixels, bpp=bpp, levels=5, **settings)
    rows = []
    for scale in SCALES:
        n = round(1 / scale)
        height, width = (side // n * n for side in pixels.shape[:2])
        source = reduce(pixels[:height, :width].astype(np.float32), n)
        with open_igs(data, threads=1) as im:
            whole = im.region(0, 0, width, height, scale, "float32") * 255
            centres = im.region(0, 0, width, height, 1, "float32")[n // 2 :: n, n // 2 :: n] * 255
            rows.append({"scale": scale, "levels": "centres only", "psnr": psnr(centres, source)})
            for level in range(5):
                call = functools.partial(im.region, 0, 0, width, height, scale, "float32", level)
                seconds = common.median_seconds(call, 5)
                found = call() * 255
                row = {"scale": scale, "levels": level + 1, "psnr": psnr(found, source), "seconds": seconds}
                rows.append(row | {"psnr_of_all": None if level == 4 else psnr(found, whole)})
    return rows


def keep(section: str, settings: dict[str, Any], rows: Any) -> None:
    """Put rows into bench/results/scales.json in the place of those with the same settings.

    Of `down`, which is one picture's, it doesn't count which others were asked for.
    """
    apart = {"what", "threads"} | ({"subset", "only"} if section.startswith("down") else set())
    common.keep_settings("scales.json", {"section": section} | settings, {"rows": rows}, but=apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="up, down (default: both)")
    parser.add_argument("--set", default="stylized", choices=common.SETS)
    parser.add_argument("--subset", type=int)
    parser.add_argument("--only", help="parts of pictures' names")
    parser.add_argument("--side", type=int)
    parser.add_argument("--crop")
    parser.add_argument("--bpp", type=float, default=0.305)
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if set(asked.what) - {"up", "down"}:
        parser.error(f"expected up or down, found {' '.join(asked.what)}")
    settings = {"effort": asked.effort} | ({"threads": asked.threads} if asked.threads else {})
    paths: list[Path] = levels.pictures(asked.set, asked.subset, asked.only)
    if not asked.what or "up" in asked.what:
        for r in (2, 4):
            rows = []
            for path in paths:
                stack = stacks.load(path, asked.side) if path.is_dir() else None
                pixels = stack.pixels if stack else levels.load(path, asked.side, asked.crop)
                rows.append({"picture": path.stem} | up(pixels, r, settings, stack.maps if stack else ()))
                print(r, *(f"{v:.2f}" if isinstance(v, float) else v for v in rows[-1].values()), flush=True)
            mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k != "picture"}
            print(r, "mean", *(f"{k} {v:.2f}" for k, v in mean.items()), flush=True)
            keep(f"up {r}", vars(asked), [*rows, {"picture": "mean"} | mean])
    if (not asked.what or "down" in asked.what) and asked.set != "stacks":
        for path in paths:
            rows = down(levels.load(path, asked.side, asked.crop), asked.bpp, settings)
            for row in rows:
                print(path.stem, row, flush=True)
            keep(f"down {path.stem}", vars(asked), rows)


if __name__ == "__main__":
    main()
