"""Work that several threads do at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def at_once(work: Callable[[int], None], count: int = 6) -> None:
    """Call work(0 … count − 1), each in a thread of its own, all begun together; raises what the first to fail did."""
    ready = Barrier(count)

    def begun(number: int) -> None:
        ready.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(begun, range(count)))
