"""Restoration: degraded pictures encoded at low rates, compared with the clean originals.

python bench/restoration.py [--set stylized|kodak] [--crop WxH | --side S] [--subset N] [--rates 0.1,0.305] …

The experiment of Image-GS: few Gaussians cannot hold noise, blocks and bands, so that the file's picture can be closer
to the clean one than the encoder's input was. Each picture is degraded (`rd.degradations`), the degraded picture
encoded, and PSNR and MS-SSIM of the input and of the decoded file are taken against the clean picture; beside them
those of the input filtered by Gaussians and medians, and of WebP and AVIF files of at most igs' bytes.

Every point is kept in bench/cache/restoration: a run can be stopped and goes on. Results go to
bench/results/restoration.json, by settings; those of the default settings also into the tables of docs/restoration.md
(--render-only: without measuring). --cached takes what is there already.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import common
import levels
import make_docs
import numpy as np
import scipy
from PIL import Image
from rd import degradations, metrics
from rd.cache import Key, Store
from rd.codecs import CLASSICAL
from rd.degradations import Degradation, Pixels
from rd.sets import fingerprint

from igs.decoder import open as open_igs
from igs.encoder import encode

CACHE = common.REPO / "bench" / "cache" / "restoration"
RESULTS = common.RESULTS / "restoration.json"
PAGE = common.REPO / "docs" / "restoration.md"
# What the page shows; a run with other settings is printed and kept, and leaves the page alone.
OF_PAGE = {
    "set": "stylized",
    "crop": "512x512",
    "side": None,
    "subset": None,
    "only": None,
    "effort": 3,
    "rates": [0.1, 0.305],
    "degradations": [d.name for d in degradations.ALL],
}
TITLES = {"igs": "igs", "webp": "WebP", "avif": "AVIF", "blur": "blur", "median": "median"}
CODECS = ("igs", "webp", "avif")
FILTERS = ("blur", "median")
# Fixed settings of the codecs that igs is compared with; AVIF's speed is that of bench/scales.py. One chroma sampling
# only, as two double the searches: docs/restoration.md says what the other one changes.
FIXED: dict[str, dict[str, Any]] = {"webp": {"method": 6}, "avif": {"speed": 6, "subsampling": "4:2:0"}}
NUMBERS = 8  # of a Gaussian: 2 of position, 3 of shape, 3 of colour
DIGITS = {"psnr": 2, "ms_ssim": 4}

Row = dict[str, Any]


class Lab:
    """Points of one picture, degraded in one way: measured against the clean one, or taken from the cache."""

    def __init__(self, store: Store, clean: Pixels, degraded: Pixels, cached: bool = False) -> None:
        self.store, self.clean, self.degraded, self.cached = store, clean, degraded, cached
        self.picture = fingerprint(degraded)
        self.about = {"clean": fingerprint(clean)}
        self._encode = functools.cache(self._encode_uncached)

    def point(self, family: str, version: str, settings: Row, make: Callable[[], tuple[Pixels, Row]]) -> Row | None:
        """PSNR and MS-SSIM of what `make` gives, and the details it gives; None if it isn't there and mustn't be made.

        `settings` and the two pictures make up the key.
        """
        key = Key(family, version, self.picture, settings | self.about)
        found = self.store.find(key)
        if found is None:
            if self.cached:
                return None
            pixels, details = make()
            a, b = self.clean / 255, pixels / 255
            values = details | {"psnr": metrics.psnr(a, b), "ms_ssim": metrics.ms_ssim(a, b)}
            self.store.save(key, values)
            return values
        return {k: v for k, v in found.values.items() if k not in ("family", "version", "settings")}

    def input(self) -> Row | None:
        return self.point("restoration/input", "1", {}, lambda: (self.degraded, {}))

    def filtered(self, kind: str) -> Row | None:
        """The best by PSNR of a filter's sizes. It is chosen with the clean picture at hand, as no user could."""
        call, sizes = {
            "blur": (degradations.blurred, degradations.BLURS),
            "median": (degradations.median, degradations.MEDIANS),
        }[kind]
        rows = []
        for size in sizes:
            make = functools.partial(self._filter, call, size)
            row = self.point(f"restoration/{kind}", f"scipy {scipy.__version__}", {"size": size}, make)
            rows.append(row)
        return max((r for r in rows if r), key=lambda r: r["psnr"], default=None)

    def _filter(self, call: Callable[[Pixels, Any], Pixels], size: float) -> tuple[Pixels, Row]:
        return call(self.degraded, size), {"size": size}

    def igs(self, bpp: float, effort: int, threads: int | None) -> Row | None:
        """An .igs of the degraded picture at a rate."""

        def make() -> tuple[Pixels, Row]:
            start = time.perf_counter()
            encoded = encode(self.degraded, bpp=bpp, effort=effort, **({"threads": threads} if threads else {}))
            details = {"bytes": len(encoded.data), "gaussians": encoded.report["num_gaussians"]}
            details["seconds"] = round(time.perf_counter() - start, 2)
            with open_igs(encoded.data) as im:
                return im.decode(), details

        return self.point("restoration/igs", common.sources_version(), {"bpp": bpp, "effort": effort}, make)

    def rival(self, codec: str, size: int) -> Row | None:
        """The best WebP or AVIF of at most `size` bytes; the smallest, with `over`, where none is."""

        def make() -> tuple[Pixels, Row]:
            low, high = 0, 100
            while low < high:  # the highest quality that fits
                middle = (low + high + 1) // 2
                low, high = (middle, high) if len(self._encode(codec, middle)) <= size else (low, middle - 1)
            data = self._encode(codec, low)
            with Image.open(io.BytesIO(data)) as im:
                return np.asarray(im.convert("RGB")), {"bytes": len(data), "quality": low, "over": len(data) > size}

        version = next(c.version for c in CLASSICAL if c.name == codec)
        return self.point(f"restoration/{codec}", version, {"size": size, **FIXED[codec]}, make)

    def _encode_uncached(self, codec: str, quality: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(self.degraded).save(out, codec.upper(), quality=quality, **FIXED[codec])
        return out.getvalue()


def measure(lab: Lab, rates: Iterable[float], effort: int, threads: int | None) -> Row:
    """A row's points: input, filters, and per rate igs, WebP and AVIF; what isn't there is left out."""
    row: Row = {"input": lab.input()} | {kind: lab.filtered(kind) for kind in FILTERS}
    for rate in rates:
        igs = lab.igs(rate, effort, threads)
        found = {"igs": igs} | {c: lab.rival(c, igs["bytes"]) if igs else None for c in FIXED}
        row |= {f"{codec} {rate:g}": point for codec, point in found.items()}
    return {k: v for k, v in row.items() if v}


# -- tables


def columns(rows: list[Row]) -> list[str]:
    """What the rows have: filters, then codecs by rate (`igs 0.1`)."""
    names = {k for row in rows for k in row if k.split()[0] in (*CODECS, *FILTERS)}
    order = (*FILTERS, *CODECS)
    return sorted(names, key=lambda n: (float([*n.split(), "0"][1]), order.index(n.split()[0])))


def title(column: str) -> str:
    """`igs 0.1` → `igs 0.1 bpp`."""
    method, *rate = column.split()
    return " ".join([TITLES[method], *(f"{r} bpp" for r in rate)])


def gains(rows: list[Row], column: str, metric: str) -> list[float]:
    """By picture: how far a column's points are above the input's. A row without the point is left out."""
    return [row[column][metric] - row["input"][metric] for row in rows if column in row]


def gain_table(rows: list[Row], metric: str) -> str:
    """By degradation: the input's mean, and each column's mean gain, in brackets how many pictures gain.

    Where a codec's smallest file was larger than igs' for some pictures, their number follows after a slash.
    """
    names = columns(rows)
    lines = [_line(["", "input", *map(title, names)]), "|---" * (len(names) + 2) + "|"]
    for degradation in degradations.ALL:
        same = [r for r in rows if r["degradation"] == degradation.name]
        if degradation.kind == "clean" or not same:
            continue
        value = f"{np.mean([r['input'][metric] for r in same]):.{DIGITS[metric]}f}"
        lines.append(_line([degradation.label, value, *(_gain(same, n, metric) for n in names)]))
    return "\n".join(lines) + "\n"


def ahead_table(rows: list[Row]) -> str:
    """By degradation and rate: on how many pictures igs is ahead of each column, by PSNR and by MS-SSIM."""
    others = [m for m in (*FILTERS, *FIXED) if any(n.split()[0] == m for n in columns(rows))]
    lines = [_line(["", "bpp", *(f"… {TITLES[m]}" for m in others)]), "|---" * (len(others) + 2) + "|"]
    for degradation in degradations.ALL[1:]:
        same = [r for r in rows if r["degradation"] == degradation.name]
        for igs in (n for n in columns(same) if n.startswith("igs ")):
            rate = igs.split()[1]
            cells = []
            for other in (m if m in FILTERS else f"{m} {rate}" for m in others):
                both = [r for r in same if igs in r and other in r]
                counts = [sum(r[igs][m] > r[other][m] for r in both) for m in DIGITS]
                cells.append(", ".join(map(str, counts)) if len(both) == len(same) else "–")
            lines.append(_line([degradation.label, rate, *cells]))
    return "\n".join(lines) + "\n"


def ceiling_table(rows: list[Row]) -> str:
    """What the codecs make of the clean pictures at these rates: mean PSNR and MS-SSIM."""
    same = [r for r in rows if r["degradation"] == "clean"]
    names = [n for n in columns(same) if n.split()[0] in CODECS]
    lines = [_line(["", *map(title, names)]), "|---" * (len(names) + 1) + "|"]
    for metric, label in (("psnr", "PSNR, dB"), ("ms_ssim", "MS-SSIM")):
        found = [[r[n][metric] for r in same if n in r] for n in names]
        cells = [f"{np.mean(f):.{DIGITS[metric]}f}" if len(f) == len(same) else "–" for f in found]
        lines.append(_line([label, *cells]))
    return "\n".join(lines) + "\n"


def kept_table(rows: list[Row]) -> str:
    """How much of the noise's energy is in what a codec gives back: medians over pictures, in per cent.

    What the squared error against the clean picture grows by when noise is added to the input, as a share of the
    noise's own. Beside it the share that a linear fit of as many numbers as the Gaussians have would keep.
    """
    clean = {r["picture"]: r for r in rows if r["degradation"] == "clean"}
    names = [n for n in columns(list(clean.values())) if n.split()[0] in CODECS]
    rates = list(dict.fromkeys(n.split()[1] for n in names))
    head = ["", "bpp", "Gaussians", "numbers per value, %", *(f"{TITLES[c]}, %" for c in CODECS)]
    lines = [_line(head), "|---" * len(head) + "|"]
    for degradation in degradations.ALL:
        for rate in rates if degradation.kind == "noise" else ():
            igs = f"igs {rate}"
            same = [r for r in rows if r["degradation"] == degradation.name and igs in r and r["picture"] in clean]
            if not same:
                continue
            count = float(np.median([r[igs]["gaussians"] for r in same]))
            numbers = float(np.median([100 * NUMBERS * r[igs]["gaussians"] / r["values"] for r in same]))
            cells = [degradation.label, rate, f"{count:.0f}", f"{numbers:.2g}"]
            for name in (f"{c} {rate}" for c in CODECS):
                both = [(r, clean[r["picture"]]) for r in same if name in r and name in clean[r["picture"]]]
                shares = [(_mse(r[name]) - _mse(c[name])) / _mse(r["input"]) for r, c in both]
                cells.append(f"{100 * np.median(shares):.1f}" if shares else "–")
            lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _mse(point: Row) -> float:
    """Mean squared error of values in [0, 1]."""
    return 10.0 ** (-point["psnr"] / 10)


def category_table(rows: list[Row], metric: str = "psnr") -> str:
    """igs' mean gain by category of pictures, with the number that gain: one line per degradation and rate."""
    categories = sorted({r["category"] for r in rows})
    counts = [len({r["picture"] for r in rows if r["category"] == c}) for c in categories]
    heads = [f"{c.replace('_', ' ')} ({n})" for c, n in zip(categories, counts, strict=True)]
    lines = [_line(["", "bpp", *heads]), "|---" * (len(heads) + 2) + "|"]
    for degradation in degradations.ALL[1:]:
        same = [r for r in rows if r["degradation"] == degradation.name]
        for name in (n for n in columns(same) if n.startswith("igs ")):
            cells = [_gain([r for r in same if r["category"] == c], name, metric) for c in categories]
            lines.append(_line([degradation.label, name.split()[1], *cells]))
    return "\n".join(lines) + "\n"


def picture_table(rows: list[Row], metric: str = "psnr") -> str:
    """igs' gain for every picture and degradation, at the lowest rate measured."""
    kinds = [d for d in degradations.ALL[1:] if any(r["degradation"] == d.name for r in rows)]
    name = next(n for n in columns(rows) if n.startswith("igs "))
    lines = [_line(["", *(d.label for d in kinds)]), "|---" * (len(kinds) + 1) + "|"]
    for picture in dict.fromkeys(r["picture"] for r in rows):
        by_kind = {r["degradation"]: r for r in rows if r["picture"] == picture}
        cells = []
        for kind in kinds:
            found = gains([by_kind[kind.name]], name, metric) if kind.name in by_kind else []
            cells.append(_signed(found[0], metric) if found else "–")
        lines.append(_line([picture, *cells]))
    return "\n".join(lines) + "\n"


def _gain(rows: list[Row], column: str, metric: str) -> str:
    values = gains(rows, column, metric)
    if not values or len(values) < len(rows):  # a mean over fewer pictures than its neighbours' would mislead
        return "–"
    over = sum(row[column].get("over", False) for row in rows)
    counts = f"{sum(v > 0 for v in values)}/{over}" if over else f"{sum(v > 0 for v in values)}"
    return f"{_signed(float(np.mean(values)), metric)} ({counts})"


def _signed(value: float, metric: str) -> str:
    return f"{value:+.{DIGITS[metric]}f}".replace("-", "−")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def tables(rows: list[Row]) -> dict[str, str]:
    """By the marker that they follow in the page."""
    return {
        "restoration psnr": gain_table(rows, "psnr"),
        "restoration ms_ssim": gain_table(rows, "ms_ssim"),
        "restoration ahead": ahead_table(rows),
        "restoration ceiling": ceiling_table(rows),
        "restoration kept": kept_table(rows),
        "restoration categories": category_table(rows),
        "restoration pictures": picture_table(rows),
    }


# -- results


def keep(settings: Row, rows: list[Row]) -> None:
    """Put rows into bench/results/restoration.json in the place of those with the same settings, one row a line."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = [k for k in known if k["settings"] != settings]
    versions = {p: importlib.metadata.version(p) for p in ("pillow", "scipy")} | {"igs": common.sources_version()}
    known.append({"settings": settings, "machine": common.machine() | versions, "rows": rows})
    parts = []
    for entry in known:
        head = {k: v for k, v in entry.items() if k != "rows"}
        lines = ",\n  ".join(json.dumps(row) for row in entry["rows"])
        parts.append(json.dumps(head)[:-1] + f', "rows": [\n  {lines}\n ]}}')
    RESULTS.write_text("[\n " + ",\n ".join(parts) + "\n]\n")


def rounded(row: Row) -> Row:
    """A row as kept: PSNR to 0.0001 dB, MS-SSIM to 10⁻⁶."""
    digits = {"psnr": 4, "ms_ssim": 6}
    return {
        k: {m: round(x, digits[m]) if m in digits else x for m, x in v.items()} if isinstance(v, dict) else v
        for k, v in row.items()
    }


def render(settings: Row) -> None:
    """The page's tables from the results with these settings."""
    entry = next((k for k in json.loads(RESULTS.read_text()) if k["settings"] == settings), None)
    if entry is None:
        raise SystemExit("restoration: expected results with the page's settings, found none")
    text = PAGE.read_text()
    for name, table in tables(entry["rows"]).items():
        text = make_docs.fill(text, name, table)
    PAGE.write_text(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="stylized", choices=("kodak", "stylized"))
    parser.add_argument("--crop", metavar="WxH", help="the pictures' middle (default: 512x512, without --side)")
    parser.add_argument("--side", type=int, help="reduce pictures to so many pixels on the longer side")
    parser.add_argument("--subset", type=int, metavar="N", help="only N pictures, evenly spread")
    parser.add_argument("--only", help="parts of pictures' names")
    parser.add_argument("--degradations", metavar="NAME,…", help="e.g. 'noise 10,jpeg 20' (default: all)")
    parser.add_argument("--rates", default=",".join(map(str, OF_PAGE["rates"])), metavar="B,…", help="bits per pixel")
    parser.add_argument("--effort", type=int, default=OF_PAGE["effort"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cached", action="store_true", help="measure nothing: take the points that are there")
    parser.add_argument("--accept-stale", action="store_true", help="take points of other versions of a codec as well")
    parser.add_argument("--render-only", action="store_true", help="write the page of the results as they are")
    asked = parser.parse_args(arguments)
    if asked.crop is None and asked.side is None:
        asked.crop = OF_PAGE["crop"]
    asked.rates = sorted(map(float, asked.rates.split(",")))
    known = [d.name for d in degradations.ALL]
    names = asked.degradations.split(",") if asked.degradations else known
    if unknown := set(names) - set(known):
        parser.error(f"expected degradations out of {', '.join(known)}, found {', '.join(sorted(unknown))}")
    asked.degradations = [n for n in known if n in names]
    return asked


def run(asked: argparse.Namespace) -> list[Row]:
    """All rows, by degradation and picture. The lower rates come first: a stopped run then has whole columns."""
    rates = asked.rates
    paths: list[Path] = levels.pictures(asked.set, asked.subset, asked.only)
    if not paths:
        raise SystemExit("restoration: expected pictures beside this checkout, found none")
    cleans = {path: levels.load(path, asked.side, asked.crop) for path in paths}
    store = Store(CACHE, asked.accept_stale)
    rows: dict[tuple[Path, Degradation], Row] = {}
    for last in range(1, len(rates) + 1):
        for degradation in (d for d in degradations.ALL if d.name in asked.degradations):
            for path, clean in cleans.items():
                lab = Lab(store, clean, degradation(clean), asked.cached)
                found = measure(lab, rates[:last], asked.effort, asked.threads)
                about = {"picture": path.stem, "category": path.parent.name, "degradation": degradation.name}
                about["values"] = clean.size
                rows[path, degradation] = about | found
                igs = found.get(f"igs {rates[last - 1]:g}")
                if igs and not asked.cached:
                    print(f"{rates[last - 1]:g} {degradation.name} {path.stem}: {igs['psnr']:.2f} dB", flush=True)
    return [rounded(row) for row in rows.values() if "input" in row]


def main(arguments: list[str] | None = None) -> None:
    asked = parse(arguments)
    settings = {k: getattr(asked, k) for k in OF_PAGE}
    if not asked.render_only:
        rows = run(asked)
        for name, table in tables(rows).items():
            print(f"\n{name}\n\n{table}", end="")
        keep(settings, rows)
    if asked.render_only or settings == OF_PAGE:
        render(OF_PAGE)


if __name__ == "__main__":
    main()
