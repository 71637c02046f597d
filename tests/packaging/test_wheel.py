"""What lies in a built wheel. `.ci/run` builds one, names it in IGS_WHEEL, and also runs it without PyTorch."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names() -> list[str]:
    wheel = os.environ.get("IGS_WHEEL")
    if not wheel:
        pytest.skip("IGS_WHEEL names no wheel (.ci/run builds one and sets it)")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_nothing_but_igs_at_the_top(names):
    # `format` and `cli` as bare packages would collide with other people's.
    tops = {PurePosixPath(name).parts[0] for name in names}
    assert {top for top in tops if not re.fullmatch(r"igs_codec-[^/]+\.dist-info", top)} == {"igs"}


def test_every_module_of_the_repository_is_there(names):
    parts = ("format", "decoder", "encoder", "csrc", "view", "cli")
    expected = {f"igs/{path.relative_to(REPO)}" for part in parts for path in (REPO / part).rglob("*.py")}
    expected |= {f"igs/{path.name}" for path in (REPO / "src" / "igs").glob("*.py")}
    assert {name for name in names if name.endswith(".py")} == expected
    assert "igs/py.typed" in names


def test_the_kernels_are_compiled_and_their_sources_present(names):
    assert [name for name in names if re.fullmatch(r"igs/csrc/_kernels[^/]*\.so", name)]
    sources = {f"igs/csrc/{path.name}" for path in (REPO / "csrc").iterdir() if path.suffix in (".cpp", ".h", ".inc")}
    sources |= {f"igs/csrc/cuda/{path.name}" for path in (REPO / "csrc" / "cuda").iterdir() if path.is_file()}
    assert sources <= set(names)


def test_the_page_has_its_style(names):
    assert {"igs/view/report.css", "igs/view/report.js"} <= set(names)


def test_licence_is_in_the_metadata(names):
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
