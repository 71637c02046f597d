"""igs-validate: checks every byte of .igs files and prints what is wrong with them (spec §13)."""

from __future__ import annotations

from typing import Any, NoReturn

import click

from igs.cli import files, options, process
from igs.cli.console import print_result, to_json
from igs.cli.options import command
from igs.cli.process import error_object
from igs.format.errors import IgsError


@command(
    "igs-validate",
    click.argument("sources", nargs=-1, required=True, metavar="IN..."),
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)
def validate(
    sources: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: int,
    **asked: Any,
) -> int:
    """Check .igs files completely: header, index, every chunk, checksums, limits.

    Prints each finding with its code, byte offset, and what was expected and found. Exit code 3 if any file is invalid.
    IN is an .igs file, or - for standard input.
    """
    from igs.format import validate_file

    codes: set[int] = set()
    for source in sources:
        try:
            report = validate_file(files.source_data(source, asked["memory_limit"]), files.limits(asked))
        except (IgsError, OSError) as error:  # the file can't be read at all
            code, message = process.describe_error(error)
            codes.add(code)
            click.echo(f"igs-validate: {message}", err=True)
            if as_json:
                print_result(to_json(error_object(error, source)))
            continue
        codes.add(report.exit_code)
        if as_json:
            print_result(to_json({"input": source, **report.to_dict()}))
        elif not (quiet and report.valid):
            _print(files.display(source), report)
    # An invalid file is what was asked about, and outranks one that could not be read.
    return process.EXIT_INVALID if process.EXIT_INVALID in codes else max(codes)


def _print(name: str, report: Any) -> None:
    for finding in report.findings:
        where = "" if finding.offset is None else f" at byte {finding.offset}"
        print_result(f"{name}: {finding.severity}: {finding.code}{where}: {finding.message}")
    if report.valid:
        print_result(f"{name}: valid")


def main() -> NoReturn:
    process.main(validate)


if __name__ == "__main__":
    main()
