"""bench/results/rate_distortion.json: everything that the document is made of, gathered from the points in the cache.

What a run doesn't have (another machine's points, a codec not installed here) stays as it was in the file, so that
pictures and codecs can be measured one after the other and in different places.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import common

from rd.measure import Outcome
from rd.sets import PictureSet

_DIGITS = {"bpp": 6, "psnr": 4, "ms_ssim": 6, "flip": 6, "lpips": 6}
# What differs between a codec's points; the rest of their settings is written once, with the codec.
_VARYING = ("bpp", "quality", "subsampling")
# Of the encoder's own words only what the document shows.
_DETAILS = ("num_gaussians", "bits_per_gaussian", "bits_by_attribute", "head_bytes")


def load(path: Path) -> dict[str, Any]:
    """The file's content; an empty one where there is none."""
    if not path.exists():
        return {"machine": {}, "codecs": {}, "sets": [], "curves": {}, "ablation": {}, "times": {}, "skipped": {}}
    return json.loads(path.read_text())


def point(values: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a measured point."""
    settings = values["settings"]
    kept: dict[str, Any] = {"bytes": values["bytes"]}
    if "bpp" in settings:
        kept["target"] = settings["bpp"]
    else:
        kept["setting"] = setting({k: v for k, v in settings.items() if k in _VARYING})
    kept |= {k: round(values[k], d) for k, d in _DIGITS.items() if k in values}
    details = {k: v for k, v in values.get("details", {}).items() if k in _DETAILS}
    if values.get("stale"):
        kept["stale"] = True
    return kept | ({"details": details} if details else {})


def setting(settings: dict[str, Any]) -> str:
    """Settings in one line, options without their quotes."""
    words = []
    for name, value in settings.items():
        if name == "options":
            words += value
        else:
            words.append(f"{name}={value}")
    return " ".join(words)


def add_sets(content: dict[str, Any], picture_sets: Iterable[PictureSet]) -> None:
    """Name the sets; one measured before keeps its pictures that are not part of this run."""
    known = {s["name"]: s for s in content["sets"]}
    for picture_set in picture_sets:
        described = picture_set.describe()
        if picture_set.name in known:
            names = {p["name"] for p in described["pictures"]}
            described["pictures"] += [p for p in known[picture_set.name]["pictures"] if p["name"] not in names]
            described["pictures"].sort(key=lambda p: p["name"])
        known[picture_set.name] = described
    content["sets"] = [known[name] for name in sorted(known)]


def add_curve(content: dict[str, Any], outcome: Outcome) -> None:
    """A job's points in the place of those known before; an outcome without points changes nothing."""
    if not outcome.points:
        return
    codec = outcome.job.codec
    versions = sorted({p["version"] for p in outcome.points})
    entry = content["codecs"].setdefault(codec.name, {"label": codec.label, "versions": []})
    entry["label"] = codec.label
    entry["settings"] = setting({k: v for k, v in outcome.points[0]["settings"].items() if k not in _VARYING})
    curve = {"versions": versions, "points": [point(p) for p in outcome.points]}
    content["curves"].setdefault(outcome.job.picture.name, {})[codec.name] = curve
    current = {
        v for curves in content["curves"].values() if codec.name in curves for v in curves[codec.name]["versions"]
    }
    entry["versions"] = sorted(current)


def add_row(content: dict[str, Any], name: str, options: str, outcome: Outcome) -> None:
    """One technique's points on one picture."""
    if outcome.points:
        row = content["ablation"].setdefault(name, {"options": options, "curves": {}})
        row["options"] = options
        row["curves"][outcome.job.picture.name] = [point(p) for p in outcome.points]


def save(content: dict[str, Any], path: Path, machine: dict[str, Any]) -> None:
    """Write the file, a point per line: small, and readable in a diff."""
    content["machine"] = machine
    content["date"] = common.today()
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_text(content) + "\n")
    temporary.replace(path)


def _text(value: Any, indent: int = 0) -> str:
    """JSON with one line for whatever holds no further object but details."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value and "bpp" not in value:
        inner = [f"{pad}{json.dumps(k)}: {_text(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + pad[1:] + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pad + _text(v, indent + 1) for v in value) + "\n" + pad[1:] + "]"
    return json.dumps(value, ensure_ascii=False)
