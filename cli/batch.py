"""Which input becomes which output: ``IN OUT``, ``IN -o OUT``, or many inputs mirrored into a folder (``-d DIR``)."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from igs.cli.files import PIPE, identities
from igs.format.errors import InputError, UsageError

# Files taken from a directory; named ones are tried whatever their suffix.
IMAGE_SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dib",
        ".exr",
        ".gif",
        ".icns",
        ".ico",
        ".j2k",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".npy",
        ".pbm",
        ".pcx",
    }
    | {".pgm", ".png", ".pnm", ".ppm", ".sgi", ".tga", ".tif", ".tiff", ".webp"}
)


def one_pair(paths: Sequence[str], out: str | None, several: str | None = None) -> tuple[str, str]:
    """IN and OUT of a command that takes one of each. several: the option that takes more inputs, if there is one."""
    more = f"; {several} takes several inputs" if several else ""
    if out is not None:
        if len(paths) != 1:
            raise UsageError(f"expected one input with -o, found {len(paths)}" + more)
        return paths[0], out
    if len(paths) != 2:
        found = ", ".join(paths) or "nothing"
        raise UsageError(f"expected IN OUT, found {found}" + more * (len(paths) > 2))
    return paths[0], paths[1]


def check_suffix(out: str, *, force: bool) -> None:
    if out != PIPE and not force and Path(out).suffix.lower() != ".igs":
        raise UsageError(f"{out}: expected a name that ends in .igs, or - (--force takes any name)")


def encode_pairs(
    paths: Sequence[str], out: str | None, directory: str | None, *, force: bool, maps: bool = False
) -> list[tuple[str, str]]:
    """All (input, output) of an igs-encode call, checked so that nothing is overwritten that is also read, or twice.

    maps: the input may be missing, since maps are named by options; it is empty then.

    The output is empty where an input stands for no file (:func:`nothing_at`).
    """
    if directory is None:
        if maps and len(paths) == (1 if out is None else 0):
            paths = ("", *paths)
        source, target = one_pair(paths, out, "-d DIR")
        check_suffix(target, force=force)
        return [(source, target)]
    if maps:
        raise UsageError("--map and -d exclude each other")
    if out is not None:
        raise UsageError("-o and -d exclude each other")
    if not paths:
        raise UsageError("expected at least one input")
    pairs = [
        (str(source), "" if name is None else str(Path(directory, name).with_suffix(".igs")))
        for source, name in _expanded(paths)
    ]
    inputs = {key for source, _ in pairs for key in identities(source)}
    taken: dict[str, str] = {}
    for source, target in pairs:
        if not target:
            continue
        known = identities(target)
        if inputs & set(known):
            raise UsageError(f"{target}: is an input and would be overwritten")
        if taken.setdefault(known[0], source) != source:
            raise UsageError(f"{taken[known[0]]} and {source} would both become {target}")
    return list(dict.fromkeys(pairs))


def nothing_at(source: str) -> InputError:
    """The error of an input that stands for no file, or of a directory that can't be listed."""
    try:
        with os.scandir(source):
            pass
    except (FileNotFoundError, NotADirectoryError):  # a pattern
        pass
    except OSError as error:
        return InputError(f"{source}: {error.strerror or error}")
    what = "no images in this directory" if os.path.isdir(source) else "nothing matches"
    return InputError(f"{source}: {what}")


def _expanded(paths: Sequence[str]) -> list[tuple[Path, Path | None]]:
    """Every file meant, with its name relative to the output directory; None for what stands for no file."""
    found: list[tuple[Path, Path | None]] = []
    for given in paths:
        if given == PIPE:
            raise UsageError("- can't be used with -d: a stream has no name")
        path = Path(given)
        if os.path.isdir(path):  # that of Path raises for what lies in a directory that can't be entered
            found += _of_directory(path) or [(path, None)]
        elif not os.path.exists(path) and glob.has_magic(given):  # a shell that doesn't expand, or a quoted pattern
            matches = sorted(Path(match) for match in glob.glob(given, recursive=True) if Path(match).is_file())
            found += [(match, Path(match.name)) for match in matches] or [(path, None)]
        else:
            found.append((path, Path(path.name)))
    return found


def _of_directory(top: Path) -> list[tuple[Path, Path | None]]:
    """The images in a directory and those below it, by name; None for the name of a directory that can't be listed."""
    found: list[tuple[Path, Path | None]] = []
    unlisted: list[OSError] = []
    for folder, _, names in os.walk(top, onerror=unlisted.append):
        files = (Path(folder, name) for name in names)
        found += [(p, p.relative_to(top)) for p in files if p.suffix.lower() in IMAGE_SUFFIXES and _is_file(p)]
    return sorted(found + [(Path(error.filename), None) for error in unlisted], key=lambda entry: entry[0])


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # a link to nothing
        return False
    except OSError:  # as in a directory that can be listed but not entered: the error is told when the file is read
        return True
