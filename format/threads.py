"""Work shared by Python threads; the kernels inside release the GIL."""

from __future__ import annotations

import itertools
import numbers
import os
import threading
from collections.abc import Callable
from typing import Any

from igs.format.errors import UsageError

MOST = 1024  # that commands and encodes can be asked for


def default_threads() -> int:
    """The cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def thread_count(asked: Any) -> int:
    """As many as asked for, or the default for None; UsageError for what is no number of threads."""
    if asked is None:
        return default_threads()
    if not isinstance(asked, numbers.Integral) or isinstance(asked, bool) or asked < 1:
        raise UsageError(f"threads: expected 1 or more, found {asked!r}")
    return int(asked)


def run(count: int, threads: int, work: Callable[[int], None]) -> None:
    """Call work(0) … work(count − 1), each once, from up to ``threads`` threads; re-raise the first error."""
    if threads <= 1 or count <= 1:
        for i in range(count):
            work(i)
        return
    numbers = itertools.count()
    errors: list[BaseException] = []

    def take_turns() -> None:
        try:
            while not errors and (i := next(numbers)) < count:
                work(i)
        except BaseException as error:  # also KeyboardInterrupt: the others must stop too
            errors.append(error)

    helpers = [threading.Thread(target=take_turns, daemon=True) for _ in range(min(threads, count) - 1)]
    for helper in helpers:
        helper.start()
    take_turns()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
