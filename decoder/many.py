"""A stream of files: whole pictures in order, the next ones being decoded while one is used.

Worker threads open files and decode entropy; Python threads, as the kernels let go of the interpreter. On the CPU they
draw as well, one picture each; on a GPU the caller's thread draws whatever is ready in one launch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from igs.decoder.image import open as open_image
from igs.decoder.output import output_dtype
from igs.format import Limits
from igs.format.errors import IgsError, UsageError
from igs.format.threads import thread_count

_BATCH = 32  # pictures to a launch: then its fixed cost, about a millisecond, is small beside theirs


class DecodedPictures(Iterator[Any]):
    """What :func:`decode_many` returns: an iterator, and a context manager that stops the work when left."""

    def __init__(
        self,
        sources: Iterable[Any],
        prepare: Callable[[Any], Any],
        finish: Callable[[list[Any]], list[Any]],
        threads: int,
        batch: int,
        errors: str,
    ) -> None:
        self._sources = enumerate(sources)
        self._prepare = prepare
        self._finish = finish
        self._batch = batch
        self._ahead = batch + 2 * threads
        self._errors = errors
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="igs-decode")
        self._pending: deque[Future[Any]] = deque()
        self._ready: deque[Any] = deque()  # pictures, and errors in their places

    def __next__(self) -> Any:
        if not self._ready:
            self._fill()
            if not self._pending:
                self.close()
                raise StopIteration
            taken = [self._pending.popleft()]
            while self._pending and len(taken) < self._batch and self._pending[0].done():
                taken.append(self._pending.popleft())
            try:
                self._fill()  # before waiting: the workers go on meanwhile
            finally:  # where the sources raise, what was taken comes after that
                self._ready.extend(self._outcomes(taken))
        outcome = self._ready.popleft()
        if isinstance(outcome, Exception) and (self._errors == "raise" or not isinstance(outcome, IgsError)):
            raise outcome
        return outcome

    def _fill(self) -> None:
        while len(self._pending) < self._ahead:
            try:
                place, source = next(self._sources)
            except StopIteration:
                return
            self._pending.append(self._pool.submit(self._run, place, source))

    def _run(self, place: int, source: Any) -> Any:
        try:
            return self._prepare(source)
        except IgsError as error:
            name = "" if isinstance(source, (bytes, bytearray, memoryview)) else f" ({source})"
            error.args = (f"source {place}{name}: {error}", *error.args[1:])
            return error
        except Exception as error:  # raised at its place: the pictures around it are not lost
            return error

    def _outcomes(self, taken: list[Future[Any]]) -> list[Any]:
        prepared = [future.result() for future in taken]
        good = [item for item in prepared if not isinstance(item, Exception)]
        try:
            pictures = iter(self._finish(good) if good else [])
        except Exception:
            pictures = iter([self._alone(item) for item in good])
        return [item if isinstance(item, Exception) else next(pictures) for item in prepared]

    def _alone(self, item: Any) -> Any:
        """When a batch fails: whose fault it is."""
        try:
            return self._finish([item])[0]
        except Exception as error:
            return error

    def close(self) -> None:
        """Stop: nothing more is read, and what is under way is dropped."""
        self._sources = enumerate(())
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._ready.clear()
        self._pool.shutdown(wait=False)

    def __enter__(self) -> DecodedPictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ready"):
            self.close()


def decode_many(
    sources: Iterable[Any],
    *,
    device: str = "cpu",
    threads: int | None = None,
    scale: float = 1.0,
    level: int | None = None,
    dtype: Any = "uint8",
    raw: bool = False,
    limits: Limits | None = None,
    allow_partial: bool = False,
    errors: str = "raise",
) -> DecodedPictures:
    """Decode whole pictures, in order: an iterator over arrays [H, W, C], for ``for pixels in igs.decode_many(paths)``.

    sources: paths, bytes or file objects, taken as they are needed, a bounded number ahead of the picture in use.
    device: "cpu" gives NumPy arrays; "cuda" arrays on the device (see :class:`igs.decoder.cuda.CudaImage`), parts of
    one block of memory for the pictures that were drawn together; "auto" CUDA where it can be used. threads: to open
    files and decode their entropy (None: one per core). scale, level, dtype, raw: as for ``Image.decode``; limits,
    allow_partial: as for ``igs.open``. errors: what happens at a file's place when it can't be decoded: "raise" raises
    its IgsError, after which ``next`` goes on with the next file; "return" gives the IgsError instead of an array.
    Raises UsageError; Unsupported where there is no CUDA.
    """
    if errors not in ("raise", "return"):
        raise UsageError(f"errors: expected raise or return, found {errors!r}")
    if isinstance(sources, (str, bytes, bytearray, os.PathLike)):
        raise UsageError(f"sources: expected several, as in a list, found {type(sources).__name__}")
    kind = output_dtype(dtype)
    workers = thread_count(threads)
    if device != "cpu":
        from igs.decoder import cuda

        if cuda.choose(device) == "cuda":
            from igs.decoder.cuda.many import draw_together, prepare

            def prepared(source: Any) -> Any:
                return prepare(source, scale, level, raw, limits, allow_partial)

            return DecodedPictures(sources, prepared, lambda items: draw_together(items, kind), workers, _BATCH, errors)

    def decoded(source: Any) -> Any:
        with open_image(source, limits=limits, threads=1, allow_partial=allow_partial) as image:
            return image.decode(scale, level, kind, raw)

    return DecodedPictures(sources, decoded, list, workers, 1, errors)
