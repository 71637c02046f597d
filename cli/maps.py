"""Texture stacks at the command line: which maps igs-encode takes, and igs-decode into a directory, a file per map."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from igs.cli import files
from igs.cli.console import Console
from igs.cli.light import CLIPPED, for_format
from igs.cli.options import Decorator, option
from igs.cli.output import FORMATS, Format, check_format, choose_depth, to_host, write_image
from igs.format.errors import OutputError, UsageError
from igs.format.groups import each_group, layout_of
from igs.format.whole_file import whole_file

if TYPE_CHECKING:
    from igs.decoder import Image
    from igs.encoder.loading.stack import TextureMap
    from igs.format import Group

_NOTHING = ""  # IN of a call that names all its maps
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # files that Windows can't have
_NAME_BYTES = 64  # the format's own limit; here of a name that was made safe


class PartsOption(click.ParamType):
    """auto, one, each, or names: maps of a part with + between them, parts with commas."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or value in ("auto", "one", "each"):
            return value
        parts = tuple(tuple(name.strip() for name in part.split("+")) for part in value.split(","))
        if not all(name for part in parts for name in part):
            self.fail(f"expected auto, one, each or NAME+NAME,NAME…, found {value!r}", param, ctx)
        return parts


class NameValue(click.ParamType):
    """NAME=VALUE; both sides must be there."""

    name = "name=value"

    def __init__(self, form: str) -> None:
        self.form = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, sign, rest = str(value).partition("=")
        if not (sign and name and rest):
            self.fail(f"expected {self.form}, found {value!r}", param, ctx)
        return name, rest


def _pairs(flag: str, form: str, text: str, **kwargs: Any) -> Decorator:
    section = "Texture stacks"
    return option(flag, type=NameValue(form), metavar=form, multiple=True, section=section, help=text, **kwargs)


def encode_options() -> list[Decorator]:
    """The options of igs-encode that are about maps."""
    return [
        _pairs("--map", "NAME=FILE", "A map of a texture stack; repeat. Adds to IN where that is a directory of maps."),
        option(
            "--resample",
            metavar="SIZE",
            section="Texture stacks",
            help="Make maps one size: largest, smallest or WxH (default: refuse different ones).",
        ),
        option(
            "--parts",
            type=PartsOption(),
            default="auto",
            metavar="HOW",
            section="Texture stacks",
            help="Which maps share Gaussians: auto (looked for), one (all), each (none), or NAME+NAME,NAME… "
            "(default auto: with a size, --bpp or -q, from effort 3 on).",
        ),
        _pairs("--map-weight", "NAME=X", "Weight of a map's squared error in the loss (default 1).", advanced=True),
        _pairs(
            "--map-transfer",
            "NAME=T",
            "A map's transfer: srgb, linear, pq or log (default: by its name).",
            advanced=True,
        ),
        _pairs("--map-depth", "NAME=BITS", "Bits of a decoded map, 8, 16 or 32 (default: the file's).", advanced=True),
    ]


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """What a call of igs-encode says about maps."""

    files: dict[str, str]
    weights: dict[str, str]
    transfers: dict[str, str]
    depths: dict[str, str]

    @classmethod
    def take(cls, parameters: dict[str, Any]) -> MapOptions:
        """Take the options out of a command's parameters. Raises UsageError for a name given twice."""
        return cls(*(_unique(f"--{n}", parameters.pop(n.replace("-", "_"))) for n in _FLAGS))

    @property
    def given(self) -> bool:
        return any((self.files, self.weights, self.transfers, self.depths))

    def is_stack(self, source: str) -> bool:
        """Whether an input is a texture stack. Raises UsageError for options that say so of what is none."""
        if source == _NOTHING and not self.files:
            raise UsageError("IN: expected the name of a file, found an empty one")
        if self.files or (source != files.PIPE and Path(source).is_dir()):
            return True
        if self.given:
            raise UsageError(f"{files.display(source)}: expected a directory of maps, or --map, with --map-… options")
        return False

    def find(self, source: str) -> tuple[dict[str, TextureMap], list[str]]:
        """The maps by name, and remarks. Files that can't be read are an InputError."""
        from igs.encoder.loading.stack import TextureMap, find_maps

        found: dict[str, Path] = {}
        notes: list[str] = []
        if source != _NOTHING:
            if not Path(source).is_dir():
                raise UsageError(f"{files.display(source)}: expected a directory of maps beside --map, or no IN")
            found, notes = find_maps(Path(source), self.files, " (-d DIR encodes each file by itself)")
        maps = {name: TextureMap(path) for name, path in (found | self.files).items()}
        for flag, values in (("weight", self.weights), ("transfer", self.transfers), ("depth", self.depths)):
            for name in values.keys() - maps.keys():
                raise UsageError(f"--map-{flag}: expected one of {', '.join(maps)}, found {name!r}")
        for name, entry in maps.items():
            files.check_input(str(entry.source))
            maps[name] = dataclasses.replace(
                entry,
                weight=_number("weight", self.weights.get(name, "1")),
                transfer=self.transfers.get(name),
                bit_depth=_depth(self.depths[name]) if name in self.depths else None,
            )
        return maps, notes


