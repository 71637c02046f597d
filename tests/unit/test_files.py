"""What the commands write appears whole or not at all, on standard output too."""

from __future__ import annotations

from pathlib import Path

import pytest

from igs.cli import files


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
