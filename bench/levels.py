"""What levels of quality cost: `python bench/levels.py [--set kodak|stylized] [--levels 2,5] [--bpp B] [--subset N] …`.

Every picture is encoded with each number of levels; then, with one level, for the size of the whole file and for the
size of each of its prefixes. Resumable: each encode is kept (encodes.py). `--side` reduces pictures to so many pixels
on the longer side, `--crop WxH` takes their middle. Results go to bench/results/levels.json, by settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
import numpy as np
from encodes import encode_once
from PIL import Image


def pictures(name: str, subset: int | None, only: str | None) -> list[Path]:
    """Every n-th picture of a set so that ``subset`` remain, or those whose name contains ``only``."""
    found = sorted(common.DATA.glob(common.SETS[name]))
    if only:
        return [p for p in found if any(part in p.stem for part in only.split(","))]
    return found if subset is None else found[:: max(1, len(found) // subset)][:subset]


def load(path: Path, side: int | None, crop: str | None) -> np.ndarray:
    """uint8 [H, W, 3]."""
    with Image.open(path) as im:
        im = im.convert("RGB")
        if side is not None:
            im.thumbnail((side, side), Image.Resampling.LANCZOS)
        if crop is not None:
            w, h = map(int, crop.split("x"))
            left, top = (im.width - w) // 2, (im.height - h) // 2
            im = im.crop((left, top, left + w, top + h))
        return np.asarray(im)


def compare(pixels: np.ndarray, levels: int, settings: dict[str, Any], prefixes: str = "all") -> list[dict[str, Any]]:
    """One row per level: bytes, PSNR, and the PSNR of a file of one level of these bytes, where there is one.

    There is for the whole, and for prefixes: all, the one next to half of the bytes, or none.
    """
    found = encode_once(pixels, levels=levels, **settings)[1]
    settings = {k: v for k, v in settings.items() if k != "bpp"}
    rows, ends = [], [level["bytes"] for level in found["levels"]]
    half = min(range(levels), key=lambda n: abs(ends[n] - ends[-1] / 2))
    beside = {"all": range(levels), "half": {half, levels - 1}, "none": {levels - 1}}[prefixes]
    for number, level in enumerate(found["levels"]):
        row = {k: level[k] for k in ("num_gaussians", "bytes", "bpp", "psnr")}
        if number in beside:
            row["single"] = encode_once(pixels, size=level["bytes"], **settings)[1]["psnr"]
            row["loss"] = row["single"] - row["psnr"]
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="kodak", choices=("kodak", "stylized"))
    parser.add_argument("--levels", default="2,5")
    parser.add_argument("--bpp", type=float, default=0.305)
    parser.add_argument("--subset", type=int)
    parser.add_argument("--only", help="parts of pictures' names")
    parser.add_argument("--side", type=int)
    parser.add_argument("--crop")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prefixes", default="all", choices=("all", "half", "none"), help="that have a file beside")
    asked = parser.parse_args()
    settings: dict[str, Any] = {"bpp": asked.bpp, "effort": asked.effort}
    if asked.threads:
        settings["threads"] = asked.threads
    for levels in map(int, asked.levels.split(",")):
        rows = []
        for path in pictures(asked.set, asked.subset, asked.only):
            table = compare(load(path, asked.side, asked.crop), levels, settings, asked.prefixes)
            rows.append({"picture": path.stem, "levels": table})
            print(path.stem, levels, line(table), flush=True)
        mean = mean_of([row["levels"] for row in rows])
        print("mean", levels, line(mean), flush=True)
        settings_kept = vars(asked) | {"levels": levels}
        common.keep_settings("levels.json", settings_kept, {"pictures": rows, "mean": mean}, but=("threads",))


def line(table: list[dict[str, Any]]) -> str:
    """Rates, PSNR, and in brackets what it is above files of one level, where there are such."""
    beside = [f" ({-r['loss']:+.2f})" if "loss" in r else "" for r in table]
    return "  ".join(f"{r['bpp']:.3f} bpp {r['psnr']:.2f} dB{b}" for r, b in zip(table, beside, strict=True))


def mean_of(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of each number over pictures."""
    return [
        {k: float(np.mean([t[k] for t in same])) for k in same[0] if all(k in t for t in same)}
        for same in zip(*tables, strict=True)
    ]


if __name__ == "__main__":
    main()
