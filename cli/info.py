"""igs-info: what an .igs file says about itself, from its head alone; what its codes cost, from all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import click

from igs.cli import files, options, process
from igs.cli.console import Console, print_result, to_json
from igs.cli.options import command, option


@command(
    "igs-info",
    click.argument("source", metavar="IN"),
    option("--chunks", is_flag=True, help="List the chunks too."),
    option("--bits", is_flag=True, help="Tell what each attribute takes; reads all of the file."),
    option("--allow-partial", is_flag=True, help="Open a file that is cut short, up to its last whole level."),
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)
def info(
    source: str,
    chunks: bool,
    bits: bool,
    allow_partial: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **asked: Any,
) -> None:
    """Show the size, rate, coding and metadata of an .igs file.

    IN is an .igs file, or - for standard input.
    """
    from igs.format import bits_by_attribute, describe, describe_text, open_file

    data = files.source_data(source, asked["memory_limit"])
    with (
        files.named(files.display(source)),
        open_file(data, limits=files.limits(asked), allow_partial=allow_partial) as reader,
    ):
        spent = bits_by_attribute(reader) if bits else {}
        if as_json:
            found = {"input": source, **describe(reader, chunks=chunks)}
            if bits:
                found["bits_by_attribute"] = {name: round(value, 3) for name, value in spent.items()}
            text = to_json(found, indent=2)
        else:
            text = describe_text(reader)
            if bits:
                there = sum(level.num_gaussians for level in reader.levels[: reader.available_levels])
                text += "\n" + "\n".join(_bit_lines(spent, there))
            if chunks:
                text += "\n" + "\n".join(_chunk_lines(describe(reader, chunks=True)["chunks"]))
        if reader.partial:
            Console(quiet, verbose).warn(f"{files.display(source)}: the file is partial")
    print_result(text)


def _bit_lines(spent: dict[str, float], num_gaussians: int) -> Iterator[str]:
    yield f"  {'bits of':9}  {'bytes':>10}  {'share':>6}  per Gaussian"
    total = sum(spent.values())
    for name, bits in spent.items():
        yield f"  {name:9}  {bits / 8:10.1f}  {bits / total:6.1%}  {bits / num_gaussians:12.2f}"


def _chunk_lines(entries: list[dict[str, Any]]) -> Iterator[str]:
    several = entries[-1]["part"] > 0
    yield "  chunk" + "  part" * several + "    bytes  count  codec  box"
    for number, entry in enumerate(entries):
        box = " ".join("∞" if side is None else f"{side:g}" for side in entry["box"])
        part = f"  {entry['part']:4}" if several else ""
        yield f"{number:7}{part}  {entry['bytes']:7}  {entry['count']:5}  {entry['codec']:5}  {box}"


def main() -> NoReturn:
    process.main(info)


if __name__ == "__main__":
    main()
