"""Options and help: sections, options that show on demand, checked values, and the options of more than one command."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import igs
from igs.cli.console import print_result
from igs.format.fields import MAX_LEVELS
from igs.format.limits import Limits
from igs.format.threads import MOST as MOST_THREADS

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
        print_result(ctx.get_help())
        ctx.exit()


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print_result(f"{ctx.info_name} {igs.__version__}")
        ctx.exit()


_EAGER: dict[str, Any] = {"is_flag": True, "is_eager": True, "expose_value": False}
_COMMON = (
    option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    option("--quiet", is_flag=True, help="No progress, notes or warnings; errors only."),
    option("-v", "--verbose", count=True, help="More messages; repeat for more. With -h: show all options."),
    option("-V", "--version", callback=_show_version, help="Show the version.", **_EAGER),
    option("-h", "--help", callback=_show_help, help="Show this help (-h -v: all options).", **_EAGER),
)


# -- values


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
            # Whole bounds as they are: a float would round those above 2^53.
            low, high = (str(int(b)) if float(b).is_integer() else f"{b:g}" for b in (self.low, self.high))
            bounds = f"above {low}" if self.open_low else f"{low} or more"
            if self.high < math.inf:
                bounds = f"above {low}, up to {high}" if self.open_low else f"{low} to {high}"
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


# -- of more than one command

# The name of a file. Whether it can be read is for who reads it to say (exit 2): click's own check is a usage error,
# and is made of files that are only written as well.
FILE = click.Path(path_type=Path, dir_okay=False, readable=False)

LEVEL, THREADS = Number(0, MAX_LEVELS - 1, whole=True), Number(1, MOST_THREADS, whole=True)
DECODER_THREADS = option(
    "--threads",
    type=THREADS,
    metavar="N",
    section="Decoder",
    help="CPU threads (default: all cores).",
)
SIZE_LIMIT = option(
    "--size-limit",
    type=Size(1000),
    default=int(Limits.pixels),
    metavar="PIXELS",
    section="Limits",
    advanced=True,
    help="Refuse pictures of more pixels (default 2^28).",
)
DIMENSION_LIMIT = option(
    "--dimension-limit",
    type=Size(1000),
    default=int(Limits.side),
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
