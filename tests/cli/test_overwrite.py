"""No command writes over what it reads, nor over what else it writes; --no-overwrite holds for every output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import VALID
from PIL import Image

from igs.format import Colour, Group


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, igs_bytes: Any) -> Path:
    """A current directory with pictures, a link and a hard link to the first, maps, .igs files and frames of a fit."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    (tmp_path / "maps").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "frames").mkdir()
    for name in ("in.png", "sm.png", "maps/albedo.png", "frames/step_000000.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    os.symlink("in.png", "link.png")
    os.link("in.png", "hard.png")
    for name in ("a.igs", "b.igs"):
        (tmp_path / name).write_bytes((VALID / "topk_1.igs").read_bytes())
    groups = (Group(channels=3, colour=Colour.RGB, name="albedo"),)
    (tmp_path / "out" / "albedo.png").write_bytes(igs_bytes(groups=groups))
    (tmp_path / "ck.npz").write_bytes(b"a checkpoint")
    (tmp_path / "log").write_text("{}\n")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("args", "both"),
    [
        ("igs-encode in.png o.igs --log in.png", ("--log in.png", "the input in.png")),
        ("igs-encode in.png o.igs --log hard.png", ("--log hard.png", "the input in.png")),
        ("igs-encode link.png o.igs --checkpoint in.png", ("--checkpoint in.png", "the input link.png")),
        ("igs-encode in.png o.igs --film ./in.png", ("--film in.png", "the input in.png")),
        ("igs-encode in.png o.igs --log o.igs", ("--log o.igs", "the output o.igs")),
        ("igs-encode in.png o.igs --log l --checkpoint l", ("--checkpoint l", "the output --log l")),
        ("igs-encode in.png o.igs --saliency-map sm.png --report sm.png", ("--report sm.png", "--saliency-map sm.png")),
        (
            "igs-encode in.png o.igs --init saliency --saliency eml-net --saliency-network ck.npz --log ck.npz",
            ("--log ck.npz", "the input --saliency-network ck.npz"),
        ),
        ("igs-encode in.png ck.npz --force --resume ck.npz", ("ck.npz", "the input --resume ck.npz")),
        ("igs-encode in.png o.igs --resume ck.npz --log ck.npz", ("--log ck.npz", "the input --resume ck.npz")),
        (
            "igs-encode in.png o.igs --resume ck.npz --checkpoint ck.npz --log ck.npz",
            ("--checkpoint ck.npz", "the output --log ck.npz"),
        ),
        ("igs-encode maps o.igs --log maps/albedo.png", ("--log maps/albedo.png", "the input maps/albedo.png")),
        ("igs-encode --map x=in.png o.igs --checkpoint in.png", ("--checkpoint in.png", "the input in.png")),
        (
            "igs-encode frames/step_000000.png o.igs --render-every 5 --render-dir frames",
            ("--render-dir frames/step_000000.png", "the input frames/step_000000.png"),
        ),
        ("igs-decode out/albedo.png out/", ("out/albedo.png", "the input out/albedo.png")),
        ("igs-decode a.igs a.igs --format png", ("a.igs", "the input a.igs")),
        ("igs-edit a.igs b.igs --copy-from b.igs", ("b.igs", "the input --copy-from b.igs")),
        ("igs-edit a.igs sm.png --force --set-xmp sm.png", ("sm.png", "the input --set-xmp sm.png")),
        ("igs-view a.igs in.png -k error --against link.png", ("in.png", "the input --against link.png")),
        (
            "igs-view in.png sm.png -k saliency --saliency eml-net --saliency-network sm.png",
            ("sm.png", "the input --saliency-network sm.png"),
        ),
        ("igs-view out/albedo.png maps/albedo.png -k error --against maps", ("maps/albedo.png", "the input --against")),
    ],
)
def test_inputs_and_other_outputs_are_safe(
    cli: Any, folder: Path, fake_encoder: list[Any], args: str, both: tuple[str, str]
) -> None:
    before = contents(folder)
    result = cli(*args.split())
    assert result.code == 1, result.err
    assert all(words in result.err for words in both), result.err
    assert contents(folder) == before
    assert not fake_encoder


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ("igs-encode in.png a.igs", "a.igs"),
        ("igs-encode in.png o.igs --log log", "--log log"),
        ("igs-encode in.png o.igs --checkpoint ck.npz", "--checkpoint ck.npz"),
        ("igs-encode in.png o.igs --report log", "--report log"),
        ("igs-encode in.png o.igs --render-every 5 --render-dir frames", "--render-dir frames/step_000000.png"),
        ("igs-decode a.igs in.png", "in.png"),
        ("igs-edit a.igs b.igs --strip", "b.igs"),
        ("igs-view a.igs in.png", "in.png"),
    ],
)
def test_no_overwrite(cli: Any, folder: Path, fake_encoder: list[Any], args: str, name: str) -> None:
    before = contents(folder)
    result = cli(*args.split(), "--no-overwrite")
    assert result.code == 2, result.err
    assert f"{name}: exists already (--no-overwrite)" in result.err
    assert contents(folder) == before
    assert not fake_encoder


def test_a_checkpoint_spares_the_one_that_it_goes_on_from(cli: Any, folder: Path) -> None:
    pytest.importorskip("torch", reason="the encoder needs torch")
    args = ("igs-encode", "in.png", "-n", "9", "--steps", "20", "--checkpoint-every", "10", "--quiet")
    assert cli(*args, "a.igs", "--checkpoint", "fit.tmp.npz").code == 0
    before = (folder / "fit.tmp.npz").read_bytes()
    result = cli(*args, "b.igs", "--resume", "fit.tmp.npz", "--checkpoint", "fit.npz")
    assert (result.code, result.err) == (0, "")
    assert (folder / "fit.tmp.npz").read_bytes() == before
    assert (folder / "fit.npz").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("--resume", "ck.npz", "--checkpoint", "./ck.npz"),  # to go on in the same file
        ("--checkpoint", "ck.npz", "--log", "log"),
        ("--log", os.devnull, "--checkpoint", os.devnull),
    ],
)
def test_what_may_be_written(cli: Any, folder: Path, fake_encoder: list[Any], args: tuple[str, ...]) -> None:
    assert cli("igs-encode", "in.png", "a.igs", *args).code == 0
    assert len(fake_encoder) == 1
