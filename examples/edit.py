"""Change the metadata of an .igs file and store its Gaussians in fewer bits, without the picture that it was made from.

    python examples/edit.py antelope.igs small.igs --title "A canyon" --dpi 300 --coarser 1.5

Prints the bytes before and after. Needs no PyTorch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from igs.encoder import requantize
from igs.format import read
from igs.format.sections import METRES_PER_INCH, phys_section


def main() -> None:
    parser = argparse.ArgumentParser(description="Change the metadata of an .igs file, and store it in fewer bits.")
    parser.add_argument("source", help="an .igs file")
    parser.add_argument("output", help="the file to write")
    parser.add_argument("--title", default="untitled", help="stored in the JSON section")
    parser.add_argument("--dpi", type=float, default=300.0, help="pixels per inch")
    parser.add_argument("--coarser", type=float, default=1.0, help="factor of the quantisers' steps, 1 to 64")
    arguments = parser.parse_args()

    before = read(arguments.source)  # a Document: everything but the Gaussians themselves is checked
    after = before.without_sections()  # the Gaussians' bytes stay as they are
    metre = arguments.dpi / METRES_PER_INCH
    after = after.with_sections({"json": json.dumps({"title": arguments.title}).encode(), **phys_section(metre, metre)})
    assert after.payloads == before.payloads
    if arguments.coarser > 1:
        after = requantize(after, coarser=arguments.coarser)
    Path(arguments.output).write_bytes(after.to_bytes())
    print(f"{len(before.to_bytes())} bytes before, {len(after.to_bytes())} after")


if __name__ == "__main__":
    main()
