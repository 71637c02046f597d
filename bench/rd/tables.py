"""The document's tables, each a function from the results to Markdown; empty where there is nothing to show."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from rd.curves import at, bd_rate, crossings, mean_curve
from rd.notes import WORSE_THAN_WEBP
from rd.plots import CLASSICAL, NEURAL, OURS, PRESETS
from rd.published import PUBLISHED, SPEEDS
from rd.summary import Summary, View, mean

TITLES = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "flip": "FLIP", "lpips": "LPIPS"}
_WORSE = 10.0  # per cent
_NEAR = 0.01  # of a rate: files of one rate asked for differ by a little


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with a line break at its end."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _span(rates: Sequence[float]) -> str:
    return f"{min(rates):g}–{max(rates):g} bpp"


def _compared(view: View, name: str, test: str, anchors: Iterable[str], whole: bool = False) -> str:
    """A BD-rate table: anchor, pictures, a column for every metric that is there; empty without a row."""
    rows = {a: [view.compare(name, test, a, m, whole=whole) for m in view.metrics] for a in anchors}
    rows = {anchor: cells for anchor, cells in rows.items() if cells[0].count}
    shown = [k for k in range(len(view.metrics)) if any(cells[k].count for cells in rows.values())]
    if not rows:
        return ""

    def text(cell: Summary, all_: int) -> str:
        return cell.text() + (f" (of {cell.count})" if 0 < cell.count < all_ else "")

    head = ["against", "pictures", *(TITLES[view.metrics[k]] for k in shown)]
    return markdown(
        head,
        [
            [view.label(anchor), str(cells[0].count), *(text(cells[k], cells[0].count) for k in shown)]
            for anchor, cells in rows.items()
        ],
    )


def bd_rates(view: View, name: str) -> str:
    """The set's BD-rates against the classical codecs, at its own rates and over the whole curve."""
    profile = view.sets[name]["profile"]
    parts = []
    for test in OURS:
        if not view.has(test):
            continue
        if table := _compared(view, name, test, CLASSICAL):
            parts.append(f"BD-rate of {view.label(test)} at {_span(profile['rates'])}:\n\n{table}")
        # Without further rates the whole curve is the same.
        if test == "igs" and profile["more_rates"] and (table := _compared(view, name, test, CLASSICAL, whole=True)):
            rates = [*profile["rates"], *profile["more_rates"]]
            parts.append(f"The same over the whole curve, {_span(rates)}:\n\n{table}")
    return "\n".join(parts)


def crossing_points(view: View, name: str) -> str:
    """Where the mean PSNR curve of igs crosses a peer's."""
    pictures = view.pictures(name, None, ("igs",))
    if not pictures:
        return ""
    lines = []
    for anchor in CLASSICAL:
        both = view.pictures(name, None, ("igs", anchor))
        curves = [mean_curve([view.points(p, c) for p in both], "psnr") for c in ("igs", anchor)]
        if not all(curves):
            continue
        found = crossings(curves[0], curves[1])
        label = view.label(anchor)
        if found:
            places = ", ".join(f"{bpp:.2f} bpp ({quality:.1f} dB)" for bpp, quality in found)
            lines.append(f"- {label}: at {places}")
        else:
            low, high = max(c[0][0] for c in curves), min(c[-1][0] for c in curves)
            if low < high:
                ours, theirs = (_read(c, low) for c in curves)
                side = "above" if ours > theirs else "below"
                lines.append(f"- {label}: nowhere; igs lies {side} it from {low:.2f} to {high:.2f} bpp")
            else:
                lines.append(f"- {label}: the mean curves have no rate in common")
    return "The mean PSNR curves cross that of igs\n\n" + "\n".join(lines) + "\n" if lines else ""


def _read(curve: list[tuple[float, float]], bpp: float) -> float:
    """A mean curve's value at its sample nearest to a rate."""
    return min(curve, key=lambda p: abs(p[0] - bpp))[1]


