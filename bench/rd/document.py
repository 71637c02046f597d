"""docs/rate-distortion.md from the results file: every number and sentence in it comes from there.

The page is put together of sections; one that there are no points for is left out, and what could not run is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rd import plots, tables
from rd.notes import OLDER
from rd.summary import View

INTRODUCTION = """# Rate and distortion

How many bits igs needs for a picture, beside other codecs at the same quality. `python bench/rate_distortion.py` writes
this page of the points in [bench/results/rate_distortion.json](../bench/results/rate_distortion.json) and of nothing
else; the command takes any folder of pictures, measures only what is missing (`--subset`, `--rates`,
`--only` make it shorter), and `--render-only` writes the page again without measuring.
"""

DEFINITIONS = """## How it is measured

A point is a file: its size in bytes, headers and all, and the picture that its decoder gives back. igs and the
published Gaussian codecs, which are presets of igs here, go through `igs-encode` and `igs-decode`.

- **PSNR** in dB over all values of R, G and B. **MS-SSIM** after Wang et al. 2003: an 11-tap Gaussian of deviation
  1.5, five scales, valid part, mean over R, G and B. **FLIP** (mean, 67 pixels per degree) by flip-evaluator;
  **LPIPS** only where somebody brings its weights. As curves MS-SSIM, FLIP and LPIPS are drawn in decibels: −10·log₁₀
  of 1 − MS-SSIM, of FLIP, of LPIPS.
- **BD-rate**: the mean difference in rate at equal quality, in per cent, negative where igs needs fewer bytes. Each
  curve is the upper envelope of a codec's points, interpolated by a monotone cubic (PCHIP) over the logarithm of the
  rate; the mean is taken over the qualities that both curves reach. Where these overlap by less than 0.3 dB there is
  no such number: the tables say `above on n` (igs' qualities at these rates lie above all of the other codec's) or
  `below on n`, pictures that the mean before it does not contain.
- **±** is the standard deviation over pictures; `of n` how many of them a metric was measured on, where not on all.
- In figures a ring marks where a codec's mean curve crosses that of igs.
- JPEG: progressive, optimised; JPEG and AVIF: the better of 4:2:0 and 4:4:4 at every rate.
"""


def write(content: dict[str, Any], page: Path) -> None:
    """The page and its figures, in a folder `images` beside it."""
    view = View(content)
    figures = plots.draw(view, page.parent / "images")
    page.write_text(text(view, figures))


def text(view: View, figures: dict[str, plots.Drawn]) -> str:
    """The page; `figures` as `plots.draw` gives them."""
    parts = [INTRODUCTION, _origin(view), DEFINITIONS]
    for name in view.sets:
        parts.append(_set(view, name, figures))
    sections: tuple[tuple[str, Callable[[View], str], str], ...] = (
        ("Pictures on which igs needs over 10 % more than WebP", tables.worse_than_webp, ""),
        ("Against the published Gaussian codecs", tables.presets, "presets"),
        ("Against small neural networks", tables.neural, "neural"),
        ("Bits per Gaussian", tables.attributes, ""),
        ("What each technique is worth", tables.ablation, ""),
        ("Rate control", tables.rate_control, ""),
        ("Times", tables.times, ""),
        ("What was published", tables.published, ""),
        ("Every picture", tables.every_picture, ""),
    )
    for title, make, kind in sections:
        body = make(view)
        if body:
            images = [_figure(figures, f"{name}/{kind}") for name in view.sets]
            parts.append("\n".join([f"## {title}\n", *filter(None, images), body]))
    return "\n".join(p.rstrip("\n") + "\n" for p in parts if p)


def _origin(view: View) -> str:
    machine = view.content["machine"]
    where = f"{machine.get('processor', 'an unknown processor')} ({machine.get('cores', '?')} cores)"
    lines = [f"Measured up to {view.content.get('date', 'an unknown day')} on {where}."]
    codecs = view.content["codecs"]
    rows = [[c["label"], c.get("settings") or "", ", ".join(c["versions"])] for n, c in codecs.items() if view.has(n)]
    table = tables.markdown(["codec", "settings", "version"], rows)
    notes = []
    mixed = [c["label"] for n, c in codecs.items() if view.has(n) and len(c["versions"]) > 1]
    if mixed:
        notes.append(f"Not all points are of one version: {', '.join(mixed)}.")
    versions = sorted({v for n, c in codecs.items() if view.has(n) for v in c["versions"]} & OLDER.keys())
    for remark in dict.fromkeys(OLDER[v] for v in versions):
        notes.append(f"Encoded {remark}: points of {', '.join(v for v in versions if OLDER[v] == remark)}.")
    skipped = [
        f"- not measured: {line}" for name, line in sorted(view.content["skipped"].items()) if not view.has(name)
    ]
    if not view.has("igs"):
        notes.append("There are no points of igs itself yet.")
    return "\n".join([*lines, "", table, *(f"{n}\n" for n in notes), *skipped, ""])


def _figure(figures: dict[str, plots.Drawn], what: str) -> str:
    """The figure with what it shows; nothing if it wasn't drawn."""
    if what not in figures:
        return ""
    file, count = figures[what]
    over = f"Mean over the {count} pictures" if count > 1 else "The one picture"
    caption = f"{over} of {what.split('/')[0]} with points of every codec shown; each curve where all have one."
    if what.endswith("/curves"):
        caption += (
            " Where a panel is of fewer, these are the ones whose files reach from 0.6 of the highest rate to it in all"
            " codecs."
        )
    return f"![{caption}](images/{file})\n\n{caption}\n"


def _set(view: View, name: str, figures: dict[str, plots.Drawn]) -> str:
    pictures = view.sets[name]["pictures"]
    sizes = sorted({p["width"] * p["height"] for p in pictures})
    span = f"{sizes[0] / 1e6:.2g}" if len(sizes) == 1 else f"{sizes[0] / 1e6:.2g} to {sizes[-1] / 1e6:.2g}"
    lines = [f"## {name}\n", f"{len(pictures)} pictures of {span} Mpx.\n"]
    lines += _paragraphs(
        _figure(figures, f"{name}/curves"),
        tables.bd_rates(view, name),
        tables.crossing_points(view, name),
        tables.mean_quality(view, name),
    )
    if view.categories(name) and (f"{name}/categories" in figures or tables.by_category(view, name)):
        lines.append("### By category\n")
        lines += _paragraphs(_figure(figures, f"{name}/categories"), tables.by_category(view, name))
    return "\n".join(lines)


def _paragraphs(*texts: str) -> Iterable[str]:
    return [t.rstrip("\n") + "\n" for t in texts if t]
