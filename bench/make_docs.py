"""Fills the tables of README.md and docs/presets.md from the presets and bench/results/cpu.json.

python bench/make_docs.py
"""

from __future__ import annotations

import json
import re

import common

from igs.encoder.presets import presets_table

PAGE = common.REPO / "docs" / "presets.md"
README = common.REPO / "README.md"


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


def speed(results: dict[str, dict]) -> str:
    """The README's table: what a user of the codec would ask first."""
    lines = ["| | |", "|---|---|"]

    def add(what: str, value: str) -> None:
        lines.append(f"| {what} | {value} |")

    by_preset = {}
    for key, section in results.items():
        if key.startswith("Kodak"):
            by_preset = {row["preset"]: row for row in section["rows"]}
    if by_preset:
        mine, theirs = by_preset["default"], by_preset["image-gs"]
        add(
            f"{mine['images']} Kodak images, 3000 Gaussians, 32 bits per attribute: PSNR, MS-SSIM, time to encode",
            f"{mine['psnr']:.2f} dB, {mine['ms_ssim']:.4f}, {mine['seconds_mean']:.1f} s",
        )
        add(
            f"half of them, against `--preset image-gs` with {theirs['steps']} steps ({theirs['seconds_mean']:.1f} s)",
            f"{mine['psnr_of_every_second']:.2f} against {theirs['psnr']:.2f} dB",
        )
    for row in results["training step 2048x2048, 10K Gaussians"]["rows"]:
        if row["top_k"] == 32:
            name = {"l2": "squared error", "l2_ssim": "squared error and SSIM"}[row["loss"]]
            add(f"one training step, 2048², 10 000 Gaussians, {name}", f"{row['ms']:.0f} ms")
    wanted = (
        ("full decode 2048²", "whole picture, 2048², 10 000 Gaussians (87 KB, coded), to 8 bits, two threads"),
        ("ratio of the full decode to AVIF", "… times as long as Pillow decodes AVIF of that picture"),
        ("chunks to Gaussians, 2048², 10K, 2", "entropy decoding of that file, two threads"),
        ("10⁶ random points", "a million random points, one thread"),
        ("im.pixel", "one pixel of an open picture"),
        ("open + first pixel", "opening a file and its first pixel"),
        ("read for a 1 % region, 2048²", "bytes read for 1 % of that file's picture"),
        ("read for a pixel, 2048²", "bytes read for one pixel of it"),
        ("read for a 1 % region, 8192²", "bytes read for 1 % of an 8192² picture (1.6 MB, plain codes)"),
        ("read for a pixel, 8192²", "bytes read for one pixel of it"),
    )
    rows = results["decoder and random access"]["rows"]
    for start, text in wanted:
        row = next(r for r in rows if r["what"].startswith(start))
        add(text, f"{row['value']:.3g} {row.get('unit', '')}".strip())
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
    README.write_text(fill(README.read_text(), "speed", speed(results)))


if __name__ == "__main__":
    main()
