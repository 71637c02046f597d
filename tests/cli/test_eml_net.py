"""EML-Net from the checkpoints that the documentation converts to files, pictures and errors, with drawn weights."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import igs

torch = pytest.importorskip("torch", reason="the network needs torch")
pytest.importorskip("safetensors", reason="its weights need safetensors")

from eml_net_cases import drawn_weights

from igs.encoder.fitting import eml_net

PAGE = Path(__file__).resolve().parents[2] / "docs" / "saliency.md"
QUICK = ["-n", 60, "--steps", 3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints as they may be published, made one file by the lines of the documentation: 94 MB."""
    folder = tmp_path_factory.mktemp("weights")
    drawn = drawn_weights()
    for part, prefix in (("imagenet", ""), ("places", "module."), ("decoder", "")):
        state = {prefix + n.removeprefix(f"{part}."): t for n, t in drawn.items() if n.startswith(f"{part}.")}
        torch.save(state if part == "places" else {"state_dict": state}, folder / f"res_{part}.pth")
    (lines,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with contextlib.chdir(folder):
        exec(lines, {})
    for path in folder.glob("*.pth"):
        path.unlink()
    path = folder / "eml-net.safetensors"
    yield path
    path.unlink()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eml_net, "SIZE", (96, 128))


def test_a_file_of_weights_makes_a_file(
    cli: Any, picture: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Path] = []
    network, load = eml_net.eml_net, functools.cache(eml_net.load)
    monkeypatch.setattr(eml_net, "eml_net", lambda rgb, path: runs.append(path) or network(rgb, path))
    monkeypatch.setattr(eml_net, "load", load)  # once is enough
    use = ("--saliency", "eml-net", "--saliency-network", weights)

    def encoded(*args: object) -> bytes:
        result = cli("igs-encode", picture, tmp_path / "out.igs", *QUICK, *args)
        assert (result.code, result.json["num_gaussians"] if "--json" in args else 60) == (0, 60), result.err
        return (tmp_path / "out.igs").read_bytes()

    plain = encoded()
    placed, weighed = encoded(*use, "--init", "saliency", "--json"), encoded(*use, "--saliency-weight", 8)
    both = encoded(*use, "--init", "saliency", "--saliency-weight", 8, "--threads", 1)
    assert len({plain, placed, weighed, both}) == 4
    assert runs == [weights] * 3  # once for all that an encode does with it
    settings = {"init": "saliency", "saliency": "eml-net", "saliency_network": str(weights), "saliency_weight": 8}
    assert igs.encode(picture, num_gaussians=60, steps=3, threads=2, **settings).data == both
    refused = cli("igs-encode", picture, tmp_path / "out.igs", *QUICK, *use)
    assert refused.code == 1  # nothing asks for a map
    assert "expected init saliency or a saliency_weight" in refused.err
    assert len(runs) == 4
    small = encoded(*use, "--init", "saliency", "--saliency-weight", 8, "--downsample", 2)
    assert igs.open(small).width == 16


def test_its_map_is_shown(cli: Any, picture: Path, tmp_path: Path, weights: Path) -> None:
    shown = []
    for name, more in (("eml-net", ("--saliency-network", weights)), ("fine-grained", ())):
        out = tmp_path / f"{name}.png"
        args = ("-k", "saliency", "--saliency", name, *more)
        assert cli("igs-view", picture, out, *args, "--bare").code == 0
        assert cli("igs-view", picture, tmp_path / "sheet.png", *args, "--beside").code == 0
        shown.append(out.read_bytes())
    assert shown[0] != shown[1]
    with Image.open(tmp_path / "eml-net.png") as image:
        assert image.size == (32, 32)


def test_what_is_no_file_of_weights(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    use = ("--init", "saliency", "--saliency", "eml-net", "--saliency-network")
    for path, words in ((picture, "expected a .safetensors file of EML-Net's weights"), (tmp_path / "none", "No such")):
        for args in (
            ("igs-encode", picture, out, *QUICK),
            ("igs-view", picture, out.with_suffix(".png"), "-k", "saliency"),
        ):
            result = cli(*args, *(use if args[0] == "igs-encode" else use[2:]), path)
            assert (result.code, result.err.count("\n")) == (2, 1)
            assert words in result.err
            assert str(path) in result.err
    assert not out.exists()
    assert not out.with_suffix(".png").exists()
