"""A file with fewer bits per Gaussian: its Gaussians on a coarser lattice, or in narrower codes. No fit, no source.

Size, groups, levels, parts and metadata stay, and so does every Gaussian but with ``refine``; steps grow together,
which keeps the balance that the encoder chose (spec §6.4), also between the parts of a file. Where a Gaussian no longer
reaches a point that only it reached, it grows. Without torch, but for ``refine``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igs.encoder import closing
from igs.encoder.options import RANGES
from igs.encoder.recipe import check_truth, is_number, plain
from igs.format import (
    Blend,
    Codec,
    Document,
    Gaussians,
    Header,
    LevelMode,
    Quantizer,
    QuantizerKind,
    ScaleMap,
    Shape,
    dequantize,
    join,
    open_file,
    quantize,
    read,
    split,
    write,
)
from igs.format import lattice as la
from igs.format.describe import without_level_psnr
from igs.format.errors import UsageError, teller
from igs.format.fields import MEAN_UNIT
from igs.format.lattice_models import best_record
from igs.format.threads import thread_count

if TYPE_CHECKING:
    from igs.encoder.refine import Refiner

F64 = NDArray[np.float64]
Codes = NDArray[np.uint32]
Values = tuple[F64, F64, F64, F64]  # position, scale, rotation, feature: what format.quantize takes

WIDTHS = {"pos_bits": "position", "scale_bits": "scale", "rot_bits": "rotation", "feat_bits": "feature"}
COARSEST = 64.0
_TRIALS = 12  # halvings of the range of steps, in the logarithm: to within 0.1 %
_FINE = 0.99  # of the bytes asked for: near enough
_NOTCH = math.log(2) / 32
_FLOATS = (QuantizerKind.FLOAT16, QuantizerKind.FLOAT32)
_FLOATS_STAY = "floats keep their width; --pos-bits, --scale-bits, --rot-bits and --feat-bits make codes of them"
_SLOPE = 3.3  # of the logarithm of the steps by the logarithm of the bytes, as in rate control


def requantize(
    source: Any,
    *,
    coarser: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    widths: Mapping[str, int] | None = None,
    refine: bool = False,
    threads: int | None = None,
    seed: int = 0,
    on_warning: Callable[[str], None] | None = None,
) -> Document:
    """A document with the same Gaussians in fewer bits.

    source: a path, bytes, a file, or a :class:`igs.format.Document`; not partial. One of:
    coarser: factor 1–64 of all steps of a lattice; of plain codes log2 of it, rounded down, is the number of bits that
    each loses (of kinds uniform and affine, no fewer than one is left; floats and codebooks stay). Of a file of several
    parts it is the factor of each, also where a size asks for it.
    bpp, size: the finest such steps with which the file has at most so many bits per pixel, or bytes.
    widths: bits per code by attribute, ``pos_bits scale_bits rot_bits feat_bits``, of plain codes only.
    refine: Gaussians take their codes in rounds while the others make up for it, so as to keep the file's own picture;
    with bpp or size those that count least are left out. Seconds instead of tenths, and needs torch; of files of one
    level with a lattice. threads, seed (0 to 2⁶³ − 1): for that; the same ones give the same bytes.
    on_warning: is told where a factor above 1 makes no step larger and no code narrower, or the file is larger; None:
    IgsWarning.
    Raises UsageError where none of these is given or they make no sense for the file, InvalidFile for a damaged one.
    """
    coarser, bpp, size, widths, seed = _checked(coarser, bpp, size, widths, seed)
    check_truth("refine", refine)
    threads = None if threads is None else thread_count(threads)
    document = source if isinstance(source, Document) else read(source)
    asked = {"coarser": coarser, "bpp": bpp, "size": size, "widths": widths or None}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise UsageError(f"expected one of coarser, bpp, size and widths, found {' and '.join(given) or 'none'}")
    if document.partial:
        raise UsageError("expected a whole file, found a partial one: its missing levels can't be requantised")
    job = _Job(document)
    if refine:
        levels = len(document.head.level_chunks)
        found = "plain codes" if document.header.lattice is None else f"{levels} levels" if levels > 1 else None
        if found is not None or widths is not None:
            found = found or "widths"
            raise UsageError(f"refine: expected a file of one level with a lattice, and no widths, found {found}")
        job.refine(threads, seed)
    if coarser is not None:
        if not 1 <= coarser <= COARSEST:
            raise UsageError(f"coarser: expected 1 to {COARSEST:g}, found {coarser}")
        headers, warn = job.coarser(coarser), teller(on_warning)
        data = job.file(headers)
        if coarser > 1 and headers == [part.header for part in job.parts]:
            warn(f"nothing became coarser: {job.why_none(coarser)}")
        elif len(data) > job.size:  # where all Gaussians are alike, making up for rounding costs bits
            warn(f"the file became larger: it had {job.size} bytes, now {len(data)}")
        return read(data, document.limits)
    if widths is not None:
        return read(job.file(job.narrower(widths)), document.limits)
    pixels = document.header.width * document.header.height
    limit = size if size is not None else bpp * pixels / 8 if bpp is not None else 0
    return read(job.within(limit), document.limits)


def _checked(
    coarser: Any, bpp: Any, size: Any, widths: Any, seed: Any
) -> tuple[float | None, float | None, int | None, dict[str, int] | None, int]:
    """The arguments as Python's own numbers. Raises UsageError for what is none, or no seed."""
    for name, value, whole in (("coarser", coarser, False), ("bpp", bpp, False), ("size", size, True)):
        if value is not None and not (is_number(value, whole) and 0 < value < math.inf):
            raise UsageError(f"{name}: expected a {'whole ' * whole}number above 0, found {value!r}")
    if widths is not None and not isinstance(widths, Mapping):
        raise UsageError(f"widths: expected bits by attribute, found {widths!r}")
    for name, bits in (widths or {}).items():
        if not is_number(bits, whole=True):
            raise UsageError(f"{name}: expected a whole number of bits, found {bits!r}")
    low, high = RANGES["seed"]
    if not (is_number(seed, whole=True) and low <= seed <= high):
        raise UsageError(f"seed: expected a whole number of {low} to {high}, found {seed!r}")
    plain_widths = None if widths is None else {name: int(bits) for name, bits in widths.items()}
    return plain(coarser, (float,)), plain(bpp, (float,)), plain(size, (int,)), plain_widths, int(seed)


