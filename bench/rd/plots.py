"""The document's figures, as SVG: mean curves by set, and by category. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rd.curves import Curve, crossings, envelope, mean_curve
from rd.summary import View

CLASSICAL = ("jpeg", "webp", "jxl", "avif")
OURS = ("igs", "igs-ms-ssim")
PRESETS = ("image-gs", "gaussianimage", "gaussianimage++")
NEURAL = ("siren", "hash-grid")
AXES = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)", "flip": "FLIP (dB)", "lpips": "LPIPS (dB)"}
_COLOURS = {
    "igs": "#000000",
    "igs-ms-ssim": "#777777",
    "jpeg": "#e69f00",
    "webp": "#56b4e9",
    "jxl": "#009e73",
    "avif": "#d55e00",
    "image-gs": "#cc79a7",
    "gaussianimage": "#0072b2",
    "gaussianimage++": "#a6761d",
    "siren": "#e41a1c",
    "hash-grid": "#984ea3",
}


Drawn = tuple[str, int]  # a figure's file name, and over how many pictures it is a mean


def draw(view: View, folder: Path) -> dict[str, Drawn]:
    """Write every figure that there are points for; {what: (file name, pictures)}."""
    import matplotlib

    matplotlib.use("Agg")
    # Text as text, and nothing that differs from run to run: a figure changes only with its numbers.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "igs", "font.size": 9, "axes.grid": True}
    matplotlib.rcParams |= {"grid.alpha": 0.3, "path.simplify": True}
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    summary("rd-summary.svg", view, folder)
    groups = {
        "curves": (*OURS, *CLASSICAL),
        "presets": ("igs", *PRESETS, "webp"),
        "neural": ("igs", *NEURAL, "jpeg", "webp"),
    }
    for name in view.sets:
        for what, codecs in groups.items():
            shown = [c for c in codecs if view.pictures(name, None, (c,))]
            special = [c for c in shown if c in (*PRESETS, *NEURAL)]
            if not shown or (what != "curves" and not special):
                continue
            if what == "curves":  # a recipe of ours that was tried on some pictures only has its rows in the tables
                count = {c: len(view.pictures(name, None, (c,))) for c in shown}
                shown = [c for c in shown if c not in OURS or count[c] >= count.get("igs", 0)]
            # Curves of different pictures can't share a plot: only those that all of its codecs were measured on.
            pictures = view.pictures(name, None, shown)
            file = f"rd-{name}-{what}.svg"
            panels = []
            for metric in view.metrics[:3]:
                some = [p for p in pictures if view.measured(p, shown, metric)]
                if what == "curves":
                    some = _shared(view, some, shown, metric, view.top(name))
                title = AXES[metric] if len(some) == len(pictures) else f"{AXES[metric]}, {len(some)} pictures"
                panels += [(title, metric, some)] if some else []
            if panels and _figure(view, panels, shown, folder / file):
                files[f"{name}/{what}"] = file, len(pictures)
        categories = view.categories(name)
        shown = [c for c in ("igs", *CLASSICAL) if view.pictures(name, None, (c,))]
        panels = [(c.replace("_", " "), "psnr", view.pictures(name, c, shown)) for c in categories]
        file = f"rd-{name}-categories.svg"
        if len(panels) > 1 and _figure(view, [p for p in panels if p[2]], shown, folder / file):
            files[f"{name}/categories"] = file, sum(len(p) for _, _, p in panels)
    return files


def summary(file: str, view: View, folder: Path) -> None:
    """PSNR of igs and of the codecs that everybody has, a panel for each set that all of them were measured on."""
    codecs, panels = ("igs", *CLASSICAL), []
    for name, wanted in view.sets.items():
        some = [p for p in view.pictures(name, None, codecs) if view.measured(p, codecs, "psnr")]
        some = _shared(view, some, codecs, "psnr", view.top(name)) if some else []
        panels += [(f"{wanted.get('title', name)}, {len(some)} pictures", "psnr", some)] if some else []
    if panels:
        _figure(view, panels, codecs, folder / file)


def _shared(view: View, pictures: list[str], codecs: Sequence[str], metric: str, top: float) -> list[str]:
    """All the pictures, or, where some codec's curves have no rate in common, those that all codecs span.

    That is from 0.6 of the highest rate on: a flat picture's files end where a busy one's begin.
    """
    if all(mean_curve([view.points(p, c) for p in pictures], metric) for c in codecs):
        return pictures

    def spans(picture: str, codec: str) -> bool:
        curve = envelope(view.points(picture, codec), metric)
        return bool(curve) and curve[0][0] <= 0.6 * top and curve[-1][0] >= 0.97 * top

    return [p for p in pictures if all(spans(p, c) for c in codecs)] or pictures


def _figure(view: View, panels: Sequence[tuple[str, str, list[str]]], codecs: Sequence[str], path: Path) -> bool:
    """Panels of (title, metric, pictures) side by side; False if none of the codecs has a curve."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.6 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    drawn: dict[str, Any] = {}
    for axis, (title, metric, pictures) in zip(axes[0], panels, strict=True):
        curves = {c: mean_curve([view.points(p, c) for p in pictures], metric) for c in codecs}
        for codec, curve in curves.items():
            if curve:
                (line,) = axis.plot(
                    *zip(*curve, strict=True), color=_COLOURS.get(codec), lw=2 if codec in OURS else 1.2
                )
                drawn.setdefault(codec, line)
        _mark(axis, curves)
        axis.set_xscale("log")
        beyond = max((c[-1][0] for name, c in curves.items() if c and name in PRESETS), default=0.0)
        _ticks(axis, view, pictures, beyond)
        axis.set_title(title)
        axis.set_xlabel("bits per pixel")
        if metric == "psnr" and len({m for _, m, _ in panels}) == 1:
            axis.set_ylabel(AXES[metric])
    if drawn:
        labels = [view.label(c) for c in drawn]
        figure.legend(list(drawn.values()), labels, loc="outside lower center", ncols=6, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return bool(drawn)


def _mark(axis: Any, curves: dict[str, Curve]) -> None:
    """A ring where a peer's curve crosses igs'."""
    for codec, curve in curves.items():
        if codec not in OURS and curves.get("igs"):
            for at in crossings(curves["igs"], curve):
                axis.plot(*at, "o", color=_COLOURS.get(codec), fillstyle="none", ms=7)


def _ticks(axis: Any, view: View, pictures: list[str], beyond: float) -> None:
    """The rates asked for as ticks, and no further out than they go."""
    profile = next(s["profile"] for s in view.sets.values() if any(p["name"] == pictures[0] for p in s["pictures"]))
    rates = [*profile["rates"], *profile["more_rates"]]
    if beyond > 1.2 * max(rates):  # the published recipes' rates are several times the set's
        rates += [r for r in (1.5, 2.0, 3.0) if max(rates) < r < beyond]
    labels = [r for i, r in enumerate(rates) if i == 0 or r > 1.3 * rates[i - 1]]
    axis.set_xlim(rates[0] * 0.8, max(rates[-1], profile["limit"], beyond) * 1.1)
    axis.set_xticks(labels, [f"{r:g}" for r in labels])
    axis.minorticks_off()
