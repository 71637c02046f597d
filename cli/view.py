"""igs-view: pictures of what the Gaussians of a file do; maps of a source picture; the curve of an encode log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click

from igs.cli import batch, files, options, process
from igs.cli.console import Console, print_result, to_json
from igs.cli.options import Number, Numbers, command, given_options, option
from igs.cli.output import FORMATS, check_format, format_of, write_image
from igs.encoder.options import RANGES, check_saliency
from igs.encoder.recipe import Saliency
from igs.format.errors import InputError, InvalidFile, UsageError
from igs.format.fields import MAGIC

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from igs.format import Group
    from igs.view import Scene
    from igs.view.scene import F32

OF_A_FILE = ("ellipses", "ids", "density", "error", "levels", "zoom", "chunks", "overview")
OF_A_PICTURE = ("gradient", "saliency")
OF_A_LOG = ("convergence",)
# The kinds that an option has a meaning for; one that isn't here has it for all.
_DRAWN = (*OF_A_FILE, *OF_A_PICTURE)
_MEANT: dict[str, tuple[str, ...]] = {
    "against": ("error", "levels", "zoom", "overview"),
    "region": OF_A_FILE,
    "scale": OF_A_FILE,
    "beside": ("ellipses", "ids", "density", "error", "chunks", *OF_A_PICTURE),
    "bare": _DRAWN,
    "level": tuple(kind for kind in OF_A_FILE if kind != "levels"),
    "group": OF_A_FILE,
    "sample": ("ellipses", "overview"),
    "seed": ("ellipses", "overview"),
    "deviations": ("ellipses", "overview"),
    "on": ("ellipses", "overview"),
    "unit": ("error", "overview"),
    "top": ("density", "error", "overview", *OF_A_PICTURE),
    "saliency": ("saliency",),
    "saliency_network": ("saliency",),
    "allow_partial": _DRAWN,
}
_COUNT = Number(*RANGES["num_gaussians"], whole=True)


def _look(*names: str, **kwargs: Any) -> Any:
    return option(*names, section="What to show", **kwargs)


@command(
    "igs-view",
    click.argument("paths", nargs=-1, metavar="IN OUT"),
    option("-o", "--output", metavar="OUT", section="Files", help="The output, instead of a second argument."),
    option("--no-overwrite", is_flag=True, section="Files", help="Fail if the output exists."),
    option("--force", is_flag=True, section="Files", advanced=True, help="Write image data to a terminal."),
    _look(
        "-k",
        "--kind",
        type=click.Choice([*OF_A_FILE, *OF_A_PICTURE, *OF_A_LOG]),
        default="ellipses",
        help="ellipses (default), ids, density, error, levels, zoom, chunks or overview of an .igs file; gradient or "
        "saliency of a picture; convergence of an encode log.",
    ),
    _look(
        "--against",
        metavar="FILE",
        help="The original picture, or a directory of maps: needed by error, used by levels, zoom and overview.",
    ),
    _look("--region", type=Numbers("X,Y,W,H"), metavar="X,Y,W,H", help="Only this rectangle, in pixels."),
    _look("--scale", type=Number(0, 4096, open_low=True), metavar="S", help="Output pixels per pixel (default: fits)."),
    _look("--beside", is_flag=True, help="The decoded picture beside it."),
    _look("--bare", is_flag=True, help="No titles, no paper: the picture alone."),
    _look("--level", type=options.LEVEL, metavar="L", help="Up to this quality level (default: all)."),
    _look("--group", metavar="NAME", help="Show this channel group (default: the first)."),
    _look("--sample", type=_COUNT, metavar="N", help="Draw N of the ellipses (default: all)."),
    _look("--seed", type=Number(*RANGES["seed"], whole=True), default=0, metavar="S", help="Which N (default 0)."),
    _look(
        "--deviations",
        type=Number(0, 32, open_low=True),
        default=1.0,
        metavar="D",
        help="Ellipses end at D standard deviations (default 1).",
    ),
    _look(
        "--on",
        type=click.Choice(["paper", "picture", "black"]),
        default="paper",
        help="What ellipses lie on (default paper).",
    ),
    _look(
        "--unit",
        type=click.Choice(["8-bit", "db"]),
        default="8-bit",
        help="Errors in steps of 8-bit values (default) or as local PSNR in dB.",
    ),
    _look(
        "--saliency",
        type=click.Choice(get_args(Saliency)),
        default="spectral-residual",
        help="Which map of saliency: what stands out as a whole (default), or in detail; or by the network EML-Net.",
    ),
    _look(
        "--saliency-network",
        type=options.FILE,
        metavar="FILE",
        help="Weights of EML-Net, .safetensors: needed by --saliency eml-net.",
    ),
    _look("--max", "top", type=Number(0, open_low=True), metavar="X", help="Upper end of the colour scale."),
    _look("--allow-partial", is_flag=True, help="Open a file that is cut short, up to its last whole level."),
    options.DECODER_THREADS,
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)
def view(
    paths: tuple[str, ...], output: str | None, quiet: bool, verbose: int, as_json: bool, kind: str, **asked: Any
) -> None:
    """Show what the Gaussians of an .igs file do, as a picture.

    IN is an .igs file; for gradient and saliency a picture (or an .igs file); for convergence a log of
    igs-encode --log. OUT ends in .png .webp .jpg .tiff .avif .ppm or .npy; for convergence also in .svg or .pdf.
    """
    started = time.perf_counter()
    console = Console(quiet, verbose)
    source, target = batch.one_pair(paths, output)
    for name, words in given_options(click.get_current_context()).items():
        if kind not in _MEANT.get(name, (kind,)):
            raise UsageError(f"{words[0]}: has no meaning for {kind}")
    check_saliency(asked["saliency"], asked["saliency_network"])
    files.check_input(source)
    files.check_terminal(target, force=asked["force"])
    inputs: list[files.Named] = [("", source), ("--saliency-network", asked["saliency_network"])]
    inputs += [("--against", path) for path in _against(asked["against"]).values()]
    files.check_outputs(inputs, [("", target)], overwrite=not asked["no_overwrite"])
    if kind in OF_A_LOG:
        found: dict[str, Any] = _plot(source, target, asked)
    else:
        format_ = format_of(target, None, {f.name: f for f in FORMATS.values() if 8 in f.depths}, also="")
        check_format(format_, "RGB", 3, 1, 1, depth=8)
        if kind in OF_A_PICTURE:
            sheet = _map_of(source, kind, asked)
        else:
            sheet = _sheet_of(source, kind, asked, console)
        check_format(format_, "RGB", 3, sheet.width, sheet.height, depth=8)
        with files.output(target, overwrite=not asked["no_overwrite"]) as out:
            import numpy as np

            write_image(out, np.asarray(sheet), format_, "RGB", {})
        found = {"width": sheet.width, "height": sheet.height}
    report = {"input": source, "output": target, "kind": kind, **found, "seconds": time.perf_counter() - started}
    if as_json:
        print_result(to_json(report), err=target == files.PIPE)
    console.detail(f"{files.display(target)}: {kind}, {report['seconds']:.2f} s")


def _read(source: str, asked: dict[str, Any]) -> Any:
    return files.read_stdin(asked["memory_limit"]) if source == files.PIPE else source


def _limits(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: asked[name] for name in ("size_limit", "dimension_limit", "memory_limit")}


def _is_file(data: Any) -> bool:
    if isinstance(data, bytes):
        return data.startswith(MAGIC)
    with open(data, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _open(data: Any, source: str, asked: dict[str, Any], console: Console | None = None) -> Scene:
    from igs.view import Scene

    with files.named(files.display(source)):
        try:
            scene = Scene(data, files.limits(asked), asked["threads"], asked["allow_partial"], asked["group"])
        except InvalidFile as error:
            if error.code == "E_SIGNATURE":
                kinds = " and ".join(f"-k {kind}" for kind in OF_A_PICTURE)
                error.args = (f"{error} (pictures by themselves are for {kinds})",)
            raise
    if console is not None and scene.reader.partial:
        console.warn(f"{files.display(source)}: the file is partial; shown as far as it goes")
    return scene


def _sheet_of(source: str, kind: str, asked: dict[str, Any], console: Console) -> Pillow.Image:
    from igs.view.kinds import Options, draw

    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(_open(_read(source, asked), source, asked, console))
        original = None if asked["against"] is None else _original(scene, asked)
        stack.enter_context(files.named(files.display(source)))
        names = ("region", "scale", "level", "sample", "seed", "deviations", "on", "beside", "unit", "top", "bare")
        options = Options(source=original, **{name: asked[name] for name in names})
        options.check(scene)
        needed = options.memory(scene, kind)
        if needed > asked["memory_limit"]:
            raise UsageError(
                f"this needs about {needed / 2**30:.1f} GiB, the limit is "
                f"{asked['memory_limit'] / 2**30:.1f} GiB: take a --region or a smaller --scale"
            )
        return draw(kind, scene, options)


def _against(path: str | None) -> dict[str, Path]:
    """The files of --against: the maps of a directory by name, or one picture without. InputError if there are none."""
    if path is None:
        return {}
    if Path(path).is_dir():
        from igs.encoder.loading.stack import find_maps

        return find_maps(Path(path))[0]
    files.check_input(path)
    return {"": Path(path)}


def _original(scene: Scene, asked: dict[str, Any]) -> F32:
    """The picture to compare with, [H, W, C]: all channels in the file's order, or those of the group asked for."""
    from igs.encoder.loading.image import load_image

    found, group = _against(asked["against"]), asked["group"]
    alone = "" in found
    if alone:
        loaded = load_image(asked["against"], **_limits(asked)).pixels
        if group is None or loaded.shape[2] == scene.header.channels:
            return loaded
        found = {group: found[""]}
    names = [g.name for g in scene.groups] if group is None else [group]
    if not set(names) <= set(found):
        have = ", ".join(found)
        raise InputError(f"{asked['against']}: expected maps {', '.join(n or 'unnamed' for n in names)}, found {have}")
    # Maps of one size are left as they are by the first; the second is what those of a stack were given at the encode.
    sizes = ["largest"] if alone else ["largest", f"{scene.width}x{scene.height}"]
    for size in sizes:
        loaded = load_image({name: found[name] for name in names}, resample=size, **_limits(asked)).pixels
        if scene.times(loaded):
            break
    return loaded


