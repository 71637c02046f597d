"""A file in words: a dictionary whose keys are the specification's field names, and the same as text for people.

Reads the head (and, if asked for chunks, the index); decodes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from igs.format.errors import InvalidFile, UsageError
from igs.format.fields import DRAFT, VERSION, Codec, QuantizerKind
from igs.format.header import ATTRIBUTES, Header
from igs.format.index_reader import Extent
from igs.format.lattice import FAMILIES, Lattice, ValueModel, step_value
from igs.format.parts import Part
from igs.format.quantize import Quantizer
from igs.format.reader import FileReader
from igs.format.sections import INLINE, resolution_per_inch

_LEVEL_PSNR = "level_psnr"  # in the section json
_PARAMETERS = ("lo", "hi", "offset", "step")  # of quantisers


def _number(value: float, kind: type[np.floating[Any]] = np.float32) -> float | int | None:
    """A field of that kind as the shortest number that rounds to it; None for infinity, which JSON lacks."""
    if math.isinf(value):
        return None
    short = float(str(kind(value)))
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _quantizer(q: Quantizer) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": q.kind.name.lower(), "bits": q.bits, "shared": q.shared, "stages": q.stages}
    for name in _PARAMETERS:
        values = [_number(v) for v in getattr(q, name)]
        if values:
            fields[name] = values[:1] if q.shared else values
    if q.kind == QuantizerKind.CODEBOOK:
        fields["rows"] = 2**q.bits
    return fields


def _lattice(lattice: Lattice) -> dict[str, Any]:
    fields = dataclasses.asdict(lattice)
    fields["minor_model"] = _model(lattice.minor_model)
    fields["feature_models"] = [_model(m) for m in lattice.feature_models]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _model(model: ValueModel) -> dict[str, Any]:
    return model._asdict() | {"family": FAMILIES[model.family]}


def _coding(header: Header) -> dict[str, Any]:
    """The quantisers, and the record of a lattice."""
    fields: dict[str, Any] = {name: _quantizer(getattr(header, name)) for name in ATTRIBUTES}
    return fields if header.lattice is None else fields | {"lattice": _lattice(header.lattice)}


def _form(quantizer: Quantizer) -> dict[str, Any]:
    """Of a quantiser what the parts of a file have in common: all but its parameters."""
    return {name: value for name, value in _quantizer(quantizer).items() if name not in _PARAMETERS}


def bits_per_gaussian(file: FileReader) -> float:
    """Of the codes, the mean of several parts; of a lattice, whose codes have no width, what they took on average."""
    head = file.head
    extents = [file.part_extent(part) for part in file.parts]
    if head.header.lattice is not None or len(extents) == 1:
        everything = Extent(0, head.num_gaussians, head.level_ends[-1] - head.payload_offset)
        return _bits_per_gaussian(head.header, everything)
    bits = [part.header.bits_per_gaussian * e.num_gaussians for part, e in zip(file.parts, extents, strict=True)]
    return round(sum(bits) / head.num_gaussians, 2)


def _bits_per_gaussian(header: Header, extent: Extent) -> float:
    if header.lattice is None:
        return header.bits_per_gaussian
    return round(8 * extent.num_bytes / extent.num_gaussians, 2)


def level_psnr(file: FileReader) -> list[float | None]:
    """PSNR of each level in dB as the encoder measured it (``level_psnr`` in the section json); None where unknown."""
    unknown: list[float | None] = [None] * len(file.head.level_ends)
    if "json" not in file.sections:
        return unknown
    try:
        stated = json.loads(file.sections["json"])[_LEVEL_PSNR]
        known = [None if v is None else float(v) for v in stated]
    except (InvalidFile, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return unknown  # free metadata: anything may stand there
    return known if len(known) == len(unknown) else unknown


def with_level_psnr(sections: Mapping[str, bytes], psnr: Sequence[float | None]) -> dict[str, bytes]:
    """Sections with the PSNR of each level in the JSON object, of the same length whatever the values."""
    known: dict[str, Any] = {}
    if "json" in sections:
        try:
            known = dict(json.loads(sections["json"]))
        except (ValueError, TypeError) as error:
            raise UsageError(f"section json: expected a JSON object, found {error}") from None
    known.pop(_LEVEL_PSNR, None)
    values = ",".join(" null" if v is None else f"{min(max(v, -9.99), 99.99):5.2f}" for v in psnr)
    rest = json.dumps(known, ensure_ascii=False, separators=(",", ":"))[1:-1]
    text = "{" + rest + ("," if rest else "") + f'"{_LEVEL_PSNR}":[{values}]' + "}"
    return {**sections, "json": text.encode()}


def without_level_psnr(sections: dict[str, bytes]) -> dict[str, bytes]:
    """Metadata sections for another picture than that whose levels were measured."""
    try:
        stated = json.loads(sections.get("json", b"{}"))
        del stated[_LEVEL_PSNR]
    except (ValueError, TypeError, KeyError, RecursionError):
        return sections
    rest = {name: data for name, data in sections.items() if name != "json"}
    if stated:
        rest["json"] = json.dumps(stated, ensure_ascii=False, separators=(",", ":")).encode()
    return rest


def _levels(file: FileReader) -> list[dict[str, Any]]:
    head, header = file.head, file.header
    counts = [level.num_gaussians for level in file.levels] if len(head.level_ends) > 1 else [head.num_gaussians]
    rows = zip(head.level_chunks, counts, head.level_ends, level_psnr(file), strict=True)
    return [
        {"num_chunks": c, "num_gaussians": n, "end": e, "bpp": 8 * e / (header.width * header.height), "psnr": p}
        for c, n, e, p in rows
    ]


def _part(file: FileReader, part: Part) -> dict[str, Any]:
    """A part's groups and what it takes; of several parts also what each has of its own."""
    extent = file.part_extent(part)
    fields: dict[str, Any] = {
        "groups": [group.name for group in part.header.groups],
        "channels": part.header.channels,
        "num_chunks": part.last_chunk - part.first_chunk,
        "num_gaussians": extent.num_gaussians,
        "bytes": extent.num_bytes,
        "bits_per_gaussian": _bits_per_gaussian(part.header, extent),
    }
    return fields if len(file.parts) == 1 else fields | _coding(part.header)