class _Job:
    """A document whose parts take other quantisers, each by itself, and are one file again."""

    def __init__(self, document: Document) -> None:
        data = document.to_bytes()
        self.size = len(data)
        # What is tried on the way may be beyond them; the file that comes out is read with the limits as they are.
        self.limits = dataclasses.replace(document.limits, reach_ratio=math.inf, gaussians_per_byte=math.inf)
        self.sections = without_level_psnr(document.section_data())
        self.parts = [_Part(read(one, document.limits)) for one in split(data, document.limits)]
        self.order = [part.groups for part in document.head.parts]

    def refine(self, threads: int | None, seed: int) -> None:
        """From now on Gaussians make up for each other's rounding."""
        from igs.encoder.refine import Refiner

        for part in self.parts:
            part.refiner = Refiner(part.document, part.values[0], threads, seed)

    def coarser(self, factor: float) -> list[Header]:
        """The parts' headers with all steps that many times as large."""
        return [part.coarser(factor) for part in self.parts]

    def narrower(self, widths: Mapping[str, int]) -> list[Header]:
        """The parts' headers with these bits per code."""
        return [part.narrower(widths) for part in self.parts]

    def why_none(self, factor: float) -> str:
        """Why such a factor changes no step and no width of this file."""
        return "; ".join(dict.fromkeys(part.why_none(factor) for part in self.parts))

    def file(self, headers: Sequence[Header], close: bool = True) -> bytes:
        """The bytes of the file with the quantisers of these headers, one for each part. close: as for a part."""
        if len(self.parts) == 1:
            return self.parts[0].file(headers[0], close, self.sections)
        files = [part.file(header, close) for part, header in zip(self.parts, headers, strict=True)]
        return join(files, self.order, self.sections, self.limits)

    def within(self, limit: float) -> bytes:
        """The file with the finest steps, all coarser by one factor, that has at most ``limit`` bytes."""
        if self.size <= limit:
            raise UsageError(f"expected fewer than the {self.size} bytes that the file has, found {limit:.0f}")
        for part in self.parts:
            if part.refiner is not None:
                part.values = [part.refiner.keep(limit / self.size)]
        low, high = 0.0, math.log(COARSEST)
        for _ in range(_TRIALS):
            at = (low + high) / 2
            size = len(self.file(self.coarser(math.exp(at)), close=False))
            low, high = (at, high) if size > limit else (low, at)
            if _FINE * limit < size <= limit:
                break
        while True:  # closing holes, or refining, changes sizes by little
            data = self.file(self.coarser(math.exp(high)))
            if len(data) <= limit:
                return data
            if high >= math.log(COARSEST):
                raise UsageError(self._smallest(len(data), limit))
            high = min(high + max(_NOTCH, _SLOPE * (len(data) / limit - 1)), math.log(COARSEST))

    def _smallest(self, size: int, limit: float) -> str:
        """What to say of a limit below the file with the largest steps. Of plain codes widths may go below that."""
        header, hint = self.parts[0].header, ""  # parts have quantisers of the same kinds
        if any(quantizer.kind in _FLOATS for quantizer in header.quantizers):
            hint = f" ({_FLOATS_STAY})"
        steps = f" with steps {COARSEST:g} times as large" if header.lattice is None else ""
        return f"expected {size} bytes or more, the smallest of this file{steps}, found {limit:.0f}{hint}"