def _map_of(source: str, kind: str, asked: dict[str, Any]) -> Pillow.Image:
    """Gradient or saliency, as the encoder draws first positions from them."""
    import numpy as np

    from igs.encoder.fitting import init, saliency
    from igs.encoder.loading.image import load_image
    from igs.view.kinds import map_sheet

    data = _read(source, asked)
    groups: Sequence[Group]
    if _is_file(data):
        with _open(data, source, asked) as scene:
            pixels, groups = np.asarray(scene.image.decode(dtype="float32")), scene.groups
            shown = scene.picture()
    else:
        from igs.decoder.output import visible

        loaded = load_image(data, name=files.display(source), **_limits(asked))
        pixels, groups, shown = loaded.pixels, loaded.groups, visible(loaded.pixels, loaded.groups)
    name = asked["saliency"]
    if kind == "gradient":
        values = init.gradient_map(pixels)
    else:
        values = saliency.map_of(name, pixels, groups, asked["saliency_network"])
    return map_sheet(kind, values, shown, asked["top"], beside=asked["beside"], bare=asked["bare"], name=name)


def _plot(source: str, target: str, asked: dict[str, Any]) -> dict[str, Any]:
    from igs.view.log import read_log
    from igs.view.plot import formats, plot_convergence

    suffix = "png" if target == files.PIPE else target.rpartition(".")[2].lower()
    if suffix not in formats():
        raise UsageError(f"{target}: expected a suffix of {' '.join('.' + f for f in formats())}")
    data = _read(source, asked)
    entries = read_log(data, files.display(source))
    image = plot_convergence(entries, suffix)
    with files.output(target, overwrite=not asked["no_overwrite"]) as out:
        out.write(image)
    return {"entries": len(entries)}


def main() -> NoReturn:
    process.main(view)


if __name__ == "__main__":
    main()
