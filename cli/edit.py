"""igs-edit: metadata of an .igs file changed or stripped, or the file re-quantised; Gaussians are never fitted anew."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NoReturn

import click

from igs.cli import batch, files, options, process
from igs.cli.console import Console, print_result, to_json
from igs.cli.metadata import NAMES, changes
from igs.cli.options import Number, Size, command, option
from igs.format.errors import UsageError

if TYPE_CHECKING:
    from igs.format import Document

_READ = ("copy_from", "set_icc", "set_exif", "set_xmp", "set_json")
_WIDTHS = ("pos_bits", "scale_bits", "rot_bits", "feat_bits")
_REQUANTISE = ("coarser", "bpp", "size", *_WIDTHS)


def _metadata(*names: str, **kwargs: Any) -> Any:
    return option(*names, section="Metadata", **kwargs)


def _rate(*names: str, **kwargs: Any) -> Any:
    return option(*names, section="Fewer bits (one of them; bits may go together)", **kwargs)


@command(
    "igs-edit",
    click.argument("paths", nargs=-1, metavar="IN OUT | --in-place FILE..."),
    option("-o", "--output", metavar="OUT", section="Files", help="The output, instead of a second argument."),
    option("-i", "--in-place", is_flag=True, section="Files", help="Replace each FILE by the edited one."),
    option("--no-overwrite", is_flag=True, section="Files", help="Fail if OUT exists."),
    option("--force", is_flag=True, section="Files", advanced=True, help="Any name for OUT, or a terminal."),
    _metadata("--strip", is_flag=True, help="Remove all metadata, before anything is set."),
    _metadata("--remove", multiple=True, metavar="NAME", help=f"Remove {', '.join(NAMES)}, or a section by its type."),
    _metadata("--copy-from", type=options.FILE, metavar="FILE", help="Take the metadata of an image or .igs file."),
    _metadata("--set-icc", type=options.FILE, metavar="FILE", help="Set the ICC profile."),
    _metadata("--set-exif", type=options.FILE, metavar="FILE", help="Set the EXIF block."),
    _metadata("--set-xmp", type=options.FILE, metavar="FILE", help="Set the XMP packet."),
    _metadata("--set-json", type=options.FILE, metavar="FILE", help="Set the JSON object."),
    _metadata("--set-dpi", metavar="X[,Y]", help="Set the resolution, in pixels per inch."),
    _rate("--coarser", type=Number(1, 64), metavar="F", help="Make all steps F times as large."),
    _rate("--bpp", type=Number(0, open_low=True), metavar="B", help="At most so many bits per pixel."),
    _rate("--size", type=Size(1024), metavar="BYTES", help="At most so many bytes; k and M are understood."),
    _rate("--refine", is_flag=True, help="Let Gaussians make up for each other's rounding; needs PyTorch."),
    _rate("--threads", type=options.THREADS, metavar="N", advanced=True, help="CPU threads of --refine."),
    *(_rate("--" + n.replace("_", "-"), type=Number(1, 32, whole=True), metavar="N", help=text, advanced=True)
      for n, text in zip(_WIDTHS, ("Bits per coordinate, of plain codes.", "Bits per size.", "Bits per angle.",
                                   "Bits per colour channel."), strict=True)),
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)  # fmt: skip
def edit(
    paths: tuple[str, ...],
    output: str | None,
    in_place: bool,
    no_overwrite: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **asked: Any,
) -> int:
    """Change the metadata of an .igs file, or store its Gaussians in fewer bits.

    Metadata changes leave the Gaussians' bytes as they are. IN is an .igs file, or - for standard input; OUT a name
    that ends in .igs, or - for standard output.
    """
    console = Console(quiet, verbose)
    given = [name for name in _REQUANTISE if asked[name] is not None]
    if len(set(given) - set(_WIDTHS)) + bool(set(given) & set(_WIDTHS)) > 1:
        raise UsageError("--coarser, --bpp, --size and bits per code exclude each other")
    if asked["refine"] and (not given or given[0] in _WIDTHS):
        raise UsageError("--refine goes with --coarser, --bpp or --size")
    if in_place:
        if output is not None or not paths or files.PIPE in paths:
            raise UsageError("--in-place takes files, and no OUT")
        if no_overwrite:
            raise UsageError("--in-place and --no-overwrite exclude each other")
        pairs = [(path, path) for path in dict.fromkeys(paths)]
    else:
        pairs = [batch.one_pair(paths, output, "--in-place")]
        batch.check_suffix(pairs[0][1], force=force)
        files.check_terminal(pairs[0][1], force=force)
        inputs = [("", pairs[0][0]), *(("--" + n.replace("_", "-"), asked[n]) for n in _READ)]
        files.check_outputs(inputs, [("", pairs[0][1])], overwrite=not no_overwrite)
    first = process.EXIT_OK
    for source, target in pairs:
        try:
            report = _edit(source, target, not no_overwrite, given, asked, console)
        except Exception as error:
            if len(pairs) == 1:
                raise
            code, message = process.describe_error(error)
            click.echo(f"igs-edit: {message}", err=True)
            if as_json:
                print_result(to_json(process.error_object(error, source)))
            first = first or code
            continue
        if as_json:
            print_result(to_json(report), err=target == files.PIPE)
        else:
            console.note(_line(target, report))
    return first


def _edit(
    source: str, target: str, overwrite: bool, given: list[str], asked: dict[str, Any], console: Console
) -> dict[str, Any]:
    from igs.format import read

    data = files.source_data(source, asked["memory_limit"])
    with files.named(files.display(source)):
        document = before = read(data, files.limits(asked))
    wanted = changes(document, asked, console.warn)  # names the files that it reads by itself
    with files.named(files.display(source)):
        if not wanted and not given and not asked["strip"]:
            raise UsageError("nothing to change: expected --strip, --remove, --set-…, --copy-from or fewer bits")
        if asked["strip"]:
            document = document.without_sections()
        if wanted:
            document = document.with_sections(wanted)
        if given and not _is_within(document, given[0], asked):
            document = _requantised(document, given, asked, console)
    result = document.to_bytes()
    report = {"input": source, "output": target, **_report(before, document, bool(given))}
    with files.output(target, overwrite=overwrite) as out:
        out.write(result)
    return report


def _is_within(document: Document, target: str, asked: dict[str, Any]) -> bool:
    """Whether a limit of bytes is kept already: there is nothing to requantise for."""
    if target not in ("size", "bpp"):
        return False
    limit = asked["size"] if target == "size" else asked["bpp"] * document.header.width * document.header.height / 8
    return len(document.to_bytes()) <= limit


def _requantised(document: Document, given: list[str], asked: dict[str, Any], console: Console) -> Document:
    from igs.encoder.fewer_bits import requantize

    if given[0] in _WIDTHS:
        return requantize(document, widths={name: asked[name] for name in given})
    if asked["refine"]:
        from igs.cli.encode import load_encoder

        load_encoder()  # says what to install if torch is missing
    more = {"refine": asked["refine"], "threads": asked["threads"], "on_warning": console.warn}
    return requantize(document, **{given[0]: asked[given[0]]}, **more)


def _report(before: Document, after: Document, requantised: bool) -> dict[str, Any]:
    size, header = len(after.to_bytes()), after.header
    found: dict[str, Any] = {
        "width": header.width,
        "height": header.height,
        "num_gaussians": after.head.num_gaussians,
        "bytes_before": len(before.to_bytes()),
        "bytes": size,
        "bpp": 8 * size / (header.width * header.height),
        "sections": {s.type: len(s.data) for s in after.sections},
    }
    if requantised:
        found["psnr_to_input"] = _psnr(before, after)
    return found


def _psnr(before: Document, after: Document) -> float | None:
    """PSNR in dB between the two pictures as they are stored, None where they are equal."""
    from igs.decoder import open as open_image
    from igs.decoder.measure import psnr

    pictures = []
    for document in (before, after):
        with open_image(io.BytesIO(document.to_bytes()), limits=document.limits) as image:
            pictures.append(image.decode(dtype="float32", raw=True))
    return psnr(*pictures)


def _line(target: str, report: dict[str, Any]) -> str:
    sections = " ".join(report["sections"]) or "no metadata"
    name = "standard output" if target == files.PIPE else target
    line = f"{name}: {report['bytes_before']} → {report['bytes']} bytes, {report['bpp']:.3f} bpp, {sections}"
    if report.get("psnr_to_input") is not None:
        line += f", {report['psnr_to_input']:.2f} dB to the input"
    return line


def main() -> NoReturn:
    process.main(edit)


if __name__ == "__main__":
    main()