class _Part:
    """The Gaussians of a document of one part as numbers, level by level."""

    def __init__(self, document: Document) -> None:
        self.document, self.header = document, document.header
        self.codec = Codec(int(document.entries["codec"].max()))
        with open_file(document.to_bytes(), document.limits) as file:
            self.levels = [
                np.concatenate([file.codes(c) for c in range(x.first_chunk, x.first_chunk + x.num_chunks)])
                for x in file.levels
            ]
        self.values = [values_of(self.header, codes) for codes in self.levels]
        self.before = [dequantize(self.header, codes) for codes in self.levels]
        self.refiner: Refiner | None = None

    def coarser(self, factor: float) -> Header:
        """The header with all steps that many times as large."""
        header = self.header
        if header.lattice is None:
            lost = math.floor(math.log2(factor))
            parts: dict[str, Any] = {n: _narrower(getattr(header, n), -lost) for n in WIDTHS.values()}
            return dataclasses.replace(header, **parts)
        # Step codes are eighths of an octave. One attribute after the other takes the next, so that rates lie closer.
        names = ("position", "minor", "ratio", "rotation")
        codes = [*(getattr(header.lattice, n) for n in names), *header.lattice.feature]
        eighths = 8 * math.log2(factor)
        steps = [max(0, code - math.floor(eighths + i / len(codes) + 1e-9)) for i, code in enumerate(codes)]
        lattice = dataclasses.replace(header.lattice, **dict(zip(names, steps, strict=False)), feature=tuple(steps[4:]))
        return dataclasses.replace(header, lattice=lattice)

    def why_none(self, factor: float) -> str:
        """Why such a factor changes no step and no width of this file."""
        lattice = self.header.lattice
        if lattice is not None:
            steps = (lattice.position, lattice.minor, lattice.ratio, lattice.rotation, *lattice.feature)
            return "steps grow by eighths of an octave" if any(steps) else "all steps are as large as they can be"
        kinds = {quantizer.kind for quantizer in self.header.quantizers}
        why = []
        if kinds & {QuantizerKind.UNIFORM, QuantizerKind.AFFINE}:
            narrow = "codes have one bit each already"
            why.append("codes lose whole bits, the first at a factor of 2" if factor < 2 else narrow)
        if QuantizerKind.CODEBOOK in kinds:
            why.append("codebooks stay as they are")
        if kinds & {*_FLOATS}:
            why.append(_FLOATS_STAY)
        return "; ".join(why)

    def narrower(self, widths: Mapping[str, int]) -> Header:
        """The header with these bits per code."""
        if self.header.lattice is not None:
            raise UsageError("widths: expected plain codes, found a lattice, which has steps: ask for coarser")
        changed: dict[str, Any] = {}
        for name, bits in widths.items():
            if name not in WIDTHS:
                raise UsageError(f"widths: expected {', '.join(WIDTHS)}, found {name!r}")
            quantizer: Quantizer = getattr(self.header, WIDTHS[name])
            if quantizer.kind == QuantizerKind.CODEBOOK or not 1 <= bits <= quantizer.bits:
                kind = quantizer.kind.name.lower()
                raise UsageError(f"{name}: expected 1 to the {quantizer.bits} of the file ({kind}), found {bits}")
            if quantizer.kind in _FLOATS and bits < quantizer.bits:
                changed[WIDTHS[name]] = self._ranged(WIDTHS[name], bits)
            else:
                changed[WIDTHS[name]] = _narrower(quantizer, bits - quantizer.bits)
        return dataclasses.replace(self.header, **changed)

    def _ranged(self, attribute: str, bits: int) -> Quantizer:
        """Codes over the range of values that were floats."""
        column = list(WIDTHS.values()).index(attribute)
        values = np.concatenate([level[column] for level in self.values])
        if attribute == "rotation" and self.header.shape == Shape.SCALE_ROTATION:
            return Quantizer.uniform(0.0, 1 - 2.0**-bits, bits)
        return Quantizer.uniform(values.min(axis=0), values.max(axis=0), bits)

    def file(self, header: Header, close: bool = True, sections: Mapping[str, bytes] | None = None) -> bytes:
        """The bytes of the file with that header's quantisers. close: refined, and holes that this tears closed."""
        values = self.values if self.refiner is None or not close else [self.refiner.rounded(header)]
        values = [_inside(header, v) for v in values]
        codes = [quantize(header, *v) for v in values]
        if close and header.blend == Blend.TOPK:
            codes = self._without_holes(header, values, codes)
        if header.lattice is not None:
            every, ends = np.concatenate(codes), np.cumsum([len(c) for c in codes]).tolist()
            best = best_record(header, every, dequantize(header, every), ends)
            header = dataclasses.replace(header, lattice=best)
        return write(header, codes, codec=self.codec, sections=sections)

    def _without_holes(self, header: Header, values: list[Values], codes: list[Codes]) -> list[Codes]:
        """Grow Gaussians until all points of the picture that some reached before are reached again, at every level."""
        if header.level_mode != LevelMode.UNION:
            return [_closed(header, v, before) for v, before in zip(values, self.before, strict=True)]
        values, ends = list(values), np.cumsum([len(c) for c in codes])
        for level in range(len(values)):  # each is drawn with those before it
            merged: Any = tuple(np.concatenate(parts) for parts in zip(*values[: level + 1], strict=True))
            closed = _closed(header, merged, Gaussians.concatenate(self.before[: level + 1]))
            codes[: level + 1] = np.split(closed, ends[:level])
            if not np.array_equal(closed, quantize(header, *merged)):
                values[: level + 1] = [values_of(header, c) for c in codes[: level + 1]]
        return codes


