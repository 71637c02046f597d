"""Exit codes and their one place, help, number formats, and the option pages of docs/cli.md."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import igs
from igs.cli import process
from igs.cli.console import to_json
from igs.cli.decode import decode
from igs.cli.edit import edit
from igs.cli.encode import encode
from igs.cli.info import info
from igs.cli.options import Number, Numbers, Size
from igs.cli.process import describe_error, run
from igs.cli.recipe import HELP
from igs.cli.validate import validate
from igs.cli.view import view
from igs.encoder.options import EncodeOptions
from igs.encoder.recipe import Recipe
from igs.format.errors import InputError, InvalidFile, LimitExceeded, Unsupported, UsageError

COMMANDS = {command.name: command for command in (encode, decode, edit, info, validate, view)}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.UsageError("x"), 1),
        (click.BadParameter("x"), 1),
        (UsageError("x"), 1),
        (InputError("x"), 2),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "f"), 2),
        (InvalidFile("E_SIGNATURE", "x", 0), 3),
        (LimitExceeded("E_LIMIT_PIXELS", "x"), 3),
        (igs.IgsError("the target could not be met"), 4),
        (MemoryError(), 4),
        (ZeroDivisionError("two\nlines"), 4),
        (Unsupported("x"), 5),
        (KeyboardInterrupt(), 130),
        (process.Terminated(), 143),
        (BrokenPipeError(), 141),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command("test")
    def command() -> None:
        raise error

    assert run(command, []) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == (0 if code == 141 else 1)
    assert "Traceback" not in captured.err
    assert describe_error(error)[0] == code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("igs-encode none.png out.igs", 2),
        ("igs-encode none.png", 1),
        ("igs-encode --unknown", 1),
        ("igs-decode bad.igs out.png", 3),
        ("igs-decode none.igs out.png", 2),
        ("igs-edit bad.igs out.igs --strip", 3),
        ("igs-edit -i bad.igs -o out.igs", 1),
        ("igs-info bad.igs", 3),
        ("igs-validate", 1),
        ("igs-view bad.igs out.png", 3),
    ],
)
def test_a_failure_is_an_object_of_json_too(
    cli: Any, words: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.igs").write_bytes(b"\0" * 100)
    result = cli(*words.split(), "--json")
    assert (result.code, result.json["exit_code"]) == (code, code)
    assert result.err == f"{words.split()[0]}: {result.json['error']}\n"
    assert result.json.keys() - {"error", "exit_code"} == ({"code", "offset"} if code == 3 else set())
    assert cli(*words.split()).out == b""


def test_a_failure_is_told_where_the_result_would_have_been(cli: Any, tmp_path: Path) -> None:
    result = cli("igs-decode", tmp_path / "none.igs", "-", "--json")
    assert (result.code, result.out) == (2, b"")
    message, found = result.err.splitlines()
    assert message == f"igs-decode: {json.loads(found)['error']}"


def test_a_traceback_shows_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("test")
    def command() -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("IGS_DEBUG", "1")
    assert run(command, []) == 4
    assert "Traceback" in capsys.readouterr().err


def test_exit_codes_of_the_errors_agree_with_the_table() -> None:
    classes = {UsageError: 1, InputError: 2, InvalidFile: 3, igs.IgsError: 4, Unsupported: 5}
    assert {cls: cls.exit_code for cls in classes} == classes


@pytest.mark.parametrize("name", COMMANDS)
def test_version_and_help(cli: Any, name: str) -> None:
    assert cli(name, "-V").text == f"{name} {igs.__version__}\n"
    assert cli(name, "--version").code == 0
    short, full = cli(name, "-h"), cli(name, "-h", "-v")
    assert short.code == full.code == 0
    assert short.text == cli(name, "--help").text
    assert full.text == cli(name, "-vh").text == cli(name, "-v", "--help").text
    assert len(full.text) > len(short.text)
    match = re.search(r"(\d+) more options: -h -v", short.text)
    assert match is not None
    hidden = sum(getattr(p, "advanced", False) for p in COMMANDS[name].params)
    assert int(match[1]) == hidden
    assert "more options" not in full.text
    assert max(len(line) for line in full.text.splitlines()) <= 110


def test_help_says_how_often_progress_is_told(cli: Any) -> None:
    text = " ".join(cli("igs-encode", "-h", "-v").text.split())
    assert "progress reports (default 10; with -v or --log, but no --report, a tenth of all, at most 100)" in text


def test_every_recipe_field_and_request_has_an_option() -> None:
    names = {parameter.name for parameter in encode.params}
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert fields <= names
    assert fields == set(HELP)
    not_options = {"overrides", "sections", "on_progress", "on_step", "on_warning"}
    assert {field.name for field in dataclasses.fields(EncodeOptions)} - not_options <= names


def test_defaults_are_the_encoders() -> None:
    context = click.Context(encode)
    defaults = {p.name: p.get_default(context) for p in encode.params}
    for field in dataclasses.fields(EncodeOptions):
        if field.name in defaults and field.default is not None and field.name != "log_every":  # depends on -v, --log
            found = defaults[field.name]
            assert found == field.default or (field.default is False and not found), field.name  # flags have no default


@pytest.mark.parametrize("name", COMMANDS)
def test_the_documentation_has_every_option(name: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    own = DOCS.with_name(f"{name}.md")  # where a command has a page
    section = (own.read_text(encoding="utf-8") if own.exists() else text).partition(f"\n## {name}\n")[2]
    section = section.partition("\n## ")[0]
    common_part = text.partition("\n## All commands\n")[2].partition("\n## ")[0]
    assert section
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            for flag in (*parameter.opts, *parameter.secondary_opts):
                found = re.search(rf"`[^`]*(?<![\w-]){re.escape(flag)}(?![\w-])[^`]*`", section + common_part)
                assert found, f"{name} {flag}"
    known = {flag for p in COMMANDS[name].params for flag in (*p.opts, *p.secondary_opts)}
    for flag in re.findall(r"^\s*- `(.+?)`", section, re.MULTILINE):
        for word in re.findall(r"(?<![\w-])--?[a-z][\w-]*", flag):
            assert word in known, f"the documentation has {word} of {name}, which doesn't exist"


def test_numbers() -> None:
    convert = Number(0, 10, open_low=True).convert
    assert convert("2.5", None, None) == 2.5
    for bad in ("0", "10.1", "nan", "inf", "x", "", "1_0x"):
        with pytest.raises(click.BadParameter):
            convert(bad, None, None)
    assert Number(0, finite=False).convert("inf", None, None) == float("inf")
    with pytest.raises(click.BadParameter):
        Number(0, finite=False).convert("nan", None, None)
    with pytest.raises(click.BadParameter):
        Number(0, whole=True).convert("1.0", None, None)
    for bounds, found, expected in (
        ((0, 2**63 - 1), str(2**63), f"expected 0 to {2**63 - 1}, found {2**63}"),  # to the last digit
        ((0.5, 64.0), "0.1", "expected 0.5 to 64, found 0.1"),
    ):
        with pytest.raises(click.BadParameter, match=f"^{expected}$"):
            Number(*bounds, whole=bounds[0] == 0).convert(found, None, None)
    assert Size(1024).convert("1.5k", None, None) == 1536
    assert Size(1000).convert("2G", None, None) == 2 * 10**9
    for bad in ("0", "-1", "k", "", "1kk", "nan", "inf", "1e300"):
        with pytest.raises(click.BadParameter):
            Size(1024).convert(bad, None, None)
    assert Numbers("X,Y", whole=True).convert("-1, 2", None, None) == (-1, 2)
    for bad in ("1", "1,2,3", "1,x", "1.5,2", ""):
        with pytest.raises(click.BadParameter):
            Numbers("X,Y", whole=True).convert(bad, None, None)


def test_json_is_valid_for_every_parser() -> None:
    value = {
        "a": float("nan"), "b": [np.float32(np.inf), np.int64(3)], "c": np.arange(2), "d": (True, None), "e": Path("x"),
        1: Number(0).low,
    }  # fmt: skip
    text = to_json(value)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "a": None, "b": [None, 3], "c": [0, 1], "d": [True, None], "e": "x", "1": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_whether_a_file_can_be_read_is_for_its_reader_to_say(name: str) -> None:
    files = {p.name: p.type for p in COMMANDS[name].params if isinstance(p.type, click.Path) and p.type.file_okay}
    assert not [n for n, type_ in files.items() if type_.readable or type_.exists]  # click's errors of these are exit 1
    assert bool(files) == (name in ("igs-encode", "igs-edit", "igs-view"))


@pytest.mark.parametrize("option", ["--saliency-map", "--saliency-network", "--resume"])
def test_a_file_for_a_fit_that_may_not_be_read(cli: Any, picture: Path, forbid: Any, option: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    locked = picture.with_name("locked")
    locked.write_bytes(b"12345678")
    forbid(locked)
    args = [option, locked, "-n", 5, "--steps", 3, *(["--saliency", "eml-net"] if "network" in option else [])]
    result = cli("igs-encode", picture, picture.with_name("out.igs"), *args, "--init", "saliency")
    assert (result.code, result.err) == (2, f"igs-encode: {locked}: Permission denied\n")
    assert not picture.with_name("out.igs").exists()
