"""What the commands share: exit codes, messages, help, and the options that mean the same everywhere.

Exit codes are decided in :func:`describe_error` and nowhere else. Only click and the error classes are imported here,
so that help, usage errors and decoding start fast.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import click

import igs
from igs.format.errors import IgsError, InputError, InvalidFile, UsageError

EXIT_OK, EXIT_USAGE, EXIT_IO, EXIT_INVALID, EXIT_RUNTIME, EXIT_UNSUPPORTED = range(6)
EXIT_INTERRUPTED = 128 + 2  # as a shell reports SIGINT
EXIT_TERMINATED = 128 + 15  # SIGTERM
EXIT_BROKEN_PIPE = 128 + 13  # SIGPIPE: the reader of our output has gone, which is no error of ours


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that it unwinds through every ``except Exception`` and temp files go."""


# -- running


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
    """Run a command and return its exit code; every failure has become one message on stderr."""
    name = command.name or "igs"
    try:
        with command.make_context(name, list(sys.argv[1:] if args is None else args)) as context:
            code = command.invoke(context)
        _flush()
        return int(code or EXIT_OK)
    except BaseException as error:
        if os.environ.get("IGS_DEBUG"):  # for whoever works on igs itself
            import traceback

            traceback.print_exc()
        code, message = describe_error(error)
        if message:
            with contextlib.suppress(OSError):
                click.echo(f"{name}: {message}", err=True)
        return code


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


def error_object(error: BaseException, source: str) -> dict[str, Any]:
    """A failure as the JSON object that stands in for a file's report when several are processed."""
    code, message = describe_error(error)
    found: dict[str, Any] = {"input": source, "error": message, "exit_code": code}
    if isinstance(error, InvalidFile):
        found |= {"code": error.code, "offset": error.offset}
    return found


# -- messages


@dataclasses.dataclass
class Console:
    """Messages for a person, on stderr: warnings unless quiet, details if verbose."""

    quiet: bool = False
    verbose: int = 0

    def warn(self, message: str) -> None:
        if not self.quiet:
            click.echo(f"warning: {message}", err=True)

    def note(self, message: str) -> None:
        if not self.quiet:
            click.echo(message, err=True)

    def detail(self, message: str) -> None:
        if self.verbose and not self.quiet:
            click.echo(message, err=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that every parser takes: NaN and infinities, which JSON doesn't have, become null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    return str(value)


# -- options and help


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Option(click.Option):
    """A click option with a heading in the help; an advanced one shows only in ``-h -v``."""

    def __init__(self, *args: Any, section: str = "General", advanced: bool = False, **kwargs: Any) -> None:
        self.section, self.advanced = section, advanced
        super().__init__(*args, **kwargs)


class Command(click.Command):
    """A click command whose help is grouped by section and short unless ``-v`` is given with it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["igs.full_help"] = any(a in ("-v", "-vv", "-hv", "-vh", "--verbose") for a in args)
        ctx.meta["igs.args"] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        full = ctx.meta.get("igs.full_help", False)
        sections: dict[str, list[tuple[str, str]]] = {}
        hidden = 0
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or not isinstance(parameter, Option):
                continue
            if parameter.advanced and not full:
                hidden += 1
                continue
            sections.setdefault(parameter.section, []).append(record)
        for title in sorted(sections, key=lambda title: title == "General"):  # General last
            with formatter.section(title):
                formatter.write_dl(sections[title], col_max=34)
        if hidden:
            formatter.write_paragraph()
            formatter.write_text(f"{hidden} more options: -h -v")


def command(name: str, *decorators: Decorator, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A :class:`Command` with these options and, last, the ones that all commands have."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for decorator in reversed([*decorators, *_COMMON]):
            function = decorator(function)
        settings = {"help_option_names": [], "max_content_width": 110, "show_default": False}
        return click.command(name, cls=Command, context_settings=settings, **kwargs)(function)

    return decorate


def option(*names: str, **kwargs: Any) -> Decorator:
    return click.option(*names, cls=Option, **kwargs)


def given_options(ctx: click.Context) -> dict[str, list[str]]:
    """The options of a call as words, by parameter name: what was typed, under the option's first name."""
    typed, _, order = ctx.command.make_parser(ctx).parse_args(list(ctx.meta["igs.args"]))
    found: dict[str, list[str]] = {}
    for parameter in order:
        if not isinstance(parameter, Option) or parameter.name is None:
            continue
        value = typed[parameter.name]
        if parameter.is_flag:
            words = [(parameter.opts if value else parameter.secondary_opts)[0]]
        elif parameter.count:
            words = [parameter.opts[0]] * value
        else:
            values = value if parameter.multiple else [value]
            words = [word for one in values for word in (parameter.opts[0], str(one))]
        found[parameter.name] = words
    return found


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help())
        ctx.exit()


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{ctx.info_name} {igs.__version__}")
        ctx.exit()


