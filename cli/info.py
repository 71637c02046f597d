"""igs-info: what an .igs file says about itself, from its head alone."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from igs.cli import common, files
from igs.cli.common import Console, command, option, to_json


@command(
    "igs-info",
    click.argument("source", metavar="IN"),
    option("--allow-partial", is_flag=True, help="Open a file that is cut short, up to its last whole level."),
    common.SIZE_LIMIT,
    common.DIMENSION_LIMIT,
    common.MEMORY_LIMIT,
)
def info(
    source: str,
    allow_partial: bool,
    size_limit: int,
    dimension_limit: int,
    memory_limit: int,
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Show the size, rate, coding and metadata of an .igs file.

    IN is an .igs file, or - for standard input.
    """
    from igs.format import Limits, describe, open_file

    data: Any = source
    if source == files.PIPE:
        data = files.read_stdin(memory_limit)
    else:
        files.check_input(source)
    limits = Limits(pixels=size_limit, side=dimension_limit)
    with (
        common.named(files.display(source)),
        open_file(data, limits=limits, allow_partial=allow_partial) as reader,
    ):
        found = {"input": source, **describe(reader)}
    if as_json:
        click.echo(to_json(found, indent=2))
        return
    if found.get("partial"):
        Console(quiet, verbose).warn(f"{files.display(source)}: the file is partial")
    click.echo("\n".join(_lines(found)))


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    """A nested object as indented ``key: value`` lines, in its own order."""
    lines: list[str] = []
    width = max((len(key) for key in found), default=0)
    for key, value in found.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                lines += [f"{indent}{key} {number}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return " ".join(_text(item) for item in value) or "–"
    return str(value) or "–"


def main() -> NoReturn:
    common.main(info)


if __name__ == "__main__":
    main()