def _closed(header: Header, values: Values, before: Gaussians) -> Codes:
    """Codes of values that reach what those before did."""

    def rounded() -> closing.Rounded:
        codes = quantize(header, *values)
        return header, codes, dequantize(header, codes)

    def close(gaussians: Gaussians, points: F64) -> None:
        nonlocal values
        values = _grown(header, values, closing.growth(gaussians, points, header.reach2))

    return closing.closed(rounded, close, header.reach2, before=before)[1]


def _grown(header: Header, values: Values, factor: F64) -> Values:
    """Values with the deviations that many times as large, factor [n]."""
    position, scale, rotation, feature = values
    by = factor[:, None]
    if header.shape == Shape.COVARIANCE:
        return position, scale * by**2, rotation * by**2, feature
    if header.shape == Shape.CHOLESKY:
        return position, scale * by, rotation * by, feature
    grow: dict[ScaleMap, Callable[[], F64]] = {
        ScaleMap.RAW: lambda: scale * by,
        ScaleMap.INVERSE: lambda: scale / by,
        ScaleMap.LOG2: lambda: scale + np.log2(by),
    }
    return position, grow[header.scale_map](), rotation, feature


def values_of(header: Header, codes: Codes) -> Values:
    """What codes stand for, in the columns that ``quantize`` takes."""
    if header.lattice is None:
        edges = np.cumsum([q.code_columns for q in header.quantizers])[:-1]
        parts = np.split(codes, edges, axis=1)
        position, scale, rotation, feature = (q.decode(part) for q, part in zip(header.quantizers, parts, strict=True))
        return position, scale, rotation, feature
    part = la.shapes(header.lattice, codes)
    gaussians = dequantize(header, codes)
    scale = np.stack([part.log1, part.log2], axis=1)
    feature = la.feature_values(header.lattice, codes, part.gain, header.rgb_groups)
    return gaussians.means.astype(np.float64) * MEAN_UNIT, scale, part.turn[:, None], feature


def _inside(header: Header, values: Values) -> Values:
    """Means within the room that a lattice's chunks have (spec §5.3), whatever rounding does."""
    if header.lattice is None:
        return values
    size = np.array([header.width, header.height], np.float64)
    position = values[0].copy()
    for shrink in (1.0, 0.75, 0.5, 0.25, 0.0):
        codes = quantize(header, position, *values[1:])
        out = closing.out_of_room(dequantize(header, codes), size)
        if not out.any():
            break
        centre = size / 2
        position[out] = centre + np.clip(position[out] - centre, -1.5 * size * shrink, 1.5 * size * shrink)
    return position, *values[1:]


def _narrower(quantizer: Quantizer, change: int) -> Quantizer:
    """The quantiser with ``change`` (≤ 0) more bits over the same range; floats and codebooks stay."""
    bits = max(1, quantizer.bits + change)
    if quantizer.kind == QuantizerKind.UNIFORM:
        if quantizer.lo == (0.0,) and quantizer.hi == (1 - 2.0**-quantizer.bits,):  # a circle, whose ends are one
            return Quantizer.uniform(0.0, 1 - 2.0**-bits, bits, quantizer.shared)
        return dataclasses.replace(quantizer, bits=bits)
    if quantizer.kind == QuantizerKind.AFFINE:
        wider = np.array(quantizer.step) * 2.0 ** (quantizer.bits - bits)
        return Quantizer.affine(quantizer.offset, wider, bits, shared=quantizer.shared, columns=quantizer.columns)
    return quantizer
