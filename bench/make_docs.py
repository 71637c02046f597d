"""Fills the tables of README.md, docs/speed.md and docs/presets.md from the presets and bench/results/cpu.json.

python bench/make_docs.py
"""

from __future__ import annotations

import json
import re

import common

from igs.encoder.presets import presets_table
from igs.encoder.rate import quality_to_bpp

PAGE = common.REPO / "docs" / "presets.md"
README = common.REPO / "README.md"
SPEED = common.REPO / "docs" / "speed.md"
SIZES = {"kodim07": "768 × 512", "canopee": "2048²"}


def efforts(rows: list[dict]) -> str:
    lines = ["| `-e` | steps | PSNR dB | seconds |", "|---|---|---|---|"]
    lines += [f"| {r['effort']} | {r['steps']} | {r['psnr']:.3f} | {r['seconds']:.1f} |" for r in rows]
    return "\n".join(lines) + "\n"


def qualities(rows: list[dict]) -> str:
    lines = ["| `-q` | r(q), bpp | mean bpp | mean PSNR dB |", "|---|---|---|---|"]
    for r in rows:
        bpp = f"{r['bpp']:.3f} ({r['bpp_least']:.3f} to {r['bpp_most']:.3f})"
        psnr = f"{r['psnr']:.2f} ({r['psnr_least']:.2f} to {r['psnr_most']:.2f})"
        lines.append(f"| {r['quality']} | {quality_to_bpp(r['quality']):.3f} | {bpp} | {psnr} |")
    return "\n".join(lines) + "\n"


