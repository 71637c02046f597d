"""The progress of one of several fits, told as that of all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from igs.encoder.options import Progress


class OneOfSeveral:
    """Where one of several fits tells its progress.

    taken: steps of those before. left: how many fits there are from this one on, each as long as this one, about.
    started: when the first began.
    """

    def __init__(self, tell: Callable[[Progress], None], taken: int, left: int, started: float) -> None:
        self.tell, self.taken, self.left, self.started = tell, taken, left, started

    def __call__(self, progress: Progress) -> None:
        step, steps = self.taken + progress.step, self.taken + self.left * progress.steps
        seconds = time.perf_counter() - self.started
        self.tell(dataclasses.replace(progress, step=step, steps=steps, seconds=seconds))
