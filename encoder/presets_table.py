"""The presets side by side as Markdown: `python -m igs.encoder.presets_table` prints the table of docs/presets.md."""

from __future__ import annotations

import dataclasses

from igs.encoder.options import PRESETS, Recipe


def presets_table() -> str:
    """One row per field of :class:`Recipe`, one column per preset; what equals the default is left out."""
    names = list(PRESETS)
    lines = ["| field | " + " | ".join(f"`{n}`" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for field in dataclasses.fields(Recipe):
        values = [getattr(PRESETS[n], field.name) for n in names]
        cells = [_text(values[0]), *("" if v == values[0] else _text(v) for v in values[1:])]
        lines.append(f"| `{field.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(presets_table(), end="")
