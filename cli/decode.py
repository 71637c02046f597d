"""igs-decode: an .igs file, or a part of it at any scale, to an image file; or the value of one pixel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from igs.cli import batch, files, maps, options, process
from igs.cli.console import Console, print_result, to_json
from igs.cli.light import CLIPPED, dtype_for, for_format
from igs.cli.options import Number, Numbers, command, option
from igs.cli.output import FORMATS, check_format, choose_depth, format_of, to_host, write_image
from igs.format.describe import counted
from igs.format.errors import InvalidFile, Unsupported, UsageError
from igs.format.groups import layout_of

if TYPE_CHECKING:
    from igs.decoder import Image
    from igs.format import Group


def _part(*names: str, **kwargs: Any) -> Any:
    return option(*names, section="What to decode", **kwargs)


@command(
    "igs-decode",
    click.argument("paths", nargs=-1, metavar="IN [OUT]"),
    option("-o", "--output", metavar="OUT", section="Files", help="The output, instead of a second argument."),
    option(
        "--format",
        "format_name",
        type=click.Choice(list(FORMATS)),
        section="Files",
        help="Output format (default: OUT's suffix; PNG for -).",
    ),
    option(
        "--bit-depth",
        type=click.Choice(["8", "16", "32"]),
        section="Files",
        help="Bits per channel (default: the source's, as far as the format goes); 32 is float.",
    ),
    option("--no-overwrite", is_flag=True, section="Files", help="Fail if the output exists."),
    option(
        "--no-metadata", is_flag=True, section="Files", advanced=True, help="Leave out ICC, EXIF, XMP and resolution."
    ),
    option("--force", is_flag=True, section="Files", advanced=True, help="Write image data to a terminal."),
    _part(
        "--scale", type=Number(0, 65536, open_low=True), metavar="S", help="Output pixels per pixel; below 1 averages."
    ),
    _part("--width", type=Number(1, 2**31, whole=True), metavar="W", help="Output width; the height follows."),
    _part("--height", type=Number(1, 2**31, whole=True), metavar="H", help="Output height; the width follows."),
    _part(
        "--region", type=Numbers("X,Y,W,H"), metavar="X,Y,W,H", help="Only this rectangle, in pixels of the picture."
    ),
    _part("--pixel", type=Numbers("X,Y", whole=True), metavar="X,Y", help="Print the value of one pixel; no OUT."),
    _part("--level", type=options.LEVEL, metavar="L", help="Up to this quality level (default: all)."),
    _part("--group", multiple=True, metavar="NAME", help="Only this channel group; repeat for several."),
    _part("--renormalize", is_flag=True, help="Give the vectors of normal maps the length 1."),
    _part("--raw", is_flag=True, advanced=True, help="Stored values: premultiplied alpha, gamma not applied."),
    _part("--allow-partial", is_flag=True, help="Open a file that is cut short, up to its last whole level."),
    option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        section="Decoder",
        help="Where to compute (default auto: the CPU, where one picture is done before a GPU has started).",
    ),
    options.DECODER_THREADS,
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)
def decode(
    paths: tuple[str, ...], output: str | None, quiet: bool, verbose: int, as_json: bool, device: str, **asked: Any
) -> None:
    """Decode an .igs file, or a part of it, to an image.

    IN is an .igs file, or - for standard input; OUT ends in .png .ppm .pgm .pnm .tiff .exr .npy .jpg .webp or .avif, or
    is - for standard output, or is a directory, which gets a file for each channel group.
    """
    console = Console(quiet, verbose)
    asked["device"] = _check_device(device)
    sizes = [name for name in ("scale", "width", "height") if asked[name] is not None]
    if len(sizes) > 1:
        raise UsageError(f"--{sizes[0]} and --{sizes[1]} exclude each other")
    if asked["pixel"] is not None:
        others = [*sizes, *(name for name in ("region", "format_name", "bit_depth") if asked[name] is not None)]
        if others:
            raise UsageError(f"--pixel and --{others[0].replace('_name', '').replace('_', '-')} exclude each other")
        if output is not None or len(paths) != 1:
            raise UsageError("--pixel prints a value: expected IN and no OUT")
        _pixel(paths[0], console, as_json, asked)
    else:
        source, target = batch.one_pair(paths, output)
        _decode(source, target, console, as_json, sizes, asked)


def _check_device(device: str) -> str:
    if device != "cuda":
        return "cpu"
    from igs.decoder import cuda

    missing = cuda.why_not()
    if missing is not None:
        raise Unsupported(f"--device cuda: {missing}")
    return device


def _open(source: str, console: Console, asked: dict[str, Any]) -> Image:
    from igs.decoder import open as open_image

    data = files.source_data(source, asked["memory_limit"])
    with files.named(files.display(source)):
        image = open_image(
            data,
            limits=files.limits(asked),
            threads=asked["threads"],
            allow_partial=asked["allow_partial"],
            device=asked["device"],
        )
    if image.partial:
        console.warn(f"{files.display(source)}: the file is partial; decoded from what is there")
    return image


def _pixel(source: str, console: Console, as_json: bool, asked: dict[str, Any]) -> None:
    column, row = asked["pixel"]
    with _open(source, console, asked) as image, files.named(files.display(source)):
        if not (0 <= column < image.width and 0 <= row < image.height):
            raise UsageError(f"--pixel {column},{row} is outside the picture of {image.width}×{image.height}")
        level, raw, groups = asked["level"], asked["raw"], asked["group"] or None
        if asked["renormalize"]:
            found = image.region(column, row, 1, 1, 1.0, "float32", level, raw, groups, renormalize=True)
            value = to_host(found)[0, 0]
        elif level is None and not raw and not groups and image.device == "cpu":
            value = image.pixel(column, row)
        else:
            value = to_host(image.sample([[column + 0.5, row + 0.5]], level=level, raw=raw, groups=groups))[0]
        if as_json:
            report = {"x": column, "y": row, "value": [float(v) for v in value], "bytes_read": image.bytes_read}
            print_result(to_json(report | _computed(image)))
        else:
            print_result(" ".join(f"{float(v):.6g}" for v in value))


def _decode(source: str, target: str, console: Console, as_json: bool, sizes: list[str], asked: dict[str, Any]) -> None:
    if maps.is_directory(target):
        _decode_maps(source, target, console, as_json, sizes, asked)
        return
    from igs.decoder.grid import output_size

    start = time.perf_counter()
    format_ = format_of(target, asked["format_name"])
    files.check_terminal(target, force=asked["force"])
    files.check_outputs([("", source)], [("", target)], overwrite=not asked["no_overwrite"])
    with _open(source, console, asked) as image, files.named(files.display(source)):
        x, y, w, h = asked["region"] or (0, 0, image.width, image.height)
        scale = _scale(sizes, asked, w, h)
        wanted = None if asked["bit_depth"] is None else int(asked["bit_depth"])
        groups, _ = image.groups.select(asked["group"] or range(len(image.groups)))
        channels = sum(group.channels for group in groups)
        depth = choose_depth(format_, max(group.bit_depth for group in groups), wanted)
        layout = layout_of(groups)
        if asked["raw"] and format_.name == "exr":
            layout = "N"  # stored values are no light, and alpha is in them already
        if w > 0 and h > 0:  # the decoder says what is wrong with other regions
            columns, rows = output_size(w, scale), output_size(h, scale)
            try:
                check_format(format_, layout, channels, columns, rows)
            except Unsupported as error:
                if len(groups) > 1:
                    error.args = (
                        f"{error}; a directory as OUT gets a file for each group, --group NAME is one of them",
                    )
                raise
            _check_memory(columns * rows * channels * (4 + depth // 8), asked["memory_limit"])
        with files.output(target, overwrite=not asked["no_overwrite"]) as out:
            pixels = _pixels(image, (x, y, w, h, scale), depth, format_.name, groups, asked, console)
            sections = {} if asked["no_metadata"] else _sections(image, console)
            notes = write_image(out, pixels, format_, layout, sections)
        for note in notes:
            (console.warn if "ICC" in note else console.detail)(note)
        report = {
            "input": source,
            "output": target,
            "format": format_.name,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "channels": pixels.shape[2],
            "bit_depth": depth,
            "partial": image.partial,
            "bytes_read": image.bytes_read,
            **_computed(image),
            "seconds": time.perf_counter() - start,
        }
    if as_json:
        print_result(to_json(report), err=target == files.PIPE)
    console.detail(
        f"{target}: {report['width']}×{report['height']}, {counted(report['channels'], 'channel')} of {depth} bits, "
        + _spent(report)
    )


def _decode_maps(
    source: str, target: str, console: Console, as_json: bool, sizes: list[str], asked: dict[str, Any]
) -> None:
    with _open(source, console, asked) as image, files.named(files.display(source)):
        region = asked["region"] or (0, 0, image.width, image.height)
        scale = _scale(sizes, asked, region[2], region[3])
        samples = max(1.0, region[2] * scale) * max(1.0, region[3] * scale)
        _check_memory(int(samples) * image.channels * 8, asked["memory_limit"])
        stem = "image" if source == files.PIPE else Path(source).stem
        kept = len(image.groups) == 1 and not asked["no_metadata"]  # that of a picture; maps of a stack have none
        sections = _sections(image, console) if kept else {}
        fields = maps.decode_maps(image, source, target, stem, region, scale, asked, sections, console)
        report: dict[str, Any] = {"input": source, "output": target, **fields, **_computed(image)}
    if as_json:
        print_result(to_json(report))
    for written in report["maps"]:
        console.detail(f"{written['output']}: {counted(written['channels'], 'channel')} of {written['bit_depth']} bits")
    console.detail(_spent(report))


def _pixels(
    image: Image, region: Any, depth: int, name: str, groups: Sequence[Group], asked: dict[str, Any], console: Console
) -> Any:
    """The values to write."""
    raw = asked["raw"]
    x, y, w, h, scale = region
    dtype = dtype_for(groups, depth, name, raw)
    found = image.region(x, y, w, h, scale, dtype, asked["level"], raw, asked["group"] or None, asked["renormalize"])
    pixels, clipped = for_format(to_host(found), groups, depth, name, raw)
    if clipped:
        console.warn(CLIPPED.format(clipped))
    return pixels


def _computed(image: Image) -> dict[str, str]:
    """Where and by what, for reports."""
    return {"device": image.device, "backend": image.backend}


def _spent(report: dict[str, Any]) -> str:
    """What a decode took, in words."""
    where = "the CPU"
    if report["device"] != "cpu":
        from igs.decoder import cuda

        where = f"CUDA, {cuda.name()}"
    return f"{report['bytes_read']} bytes read, {report['seconds']:.2f} s by {report['backend']} on {where}"


def _scale(sizes: list[str], asked: dict[str, Any], w: float, h: float) -> float:
    match sizes:
        case ["scale"]:
            return float(asked["scale"])
        case ["width"]:
            return float(asked["width"] / w) if w > 0 else 1.0
        case ["height"]:
            return float(asked["height"] / h) if h > 0 else 1.0
    return 1.0


def size_text(number: int) -> str:
    """Bytes in the largest unit of which there is one."""
    power = max(0, min(3, (number.bit_length() - 1) // 10))
    return f"{number / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def _check_memory(needed: int, limit: int) -> None:
    if needed > limit:
        raise UsageError(
            f"the output needs {size_text(needed)}, the limit is {size_text(limit)}: "
            "take a --region or a smaller --scale, or raise --memory-limit"
        )


def _sections(image: Image, console: Console) -> dict[str, bytes]:
    """What an output can hold of the metadata; what is damaged is told of and left out (spec §13)."""
    found: dict[str, bytes] = {}
    for key in ("iccp", "exif", "xmpd", "phys"):
        try:
            if key in image.metadata:
                found[key] = bytes(image.metadata[key])
        except InvalidFile as error:
            console.warn(f"{error}; left out")
    return found


def main() -> NoReturn:
    process.main(decode)


if __name__ == "__main__":
    main()