def mean_quality(view: View, name: str) -> str:
    """Mean PSNR / MS-SSIM at the set's rates, over the pictures on which every codec shown has a curve there."""
    profile = view.sets[name]["profile"]
    rates = [*profile["rates"], *profile["more_rates"]]
    total = len(view.sets[name]["pictures"])
    rows = []
    for codec in (*OURS, *CLASSICAL):
        cells = []
        for rate in rates:
            pictures = view.pictures(name, None, (codec,))
            # A rate that was asked for is missed by a hair: read that point itself, and curves elsewhere.
            values = [_near(view.points(p, codec), rate) for p in pictures]
            psnrs = [v[0] for v in values if v]
            ssims = [v[1] for v in values if v]
            if not psnrs:
                cells.append("–")
                continue
            count = "" if len(psnrs) == total else f" ({len(psnrs)})"
            cells.append(f"{statistics.fmean(psnrs):.2f} / {statistics.fmean(ssims):.4f}{count}")
        if set(cells) != {"–"}:
            rows.append([view.label(codec), *cells])
    if not rows:
        return ""
    text = (
        f"Mean PSNR in dB / MS-SSIM by rate; in brackets the number of pictures, where it isn't all {total} "
        "(the others have no file that small, or that large):\n\n"
    )
    return text + markdown(["codec", *(f"{r:g} bpp" for r in rates)], rows)


def _near(points: list[dict], rate: float) -> tuple[float, float] | None:
    for p in points:
        if p.get("target") == rate:
            return p["psnr"], p["ms_ssim"]
    psnr, ssim = at(points, rate, "psnr"), at(points, rate, "ms_ssim")
    return None if psnr is None or ssim is None else (psnr, 1 - 10 ** (-ssim / 10))


def by_category(view: View, name: str) -> str:
    """BD-rates by category, in PSNR."""
    if not view.pictures(name, None, ("igs",)):
        return ""
    anchors = [a for a in CLASSICAL if view.pictures(name, None, ("igs", a))]
    rows = []
    for category in view.categories(name):
        cells = [view.compare(name, "igs", a, category=category) for a in anchors]
        rows.append([category.replace("_", " "), str(max(c.count for c in cells)), *(c.text() for c in cells)])
    head = ["category", "pictures", *(view.label(a) for a in anchors)]
    return "BD-rate in PSNR against\n\n" + markdown(head, rows) if anchors else ""


def worse_than_webp(view: View) -> str:
    """Pictures on which igs needs over 10 % more than WebP, or isn't comparable as it lies below it."""
    lines = []
    compared = 0
    for name in view.sets:
        summary = view.compare(name, "igs", "webp")
        compared += summary.count
        worst = sorted(summary.percent.items(), key=lambda item: -item[1])
        found = [(picture, f"{value:+.1f} %") for picture, value in worst if value > _WORSE]
        found += [(picture, "no overlap, igs lies below WebP") for picture in summary.apart.get("below", [])]
        for picture, what in found:
            why = WORSE_THAN_WEBP.get(picture)
            lines.append(f"- {picture}: {what}" + (f". {why}" if why else ""))
    if not compared:
        return ""
    return "\n".join(lines) + "\n" if lines else f"None of {compared}.\n"


def presets(view: View) -> str:
    """igs against our presets of the published codecs, on the pictures that they were measured on."""
    parts = []
    for name in view.sets:
        measured = [c for c in PRESETS if view.pictures(name, None, (c,))]
        if table := _compared(view, name, "igs", measured):
            rates = [p["target"] for c in measured for q in view.pictures(name) for p in view.points(q, c)]
            parts.append(f"{name}, presets at {_span(rates)}; BD-rate of igs:\n\n{table}")
            parts.append(_best_of(view, name, measured))
    if not parts:
        return ""
    text = (
        "Their recipes as presets of igs, written as real files and measured like everything else, on the "
        "pictures listed at the end. Fits are cut to 5000 steps where the publication has more, which costs some "
        "decibels: what was published stands further down, and what the presets reach here below. So this compares "
        "recipes at an effort that two cores afford, not the best that anyone has reported.\n\n"
    )
    return text + "\n".join(parts)


