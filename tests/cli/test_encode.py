"""igs-encode's own part — arguments, files, messages — with the fit replaced by a stand-in."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import igs
from igs.format import open_file

REPORT_KEYS = [
    "input", "output", "width", "height", "channels", "num_gaussians", "bytes", "bpp", "psnr", "ms_ssim", "seconds",
    "steps", "effort", "device",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("fake_encoder")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)).save(path)
    return path


def test_writes_a_file_with_ordinary_permissions(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    result = cli("igs-encode", picture, out)
    assert (result.code, result.out) == (0, b"")
    assert "12×8, 60 Gaussians" in result.err
    with open_file(out) as reader:
        assert (reader.header.width, reader.header.height) == (12, 8)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.igs"]


def test_file_and_pipe_agree(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    assert cli("igs-encode", picture, "-o", out, "--quiet").err == ""
    data = out.read_bytes()
    assert cli("igs-encode", picture, "-").out == data
    assert cli("igs-encode", "-", "-", stdin=picture.read_bytes()).out == data
    assert cli("igs-encode", "-", tmp_path / "b.igs", stdin=picture.read_bytes()).code == 0
    assert (tmp_path / "b.igs").read_bytes() == data


def test_json_is_one_object(cli: Any, picture: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", picture, tmp_path / "out.igs", "--json")
    assert list(result.json) == REPORT_KEYS
    assert result.err == ""
    result = cli("igs-encode", picture, "-", "--json", "--quiet")
    assert list(json.loads(result.err)) == REPORT_KEYS


@pytest.mark.parametrize("first", ["-n 5", "--bpp 1", "--size 1k", "--psnr 30", "-q 50"])
@pytest.mark.parametrize("second", ["--num-gaussians 5", "--bpp 1", "--size 1k", "--psnr 30", "--quality 50"])
def test_rate_options_exclude_each_other(cli: Any, picture: Path, first: str, second: str) -> None:
    result = cli("igs-encode", picture, picture.with_name("out.igs"), *first.split(), *second.split())
    same = {"-n 5": "--num-gaussians", "-q 50": "--quality"}.get(first, first.split()[0]) == second.split()[0]
    if not same:
        assert result.code == 1
        assert second.split()[0] in result.err
        assert "exclude each other" in result.err


def test_options_reach_the_encoder(cli: Any, picture: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    args = (
        "--bpp 0.5 -e 7 --seed 3 --threads 2 --preset image-gs --strict-rate --codec raw --chunk-size 64 --log-every 7"
    )
    recipe = "--steps 40 --init random --no-growth --relative-reach2 inf --feat-bits 6 --blend sum --lr-position 0.25"
    result = cli("igs-encode", picture, tmp_path / "a.igs", *args.split(), *recipe.split())
    assert result.code == 0, result.err
    (image, options) = fake_encoder[0]
    assert image.pixels.shape == (8, 12, 3)
    assert (options.bpp, options.effort, options.seed, options.threads) == (0.5, 7, 3, 2)
    assert (options.preset, options.strict_rate, options.codec, options.chunk_size) == ("image-gs", True, "raw", 64)
    assert options.log_every == 7
    assert options.overrides == {
        "steps": 40, "init": "random", "growth": False, "relative_reach2": float("inf"), "feat_bits": 6, "blend": "sum",
        "lr_position": 0.25,
    }  # fmt: skip


def test_bits_imply_plain_coding(cli: Any, picture: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    for args, coding in (("", "lattice"), ("--pos-bits 12", "plain")):
        assert cli("igs-encode", picture, tmp_path / "a.igs", *args.split()).code == 0
        assert fake_encoder[-1][1].recipe().coding == coding
    assert "implies --coding plain" in " ".join(cli("igs-encode", "-hv").text.split())


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "expected IN OUT"),
        (["in.png"], "expected IN OUT"),
        (["in.png", "b", "c"], "-d DIR"),
        (["in.png", "out.jpg"], "ends in .igs"),
        (["in.png", "out.igs", "-o", "b.igs"], "-o"),
        (["in.png", "-o", "b.igs", "-d", "dir"], "-o and -d"),
        (["in.png", "out.igs", "-n", "0"], "-n"),
        (["in.png", "out.igs", "-n", "1.5"], "whole number"),
        (["in.png", "out.igs", "--bpp", "nan"], "finite"),
        (["in.png", "out.igs", "--bpp", "0"], "1e-06 to 64"),
        (["in.png", "out.igs", "--psnr", "150"], "1 to 100"),
        (["in.png", "out.igs", "--size", "many"], "500, 20k"),
        (["in.png", "out.igs", "-q", "101"], "0 to 100"),
        (["in.png", "out.igs", "-e", "10"], "1 to 9"),
        (["in.png", "out.igs", "--preset", "nice"], "image-gs"),
        (["in.png", "out.igs", "--no-such-option"], "--no-such-option"),
        (["in.png", "out.igs", "--pos-bits", "33"], "pos_bits"),
        (["in.png", "out.igs", "--render-every", "5"], "--render-dir"),
        (["-", "-d", "dir"], "-d"),
        (["in.png", "in.png", "--force"], "same file"),
    ],
)
def test_usage_errors(cli: Any, picture: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], expected: str) -> None:
    monkeypatch.chdir(picture.parent)
    before = sorted(os.listdir())
    result = cli("igs-encode", *args)
    assert result.code == 1, result.err
    assert expected in result.err
    assert result.err.startswith("igs-encode: ")
    assert result.err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_a_directory_without_maps(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    result = cli("igs-encode", tmp_path / "maps", tmp_path / "a.igs")
    assert (result.code, "expected maps such as albedo" in result.err) == (2, True)


def test_io_errors(cli: Any, picture: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", tmp_path / "none.png", tmp_path / "a.igs")
    assert (result.code, "No such file" in result.err) == (2, True)
    assert cli("igs-encode", picture, tmp_path / "no" / "dir" / "a.igs").code == 2
    (tmp_path / "text.png").write_text("hello")
    assert cli("igs-encode", tmp_path / "text.png", tmp_path / "a.igs").code == 2
    (tmp_path / "d.igs").mkdir()
    assert "is a directory" in cli("igs-encode", picture, tmp_path / "d.igs").err
    assert cli("igs-encode", "-", "-", stdin=b"").code == 2
    assert cli("igs-encode", "-", "-", "--memory-limit", 10, stdin=b"x" * 11).code == 2
    assert cli("igs-encode", picture, tmp_path / "a.igs", "--size-limit", 95).code == 2
    assert cli("igs-encode", picture, tmp_path / "a.igs", "--dimension-limit", 11).code == 2
    assert cli("igs-encode", picture, tmp_path / "a.igs", "--memory-limit", "3k").code == 2
    assert not (tmp_path / "a.igs").exists()


def test_no_overwrite(cli: Any, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.igs"
    out.write_bytes(b"mine")
    result = cli("igs-encode", picture, out, "--no-overwrite")
    assert (result.code, out.read_bytes()) == (2, b"mine")
    assert cli("igs-encode", picture, out).code == 0
    assert out.read_bytes()[1:4] == b"IGS"


def test_a_link_stays_and_its_target_is_replaced(cli: Any, picture: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.igs", tmp_path / "link.igs"
    target.write_bytes(b"")
    target.chmod(0o640)
    link.symlink_to(target)
    assert cli("igs-encode", picture, link).code == 0
    assert link.is_symlink()
    assert target.stat().st_size > 100
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_terminals(cli: Any, picture: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", picture, "-", tty=True)
    assert (result.code, result.out) == (1, b"")
    assert cli("igs-encode", "-", tmp_path / "a.igs", tty=True).code == 1
    result = cli("igs-encode", picture, tmp_path / "a.igs", tty=True)
    assert "10/10" in result.err or "0/10" in result.err  # redrawn at most every 0.1 s
    assert "dB" in result.err
    assert result.err.rpartition("\r")[2].startswith(str(tmp_path))
    assert "\r" not in cli("igs-encode", picture, tmp_path / "a.igs", "--quiet", tty=True).err


def test_verbose_log_and_warnings(cli: Any, picture: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    result = cli("igs-encode", picture, tmp_path / "a.igs", "-vv", "--log", log, "--bpp", 9)
    assert "5/10" in result.err
    assert "loss" in result.err
    assert "warning: the target can't be met" in result.err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 10]
    assert lines[1] == {
        "step": 5, "steps": 10, "seconds": 0.05, "num_gaussians": 60, "loss": 0.01, "psnr": 35.0, "ssim": None,
    }  # fmt: skip
    assert "warning" not in cli("igs-encode", picture, tmp_path / "a.igs", "--bpp", 9, "--quiet").err


def test_metadata_can_be_left_out(cli: Any, tmp_path: Path, fake_encoder: list[Any]) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    Image.new("RGB", (4, 4)).save(buffer, "jpeg", exif=exif)
    cli("igs-encode", "-", "-", stdin=buffer.getvalue())
    cli("igs-encode", "-", "-", "--no-metadata", stdin=buffer.getvalue())
    assert [sorted(image.sections) for image, _ in fake_encoder] == [["exif"], []]


# -- several inputs


@pytest.fixture
def tree(tmp_path: Path, picture: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/c.png"):
        Image.new("RGB", (8, 6)).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_directory_is_mirrored(cli: Any, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("igs-encode", tree, "-d", out, "--json")
    assert result.code == 0
    assert names(out) == ["a.igs", "b.igs", "sub/c.igs"]
    assert [json.loads(line)["output"] for line in result.text.splitlines()] == [str(out / n) for n in names(out)]


def test_files_and_globs(cli: Any, tree: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("igs-encode", picture, tree / "*.png", tree / "**" / "c.*", "-d", out).code == 0
    assert names(out) == ["a.igs", "c.igs", "in.igs"]
    assert cli("igs-encode", tree / "*.bmp", "-d", out).code == 2


def test_collisions_and_inputs_are_refused_before_anything_is_written(cli: Any, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Image.new("RGB", (8, 6)).save(tree / "a.jpg")
    result = cli("igs-encode", tree, "-d", out)
    assert (result.code, "would both become" in result.err) == (1, True)
    assert not out.exists()
    odd = tmp_path / "odd" / "x.igs"
    odd.parent.mkdir()
    odd.write_bytes((tree / "a.png").read_bytes())
    result = cli("igs-encode", odd, "-d", odd.parent)
    assert (result.code, "would be overwritten" in result.err) == (1, True)


def test_a_failure_does_not_stop_the_others(cli: Any, tree: Path, tmp_path: Path) -> None:
    (tree / "a.png").write_text("broken")
    result = cli("igs-encode", tree, "-d", tmp_path / "out", "--json")
    assert result.code == 2
    assert names(tmp_path / "out") == ["b.igs", "sub/c.igs"]
    first = json.loads(result.text.splitlines()[0])
    assert first["exit_code"] == 2
    assert "a.png" in first["error"]
    assert len(result.text.splitlines()) == 3


def test_logs_take_one_input(cli: Any, tree: Path, tmp_path: Path) -> None:
    assert cli("igs-encode", tree, "-d", tmp_path / "out", "--log", tmp_path / "l").code == 1


def test_regions_and_saliency_reach_the_encoder(cli: Any, picture: Path, tmp_path: Path, fake_encoder: list) -> None:
    args = ["--roi", "1,2,3,4", "--roi", "0,0,5,5:0.5", "--saliency-weight", 2, "--saliency", "fine-grained"]
    assert cli("igs-encode", picture, tmp_path / "out.igs", *args).code == 0
    _, options = fake_encoder[-1]
    assert options.roi == ((1, 2, 3, 4, 4.0), (0, 0, 5, 5, 0.5))
    assert (options.saliency_weight, options.overrides) == (2.0, {"saliency": "fine-grained"})
    args = ["--init", "saliency", "--saliency", "eml-net", "--saliency-network", tmp_path / "w"]
    assert cli("igs-encode", picture, tmp_path / "out.igs", *args).code == 0
    assert fake_encoder[-1][1].saliency_network == tmp_path / "w"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--roi", "1,2,3"], "expected whole pixels and perhaps a weight as X,Y,W,H[:WEIGHT], found '1,2,3'"),
        (["--roi", "1,2,3,4.5"], "found '1,2,3,4.5'"),
        (["--roi", "1,2,3,4:"], "found '1,2,3,4:'"),
        (["--roi", "1,2,3,4:nan"], "found '1,2,3,4:nan'"),
        (["--roi", "face"], "found 'face'"),
        (["--saliency-weight", "-1"], "expected 0 to 1000, found -1"),
        (["--saliency", "best"], "'best'"),
        (["--saliency", "eml-net"], "expected saliency_network with eml-net, a .safetensors file, found none"),
        (["--saliency-network", "w"], "expected none but for saliency eml-net, found w for spectral-residual"),
    ],
)
def test_regions_that_make_no_sense(cli: Any, picture: Path, tmp_path: Path, args: list[str], words: str) -> None:
    result = cli("igs-encode", picture, tmp_path / "out.igs", *args)
    assert result.code == 1
    assert words in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out.igs").exists()


def test_settings_go_into_the_file_if_asked(cli: Any, picture: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    args = ("-n", 9, "--write-settings", "--quiet", "--no-overwrite")
    assert cli("igs-encode", picture, tmp_path / "a.igs", *args).code == 0
    assert fake_encoder[-1][1].sections == {"soft": f"igs {igs.__version__}: igs-encode -n 9 --write-settings".encode()}
    assert cli("igs-encode", picture, tmp_path / "b.igs", "-n", 9).code == 0
    assert fake_encoder[-1][1].sections == {}
