"""A command as a process: signals, exit codes, and how every failure becomes one message.

Exit codes are decided in :func:`describe_error` and nowhere else. Only click and what is as light as the error
classes is imported here, so that help, usage errors and decoding start fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from igs.cli.console import print_result, to_json
from igs.cli.files import PIPE
from igs.format.errors import IgsError, InvalidFile, OutputError

EXIT_OK, EXIT_USAGE, EXIT_IO, EXIT_INVALID, EXIT_RUNTIME, EXIT_UNSUPPORTED = range(6)
EXIT_INTERRUPTED = 128 + 2  # as a shell reports SIGINT
EXIT_TERMINATED = 128 + 15  # SIGTERM
EXIT_BROKEN_PIPE = 128 + 13  # SIGPIPE: the reader of our output has gone, which is no error of ours


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that it unwinds through every ``except Exception`` and temp files go."""


def prepare_process(*, interruptible: bool = True) -> None:
    """Warnings, logging and signals of a process that runs a command: a console script, or one of its workers."""
    import logging
    import warnings

    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")  # remarks of libraries to programmers; ours are printed by Console.warn
    signal.signal(signal.SIGINT, signal.default_int_handler if interruptible else signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)


def main(command: click.Command) -> NoReturn:
    """Entry point of a console script."""
    prepare_process()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name or "×" on a terminal that can't show it
    code = run(command)
    try:
        _flush()
    except BrokenPipeError:
        code = EXIT_BROKEN_PIPE
    if code == EXIT_BROKEN_PIPE:
        # Python flushes stdout once more on its way out, which would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _terminate(signum: int, frame: Any) -> NoReturn:
    raise Terminated


def run(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; every failure has become one message on stderr.

    With ``--json`` it has become an object as well, where the result would have gone.
    """
    name, words = command.name or "igs", list(sys.argv[1:] if args is None else args)
    context = None
    try:
        with command.make_context(name, list(words)) as context:
            code = command.invoke(context)
        _flush()
        return int(code or EXIT_OK)
    except BaseException as error:
        if os.environ.get("IGS_DEBUG"):  # for whoever works on igs itself
            import traceback

            traceback.print_exc()
        code, message = describe_error(error)
        if message:
            message = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)  # one line
            with contextlib.suppress(OSError, OutputError):  # streams that were closed
                click.echo(f"{name}: {message}", err=True)
                if "--json" in words:
                    print_result(to_json(error_object(error)), err=context is not None and _pipes(context.params))
        return code


def _pipes(parameters: dict[str, Any]) -> bool:
    """Whether a command's data were to go to standard output."""
    return PIPE in (parameters.get("output"), *parameters.get("paths", ())[1:])


def _flush() -> None:
    if sys.stdout is not None:  # closed by the caller (`>&-`)
        sys.stdout.flush()


def describe_error(error: BaseException) -> tuple[int, str]:
    """The exit code and message of anything that a command can raise: the one place where errors become exit codes."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code, ""
        case click.UsageError():  # click's own code for it is 2, which here means I/O
            return EXIT_USAGE, f"{error.format_message()} (-h shows the options)"
        case click.ClickException():
            return EXIT_USAGE, error.format_message()
        case IgsError():
            return error.exit_code, str(error)
        case Terminated():
            return EXIT_TERMINATED, "terminated"
        case KeyboardInterrupt() | click.Abort():
            return EXIT_INTERRUPTED, "interrupted"
        case BrokenPipeError():
            return EXIT_BROKEN_PIPE, ""
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return EXIT_IO, f"{where}{error.strerror or error}"
        case MemoryError():
            return EXIT_RUNTIME, "not enough memory"
        case SystemExit():
            return (error.code if isinstance(error.code, int) else EXIT_RUNTIME), ""
        case _:
            text = f"internal error, please report it: {type(error).__name__}: {error}"
            return EXIT_RUNTIME, " ".join(text.split())


def error_object(error: BaseException, source: str | None = None) -> dict[str, Any]:
    """A failure as the JSON object that stands in for a file's report; source: none for that of a whole call."""
    code, message = describe_error(error)
    found: dict[str, Any] = {} if source is None else {"input": source}
    found |= {"error": message, "exit_code": code}
    if isinstance(error, InvalidFile):
        found |= {"code": error.code, "offset": error.offset}
    return found