def describe(file: FileReader, chunks: bool = False) -> dict[str, Any]:
    """All fields of the head, for JSON. chunks: also every entry of the index (reads all of a two-stage one).

    Of a file of several parts ``position scale rotation feature`` say what all parts have in common; parameters and
    the record of a lattice are in ``parts`` alone.
    """
    head, header = file.head, file.header
    found: dict[str, Any] = {
        "version": VERSION,
        "draft": DRAFT,
        "two_stage": head.two_stage,
        "box_shift": header.box_shift,
        "head_bytes": head.head_bytes,
        "file_bytes": head.file_bytes,
        "width": header.width,
        "height": header.height,
        "num_gaussians": head.num_gaussians,
        "num_chunks": head.num_chunks,
        "channels": header.channels,
        "level_mode": header.level_mode.name.lower(),
        "blend": header.blend.name.lower(),
        "top_k": header.top_k,
        "primitive": header.primitive.name.lower(),
        "shape": header.shape.name.lower(),
        "scale_map": header.scale_map.name.lower(),
        "reach2": _number(header.reach2, np.float16),
        "relative_reach2": _number(header.relative_reach2, np.float16),
        "lowpass": _number(header.lowpass),
    }
    if len(file.parts) == 1:
        found |= _coding(header)
    else:
        found |= {name: _form(getattr(header, name)) for name in ATTRIBUTES}
    found["background"] = [_number(v, np.float16) for v in header.background]
    found["groups"] = [
        {
            "name": g.name,
            "channels": g.channels,
            "transfer": g.transfer.name.lower(),
            "alpha": g.alpha.name.lower(),
            "bit_depth": g.bit_depth,
            "colour": g.colour.name.lower(),
            "gamma": _number(g.gamma, np.float16),
        }
        for g in header.groups
    ]
    found["parts"] = [_part(file, part) for part in file.parts]
    found["levels"] = _levels(file)
    found["sections"] = [
        {
            "type": s.type,
            "bytes": s.bytes,
            "place": "inline" if s.place == INLINE else "tail",
            "critical": s.critical,
            "present": s.type in file.sections,
        }
        for s in head.sections
    ]
    found |= {
        "partial": file.partial,
        "available_levels": file.available_levels,
        "bits_per_gaussian": bits_per_gaussian(file),
        "bpp": 8 * head.file_bytes / (header.width * header.height),
    }
    if chunks:
        file.load_index()
        boxes = np.stack([file.box_x0, file.box_y0, file.box_x1, file.box_y1], axis=1).tolist()
        found["chunks"] = [
            {
                "bytes": int(e["bytes"]),
                "count": int(e["count"]),
                "codec": Codec(int(e["codec"])).name.lower(),
                "box": [None if math.isinf(v) else v for v in box],
                "reach_area": float(e["reach_area"]),
                "crc": f"{int(e['crc']):04x}",
                "part": file.chunk_part(chunk),
            }
            for chunk, (e, box) in enumerate(zip(file.entries, boxes, strict=True))
        ]
    return found


def counted(number: int, what: str) -> str:
    """A number and what it counts, in words: "1 level", "3 levels"."""
    return f"{number} {what}" + "s" * (number != 1)


