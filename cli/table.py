"""The summary of many encodes as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_NAME = 44  # characters: the end of a long path, which tells more than its beginning
_HEAD = ("file", "pixels", "Gaussians", "bytes", "bpp", "PSNR dB", "MS-SSIM", "s")


def table(reports: Sequence[dict[str, Any]]) -> str:
    """One row per report, in order, failed ones with their message, and a last row for all that are done.

    The last row's bpp is of all bytes over all pixels; its PSNR and MS-SSIM are means over the files that have one.
    """
    done = [report for report in reports if "error" not in report]
    rows = [_HEAD, *(_row(report) for report in reports)]
    if len(done) > 1:
        rows.append(_total(done))
    widths = [max(len(row[c]) for row in rows if len(row) > 2) for c in range(len(_HEAD))]
    widths[0] = max(len(row[0]) for row in rows)
    lines = []
    for row in rows:
        if len(row) == 2:  # a failure
            lines.append(f"{row[0]:<{widths[0]}}  {row[1]}")
            continue
        numbers = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *numbers]))
    failed = len(reports) - len(done)
    summary = f"{len(done)} encoded" + (f", {failed} failed" if failed else "")
    return "\n".join([*lines, summary])


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    name = str(report["input"])
    name = name if len(name) <= _NAME else "…" + name[1 - _NAME :]
    if "error" in report:
        message = str(report["error"])
        return name, "failed: " + message.removeprefix(f"{report['input']}: ")
    return (
        name,
        f"{report['width']}×{report['height']}",
        str(report["num_gaussians"]),
        str(report["bytes"]),
        f"{report['bpp']:.3f}",
        "exact" if report.get("psnr") is None else f"{report['psnr']:.2f}",
        _ssim(report.get("ms_ssim")),
        f"{report['seconds']:.1f}",
    )


def _total(done: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    size = sum(report["bytes"] for report in done)
    pixels = sum(report["width"] * report["height"] for report in done)
    psnr, ssim = ([report[key] for report in done if report.get(key) is not None] for key in ("psnr", "ms_ssim"))
    return (
        f"all {len(done)}",
        "",
        str(sum(report["num_gaussians"] for report in done)),
        str(size),
        f"{8 * size / pixels:.3f}",
        f"{sum(psnr) / len(psnr):.2f}" if psnr else "",
        _ssim(sum(ssim) / len(ssim) if ssim else None),
        f"{sum(report['seconds'] for report in done):.1f}",
    )


def _ssim(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