def _best_of(view: View, name: str, codecs: list[str]) -> str:
    """Each preset's mean rate and PSNR at its highest rate: a line."""
    found = []
    for codec in codecs:
        last = [view.points(q, codec)[-1] for q in view.pictures(name, None, (codec,))]
        bpp, psnr = (statistics.fmean(p[key] for p in last) for key in ("bpp", "psnr"))
        found.append(f"{view.label(codec)} {psnr:.2f} dB at {bpp:.2f} bpp")
    return f"Their means at the highest rate: {'; '.join(found)}.\n"


def neural(view: View) -> str:
    """The neural peers' PSNR beside the other codecs' at the same rate, point by point."""
    rows = []
    for name in view.sets:
        for codec in NEURAL:
            for picture in view.pictures(name, None, (codec,)):
                for p in view.points(picture, codec):
                    others = [
                        at(view.points(picture, c), p["bpp"], tolerance=_NEAR) for c in ("igs", "jpeg", "webp", "avif")
                    ]
                    cells = ["–" if v is None else f"{v:.2f}" for v in others]
                    rows.append([view.label(codec), picture, f"{p['bpp']:.3f}", f"{p['psnr']:.2f}", *cells])
    if not rows:
        return ""
    text = (
        "One network per picture, fitted on the CPU; the file is its quantised weights (sizes: `bench/rd/neural.py`). "
        "They stand for their kind at this effort: no entropy model, and steps cut to what two cores do in minutes. "
        f"PSNR in dB at the network's own rate, or where a curve ends within {_NEAR:.0%} of it, at that end:\n\n"
    )
    return text + markdown(["network", "picture", "bpp", "PSNR", "igs", "JPEG", "WebP", "AVIF"], rows)


def attributes(view: View) -> str:
    """Where igs' bits go, per Gaussian, mean over pictures."""
    rows = []
    names: dict[str, None] = {}  # in order
    found = []
    for name in view.sets:
        for target in view.sets[name]["profile"]["rates"]:
            points = [p for q in view.pictures(name) for p in view.points(q, "igs") if p.get("target") == target]
            known = [p for p in points if p.get("details", {}).get("bits_by_attribute")]
            if known:
                found.append((name, target, known))
                names |= dict.fromkeys(k for p in known for k in p["details"]["bits_by_attribute"])
    for name, target, points in found:
        counts = [p["details"]["num_gaussians"] for p in points]
        bits = [p["details"]["bits_by_attribute"] for p in points]  # of the whole file
        cells = [mean(b.get(k, 0.0) / n for b, n in zip(bits, counts, strict=True)) or 0.0 for k in names]
        whole = mean(8 * p["bytes"] / n for p, n in zip(points, counts, strict=True)) or 0.0
        row = [name, f"{target:g}", f"{mean(counts) or 0:.0f}", *(f"{c:.2f}" for c in cells), f"{whole:.2f}"]
        rows.append(row)
    if not rows:
        return ""
    head = ["set", "bpp asked", "Gaussians", *(n.replace("_", " ") for n in names), "file, all in"]
    return "Mean bits per Gaussian by attribute, as coded; the last column is the whole file.\n\n" + markdown(
        head, rows
    )


