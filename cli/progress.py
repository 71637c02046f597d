"""The progress line of igs-encode (step, PSNR, time left; on stderr, on a terminal only) and the log of ``--log``."""

from __future__ import annotations

import sys
import time
from typing import Any

from igs.cli.console import Console, to_json
from igs.cli.files import GrowingFile
from igs.format.describe import counted

_WIDTH = 24  # characters of the bar
_INTERVAL = 0.1  # seconds between redraws: more can't be seen, and a slow terminal would hold up the fit


class ProgressLine:
    """Draws over itself; as a context manager it leaves a clean line behind, also on an error."""

    def __init__(self, console: Console, label: str, log: GrowingFile | None = None) -> None:
        self.console, self.label, self.log = console, label, log
        self.shown = not console.quiet and not console.verbose and sys.stderr is not None and sys.stderr.isatty()
        self.drawn = 0
        self.psnr: float | None = None  # as last measured
        self.last = -_INTERVAL

    @property
    def listens(self) -> bool:
        """Whether anything comes of what it is told: measuring for nobody takes time."""
        return self.shown or bool(self.console.verbose) or self.log is not None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()

    def __call__(self, progress: Any) -> None:
        """Take one igs.encoder.options.Progress."""
        if progress.psnr is not None:
            self.psnr = progress.psnr
        if self.log is not None:
            self.log.write(to_json(progress) + "\n")
        if self.console.verbose:
            self.console.detail(self._text(progress))
        elif self.shown and time.monotonic() - self.last >= _INTERVAL:
            self.last = time.monotonic()
            self._draw(f"{self.label} [{self._bar(progress)}] {self._text(progress)}")

    def clear(self) -> None:
        if self.drawn:
            self._draw("")
            sys.stderr.write("\r")
            sys.stderr.flush()
            self.drawn = 0

    def _draw(self, line: str) -> None:
        sys.stderr.write("\r" + line + " " * max(0, self.drawn - len(line)))
        sys.stderr.flush()
        self.drawn = len(line)

    def _bar(self, progress: Any) -> str:
        done = min(_WIDTH, round(_WIDTH * progress.step / max(progress.steps, 1)))
        return "#" * done + "." * (_WIDTH - done)

    def _text(self, progress: Any) -> str:
        parts = [f"{progress.step}/{progress.steps}", counted(progress.num_gaussians, "Gaussian")]
        if self.psnr is not None:
            parts.append(f"{self.psnr:.2f} dB")
        if self.console.verbose > 1:
            parts.append(f"loss {progress.loss:.6f}")
            if progress.ssim is not None:
                parts.append(f"SSIM {progress.ssim:.4f}")
        if progress.step:
            left = progress.seconds / progress.step * max(0, progress.steps - progress.step)  # --psnr goes on beyond
            parts.append(f"{progress.seconds:.1f} s" if self.console.verbose else f"ETA {_clock(left)}")
        return "  ".join(parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )
