"""igs-encode: an image file to an .igs file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
from pathlib import Path
from typing import Any, NoReturn

import click

import igs
from igs.cli import batch, files, interest, many, options, process
from igs.cli.console import Console, print_result, to_json
from igs.cli.maps import MapOptions, encode_options
from igs.cli.options import Number, Size, command, given_options, option
from igs.cli.progress import ProgressLine
from igs.cli.recipe import recipe_options, recipe_overrides
from igs.cli.watch import Watch, Wishes, words_of
from igs.encoder.options import CODECS, DEVICES, EFFORT_FACTOR, RANGES, RATES, TRANSFERS, TUNE_MS_SSIM, EncodeOptions
from igs.encoder.presets import PRESETS
from igs.format.describe import counted
from igs.format.errors import Unsupported, UsageError

_TORCH_HELP = (
    'encoding needs PyTorch: pip install "igs-codec[encoder]" '
    "(on a machine without a GPU `pip install torch==2.13.0` first: the CPU build, a fraction of the size)"
)


_RENDERED = re.compile(r"(step|growth)_\d{6,}\.png")  # what --render-… write into --render-dir
_BAR_STEPS = 10  # steps between updates of the progress bar: 100 would be seconds on a large picture


def _rate(*names: str, **kwargs: Any) -> Any:
    return option(*names, section="Rate (one of them; default -q 75)", **kwargs)


def _range(name: str) -> Number:
    """What the option of that name may be."""
    low, high = RANGES[name]
    return Number(low, high, whole=isinstance(low, int))


def _expert(*names: str, section: str = "Along the way", **kwargs: Any) -> Any:
    return option(*names, section=section, advanced=True, **kwargs)


@command(
    "igs-encode",
    click.argument("paths", nargs=-1, metavar="IN OUT | IN... -d DIR"),
    option("-o", "--output", metavar="OUT", section="Files", help="The output, instead of a second argument."),
    option(
        "-d", "--directory", metavar="DIR", section="Files", help="Encode every IN (file, glob, directory) into DIR."
    ),
    option(
        "-j",
        "--jobs",
        type=Number(1, 256, whole=True),
        default=1,
        metavar="N",
        section="Files",
        help="With -d: encode N files at a time, in processes of their own (default 1).",
    ),
    option("--no-overwrite", is_flag=True, section="Files", help="Fail if the output exists."),
    option("--force", is_flag=True, section="Files", help="Accept an OUT that doesn't end in .igs, or a terminal."),
    _rate("-n", "--num-gaussians", type=_range("num_gaussians"), metavar="N", help="Number of Gaussians."),
    _rate("--bpp", type=_range("bpp"), metavar="B", help="Bits per pixel of the file."),
    _rate("--size", type=Size(1024), metavar="BYTES", help="Bytes of the file, at most; k and M are understood."),
    _rate("--psnr", type=_range("psnr"), metavar="DB", help="PSNR of the decoded file, just met."),
    _rate(
        "-q",
        "--quality",
        type=_range("quality"),
        metavar="0-100",
        help="What a bit must be worth: more to see takes more bytes; 100 is not lossless (default: 75).",
    ),
    _rate("--strict-rate", is_flag=True, help="Exit 4 if the target is missed (default: a warning)."),
    option(
        "-e",
        "--effort",
        type=Number(min(EFFORT_FACTOR), max(EFFORT_FACTOR), whole=True),
        default=EncodeOptions.effort,
        metavar="1-9",
        section="Encoder",
        help="Higher is slower and better (default 5).",
    ),
    option(
        "--preset",
        type=click.Choice(sorted(PRESETS)),
        default="default",
        section="Encoder",
        help="Recipe to start from.",
    ),
    option(
        "--tune",
        type=click.Choice(list(TUNE_MS_SSIM)),
        section="Encoder",
        help="What the loss is for: squared error, both, or mostly structure (default: the preset's, or mixed).",
    ),
    option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        section="Encoder",
        help="Where to compute (default auto: an NVIDIA GPU if one can be used).",
    ),
    _expert(
        "--fast-nondeterministic",
        is_flag=True,
        section="Encoder",
        help="On a GPU: add up in any order, so that no two runs give the same file.",
    ),
    option(
        "--threads",
        type=_range("threads"),
        metavar="N",
        section="Encoder",
        help="CPU threads (default: all cores).",
    ),
    option(
        "--seed",
        type=_range("seed"),
        default=0,
        metavar="S",
        section="Encoder",
        help="Random seed (default 0).",
    ),
    option(
        "--transfer",
        type=click.Choice(TRANSFERS),
        default="auto",
        section="Colour",
        help="What values mean; pq, log: light above white, stored by that curve (default: these for EXR, else srgb).",
    ),
    option("--linear-light", is_flag=True, section="Colour", help="Fit and store an sRGB picture in linear light."),
    option(
        "--levels",
        type=_range("levels"),
        default=1,
        metavar="L",
        section="Encoder",
        help="Levels of quality: prefixes of the file that are pictures (default 1).",
    ),
    option(
        "--downsample",
        type=_range("downsample"),
        default=1,
        metavar="R",
        section="Encoder",
        help="Encode the picture R times smaller, to be enlarged; quality is that of the enlargement.",
    ),
    option(
        "--super-tile",
        type=_range("super_tile"),
        default=EncodeOptions.super_tile,
        metavar="SIDE",
        section="Encoder",
        help="Fit squares of SIDE pixels one after the other, to save memory (default: 4096 above 67 megapixels).",
    ),
    *interest.encode_options(),
    *encode_options(),
    *recipe_options(),
    _expert(
        "--codec",
        type=click.Choice(CODECS),
        default="zstd",
        section="Container",
        help="How chunks of plain codes are stored (coded ones have a codec of their own).",
    ),
    _expert(
        "--chunk-size",
        type=_range("chunk_size"),
        default=EncodeOptions.chunk_size,
        metavar="N",
        section="Container",
        help="Gaussians per chunk at most (default: what makes small reads smallest).",
    ),
    _expert("--no-metadata", is_flag=True, section="Container", help="Leave out ICC, EXIF, XMP and resolution."),
    _expert("--write-settings", is_flag=True, section="Container", help="Keep igs' version and these options in OUT."),
    _expert("--log", type=options.FILE, metavar="FILE", help="Write progress as JSON lines."),
    _expert(
        "--log-every",
        type=Number(1, whole=True),
        metavar="N",
        help="Steps between progress reports (default 10; with -v or --log, but no --report, a tenth of all, "
        "at most 100).",
    ),
    option(
        "--report", type=options.FILE, metavar="FILE", section="To look at", help="Write a page about the encode: HTML."
    ),
    option(
        "--film", type=options.FILE, metavar="FILE", section="To look at", help="Write the fit as it goes: .webp, .gif."
    ),
    _expert("--render-growth", is_flag=True, help="Write a picture of each growth into DIR, new Gaussians marked."),
    _expert("--render-every", type=Number(1, whole=True), metavar="N", help="Write the fit as PNG every N steps."),
    _expert("--render-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where those go."),
    _expert("--checkpoint", type=options.FILE, metavar="FILE", help="Save the state of the fit here as it goes."),
    _expert(
        "--checkpoint-every",
        type=Number(1, whole=True),
        default=500,
        metavar="N",
        help="Steps between saves (default 500).",
    ),
    _expert("--resume", type=options.FILE, metavar="FILE", help="Continue from a checkpoint."),
    options.SIZE_LIMIT,
    options.DIMENSION_LIMIT,
    options.MEMORY_LIMIT,
)
def encode(
    paths: tuple[str, ...],
    output: str | None,
    directory: str | None,
    jobs: int,
    no_overwrite: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **parameters: Any,
) -> int:
    """Encode an image, or the maps of a texture stack, as 2D Gaussians.

    IN is an image file, a directory of maps, or - for standard input; OUT is a name that ends in .igs, or - for
    standard output.
    """
    console = Console(quiet, verbose)
    given = [name for name in RATES if parameters[name] is not None]
    if len(given) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{flags} exclude each other: give one rate target")
    growth = parameters.pop("render_growth")
    if (parameters["render_every"] is None and not growth) != (parameters["render_dir"] is None):
        raise UsageError("--render-every or --render-growth, and --render-dir, need each other")
    folder = parameters["render_dir"] if growth else None
    words = words_of(given_options(click.get_current_context()))
    if parameters.pop("write_settings"):
        note = shlex.join(["igs-encode", *words])
        parameters["sections"] = {"soft": f"igs {igs.__version__}: {note}".encode(errors=files.ODD_NAMES)}
    wishes = Wishes(parameters.pop("report"), parameters.pop("film"), folder, words)
    if parameters["log_every"] is None:
        rare = (verbose or parameters["log"]) and not wishes.report
        parameters["log_every"] = EncodeOptions.log_every if rare else _BAR_STEPS
    overrides = recipe_overrides(parameters)
    if jobs > 1 and directory is None:
        raise UsageError("-j goes with -d: there is one file to encode")
    map_options = MapOptions.take(parameters)
    if map_options.transfers and parameters["transfer"] != "auto":
        raise UsageError("--transfer and --map-transfer exclude each other: the first is that of all maps")
    pairs = batch.encode_pairs(paths, output, directory, force=force, maps=bool(map_options.files))
    if len(pairs) > 1 and (wishes or any(parameters[name] for name in ("checkpoint", "resume", "render_dir", "log"))):
        raise UsageError("--checkpoint, --resume, --render-dir, --log, --report and --film take a single input")
    job = Job(
        console,
        as_json,
        overwrite=not no_overwrite,
        force=force,
        metadata=not parameters.pop("no_metadata"),
        log=parameters.pop("log"),
        wishes=wishes,
        limits={name: parameters.pop(name) for name in ("size_limit", "dimension_limit", "memory_limit")},
        maps=map_options,
        options=EncodeOptions(**parameters, overrides=overrides),
    )
    job.options.recipe().validate()
    if directory is not None:
        return many.run(job, pairs, jobs, _TORCH_HELP)
    report = job.run(*pairs[0])
    if as_json:
        print_result(to_json(report), err=report["output"] == files.PIPE)
    else:
        console.note(job.line(report))
    return process.EXIT_OK


@dataclasses.dataclass
class Job:
    """What is the same for every file of a call."""

    console: Console
    as_json: bool
    overwrite: bool
    force: bool
    metadata: bool
    log: Path | None
    wishes: Wishes
    limits: dict[str, Any]  # of load_image
    maps: MapOptions
    options: EncodeOptions

    def run(self, source: str, target: str) -> dict[str, Any]:
        """Encode one file; returns its report. Everything that can fail early is tried before the long part."""
        found: dict[str, Any] | None = None
        notes: list[str] = []
        if self.maps.is_stack(source):
            found, notes = self.maps.find(source)
            if self.wishes.film or self.wishes.growth:
                raise Unsupported("--film and pictures of growths are of single pictures, not of texture stacks")
        elif self.options.resample is not None:
            raise UsageError(f"{files.display(source)}: expected a directory of maps, or --map, with --resample")
        else:
            files.check_input(source)
        sources = [source] if found is None else [str(entry.source) for entry in found.values()]
        files.check_terminal(target, force=self.force)
        self._check_outputs(sources, target)
        self.wishes.check()
        for note in notes:
            self.console.warn(note)
        with Watch(self.wishes, self.overwrite) as watch:
            report = self._encode(source, target, watch, found)
            watch.write(source, target)  # the file itself is in its place by now
        return {"input": source or sources, "output": target, **report}

    def _check_outputs(self, sources: list[str], target: str) -> None:
        """Raise for an output that is an input or another output, or that must not be replaced."""
        o = self.options
        inputs: list[files.Named] = [("", source) for source in sources]
        inputs += [("--saliency-map", o.saliency_map), ("--saliency-network", o.saliency_network)]
        if not (o.resume and o.checkpoint and set(files.identities(o.resume)) & set(files.identities(o.checkpoint))):
            inputs.append(("--resume", o.resume))  # a fit may go on in the checkpoint that it comes from
        outputs: list[files.Named] = [("", target), ("--report", self.wishes.report), ("--film", self.wishes.film)]
        outputs += [("--log", self.log), ("--checkpoint", o.checkpoint)]
        if o.render_dir is not None:
            there = o.render_dir.glob("*.png") if o.render_dir.is_dir() else ()
            outputs += [("--render-dir", path) for path in there if _RENDERED.fullmatch(path.name)]
        files.check_outputs(inputs, outputs, overwrite=self.overwrite)

    def _encode(self, source: str, target: str, watch: Watch, maps: dict[str, Any] | None) -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            # Entered first, so that it is left last: when the progress line is gone.
            out = stack.enter_context(files.output(target, overwrite=self.overwrite))
            # Before torch, which takes seconds to load; the import itself loads none.
            from igs.encoder.loading.image import load_image

            stream: Any = source if maps is None else maps
            if source == files.PIPE:
                stream = files.read_stdin(self.limits["memory_limit"])
            label = files.display(source) or "--map"
            image = load_image(stream, name=label, resample=self.options.resample, **self.limits)
            for warning in image.warnings:
                self.console.warn(warning)
            encoder = load_encoder()
            log = stack.enter_context(files.GrowingFile(self.log)) if self.log else None
            label = Path(source).resolve().name if source not in (files.PIPE, "") else "stdin" if source else "maps"
            line = stack.enter_context(ProgressLine(self.console, label, log))

            def warn(message: str) -> None:
                line.clear()
                self.console.warn(message)

            if not self.metadata:
                image = dataclasses.replace(image, sections={})
            heard = line if line.listens else None
            options = watch.options(
                dataclasses.replace(self.options, on_progress=heard, on_warning=warn), line, stack=maps is not None
            )
            encoded = encoder(image, dataclasses.replace(options, resample=None))  # the maps are of one size by now
            line.clear()
            watch.saw(encoded, image, options)
            out.write(encoded.data)
        if "backend" in encoded.report:
            self.console.detail("{steps} steps by {backend} on {device}".format_map(encoded.report))
        return dict(encoded.report)

    def line(self, report: dict[str, Any]) -> str:
        """A report for people."""
        psnr, target = report.get("psnr"), report["output"]
        quality = "exact" if psnr is None else f"{psnr:.2f} dB"
        text = (
            f"{files.display(target) if target != files.PIPE else 'standard output'}: "
            f"{report['width']}×{report['height']}, {counted(report['num_gaussians'], 'Gaussian')}, "
            f"{report['bytes']} bytes, {report['bpp']:.3f} bpp, {quality}, {report['seconds']:.1f} s"
        )
        if "roi_psnr" in report:
            inside, rest = ("exact" if v is None else f"{v:.2f} dB" for v in (report["roi_psnr"], report["rest_psnr"]))
            text += f"\n  regions of interest: {inside}" + f", elsewhere: {rest}" * (report["roi_share"] < 1)
        parts = [" + ".join(name or "unnamed" for name in part["groups"]) for part in report.get("parts", ())]
        if len(parts) > 1:
            text += f"\n  {len(parts)} parts: " + ", ".join(parts)
        for group in report.get("groups", ()):
            own = "exact" if group["psnr"] is None else f"{group['psnr']:.2f} dB"
            text += f"\n  {group['name'] or 'unnamed'}: {counted(group['channels'], 'channel')}, {own}"
        return text


def load_encoder() -> Any:
    """``igs.encoder.encode``. Raises Unsupported, with what to install, if torch is missing or broken."""
    try:
        import torch  # noqa: F401
    except Exception as error:  # a broken installation raises OSError, RuntimeError or AttributeError just as well
        raise Unsupported(_TORCH_HELP) from error
    from igs.encoder import encode as function

    return function


def main() -> NoReturn:
    # PyTorch reads it once: large tensors lie in pages of 2 MB, if the system gives any, instead of thousands of small
    # ones, each a fault of its own. canopee (2048²), effort 2, two cores: 3 to 7 % less time, the same bytes.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    process.main(encode)


if __name__ == "__main__":
    main()