def ablation(view: View) -> str:
    """Each technique's row against the first one, the full recipe."""
    table = view.content["ablation"]
    if len(table) < 2:
        return ""
    full = next(iter(table))
    rows = []
    pictures: set[str] = set()
    for name, row in table.items():
        summary = Summary()
        drops = []
        for picture, points in row["curves"].items():
            base = table[full]["curves"].get(picture)
            if not base:
                continue
            pictures.add(picture)
            summary.add(picture, bd_rate(points, base))
            same = {p["target"]: p["psnr"] for p in base}
            drops += [p["psnr"] - same[p["target"]] for p in points if p.get("target") in same]
        cell = "–" if name == full else summary.text()
        drop = "–" if name == full or not drops else f"{mean(drops):+.2f}".replace("-", "−")
        quality = mean(p["psnr"] for points in row["curves"].values() for p in points)
        rows.append([name, f"`{row['options']}`" if row["options"] else "", f"{quality:.2f}", drop, cell])
    text = (
        f"The codec with one thing changed, on {', '.join(sorted(pictures))}. BD-rate in PSNR against the full"
        " recipe: positive is what the technique saves."
    )
    known = {p["psnr"] for points in table[full]["curves"].values() for p in points}
    today = {p["psnr"] for name in table[full]["curves"] for p in view.points(name, "igs")}
    text += " All rows are of another version than the curves above.\n\n" if today and known - today else "\n\n"
    return text + markdown(["row", "options", "mean PSNR", "dB at the rates asked for", "BD-rate"], rows)


def rate_control(view: View) -> str:
    """How far files are from the size asked for."""
    rows = []
    for codec in (*OURS, *PRESETS):
        points = [p for q in view.curves for p in view.points(q, codec) if "target" in p]
        if points:
            misses = [100 * (p["bpp"] / p["target"] - 1) for p in points]
            rows.append([view.label(codec), str(len(points)), f"{min(misses):+.2f} %", f"{max(misses):+.2f} %"])
    if not rows:
        return ""
    return "Size of the file against the size asked for (`--bpp`):\n\n" + markdown(
        ["codec", "files", "smallest", "largest"],
        [[c.replace("-", "−") if i > 1 else c for i, c in enumerate(r)] for r in rows],
    )


def times(view: View) -> str:
    """Seconds measured on purpose."""
    rows = []
    for codec, by_set in view.content["times"].items():
        label = view.content["codecs"].get(codec, {}).get("label", codec)
        for row in by_set.values():
            size = f"{row['width']}×{row['height']}"
            rows.append(
                [label, row["picture"], size, f"{row['bpp']:.2f}", f"{row['encode_s']:.3g}", f"{row['decode_s']:.3g}"]
            )
    if not rows:
        return ""
    text = (
        "Seconds of wall-clock time, medians of three runs. Those of igs and its presets are whole commands: "
        "starting Python, reading and writing files.\n\n"
    )
    return text + markdown(["codec", "picture", "size", "bpp", "encode s", "decode s"], rows)


def published(view: View) -> str:
    """Means quoted from elsewhere."""
    rows = [[p.codec, p.pictures, p.rate, p.psnr, p.source] for p in PUBLISHED]
    text = (
        "Means as published, on the pictures named: other pictures than above, so not comparable number by number.\n\n"
    )
    text += markdown(["codec", "pictures", "rate", "PSNR dB", "source"], rows)
    return text + "\n" + markdown(["codec", "what", "time", "source"], [list(row) for row in SPEEDS])


def every_picture(view: View) -> str:
    """BD-rates of igs by picture."""
    rows = []
    anchors = [a for a in (*CLASSICAL, *PRESETS) if view.has(a)]
    for name in view.sets:
        summaries = [[view.compare(name, "igs", a, metric) for metric in ("psnr", "ms_ssim")] for a in anchors]
        for picture in view.pictures(name, None, ("igs",)):
            rows.append([picture, *(" / ".join(filter(None, (_cell(s, picture) for s in both))) for both in summaries)])
    if not rows:
        return ""
    return "BD-rate of igs in PSNR / MS-SSIM, per cent, at the set's rates:\n\n" + markdown(
        ["picture", *map(view.label, anchors)], rows
    )


def _cell(summary: Summary, picture: str) -> str:
    if picture in summary.percent:
        return f"{summary.percent[picture]:+.1f}".replace("-", "−")
    return next((relation for relation, names in summary.apart.items() if picture in names), "")
