"""Fills the tables of docs/presets.md from the presets and from bench/results/cpu.json: `python bench/make_docs.py`."""

from __future__ import annotations

import json
import re

import common

from igs.encoder.presets_table import presets_table

PAGE = common.REPO / "docs" / "presets.md"


def efforts(rows: list[dict]) -> str:
    lines = ["| `-e` | steps | PSNR dB | seconds |", "|---|---|---|---|"]
    lines += [f"| {r['effort']} | {r['steps']} | {r['psnr']:.2f} | {r['seconds']:.1f} |" for r in rows]
    return "\n".join(lines) + "\n"


def ablation(tables: dict[str, list[dict]]) -> str:
    names = list(tables)
    lines = ["| row | " + " | ".join(f"`{n}`" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for rows in zip(*tables.values(), strict=True):
        lines.append(f"| {rows[0]['row']} | " + " | ".join(f"{r['psnr']:.2f}" for r in rows) + " |")
    return "\n".join(lines) + "\n"


def fill(text: str, name: str, table: str) -> str:
    """The page with what follows ``<!-- name -->``, up to the next empty line pair, replaced."""
    return re.sub(rf"(<!-- {name} -->\n)(\|.*\n)*", lambda m: m.group(1) + table, text)


def main() -> None:
    text = fill(PAGE.read_text(), "presets", presets_table())
    results = json.loads((common.RESULTS / "cpu.json").read_text())
    for key, section in results.items():
        if key.startswith("efforts"):
            text = fill(text, "efforts", efforts(section["rows"]))
    tables = {
        preset: section["rows"]
        for preset in ("default", "image-gs")
        for key, section in results.items()
        if key.startswith(f"ablation, preset {preset},")
    }
    if tables:
        text = fill(text, "ablation", ablation(tables))
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
