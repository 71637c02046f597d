"""Many inputs in one call: every one is tried, in this process or in several; then a table and one exit code.

A worker is a fresh process that encodes one picture after the other. On an interrupt all are told to end, and each
removes what it was writing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import click

from igs.cli import batch
from igs.cli.console import Console, print_result, to_json
from igs.cli.process import EXIT_OK, EXIT_RUNTIME, Terminated, error_object, prepare_process
from igs.cli.table import table
from igs.format.threads import default_threads

_PATIENCE = 10.0  # seconds that a worker has to remove its files


class Job(Protocol):
    """What is the same for every input; ``run`` encodes one and returns its report."""

    console: Console
    as_json: bool
    options: Any

    def run(self, source: str, target: str) -> dict[str, Any]: ...

    def line(self, report: dict[str, Any]) -> str: ...


class Outcome(NamedTuple):
    """report: the file's, or its error object with ``exit_code``. messages: warnings that a worker had."""

    report: dict[str, Any]
    messages: list[str]


@dataclasses.dataclass
class Collected(Console):
    """Keeps warnings instead of printing them."""

    messages: list[str] = dataclasses.field(default_factory=list)

    def warn(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)


def run(job: Job, pairs: list[tuple[str, str]], jobs: int, fatal: str) -> int:
    """Encode all pairs, ``jobs`` at a time; returns the exit code.

    Prints one JSON object per input in their order, or a line as each is done and a table at the end. ``fatal`` is the
    message of an error that would befall every other input as well: those are not tried.
    """
    outcomes: dict[int, dict[str, Any]] = {}
    printed = 0
    finished = _outcomes(job, pairs, jobs)
    with contextlib.closing(finished):
        for number, outcome in finished:
            outcomes[number] = outcome.report
            for message in outcome.messages:
                job.console.warn(message)
            error = outcome.report.get("error")
            if error is not None:
                click.echo(f"igs-encode: {error}", err=True)
            elif not job.as_json:
                job.console.note(f"[{len(outcomes)}/{len(pairs)}] {job.line(outcome.report)}")
            while job.as_json and printed in outcomes:
                print_result(to_json(outcomes[printed]))
                printed += 1
            if error == fatal:
                break
    found = [outcomes[number] for number in sorted(outcomes)]
    if not job.as_json and not job.console.quiet:
        print_result(table(found))
    return next((int(report["exit_code"]) for report in found if "error" in report), EXIT_OK)


def _outcomes(job: Job, pairs: list[tuple[str, str]], jobs: int) -> Generator[tuple[int, Outcome], None, None]:
    if min(jobs, len(pairs)) <= 1:
        return ((number, _tried(job, *pair)) for number, pair in enumerate(pairs))
    if job.options.threads is None:
        threads = max(1, default_threads() // jobs)
        job = dataclasses.replace(job, options=dataclasses.replace(job.options, threads=threads))  # type: ignore[type-var]
    return _in_workers(job, pairs, min(jobs, len(pairs)))


def _tried(job: Job, source: str, target: str) -> Outcome:
    messages = job.console.messages if isinstance(job.console, Collected) else []
    try:
        if not target:
            raise batch.nothing_at(source)
        with contextlib.suppress(FileExistsError):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        return Outcome(job.run(source, target), messages)
    except Exception as error:
        return Outcome(error_object(error, source), messages)


# -- workers


def _in_workers(job: Job, pairs: list[tuple[str, str]], count: int) -> Generator[tuple[int, Outcome], None, None]:
    waiting = iter(enumerate(pairs))
    workers: dict[Any, tuple[Any, int]] = {}  # connection → process, the number of its pair

    def give(connection: Any, process: Any) -> None:
        following = next(waiting, None)
        if following is None:
            connection.close()
            process.join()
            return
        workers[connection] = (process, following[0])
        with contextlib.suppress(OSError):  # a worker that has died: told when its answer is read
            connection.send(following[1])

    try:
        for _ in range(count):
            give(*_started(job))
        while workers:
            ready: list[Any] = multiprocessing.connection.wait(list(workers))
            for connection in ready:
                process, number = workers.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    outcome = _died(pairs[number][0], process.exitcode)
                    connection, process = _started(job)
                workers[connection] = (process, -1)  # to be ended with the others, whatever comes
                yield number, outcome
                del workers[connection]
                give(connection, process)
    finally:
        _end([process for process, _ in workers.values()])


def _started(job: Job) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    return mine, process


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()


def _died(source: str, exitcode: int | None) -> Outcome:
    how = f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    message = f"{source}: the process that encoded it ended ({how})"
    return Outcome({"input": source, "error": message, "exit_code": EXIT_RUNTIME}, [])


def _work(connection: Any, job: Job) -> None:
    """A worker: pairs in, outcomes out, until the other end is closed."""
    prepare_process(interruptible=False)  # Ctrl-C reaches all processes of a terminal; the first one acts
    verbose = job.console.verbose
    with contextlib.suppress(EOFError, OSError, Terminated):
        while True:
            source, target = connection.recv()
            console = Collected(quiet=True, verbose=verbose)
            connection.send(_tried(dataclasses.replace(job, console=console), source, target))  # type: ignore[type-var]
