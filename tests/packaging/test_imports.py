"""Which module may import which, and that decoding starts light: by reading the sources, and in fresh interpreters."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDERS = {"format", "decoder", "encoder", "csrc", "view", "cli"}
HEAVY = {"torch", "numba", "scipy", "PIL"}

# Package → what none of its modules may import, not even inside a function.
FORBIDDEN = {
    "format": {"igs.decoder", "igs.encoder", "igs.csrc", "igs.view", "igs.cli", "torch", "numba"},
    "decoder": {"igs.encoder", "igs.csrc", "igs.view", "igs.cli", "torch", "scipy"},
    "encoder": {"igs.view", "igs.cli", "scipy"},
    "view": {"igs.encoder", "igs.csrc", "igs.cli", "torch", "numba", "scipy"},
    # Inside the encoder: pictures know nothing of Gaussians, drawing and rounding know nothing of fits.
    "encoder/loading": {"igs.encoder.raster", "igs.encoder.fitting", "igs.encoder.rounding", "torch"},
    "encoder/raster": {"igs.encoder.fitting", "igs.encoder.rounding"},
    "encoder/rounding": {"igs.encoder.fitting"},
    "csrc": {"igs.format", "igs.decoder", "igs.encoder", "igs.cli", "torch", "numpy"},
}
# The entropy coder's kernels; nothing that only opens files may import the modules behind it at its top (see below).
ALLOWED = {"format/jit.py": "numba"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write igs.…"
            module = str(node.module)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_arrows_point_one_way(package):
    for path in sorted((REPO / package).rglob("*.py")):
        for name in _imports(path):
            if ALLOWED.get(path.relative_to(REPO).as_posix()) == name:
                continue
            parts = name.split(".")
            wholes = {".".join(parts[:k]) for k in (1, 2, 3)}
            assert not FORBIDDEN[package] & wholes, f"{path.name} imports {name}"


def test_folders_are_imported_as_parts_of_igs():
    for folder in (*FOLDERS, "src", "tests", "bench", "examples"):
        for path in (REPO / folder).rglob("*.py"):
            assert not {name.partition(".")[0] for name in _imports(path)} & FOLDERS, path


def test_every_folder_is_mapped_and_is_a_package():
    tool = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(REPO) for folder in FOLDERS for path in (REPO / folder).rglob("*.py")}
    packages = {".".join(("igs", *folder.parts)) for folder in folders} | {"igs"}
    assert set(tool["packages"]) == set(tool["package-dir"]) == packages
    for folder in tool["package-dir"].values():
        assert (REPO / folder / "__init__.py").is_file()


def _loaded(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import igs", HEAVY),
        ("import igs.format", HEAVY),
        ("import igs.decoder", HEAVY),
        ("import igs.csrc", HEAVY),
        (
            "import igs.cli.encode, igs.cli.decode, igs.cli.info, igs.cli.validate, igs.cli.view",
            {"torch", "numba", "scipy"},
        ),
        (
            "import igs\nwith igs.open('tests/conformance/valid/topk_1.igs') as im: im.decode()",
            {"torch"},  # Numba itself looks for SciPy
        ),
    ],
    ids=["face", "format", "decoder", "kernels", "commands", "decode"],
)
def test_a_fresh_interpreter_stays_light(statement, absent):
    assert not _loaded(statement) & absent


def test_decoding_to_a_picture_with_metadata_loads_no_encoder(tmp_path):
    from igs.format import read
    from igs.format.sections import phys_section

    exif = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"  # no entries
    document = read(REPO / "tests/conformance/valid/topk_1.igs")
    (tmp_path / "in.igs").write_bytes(document.with_sections({"exif": exif} | phys_section(3000, 3000)).to_bytes())
    kinds = [[], ["--bit-depth", "32"]] if importlib.util.find_spec("tifffile") else [[]]  # Pillow's TIFF, tifffile's
    code = f"""
import sys
from igs.cli import decode, process
for asked in ["out.webp"], ["out.jpeg"], ["out.png"], *(["out.tiff", *kind] for kind in {kinds}):
    assert process.run(decode.decode, ["in.igs", *asked, "--quiet"]) == 0
print(*[name for name in sys.modules if name.startswith("igs.encoder")], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"


def test_numba_cuda_is_loaded_only_when_asked_for():
    code = """
import sys, igs, igs.decoder.cuda
with igs.open("tests/conformance/valid/topk_1.igs") as im:
    im.decode()
assert list(igs.decode_many([])) == []
print(*[name for name in sys.modules if name.split(".")[:2] in (["numba", "cuda"], ["numba_cuda"])])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.strip() == ""