_EAGER: dict[str, Any] = {"is_flag": True, "is_eager": True, "expose_value": False}
_COMMON = (
    option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    option("--quiet", is_flag=True, help="No progress, notes or warnings; errors only."),
    option("-v", "--verbose", count=True, help="More messages; repeat for more. With -h: show all options."),
    option("-V", "--version", callback=_show_version, help="Show the version.", **_EAGER),
    option("-h", "--help", callback=_show_help, help="Show this help (-h -v: all options).", **_EAGER),
)


class Number(click.ParamType):
    """A number or a byte count within bounds. ``inf`` is accepted where ``finite`` is off; NaN never is."""

    def __init__(
        self, low: float, high: float = math.inf, *, whole: bool = False, finite: bool = True, open_low: bool = False
    ) -> None:
        self.low, self.high, self.whole, self.finite, self.open_low = low, high, whole, finite, open_low
        self.name = "integer" if whole else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number: float = int(value) if self.whole else float(value)
        except (ValueError, OverflowError):
            self.fail(f"expected {'a whole number' if self.whole else 'a number'}, found {value!r}", param, ctx)
        if self.finite and not math.isfinite(number):
            self.fail(f"expected a finite number, found {value!r}", param, ctx)
        low_ok = number > self.low if self.open_low else number >= self.low
        if not (low_ok and number <= self.high):
            bounds = f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
            if self.high < math.inf:
                bounds = (
                    f"above {self.low:g}, up to {self.high:g}" if self.open_low else f"{self.low:g} to {self.high:g}"
                )
            self.fail(f"expected {bounds}, found {value}", param, ctx)
        return number


class Size(click.ParamType):
    """A count with an optional suffix k, M, G (powers of 1024 for bytes, of 1000 for pixels)."""

    name = "size"

    def __init__(self, base: int) -> None:
        self.base = base

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        power = "kmg".find(text[-1:].lower()) + 1 if text else 0
        try:
            number = float(text[:-1] if power else text) * self.base**power
            if not 1 <= number < 2**63:
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"expected a count of 1 or more such as 500, 20k, 64M or 2G, found {value!r}", param, ctx)
        return int(number)


class Numbers(click.ParamType):
    """``count`` comma-separated numbers, such as X,Y,W,H."""

    def __init__(self, form: str, *, whole: bool = False) -> None:
        self.form, self.count, self.whole = form, form.count(",") + 1, whole
        self.name = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        try:
            numbers = tuple((int if self.whole else float)(part) for part in parts)
            if len(numbers) != self.count or not all(math.isfinite(number) for number in numbers):
                raise ValueError
        except (ValueError, OverflowError):
            kind = "whole numbers" if self.whole else "numbers"
            self.fail(f"expected {self.count} {kind} as {self.form}, found {value!r}", param, ctx)
        return numbers


DECODER_THREADS = option(
    "--threads",
    type=Number(1, 1024, whole=True),
    metavar="N",
    section="Decoder",
    help="CPU threads (default: all cores).",
)
SIZE_LIMIT = option(
    "--size-limit",
    type=Size(1000),
    default=2**28,
    metavar="PIXELS",
    section="Limits",
    advanced=True,
    help="Refuse pictures of more pixels (default 2^28).",
)
DIMENSION_LIMIT = option(
    "--dimension-limit",
    type=Size(1000),
    default=32768,
    metavar="PIXELS",
    section="Limits",
    advanced=True,
    help="Refuse pictures with a longer side (default 32768).",
)
MEMORY_LIMIT = option(
    "--memory-limit",
    type=Size(1024),
    default=4 * 2**30,
    metavar="BYTES",
    section="Limits",
    advanced=True,
    help="Refuse what would need more memory for pixels (default 4G).",
)


@contextlib.contextmanager
def named(source: str) -> Iterator[None]:
    """Put the file's name before the message of an error that doesn't carry it."""
    try:
        yield
    except InvalidFile as error:
        error.args = (f"{source}: {error}",)
        raise
    except (InputError, UsageError) as error:
        if source not in str(error):
            error.args = (f"{source}: {error}",)
        raise
