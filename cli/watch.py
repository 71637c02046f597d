"""What igs-encode shows of a fit besides the file: a report, a film, pictures of the growths. Nothing of it is loaded
unless asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import igs
from igs.cli import files
from igs.cli.progress import ProgressLine
from igs.encoder.loading.source import SourceImage
from igs.encoder.options import EncodeOptions, Progress
from igs.format import open_file
from igs.format.errors import UsageError
from igs.format.limits import Limits
from igs.format.whole_file import whole_file

FILM_FRAMES = 60
# Options that the file doesn't depend on, by parameter name: of a call, its messages, and what else it writes.
_BESIDE = (
    *("output", "directory", "jobs", "no_overwrite", "as_json", "quiet", "verbose", "report", "film", "log"),
    *("log_every", "render_growth", "render_every", "render_dir", "checkpoint", "checkpoint_every"),
)
# Fields of EncodeOptions that are no settings of an encode, or are shown in words of their own.
_UNSHOWN = (
    *("overrides", "roi", "sections", "log_every", "render_every", "render_dir", "checkpoint", "checkpoint_every"),
    *("on_progress", "on_step", "on_warning"),
)


@dataclasses.dataclass(frozen=True)
class Wishes:
    """report, film: files to write. growth: a folder for pictures of the growths. words: see ``words_of``."""

    report: Path | None = None
    film: Path | None = None
    growth: Path | None = None
    words: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.report, self.film, self.growth))

    def check(self) -> None:
        """Raise UsageError for an output of a kind that isn't written."""
        if self.film is not None and self.film.suffix.lower() not in (".webp", ".gif"):
            raise UsageError(f"--film {self.film}: expected a name that ends in .webp or .gif")
        if self.growth is not None and self.growth.exists() and not self.growth.is_dir():
            raise UsageError(f"--render-dir {self.growth}: expected a folder, found a file")


class Watch:
    """Watches one encode. A context manager, which opens outputs early, so that no fit ends in vain."""

    def __init__(self, wishes: Wishes, overwrite: bool) -> None:
        self.wishes, self.overwrite = wishes, overwrite
        self.history: list[Progress] = []
        self._stack = contextlib.ExitStack()
        self._out: dict[str, IO[bytes]] = {}
        self._recorder: Any = None
        self._seen: tuple[Any, SourceImage, EncodeOptions] | None = None

    def __enter__(self) -> Watch:
        with contextlib.ExitStack() as stack:
            for name, path in (("report", self.wishes.report), ("film", self.wishes.film)):
                if path is not None:
                    self._out[name] = stack.enter_context(whole_file(path, overwrite=self.overwrite))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def options(self, options: EncodeOptions, line: ProgressLine, *, stack: bool) -> EncodeOptions:
        """Options of an encode that is watched. A stack's may be many fits, of which no single one is looked at."""
        if not self.wishes or stack:
            return options
        from igs.encoder.fitting.record import Recorder

        self._recorder = Recorder(FILM_FRAMES if self.wishes.film else 0)

        def on_progress(progress: Progress) -> None:
            self.history.append(progress)
            line(progress)

        return dataclasses.replace(options, on_progress=on_progress, on_step=self._recorder)

    def saw(self, encoded: Any, image: SourceImage, options: EncodeOptions) -> None:
        """Take the result of the encode."""
        self._seen = encoded, image, options

    def write(self, source: str, target: str) -> None:
        """Everything that was asked for. source: empty where maps are named by options."""
        if not self.wishes or self._seen is None:
            return
        encoded, image, options = self._seen
        from igs.view import film

        moments = self._recorder.snapshots if self._recorder else []
        with open_file(encoded.data, Limits().with_room(image.width, image.height)) as file:
            # Not the picture's own size, which the fit has not seen if it was reduced.
            stage = film.Stage(file.header.width, file.header.height, file.header.groups)
        if self.wishes.growth is not None:
            self.wishes.growth.mkdir(parents=True, exist_ok=True)
            for moment in moments:
                if moment.growth:
                    path = self.wishes.growth / f"growth_{moment.step:06d}.png"
                    with whole_file(path, overwrite=self.overwrite) as out:
                        film.growth_sheet(moment, stage).save(out, "PNG")
        if self.wishes.film is not None:
            film.save_film(self._out["film"], self.wishes.film.suffix.lower(), moments, stage)
        if self.wishes.report is not None:
            from igs.view.log import Entry
            from igs.view.report import Report, html_report

            history = [Entry(p.step, p.num_gaussians, p.loss, p.psnr, p.seconds) for p in self.history]
            page = Report(
                Path(source).resolve().name if source not in (files.PIPE, "") else files.display(source) or "Maps",
                encoded.data,
                image.pixels,
                encoded.report,
                history,
                moments,
                settings(options) | {"steps": str(encoded.report["steps"])},
                shlex.join(["igs-encode", *([source] if source else []), target, *self.wishes.words]),
                options.threads,
            )
            self._out["report"].write(html_report(page).encode(errors=files.ODD_NAMES))


def settings(options: EncodeOptions) -> dict[str, Any]:
    """Names and values for the report: what was asked for, then the recipe that came of it."""
    found: dict[str, Any] = {"igs": igs.__version__}
    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    found |= {name: value for name, value in asked.items() if name not in _UNSHOWN and value is not None}
    if options.roi:
        found["roi"] = " ".join(_region(entry) for entry in options.roi)
    found |= dataclasses.asdict(options.recipe())
    return {name: _text(value) for name, value in found.items()}


def _region(entry: tuple[float, ...]) -> str:
    return ",".join(f"{v:g}" for v in entry[:4]) + "".join(f":{v:g}" for v in entry[4:])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "none" if math.isinf(value) else f"{value:g}"
    return str(value)


def words_of(given: dict[str, list[str]]) -> tuple[str, ...]:
    """Of the options that were given, those that it takes to do the same again."""
    return tuple(word for name, words in given.items() if name not in _BESIDE for word in words)
