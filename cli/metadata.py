"""Which sections (spec §10) the metadata options of igs-edit add, replace and remove; what they read is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from igs.format.describe import counted
from igs.format.errors import InputError, UsageError
from igs.format.fields import MAGIC
from igs.format.limits import Limits

if TYPE_CHECKING:
    from igs.format import Document

# What options call it → section type
NAMES = {"icc": "iccp", "exif": "exif", "xmp": "xmpd", "json": "json", "dpi": "phys", "soft": "soft"}
_LARGEST = int(Limits.section_bytes)  # that readers accept by default
_XMP_ROOTS = ("xmpmeta", "RDF")  # elements that hold what a packet says; the first is around the second or missing
_SPACES = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}  # of an ICC profile, at byte 16


def changes(document: Document, asked: dict[str, Any], warn: Callable[[str], None]) -> dict[str, bytes | None]:
    """Section type → new bytes, or None to remove it. asked: the command's options.

    Raises UsageError for a name that is none, InputError for a file that does not hold what it should.
    """
    present = {s.type for s in document.sections}
    wanted: dict[str, bytes | None] = {}
    for name in asked["remove"]:
        kind = NAMES.get(name, name)
        if kind not in present:
            expected = ", ".join(k for k, v in NAMES.items() if v in present) or "none"
            raise UsageError(f"--remove {name}: expected a section of the file ({expected}), found no such one")
        if kind[0].isupper():
            raise UsageError(f"--remove {name}: a critical section can't be removed")
        wanted[kind] = None
    if asked["copy_from"] is not None:
        wanted |= _copied(asked["copy_from"])
    for name in ("icc", "exif", "xmp", "json"):
        path = asked["set_" + name]
        if path is not None:
            wanted[NAMES[name]] = _checked(NAMES[name], _read(path), path, warn)
    if asked["set_dpi"] is not None:
        wanted["phys"] = _dpi(asked["set_dpi"])
    _check_profile(document, wanted.get("iccp"), warn)
    return wanted


def _copied(path: Path) -> dict[str, bytes]:
    """The metadata of an image file or an .igs file."""
    with _opened(path) as file:
        is_igs = file.read(len(MAGIC)) == MAGIC
    if is_igs:
        from igs.format import read
        from igs.format.describe import without_level_psnr

        kinds = {*NAMES.values()} - {"soft"}
        found = without_level_psnr({s.type: s.data for s in read(path).sections if s.type in kinds})
    else:
        from igs.encoder.loading.image import load_image

        found = load_image(path).sections
    if not found:
        raise InputError(f"{path}: expected metadata to copy, found none")
    return found


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _read(path: Path) -> bytes:
    with _opened(path) as file:
        data: bytes = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InputError(f"{path}: expected at most {_LARGEST} bytes of metadata, found more")
    return data


def _checked(kind: str, data: bytes, path: Path, warn: Callable[[str], None]) -> bytes:
    """Bytes fit for a section of that type."""
    from igs.format.sections import content_problem

    if kind == "exif":
        from igs.format.exif import upright_exif

        data = data.removeprefix(b"Exif\0\0")  # as JPEG files have it
        upright = upright_exif(data)
        if upright and upright != data:
            warn(f"{path}: the orientation is set to 1, since that of an .igs file's pixels is always upright")
            data = upright
    problem = content_problem(kind, data)
    if problem is None and kind == "xmpd":
        problem = _xmp_problem(data)
    if problem is not None:
        raise InputError(f"{path}: expected {problem[0]}, found {problem[1]}")
    return data


def _xmp_problem(data: bytes) -> tuple[str, str] | None:
    """What keeps bytes from being an XMP packet, as expected and found. The format itself asks for UTF-8 only.

    Prefixes are taken as they stand, since packets in use bind them in more ways than one.
    """
    expected = "an XMP packet, XML with an element x:xmpmeta or rdf:RDF"
    seen: set[str] = set()

    def refuse(*declared: Any) -> None:
        raise ValueError  # a packet has no document type, and no entities could then blow up what is read

    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: seen.add(name.rpartition(":")[2])
    try:
        parser.Parse(data.strip(b"\0 \t\r\n"), True)  # what writers put around packets
    except ValueError:
        return expected, "a document type"
    except expat.ExpatError as error:
        return expected, f"no XML ({expat.ErrorString(error.code)}) in line {error.lineno}"
    return None if seen.intersection(_XMP_ROOTS) else (expected, "XML without one")


def _dpi(text: str) -> bytes:
    from igs.format.sections import METRES_PER_INCH, phys_section

    try:
        numbers = [float(part) for part in text.split(",")]
        x, y = numbers * 2 if len(numbers) == 1 else numbers
        return phys_section(x / METRES_PER_INCH, y / METRES_PER_INCH)["phys"]
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"--set-dpi: expected one or two numbers above 0 as X[,Y], found {text!r}") from None


def _check_profile(document: Document, profile: bytes | None, warn: Callable[[str], None]) -> None:
    """A profile for other channels than the picture has is most likely the wrong file."""
    if profile is None:
        return
    from igs.format import Alpha

    space, group = profile[16:20], document.header.groups[0]
    colours = group.channels - (group.alpha != Alpha.NONE)
    if _SPACES.get(space) not in (None, colours):
        has = counted(colours, "channel")
        warn(f"the ICC profile is for {space.decode().strip()}, the picture has {has} of colour")
