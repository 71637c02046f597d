"""What the commands write appears whole or not at all, on standard output too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from igs.cli import files
from igs.format.errors import OutputError
from igs.format.whole_file import whole_file


def test_output_to_a_pipe_and_to_a_file(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for target in (files.PIPE, str(tmp_path / "out")):
        with files.output(target) as out:
            out.write(b"second")
            out.seek(0)
            out.write(b"first.")
            assert capfdbinary.readouterr().out == b""
        assert capfdbinary.readouterr().out == (b"first." if target == files.PIPE else b"")
    assert (tmp_path / "out").read_bytes() == b"first."


@pytest.mark.parametrize("piped", [True, False])
def test_output_of_what_failed(piped: bool, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def fail() -> None:
        with files.output(files.PIPE if piped else str(tmp_path / "out")) as out:
            out.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfdbinary.readouterr().out == b""
    assert not list(tmp_path.iterdir())


def write(path: Path, data: bytes, error: type[BaseException] | None = None) -> None:
    with whole_file(path) as file:
        file.write(data)
        if error:
            raise error


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    write(path, b"first")
    with pytest.raises(KeyboardInterrupt):
        write(path, b"second, cut sh", KeyboardInterrupt)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("state.npz", b"first")]


@pytest.mark.parametrize("name", ["fit.npz", "é" * 120 + ".npz", "線" * 80])  # at most 255 bytes
def test_no_other_file_is_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    others = [path.with_name(f"{path.stem}.tmp{path.suffix}"), tmp_path / ".tmp"]
    for other in others[1:] if len(os.fsencode(others[0].name)) > 255 else others:
        other.write_bytes(b"mine")
    before = {p.name for p in tmp_path.iterdir()}
    write(path, b"state")
    assert path.read_bytes() == b"state"
    assert {p.name for p in tmp_path.iterdir()} == before | {name}
    assert all((tmp_path / other).read_bytes() == b"mine" for other in before)


@pytest.mark.skipif(os.name != "posix", reason="links and modes")
def test_a_link_stays_one_and_modes_are_those_of_any_file(tmp_path: Path) -> None:
    plain, target, link = (tmp_path / name for name in ("plain", "target", "link"))
    plain.write_bytes(b"")
    link.symlink_to("target")
    write(link, b"through the link")
    assert link.is_symlink()
    assert target.read_bytes() == b"through the link"
    assert target.stat().st_mode == plain.stat().st_mode
    target.chmod(0o640)
    write(link, b"again")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="masks of modes")
def test_the_mask_of_the_process_holds_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o077)
    try:
        monkeypatch.setattr(os, "umask", None)  # it is one for all threads: not to be touched, not for a moment
        write(tmp_path / "new", b"")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_a_file_that_came_meanwhile_is_not_replaced_without_links_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    for name in ("there", "new"):
        with contextlib.suppress(OutputError), whole_file(tmp_path / name, overwrite=False) as file:
            file.write(b"ours")
            if name == "there":
                (tmp_path / name).write_bytes(b"theirs")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"there": b"theirs", "new": b"ours"}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "fit.npz"):
        with pytest.raises(OutputError, match=str(path)):
            write(path, b"")


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs /dev/fd")
def test_a_pipe_by_the_number_of_its_end() -> None:
    """As shells name it in ``>(command)``."""
    reader, writer = os.pipe()
    with whole_file(f"/dev/fd/{writer}") as file:
        file.write(b"abc")
    os.close(writer)
    assert os.read(reader, 10) == b"abc"
    os.close(reader)


def test_errors_of_other_files_are_theirs() -> None:
    with pytest.raises(FileNotFoundError), whole_file(os.devnull):
        open("no such file")  # noqa: SIM115


def test_a_device_takes_what_is_written_with_seeks() -> None:
    with whole_file(os.devnull) as file:
        np.savez(file, a=np.arange(3))
