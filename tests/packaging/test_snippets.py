"""The Python snippets of the documents run as they stand there, each page in one process, and give what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from files import VALID
from PIL import Image

REPO = Path(__file__).resolve().parents[2]
# Page → what must hold behind its snippets.
CHECKS = {
    "docs/colour.md": """
assert light.max() > 15 and shown.max() == 255
from pathlib import Path
assert Path("small.igs").stat().st_size <= Path("sky.igs").stat().st_size * 3 // 4
""",
    "docs/igs-view.md": """
from pathlib import Path
assert Path("gaussians.png").stat().st_size > 100 and Path("film.webp").stat().st_size > 100
""",
    "docs/levels.md": """
assert len(ends) == 3 and ends[-1] == len(data) and rough.shape == (128, 128, 3)
with igs.open(data) as im:
    assert [(picture == im.decode(level=level)).all() for level, picture in enumerate(shown)] == [True] * 3
""",
    "docs/python.md": """
assert batch.shape == (8, 3, 16, 16) and batch.dtype == torch.float32
assert image.size == (32, 21) and image.mode == "RGB"
""",
    "docs/restoration.md": """
assert np.square(restored.astype(float) - clean).mean() < np.square(noisy.astype(float) - clean).mean() / 2
""",
    "docs/saliency.md": """
assert weighted.report["roi_psnr"] > plain.report["roi_psnr"] + 1
assert len(weighted.data) <= 0.2 * 256 * 256 / 8
assert found.shape == (256, 256) and 0 <= found.min() <= found.max() <= 1
""",
    "docs/scales.md": """
assert small.shape == (64, 64, 3) and large.shape == (128, 128, 3) and tiny.shape == (16, 16, 3)
assert abs(10 * np.log10(255**2 / error) - encoded.report["psnr"]) < 0.01
""",
    "docs/textures.md": """
assert pixels.shape == (96, 96, 3) and pixels.dtype == "uint8"
assert corner.shape == (32, 32, 3) and both.shape == (96, 96, 4) and values.shape == (1, 3)
assert [m.dtype.name for m in maps.values()] == ["float32", "uint8", "uint16"]
assert [group["name"] for group in encoded.report["groups"]] == ["albedo", "normal", "height"]
assert [part["groups"] for part in in_parts.report["parts"]] == [["albedo", "roughness"], ["ao"]]
assert alone < 0.8 * len(in_parts.data) <= 0.8 * 2400
""",
}
GPU = {"docs/gpu.md", "docs/gpu-encoding.md"}


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPO / page).read_text(encoding="utf-8"), re.DOTALL)


def run(code: str, folder: Path, **environment: str) -> str:
    """What it printed, in a folder with a picture, a file and the examples."""
    (folder / "examples").symlink_to(REPO / "examples")
    with Image.open(REPO / "examples" / "antelope_canyon.png") as image:
        image.resize((96, 64)).save(folder / "photo.png")
    shutil.copy(VALID / "lattice.igs", folder / "photo.igs")
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_page_with_a_snippet_is_tested():
    pages = {path.relative_to(REPO).as_posix() for path in (REPO / "docs").glob("*.md")}
    assert {page for page in pages if snippets(page)} == set(CHECKS) | GPU


@pytest.mark.parametrize("page", sorted(CHECKS))
def test_snippets(page, tmp_path):
    pytest.importorskip("torch")
    run("".join(snippets(page)) + CHECKS[page], tmp_path)


def test_snippets_of_the_page_on_decoding_on_a_gpu(tmp_path):
    """On one where there is one, else in Numba's simulator."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    from igs.decoder import cuda

    code = "import warnings\nwarnings.simplefilter('ignore')  # Numba's, of small launches\n"
    code += "".join(snippets("docs/gpu.md"))
    code += "assert host.shape == (12, 16, 3) and (host == out.copy_to_host()).all()\n"
    code += "assert np.abs(bent.copy_to_host()[5, 0] - im.sample([[3.0, 3.5]]).copy_to_host()[0]).max() < 1e-5\n"
    printed = run(code, tmp_path, **({} if cuda.available() else {"NUMBA_ENABLE_CUDASIM": "1"}))
    assert printed == "(12, 16, 3) uint8\n" * 2


def test_snippet_of_the_page_on_encoding_on_a_gpu(tmp_path):
    """Without one all but the fit itself."""
    torch = pytest.importorskip("torch")
    (code,) = snippets("docs/gpu-encoding.md")
    if torch.cuda.is_available():
        code += "assert [len(model) for model in models] == [3000, 3000]\n"
    else:
        *before, fits, models = code.splitlines()
        assert fits.startswith("fits = FitBatch(")
        assert models.startswith("models = fits.fit()")
        call = fits.removeprefix("fits = FitBatch(").replace("open_device()", "open_device").removesuffix(")")
        checks = f"import inspect\ninspect.signature(FitBatch).bind({call})\nassert callable(FitBatch.fit)\n"
        code = "\n".join(before) + "\n" + checks + "assert targets[1].shape == (3, 512, 768)\n"
    run(code, tmp_path)
