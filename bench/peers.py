"""What the peers' ideas are worth, and their presets: fills docs/peers.md. Each encode is kept: a run can be resumed.

python bench/peers.py [--subset] [--docs]

(a) densification, low-pass, both or none, for each shape parameterisation and both blends; (b) the quantisers of
positions and colours; (c) bits per number; (d) the presets themselves. ``--subset``: centres of 384 × 256 pixels of
four Kodak images and 1000 steps, for two cores; otherwise six Kodak and three stylised pictures, whole, with all the
steps of each preset. ``--docs`` only fills the page from bench/results/peers.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import common
import numpy as np
from encodes import encode_once
from make_docs import fill
from PIL import Image

from igs.encoder.presets import PRESETS

PAGE = common.REPO / "docs" / "peers.md"
KODAK = ("kodim01", "kodim07", "kodim15", "kodim24", "kodim04", "kodim21")
STYLISED = ("anime_cartoon/concert", "digital_art/safe_landing", "vector_style/field_d")
CROP = (384, 256)
PIXELS_PER_GAUSSIAN = 250  # 393 in a crop, 1573 in a Kodak picture
SUBSET_STEPS = 1000  # a fifth of the peers' presets
FLOATS = {"pos_bits": 32, "scale_bits": 32, "rot_bits": 32, "feat_bits": 32}
PLAIN = {
    "coding": "plain",
    "pos_quantizer": "uniform",
    "shape_quantizer": "uniform",
    "feat_quantizer": "uniform",
    "quantize_forward": 0.0,
}

Settings = dict[str, Any]


class Bench:
    """The pictures of a run, and what is measured on them."""

    def __init__(self, subset: bool, threads: int | None) -> None:
        self.subset, self.threads = subset, threads
        self.pictures: dict[str, np.ndarray] = {}
        names = [f"kodak/{n}" for n in KODAK[: 4 if subset else None]]
        for name in names + ([] if subset else [f"stylized/{n}" for n in STYLISED]):
            with Image.open(common.DATA / f"{name}.png") as im:
                pixels = np.asarray(im.convert("RGB"))
            if subset:
                h, w = pixels.shape[:2]
                y, x = (h - CROP[1]) // 2, (w - CROP[0]) // 2
                pixels = np.ascontiguousarray(pixels[y : y + CROP[1], x : x + CROP[0]])
            self.pictures[name] = pixels

    def steps(self, preset: str) -> int:
        """As many as the preset takes; in a subset 1000 for all of them."""
        return SUBSET_STEPS if self.subset else PRESETS[preset].steps

    def psnr(self, preset: str, settings: Settings) -> dict[str, Any]:
        """Mean PSNR of the decoded files over the pictures, in dB, and bits per Gaussian."""
        reports = []
        for name, pixels in self.pictures.items():
            n = max(1, pixels.shape[0] * pixels.shape[1] // PIXELS_PER_GAUSSIAN)
            wanted: Settings = {"steps": self.steps(preset)} | settings
            _, report = encode_once(pixels, preset=preset, num_gaussians=n, threads=self.threads, **wanted)
            print(f"{preset} {name} {settings} {report['psnr']:.2f} dB {report['seconds']:.1f} s", flush=True)
            reports.append(report)
        values = [r["psnr"] for r in reports]
        return {
            "psnr": float(np.mean(values)),
            "each": [round(v, 2) for v in values],
            "bits_per_gaussian": reports[0]["bits_per_gaussian"],
            "bytes": int(np.mean([r["bytes"] for r in reports])),
        }


# -- (a) densification and low-pass

_THEIR_SIZE = 1 / math.sqrt(9 * math.pi)  # √(HW/(9πN)) as a multiple of √(HW/N)
# What all six start from: random positions, 1 pixel wide. Rates are pixels, pixels² and logarithms.
_START: Settings = {
    "init": "random",
    "init_scale_mode": "fixed",
    "init_scale": 1.0,
    "growth_scale": 1.0,
    "growth": False,
}
_TOP: Settings = {"growth": True, "growth_where": "top", "growth_start": 0.5, "growth_rounds": 2, "growth_until": 0.2}
_SAMPLED: Settings = _TOP | {"growth_where": "sampled"}
_FIRST: Settings = {"init_scale_mode": "area", "init_scale": _THEIR_SIZE, "growth_scale": _THEIR_SIZE}
_FILTER: Settings = {"lowpass_alpha": 9 * math.pi}
ABLATION: dict[str, Settings] = {
    "none": {},
    "top-k growth": _TOP,
    "first size": _FIRST,
    "filter": _FILTER,
    "top-k growth, first size": _TOP | _FIRST,
    "top-k growth, filter": _TOP | _FILTER,
    "sampled growth, first size": _SAMPLED | _FIRST,
}
SHAPES: dict[str, Settings] = {
    "scale_rotation": {"lr_scale": 0.04, "lr_rotation": 0.02 / math.pi},
    "cholesky": {"lr_scale": 0.05, "lr_rotation": 0.05},
    "covariance": {"lr_scale": 0.18, "lr_rotation": 0.18},
}


def ablation(bench: Bench) -> list[dict[str, Any]]:
    """Rows of blend and shape, columns of ABLATION; unquantised."""
    rows = []
    for blend, preset in (("sum", "gaussianimage++"), ("topk", "default")):
        for shape, rates in SHAPES.items():
            row: dict[str, Any] = {"blend": blend, "shape": shape}
            for name, change in ABLATION.items():
                settings = _START | {"relocate": 0.0, "shape": shape} | rates | PLAIN | FLOATS | change
                row[name] = bench.psnr(preset, settings)
            rows.append(row)
    return rows


# -- (b) quantisers

POSITIONS: dict[str, Settings] = {
    "LSQ+ 12": {"pos_quantizer": "learned", "pos_bits": 12},
    "fp16": {"pos_quantizer": "float16"},
    "uniform 16": {"pos_quantizer": "uniform", "pos_bits": 16},
}
COLOURS: dict[str, Settings] = {
    "float32": {"feat_quantizer": "uniform", "feat_bits": 32},
    "LSQ+ 6": {"feat_quantizer": "learned", "feat_bits": 6},
    "codebook 2 × 3": {"feat_quantizer": "codebook", "feat_bits": 3},
    "codebook 2 × 8": {"feat_quantizer": "codebook", "feat_bits": 8},
}


def quantizers(bench: Bench) -> list[dict[str, Any]]:
    """Positions × colours on the gaussianimage++ preset, its shapes at LSQ+ 10 bits throughout."""
    return [
        {"position": p, **{c: bench.psnr("gaussianimage++", pos | colour) for c, colour in COLOURS.items()}}
        for p, pos in POSITIONS.items()
    ]


# -- (c) bits


def bits(bench: Bench) -> list[dict[str, Any]]:
    """8, 12, 16 and 32 bits for every number, rounded once after the fit and (LSQ+) learned."""
    rows = []
    for preset in ("default", "gaussianimage++"):
        learned = {"coding": "plain"} | dict.fromkeys(("pos_quantizer", "shape_quantizer", "feat_quantizer"), "learned")
        for name, kind in (("rounded", PLAIN), ("LSQ+", learned | {"quantize_forward": 0.5})):
            row: dict[str, Any] = {"preset": preset, "quantiser": name}
            for b in (8, 12, 16, 32):
                same = dict.fromkeys(FLOATS, b)
                row[str(b)] = bench.psnr(preset, same | (PLAIN if b == 32 else kind))
            rows.append(row)
    return rows


# -- (d) presets and where paper and code differ

_RATES = ("lr_position", "lr_scale", "lr_rotation", "lr_feature")
_PUBLISHED = {"lr_position": 5e-4, "lr_scale": 1e-3, "lr_rotation": 1e-3, "lr_feature": 1e-3}
CHOICES: dict[str, dict[str, Settings]] = {
    "gaussianimage": {
        "as it is": {},
        "unquantised": PLAIN | FLOATS,
        "plain rounding of the fit, k-means of its colours": {"quantize_forward": 0.0},
        "uniform 16-bit positions instead of fp16": {"pos_quantizer": "uniform"},
        "codebooks of 2 × 256 rows": {"feat_bits": 8},
        "published rate, 0.001": _PUBLISHED,
    },
    "gaussianimage++": {
        "as it is": {},
        "unquantised": PLAIN | FLOATS,
        "plain rounding of the fit": {"quantize_forward": 0.0},
        "rate 0.018 (code) instead of 0.18 (paper)": dict.fromkeys(_RATES, 0.018),
        "one round of growth (code, up to 1000 in one) instead of two (paper)": {
            "growth_rounds": 1,
            "growth_until": 0.1,
        },
        "added Gaussians take the picture's colour (paper) instead of none (code)": {"growth_color": "picture"},
        "added Gaussians take the residual": {"growth_color": "residual"},
        "filter as a lower bound (paper) instead of first size (code)": _FILTER,
        "no filter: 1 pixel at first": {"init_scale_mode": "fixed", "init_scale": 1.0, "growth_scale": 1.0},
        "no densification": {"growth": False},
        "densification by sampling": {"growth_where": "sampled"},
    },
}


def choices(bench: Bench) -> list[dict[str, Any]]:
    """The presets, and each choice undone."""
    return [
        {"preset": preset, "change": change, **bench.psnr(preset, settings)}
        for preset, changes in CHOICES.items()
        for change, settings in changes.items()
    ]


# -- tables


def table(rows: list[dict[str, Any]], heads: list[str]) -> str:
    """Markdown; a measurement shows its mean PSNR."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{v['psnr']:.2f}" if isinstance(v := row[h], dict) else str(v) for h in heads]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def docs(results: dict[str, Any]) -> None:
    """Fill the tables of docs/peers.md."""
    text = PAGE.read_text()
    for name in ("ablation", "quantizers", "bits"):
        rows = results[name]
        text = fill(text, name, table(rows, list(rows[0])))
    rows = [
        {
            "preset": f"`{r['preset']}`",
            "change": r["change"],
            "PSNR dB": f"{r['psnr']:.2f}",
            "bits per Gaussian": r["bits_per_gaussian"],
        }
        for r in results["choices"]
    ]
    PAGE.write_text(fill(text, "choices", table(rows, list(rows[0]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--subset", action="store_true", help="small pictures and few steps")
    parser.add_argument("--docs", action="store_true", help="only fill docs/peers.md")
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    path: Path = common.RESULTS / "peers.json"
    if not arguments.docs:
        bench = Bench(arguments.subset, arguments.threads)
        results = {
            "machine": common.machine(),
            "date": common.today(),
            "igs": common.sources_version(),
            "subset": arguments.subset,
            "pictures": {name: list(p.shape) for name, p in bench.pictures.items()},
            "choices": choices(bench),
            "quantizers": quantizers(bench),
            "bits": bits(bench),
            "ablation": ablation(bench),
        }
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    docs(json.loads(path.read_text()))


if __name__ == "__main__":
    main()
