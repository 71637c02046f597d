"""Speed of the encoder on a GPU, as a table with the GPU's name; kept in bench/results/gpu.json.

    python bench/gpu.py [first] [steps] [parts] [sizes] [kodak] [together] [large] [--image-gs CHECKOUT]

Without arguments everything. Times are medians between two synchronisations of the device, after runs to warm up, of
whole fits medians of three (one at 8192²); importing, starting the device and compiling stand apart, in the order in
which a first fit needs them. Exits with 5 where there is no GPU. Pictures are those beside the checkout, or in the
folder $IGS_DATA; where they are missing, the example picture, continued by its mirror images, and the rows say so.
--check runs everything on tiny pictures, to see that it works. --image-gs: a clone of the published Image-GS code,
compiled and run beside the steps (bench/published.py says what that takes, and what of it is not as published). Exits
with 1 where a section failed, or that code can't be compiled, which is seen before anything is fitted, or gave nothing;
what a section had measured by then is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from pathlib import Path
from typing import Any

import common
from common import Row
from gpu_fits import EXIT_UNSUPPORTED, Asked, why_not
from gpu_sections import SECTIONS


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="tiny pictures; only to see that it runs")
    parser.add_argument("--image-gs", type=Path, metavar="CHECKOUT", help="clone of the published code, to run beside")
    parser.add_argument("--fused-ssim", type=Path, metavar="CHECKOUT", help="clone of the SSIM that it uses")
    options = parser.parse_args()
    unknown = [s for s in options.sections if s not in SECTIONS]
    if unknown:
        parser.error(f"expected sections of {', '.join(SECTIONS)}, found {unknown[0]}")
    if options.image_gs and not (options.image_gs / "cfgs" / "default.yaml").exists():
        parser.error(f"--image-gs: expected a clone of the published code, found none in {options.image_gs}")
    if options.image_gs and options.sections and "steps" not in options.sections:
        parser.error("--image-gs: expected the section steps, beside which that code runs")
    reason = why_not()
    if reason:
        print(f"gpu: {reason}", file=sys.stderr)
        return EXIT_UNSUPPORTED
    lacking = common.cannot_compile() if options.image_gs else None
    if lacking:
        print(f"gpu: --image-gs: {lacking}", file=sys.stderr)
        return 1
    asked = Asked(options.check, options.image_gs, options.fused_ssim)
    machine: dict[str, Any] = {}
    failed = False
    for name in ["first", *(w for w in options.sections or SECTIONS if w != "first")]:
        print(f"\n{name}", flush=True)
        rows: list[Row] = []
        try:
            for row in SECTIONS[name](asked):
                rows.append(row)
                print(row, flush=True)
            machine = machine or _machine()  # while the device answers
        except Exception:  # the others' figures are worth having all the same
            traceback.print_exc()
            failed = True
        if rows and not asked.tiny:
            _keep(name, machine, rows)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    return int(failed)


def _machine() -> dict[str, Any]:
    import torch

    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, **common.machine()}


def _keep(section: str, machine: dict[str, Any], rows: list[Row]) -> None:
    entry = {"machine": machine, "date": common.today(), "rows": [dataclasses.asdict(row) for row in rows]}
    common.keep_section("gpu.json", section, entry)


if __name__ == "__main__":
    sys.exit(main())