def ablation(tables: dict[str, list[dict]]) -> str:
    names = list(tables)
    lines = ["| row | " + " | ".join(f"`{n}`" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for rows in zip(*tables.values(), strict=True):
        lines.append(f"| {rows[0]['row']} | " + " | ".join(f"{r['psnr']:.2f}" for r in rows) + " |")
    return "\n".join(lines) + "\n"


def _decoder_rows(results: dict[str, dict]) -> list[dict]:
    return list(results["decoder and random access"]["rows"])


def _row(rows: list[dict], start: str) -> dict:
    return next(row for row in rows if row["what"].startswith(start))


def first_figures(results: dict[str, dict]) -> str:
    """The README's table: what a user would ask first."""
    lines, rows = ["| | | |", "|---|---|---|"], _decoder_rows(results)
    for row in results["whole encodes, default effort"]["rows"]:
        what = f"`igs-encode` of {row['picture']} ({SIZES[row['picture']]}) at {row['bpp']:g} bpp, the whole process"
        lines.append(
            f"| {what} | {row['seconds']:.0f} s | {row['times_avif']:.0f} × the time of Pillow's AVIF, speed 4 |"
        )

    def value(start: str) -> str:
        row = _row(rows, start)
        return f"{row['value']:.2g} {row.get('unit', '')}".strip()

    size = _bytes(_row(rows, "chunks to Gaussians, 2048²")["note"].partition(", ")[2])
    for what, start, peer, of in (
        (
            f"whole picture, 2048², 10 000 Gaussians ({size})",
            "full decode 2048²",
            "ratio of the full decode to AVIF",
            "of Pillow's AVIF decoder",
        ),
        (
            "a new file and its first pixel",
            "the same, coded file",
            "",
            "",
        ),
        (
            "a million random points of an open picture, one thread",
            "10⁶ random points",
            "ratio of the random points",
            "of SciPy's bilinear samples of decoded pixels",
        ),
        ("one pixel of an open picture", "im.pixel", "", ""),
        ("bytes read for one pixel of an 8192² picture", "read for a pixel, 8192²", "", ""),
        ("`igs-decode` of a Kodak picture to PNG, the whole process", "igs-decode of a Kodak", "", ""),
    ):
        lines.append(f"| {what} | {value(start)} | {f'{value(peer)} the time {of}' if peer else ''} |")
    return "\n".join(lines) + "\n"


def speed(results: dict[str, dict]) -> str:
    """The table of docs/speed.md."""
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
    steps = results["training step 2048x2048, 10K Gaussians"]["rows"]
    for loss, name in (("l2", "squared error"), ("l2_ssim", "squared error and SSIM")):
        ms = {row["top_k"]: f"{row['ms']:.0f} ms" for row in steps if row["loss"] == loss}
        what = f"one training step, 2048², 10 000 Gaussians, {name}: K = 32, the default, and K = 10"
        add(what, f"{ms[32]}, {ms[10]}")
    for key, section in results.items():
        if key.startswith("convergence"):
            mine = [row for row in section["rows"] if row["preset"] == "default"]
            names = " and ".join(row["image"] for row in mine)
            add(
                f"steps to 95 % of the final PSNR, 3000 Gaussians, {names} (aim: 400)",
                " and ".join(str(row["steps_95%"]) for row in mine),
            )
        if key.startswith("peak memory of the encoder"):
            add(
                "peak memory of an encode of 2048², 10 000 Gaussians, squared error; and with SSIM",
                " and ".join(f"{row['peak_MiB']:.0f} MiB" for row in section["rows"]),
            )
        if key.startswith("without compiled kernels"):
            kernels, plain = section["rows"]
            add(
                f"kodim07, 3000 Gaussians, in plain PyTorch, as without a compiler, {plain['steps']} steps: whole"
                f" process, PSNR, peak memory (with the kernels {kernels['steps']} steps in {kernels['seconds']:.1f} s,"
                f" {kernels['psnr']:.2f} dB)",
                f"{plain['seconds']:.0f} s, {plain['psnr']:.2f} dB, {plain['peak_MiB']:.0f} MiB",
            )
    rows = _decoder_rows(results)
    size = _bytes(_row(rows, "chunks to Gaussians, 2048²")["note"].partition(", ")[2])
    wanted = (
        ("full decode 2048²", f"whole picture, 2048², 10 000 Gaussians ({size}, coded), to 8 bits, two threads"),
        ("ratio of the full decode to AVIF", "… times as long as Pillow decodes AVIF of that picture"),
        ("operations per decoded pixel, mean", "operations per decoded pixel of that file (aim: 300), mean"),
        ("operations per decoded pixel, 99th", "… 99th percentile"),
        ("chunks to Gaussians, 2048², 10K, 2", "entropy decoding of that file, two threads"),
        ("10⁶ random points", "a million random points, one thread"),
        ("ratio of the random points", "… times as long as SciPy samples the decoded picture there, bilinearly"),
        ("im.pixel", "one pixel of an open picture"),
        ("open + first pixel", "opening a new file of {note} and its first pixel"),
        ("ratio of the first pixel to AVIF", "… times as long as Pillow opens and decodes AVIF of that picture"),
        ("stream of Kodak files", "Kodak pictures of 3000 Gaussians in a stream of files, to 8 bits, two threads"),
        ("igs-decode of a Kodak file", "`igs-decode` of a Kodak file to PNG, whole process, later runs"),
        ("ratio of igs-decode", "… times as long as a Python that imports NumPy"),
        ("peak memory, decode 2048²", "peak memory of a decode of 2048², the whole process"),
        ("read for a 1 % region, 2048²", "bytes read for 1 % of the coded file's picture"),
        ("read for a pixel, 2048²", "bytes read for one pixel of it"),
        ("read for a 1 % region, 8192²", "bytes read for 1 % of an 8192² picture (1.6 MB, plain codes)"),
        ("read for a pixel, 8192²", "bytes read for one pixel of it"),
    )
    for start, text in wanted:
        row = next((r for r in rows if r["what"].startswith(start)), None)
        if row is not None:
            value = f"{row['value']:.0f}" if row["value"] >= 1000 else f"{row['value']:.3g}"
            add(text.format(note=_bytes(row.get("note", ""))), f"{value} {row.get('unit', '')}".strip())
    return "\n".join(lines) + "\n"


def _bytes(note: str) -> str:
    """``87033 bytes`` as ``87 KB``."""
    return re.sub(r"^(\d+) bytes", lambda m: f"{int(m.group(1)) / 1000:.0f} KB", note)


def convergence(rows: list[dict]) -> str:
    lines = [
        "| preset | picture | PSNR reached | steps to 95 % | seconds | steps to 99 % | seconds |",
        "|---" * 7 + "|",
    ]
    for r in rows:
        cells = [f"`{r['preset']}`", r["image"], f"{r['final_psnr']:.2f} dB"]
        for share in ("95%", "99%"):
            cells += [str(r[f"steps_{share}"]), f"{r[f'seconds_{share}']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
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
        if key.startswith("qualities"):
            text = fill(text, "qualities", qualities(section["rows"]))
        if key.startswith("convergence"):
            text = fill(text, "convergence", convergence(section["rows"]))
    tables = {
        preset: section["rows"]
        for preset in ("default", "image-gs")
        for key, section in results.items()
        if key.startswith(f"ablation, preset {preset},")
    }
    if tables:
        text = fill(text, "ablation", ablation(tables))
    PAGE.write_text(text)
    SPEED.write_text(fill(SPEED.read_text(), "speed", speed(results)))
    text = fill(README.read_text(), "speed", first_figures(results))
    README.write_text(text)


if __name__ == "__main__":
    main()
