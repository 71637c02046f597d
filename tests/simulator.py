"""Numba's simulator with one thread of a block running at a time.

Its own loop lets all threads run at once and polls them. Hundreds that wait for the interpreter's lock then keep waking
each other up, and the busier the machine, the longer that takes. Here a thread runs up to its next ``syncthreads``,
then the next one does. The order is turned round each time: a ``syncthreads`` too few shows.
"""

from __future__ import annotations

import threading

import numpy as np
from numba.cuda.simulator import kernel


class Thread(kernel.BlockThread):
    """Runs when told to."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.ended = False
        self._go, self._stopped = threading.Lock(), threading.Lock()
        self._go.acquire(), self._stopped.acquire()

    def step(self) -> None:
        """Run up to the next ``syncthreads`` or to the end."""
        if self.ident is None:
            self.start()
        else:
            self._go.release()
        self._stopped.acquire()
        if self.exception is not None:
            raise self.exception[0].with_traceback(self.exception[1])

    def run(self) -> None:
        super().run()
        self.ended = True
        self._stopped.release()

    def syncthreads(self) -> None:
        self._stopped.release()
        self._go.acquire()


class Block(kernel.BlockManager):
    """Takes the place of Numba's. When a thread fails, the others stay where they are: they are daemons."""

    def run(self, grid_point, *arguments) -> None:
        def target() -> None:
            self._f(*arguments)

        places = np.ndindex(*self._block_dim)
        threads = [Thread(target, self, grid_point, place, self._debug) for place in places]
        if grid_point[0] % 2:  # before a block's first syncthreads as well
            threads.reverse()
        while threads:
            for thread in threads:
                thread.step()
            threads = [thread for thread in reversed(threads) if not thread.ended]


def one_thread_at_a_time() -> None:
    """In all kernels from now on."""
    kernel.BlockManager = Block
