"""Writes the conformance set: `python tests/conformance/generate.py`. Only for a new draft: vectors are not to change.

invalid/<number>_<E_NAME>[_detail].igs must be refused with that code; a .json beside one gives the limits to use.
valid/<case>.igs must open; <case>.json holds points (pixels) and the stored values there, in binary64, per level.
Files above 4 KiB are stored as .igs.xz.
"""

from __future__ import annotations

import itertools
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import invalid_cases
import valid_cases

from igs.decoder.reference import values_reference
from igs.decoder.rule import Rule
from igs.format import FileReader, Gaussians, LevelMode, open_file

MAX_PLAIN = 4096


def stored(path: Path, data: bytes) -> None:
    """Write a file, compressed if it is large."""
    if len(data) > MAX_PLAIN:
        path.with_name(path.name + ".xz").write_bytes(lzma.compress(data, preset=9))
    else:
        path.write_bytes(data)


def sample_points(width: int, height: int) -> np.ndarray:
    """Pixel centres on a coarse grid, points between, on and outside the border."""
    rng = np.random.default_rng(9)
    grid = np.stack(np.meshgrid(np.arange(0.5, width, 3), np.arange(0.5, height, 3)), axis=-1).reshape(-1, 2)
    between = np.round(rng.uniform(0, 1, (24, 2)) * [width, height], 4)
    outside = np.array([[0, 0], [width, height], [-3.25, 5], [width + 40.0, 2.5], [1e6, -1e6]])
    return np.concatenate([grid, between, outside])


def expected_values(file: FileReader, points: np.ndarray, level: int) -> np.ndarray:
    """Stored values at points, by the slow reference over all Gaussians of the level."""
    first, last = file.level_range(level)
    parts = [Gaussians.concatenate(file.read_gaussians(range(first, last)))]
    rules = [Rule.of(file.header)]
    if file.header.level_mode == LevelMode.RESIDUAL:
        bounds = [x.first_chunk for x in file.levels[: level + 1]] + [last]
        parts = [Gaussians.concatenate(file.read_gaussians(range(a, b))) for a, b in itertools.pairwise(bounds)]
        rules += [rules[0].without_background()] * level
    fixed = np.floor(points * 2.0**14 + 0.5)
    inside = ((fixed >= -(2.0**30)) & (fixed <= 2.0**30 - 1)).all(axis=1)
    total = np.tile(np.array(file.header.background), (len(points), 1))
    total[inside] = sum(
        values_reference(g.means, g.factors, g.features, fixed[inside].astype(np.int32), rule)
        for g, rule in zip(parts, rules, strict=True)
    )
    return total


def expectation(data: bytes) -> dict[str, Any]:
    """What <case>.json holds."""
    with open_file(data) as file:
        points = sample_points(file.header.width, file.header.height)
        levels = [
            [[float(f"{v:.8g}") for v in row] for row in expected_values(file, points, level).tolist()]
            for level in range(file.available_levels)
        ]
        peaks = [float(np.abs(g.features).max()) for g in file.read_gaussians(range(file.level_range()[1]))]
    return {"points": points.tolist(), "max_feature": max(peaks), "levels": levels}


def main() -> None:
    """Write everything anew."""
    for folder in ("valid", "invalid"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).iterdir():
            old.unlink()
    for name, data, limits in invalid_cases.cases():
        stored(HERE / "invalid" / f"{name}.igs", data)
        if limits:
            (HERE / "invalid" / f"{name}.json").write_text(json.dumps(limits) + "\n")
    for name, data in valid_cases.cases():
        stored(HERE / "valid" / f"{name}.igs", data)
        (HERE / "valid" / f"{name}.json").write_text(json.dumps(expectation(data)) + "\n")


if __name__ == "__main__":
    main()
