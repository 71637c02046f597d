"""What igs-encode takes about regions of interest and saliency."""

from __future__ import annotations

import math
from typing import Any

import click

from igs.cli.options import FILE, Decorator, Number, option
from igs.encoder.options import RANGES, ROI_WEIGHT

_FORM = "X,Y,W,H[:WEIGHT]"


class Roi(click.ParamType):
    """A rectangle in whole pixels and its weight; whether it lies in the picture is the encoder's to say."""

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        place, sign, weight = str(value).partition(":")
        try:
            x, y, w, h = (int(part) for part in place.split(","))
            number = float(weight) if sign else ROI_WEIGHT
            if not math.isfinite(number):
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"expected whole pixels and perhaps a weight as {_FORM}, found {value!r}", param, ctx)
        return x, y, w, h, number


def encode_options() -> list[Decorator]:
    """The options of igs-encode that say what counts more."""
    return [
        option(
            "--roi",
            type=Roi(),
            metavar=_FORM,
            multiple=True,
            default=(),
            section="What counts more",
            help=f"A rectangle whose errors count WEIGHT times (default {ROI_WEIGHT:g}); repeat.",
        ),
        option(
            "--saliency-map",
            type=FILE,
            metavar="FILE",
            section="What counts more",
            help="Image to draw the first positions from, instead of the map of --saliency.",
        ),
        option(
            "--saliency-network",
            type=FILE,
            metavar="FILE",
            section="What counts more",
            advanced=True,
            help="Weights of the network EML-Net, .safetensors: needed by --saliency eml-net.",
        ),
        option(
            "--saliency-weight",
            type=Number(*RANGES["saliency_weight"]),
            default=0.0,
            metavar="W",
            section="What counts more",
            help="Errors count 1 + W·saliency times, 0 to 1000 (default 0).",
        ),
    ]