_FLAGS = ("map", "map-weight", "map-transfer", "map-depth")


def _unique(flag: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{flag}: expected each name once, found {name!r} again")
        found[name] = value
    return found


def _number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--map-{flag}: expected a number, found {text!r}") from None


def _depth(text: str) -> int:
    if text not in ("8", "16", "32"):
        raise UsageError(f"--map-depth: expected 8, 16 or 32, found {text!r}")
    return int(text)


# -- decoding


def is_directory(target: str) -> bool:
    """Whether an output is a directory, there already or by its name."""
    return target != files.PIPE and (target.endswith(("/", os.sep)) or Path(target).is_dir())


def file_names(groups: Sequence[Group], stem: str) -> list[str]:
    """A file name without suffix for each group: its own, made safe; stem for one without.

    A file is untrusted: names with path separators, dots or reserved words must not leave the directory.
    """
    taken: set[str] = set()
    names = []
    for group in groups:
        name = re.sub(r"[^\w -]", "_", group.name).strip(" _")[:_NAME_BYTES] or stem
        if _RESERVED.fullmatch(name):
            name += "_"
        base, number = name, 2
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def map_format(group: Group, name: str | None) -> Format:
    """The format asked for, or PNG where it holds such a map whole, otherwise NPY."""
    if name is not None:
        return FORMATS[name]
    fits = layout_of((group,)) in FORMATS["png"].layouts and group.bit_depth in FORMATS["png"].depths
    return FORMATS["png" if fits else "npy"]


@dataclasses.dataclass
class Written:
    """One map's file, for the report."""

    name: str
    output: str
    format: str
    channels: int
    bit_depth: int


def decode_maps(
    image: Image,
    source: str,
    target: str,
    stem: str,
    region: tuple[float, float, float, float],
    scale: float,
    asked: dict[str, Any],
    sections: Mapping[str, bytes],
    console: Console,
) -> dict[str, Any]:
    """Write every group, or those asked for, into a directory; returns the report's fields.

    stem: of the file of a group without a name. sections: metadata for every file. Everything that can be refused is
    refused before the first is written.
    """
    from igs.decoder.grid import output_size

    start = time.perf_counter()
    chosen, _ = image.groups.select(asked["group"] or range(len(image.groups)))
    wanted = None if asked["bit_depth"] is None else int(asked["bit_depth"])
    _, _, w, h = region
    columns, rows = output_size(w, scale), output_size(h, scale)
    plans = []
    for group, name in zip(chosen, file_names(chosen, stem), strict=True):
        format_ = map_format(group, asked["format_name"])
        layout = layout_of((group,))
        if asked["raw"] and format_.name == "exr":
            layout = "N"  # stored values are no light
        check_format(format_, layout, group.channels, columns, rows)
        depth = choose_depth(format_, group.bit_depth, wanted)
        plans.append((group, format_, layout, depth, Path(target) / (name + format_.suffixes[0])))
    outputs = [("", path) for *_, path in plans]
    files.check_outputs([("", source)], outputs, overwrite=not asked["no_overwrite"])
    found = image.region(
        *region, scale=scale, dtype="float32", level=asked["level"], raw=asked["raw"],
        groups=[group.name for group in chosen], renormalize=asked["renormalize"],
    )  # fmt: skip
    values = to_host(found)
    try:
        Path(target).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror or error}") from error
    written = []
    for (_, channels, *_), (group, format_, layout, depth, path) in zip(each_group(chosen), plans, strict=True):
        part = values[..., channels].copy()
        pixels, clipped = for_format(part, (group,), depth, format_.name, asked["raw"])
        if clipped:
            console.warn(f"{path.name}: " + CLIPPED.format(clipped))
        with whole_file(path, overwrite=not asked["no_overwrite"]) as out:
            notes = write_image(out, pixels, format_, layout, sections)
        for note in notes:
            (console.warn if "ICC" in note else console.detail)(note)
        written.append(Written(group.name, str(path), format_.name, group.channels, depth))
    return {
        "width": values.shape[1],
        "height": values.shape[0],
        "channels": values.shape[2],
        "maps": [dataclasses.asdict(w) for w in written],
        "partial": image.partial,
        "bytes_read": image.bytes_read,
        "seconds": time.perf_counter() - start,
    }