def _in_words(section: str, data: bytes) -> str:
    """What is shown of a section's content."""
    if section == "phys":
        density = resolution_per_inch({"phys": data})
        return "" if density is None else ", {:.1f} × {:.1f} pixels per inch".format(*density)
    words = data.decode(errors="replace")
    return ", " + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _parameters(quantizer: dict[str, Any]) -> list[str]:
    return [f"{key} {' '.join(f'{v:g}' for v in quantizer[key])}" for key in _PARAMETERS if key in quantizer]


def _lattice_lines(header: Header) -> list[str]:
    lattice = header.lattice
    if lattice is None:
        return []
    steps = [lattice.position, lattice.minor, lattice.ratio, lattice.rotation, *lattice.feature]
    names = ["position", "minor", "ratio", "rotation", "feature"]
    texts = [f"{step_value(code):.3g}" for code in steps]
    steps_text = ", ".join(f"{name} {text}" for name, text in zip(names, texts, strict=False))
    return [f"lattice: steps {' '.join([steps_text, *texts[5:]])}" + (", luma and chroma" * lattice.ycbcr)]


def _part_lines(file: FileReader, parts: list[dict[str, Any]]) -> list[str]:
    """Of each part its groups and size, and below it the parameters of its quantisers."""
    lines = []
    for number, (part, d) in enumerate(zip(file.parts, parts, strict=True)):
        lines.append(f"part {number}: " + part_in_words(d))
        lines += [f"  {name}: " + ", ".join(_parameters(d[name])) for name in ATTRIBUTES if _parameters(d[name])]
        lines += ["  " + line for line in _lattice_lines(part.header)]
    return lines


def part_in_words(part: Mapping[str, Any]) -> str:
    """One of ``describe``'s parts: which groups share how many Gaussians, and what these take."""
    return (
        f"{', '.join(map(repr, part['groups']))}: {counted(part['num_gaussians'], 'Gaussian')} of "
        f"{part['bits_per_gaussian']} bits in {counted(part['num_chunks'], 'chunk')}, {part['bytes']} bytes"
    )


def describe_text(file: FileReader) -> str:
    """The same for people: one short line per fact."""
    d = describe(file)
    q2 = "none" if d["relative_reach2"] is None else f"{d['relative_reach2']:g}"
    blend = d["blend"] + (f", K = {d['top_k']}" if d["top_k"] else "")
    lines = [
        f"{d['width']} × {d['height']} pixels, {counted(d['channels'], 'channel')}",
        f"{counted(d['num_gaussians'], 'Gaussian')} of {d['bits_per_gaussian']} bits in "
        + counted(d["num_chunks"], "chunk"),
        f"{d['file_bytes']} bytes, {d['bpp']:.4f} bits per pixel; head {d['head_bytes']} bytes",
        f"blend {blend}; R² = {d['reach2']:g}, Q² = {q2}; lowpass {d['lowpass']:g}",
        f"shape {d['shape']}, scale_map {d['scale_map']}, primitive {d['primitive']}",
    ]
    for name in ATTRIBUTES:
        q = d[name]
        shared = " shared" if q["shared"] else ""
        bits = f", {q['bits']} bits" if q["bits"] else ""
        lines.append(f"{name}: " + ", ".join([f"{q['kind']}{bits}{shared}", *_parameters(q)]))
    if len(file.parts) == 1:
        lines += _lattice_lines(file.header)
    else:
        lines += _part_lines(file, d["parts"])
    for group in d["groups"]:
        about = f"{group['channels']} channels, {group['colour']}, {group['transfer']}, {group['bit_depth']} bits"
        about += f", alpha {group['alpha']}" if group["alpha"] != "none" else ""
        lines.append(f"group {group['name']!r}: {about}, gamma {group['gamma']:g}")
    lines.append("background: " + " ".join(f"{v:g}" for v in d["background"]))
    if len(d["levels"]) > 1 or d["partial"]:
        lines.append(f"{counted(len(d['levels']), 'level')}, {d['level_mode']}")
        for number, level in enumerate(d["levels"]):
            psnr = "" if level["psnr"] is None else f", {level['psnr']:.2f} dB"
            missing = "" if number < d["available_levels"] else ", missing"
            size = f"{level['end']} bytes, {level['bpp']:.4f} bits per pixel{psnr}"
            lines.append(
                f"level {number}: {counted(level['num_gaussians'], 'Gaussian')}, to the end of it {size}{missing}"
            )
    if d["partial"]:
        lines.append(f"partial: {d['available_levels']} of {len(d['levels'])} levels present")
    for s in d["sections"]:
        text = f"section {s['type']}: {s['bytes']} bytes, {s['place']}" + ("" if s["present"] else ", missing")
        if s["present"] and s["type"] in ("phys", "soft"):
            try:
                text += _in_words(s["type"], file.sections[s["type"]])
            except InvalidFile:
                text += ", damaged"
        lines.append(text)
    return "\n".join(lines)
