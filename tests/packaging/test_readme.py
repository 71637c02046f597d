"""The README keeps its word: its commands are what .ci/run runs, its snippet runs, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
FOLDERS = (".", "docs", "examples", "spec", "tests/conformance")  # and no copies of them, as builds make
DOCUMENTS = sorted(path.relative_to(REPO).as_posix() for folder in FOLDERS for path in (REPO / folder).glob("*.md"))


def _steps(name: str) -> list[list[str]]:
    """The words of each step of a marked command, joined by && in the README."""
    blocks = re.findall(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(blocks) == 1
    return [shlex.split(step) for step in blocks[0].replace("\\\n", " ").split("&&")]


def test_ci_runs_the_commands_of_the_readme():
    # By their marks, cut out of the README: there is no second copy that could differ.
    script = (REPO / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command main" in script
    assert "readme_command tests" in script
    assert re.findall(r"<!-- command: (\w+) -->", README) == ["main", "tests"]


@pytest.mark.parametrize("name", ["main", "tests"])
def test_steps_exist(name):
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    programs = {"pip", "python", *project["scripts"]}
    steps = _steps(name)
    assert steps[0][:3] == ["python3", "-m", "venv"]
    assert steps[0][-1] == ".venv"
    # PyTorch first and in its own step: as a dependency of ours pip would take the largest build there is.
    assert steps[1][-1].startswith("torch==")
    for step in steps[1:]:
        assert Path(step[0]).parts[:2] == (".venv", "bin")
        assert Path(step[0]).name in programs
    for extra in re.findall(r"\.\[(.*?)\]", " ".join(word for step in steps for word in step)):
        assert set(extra.split(",")) <= set(project["optional-dependencies"])


def test_main_command_encodes_the_bundled_picture_and_decodes_it():
    encode, *decodes = [step for step in _steps("main") if Path(step[0]).name.startswith("igs-")]
    source, output = encode[1:3]
    assert (REPO / source).is_file()
    assert decodes
    assert all(step[1] == output for step in decodes)
    assert any("--scale" in step for step in decodes)


def test_options_of_the_shell_examples_exist():
    from igs.cli.decode import decode
    from igs.cli.edit import edit
    from igs.cli.encode import encode
    from igs.cli.info import info
    from igs.cli.validate import validate
    from igs.cli.view import view

    known = {
        str(command.name): {name for option in command.params for name in option.opts}
        for command in (encode, decode, edit, info, validate, view)
    }
    lines = [line.strip(" &\\").removeprefix(".venv/bin/") for line in README.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if re.match(r"igs-\w+ ", line)]
    assert {words[0] for words in commands} == set(known)
    for words in commands:
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known[words[0]], words


def test_python_snippet_runs(tmp_path):
    pytest.importorskip("torch")
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 1
    (tmp_path / "examples").symlink_to(REPO / "examples")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippets[0]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ bytes, \d+\.\d+ dB\n768 512 3 \d+\n\d+ bytes read so far\n", done.stdout)


def _anchors(text: str) -> set[str]:
    """The anchors that the headings of a Markdown text get."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_document_is_left_out():
    beside = {"build", "dist", "shared"}  # of no checkout
    found = (path.relative_to(REPO) for path in REPO.rglob("*.md"))
    kept = {p.as_posix() for p in found if not p.parts[0].startswith(".") and p.parts[0] not in beside}
    assert kept == set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = REPO / document
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in _anchors(linked.read_text(encoding="utf-8")), f"{document} links to {target}"
