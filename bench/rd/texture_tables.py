"""The tables of docs/textures.md, made of bench/results/textures.json alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rd.stacks import at_rate, best_split

PEERS = {"astc": "ASTC", "bc7": "BC7", "bc1": "BC1"}
_DIGITS = {"bppc": 6, "psnr": 3, "psnr_mean": 3, "ssim_mean": 5, "ssim": 5}


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """A stack's points with what the tables need."""
    return {
        **{k: found[k] for k in ("width", "height", "maps")},
        "igs": [_point(p) for p in found["igs"]],
        "one": [_point(p) for p in found["one"]],
        "peers": {name: [_point(p) for p in points] for name, points in found["peers"].items()},
        "apart": {name: [_point(p) for p in points] for name, points in found["apart"].items()},
    }


def _point(values: dict[str, Any]) -> dict[str, Any]:
    point = {"settings": values["settings"], "version": values["version"], "bytes": values["bytes"]}
    point |= {k: round(values[k], _DIGITS[k]) for k in ("bppc", "psnr", "psnr_mean", "ssim_mean")}
    point["maps"] = {n: {k: round(v, _DIGITS[k]) for k, v in m.items()} for n, m in values["maps"].items()}
    details = values.get("details", {})
    return point | ({"stale": True} if values.get("stale") else {}) | ({"details": details} if details else {})


def to_json(content: dict[str, Any]) -> str:
    """The results, a point per line."""

    def text(value: Any, pad: str) -> str:
        if (
            isinstance(value, dict)
            and "bytes" not in value
            and any(isinstance(v, (dict, list)) for v in value.values())
        ):
            inner = [f"{pad} {json.dumps(k)}: {text(v, pad + ' ')}" for k, v in value.items()]
            return "{\n" + ",\n".join(inner) + f"\n{pad}}}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(f"{pad} {text(v, pad + ' ')}" for v in value) + f"\n{pad}]"
        return json.dumps(value, ensure_ascii=False)

    return text(content, "") + "\n"


def write(content: dict[str, Any], page: Path) -> str:
    """Replace the tables in the page (between the lines ``<!-- tables -->`` and ``<!-- end -->``); returns them."""
    tables = "\n".join(_run(name, run) for name, run in content["runs"].items() if run)
    if page.exists():
        old = page.read_text()
        new = re.sub(
            r"(<!-- tables -->\n).*?(<!-- end -->)", lambda m: m[1] + "\n" + tables + "\n" + m[2], old, flags=re.S
        )
        page.write_text(new)
    return tables


def _run(name: str, run: dict[str, Any]) -> str:
    rates = sorted({p["settings"]["bppc"] for stack in run.values() for p in stack["igs"]})
    sizes = sorted(
        {f"{s['width']}²" if s["width"] == s["height"] else f"{s['width']}×{s['height']}" for s in run.values()}
    )
    parts = [f"### {name.capitalize()}\n", f"{', '.join(run)}: {', '.join(sizes)} pixels.\n", _against(run, rates)]
    parts += [_maps(run, rates)]
    if any(stack["apart"] for stack in run.values()):
        parts.append(_apart(run, rates))
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _of(stack: dict[str, Any], rate: float, key: str = "igs") -> dict[str, Any] | None:
    return next((p for p in stack.get(key, ()) if p["settings"]["bppc"] == rate), None)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _against(run: dict[str, Any], rates: Sequence[float]) -> str:
    rows = []
    for rate in rates:
        stacks = [s for s in run.values() if _of(s, rate)]
        ours = [_of(s, rate) for s in stacks]
        row = [f"{rate:g}"]
        for key, digits in (("psnr_mean", 2), ("ssim_mean", 3)):
            own = fmean(p[key] for p in ours if p)
            row.append(f"**{_number(own, digits)}**")
            best = []
            for peer in PEERS:
                found = [at_rate([(p["bppc"], p[key]) for p in s["peers"].get(peer, [])], rate) for s in stacks]
                mean = None if None in found or not found else fmean(v for v in found if v is not None)
                row.append(_number(mean, digits))
                best += [] if mean is None else [mean]
            if key == "psnr_mean":
                row.append(f"{own - max(best):+.2f}" if best else "–")
        row.append(_number(fmean(p["psnr"] for p in ours if p)))
        rows.append(row)
    labels = list(PEERS.values())
    head = ["bppc", "igs, dB", *labels, "ahead by", "igs, SSIM", *labels, "igs, all channels, dB"]
    return f"Mean over maps and {len(run)} stacks:\n\n" + table(head, rows)


def _maps(run: dict[str, Any], rates: Sequence[float]) -> str:
    names = list(dict.fromkeys(name for stack in run.values() for name in stack["maps"]))
    rows = []
    for stack_name, stack in run.items():
        for rate in rates:
            point = _of(stack, rate)
            if point:
                cells = [point["maps"].get(n) for n in names]
                texts = ["–" if c is None else f"{c['psnr']:.2f} · {c['ssim']:.3f}" for c in cells]
                rows.append([stack_name, f"{rate:g}", *texts, f"{point['psnr_mean']:.2f}", f"{point['bytes']}"])
    return "igs, PSNR in dB and SSIM of each map:\n\n" + table(["stack", "bppc", *names, "mean, dB", "bytes"], rows)


def _apart(run: dict[str, Any], rates: Sequence[float]) -> str:
    rows = []
    for name, stack in run.items():
        channels = sum(stack["maps"].values())
        for rate in rates:
            point = _of(stack, rate)
            if not point or not stack["apart"]:
                continue
            same = [next((p for p in c if p["settings"]["bppc"] == rate), None) for c in stack["apart"].values()]
            equal = None
            if all(same):
                shares = zip(same, stack["maps"].values(), strict=True)
                equal = _db(sum(10 ** (-p["psnr"] / 10) * n for p, n in shares if p) / channels)
            curves = [
                [(p["bytes"], 10 ** (-p["psnr"] / 10) * n) for p in points]
                for points, n in zip(stack["apart"].values(), stack["maps"].values(), strict=True)
            ]
            split = best_split(curves, point["bytes"])
            best = None if split is None else _db(split / channels)
            one = _of(stack, rate, "one")
            gains = [None if other is None else point["psnr"] - other for other in (one and one["psnr"], best)]
            cells = (_number(value) for value in (point["psnr"], one and one["psnr"], equal, best))
            ahead = ("–" if gain is None else f"{gain:+.2f}" for gain in gains)
            rows.append([name, f"{rate:g}", _names(point, list(stack["maps"])), *cells, *ahead])
    head = ["stack", "bppc", "parts found", "in these", "in one part", "apart, each at this rate"]
    head += ["apart, bytes split best", "ahead of one part", "ahead of apart"]
    return "One file and files of single maps, PSNR in dB over all channels, at equal bytes:\n\n" + table(head, rows)


def _names(point: dict[str, Any], maps: list[str]) -> str:
    """The parts of a file by their maps' initials, or names where initials are not enough."""
    parts = point.get("details", {}).get("parts", [maps])
    short = {name: name if sum(other[0] == name[0] for other in maps) > 1 else name[0] for name in maps}
    return " · ".join("all" if len(part) == len(maps) else "+".join(short[name] for name in part) for part in parts)


def _db(error: float) -> float:
    return -10 * math.log10(error)
