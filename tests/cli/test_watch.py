"""igs-encode --report, --film and --render-growth, with a short real fit."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

import igs
from igs.cli.encode import encode
from igs.cli.options import given_options
from igs.cli.watch import words_of

pytest.importorskip("torch", reason="the encoder needs torch")

SHORT = ("-n", "24", "--steps", "40", "--quiet")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:30, 0:40]
    pixels = np.stack([x * 6, y * 8, (x + y) * 3, np.where(x > 5, 255, 90)], axis=2).astype(np.uint8)
    path = tmp_path / "in.png"
    Image.fromarray(pixels).save(path)  # with alpha
    return path


def test_everything_to_look_at(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, page, film, folder = (tmp_path / name for name in ("a.igs", "a.html", "a.gif", "growth"))
    args = ("--report", page, "--film", film, "--render-growth", "--render-dir", folder)
    assert cli("igs-encode", picture, out, *SHORT, *args).code == 0
    plain = tmp_path / "plain.igs"
    assert cli("igs-encode", picture, plain, *SHORT).code == 0
    assert plain.read_bytes() == out.read_bytes()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "in.png" in text
    assert "How it got there" in text
    command = shlex.join(["igs-encode", str(picture), str(out), "-n", "24", "--steps", "40"])
    assert f"<code>{command}</code>" in text
    with Image.open(film) as moving:
        assert moving.n_frames > 10
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "growth_000000.png"
    assert len(names) > 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("a.gif", "a.html", "a.igs", "growth", "in.png", "plain.igs")
    ]


def test_the_command_in_the_report_has_the_regions(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "a.igs", tmp_path / "a.html"
    regions = ["--roi", "1,2,9,9:2.5", "--roi", "20,2,9,9", "--saliency-weight", "3"]
    assert cli("igs-encode", picture, out, *SHORT, "--report", page, *regions).code == 0
    text = page.read_text(encoding="utf-8")
    assert "--roi 1,2,9,9:2.5 --roi 20,2,9,9 --saliency-weight 3" in text
    assert "1,2,9,9:2.5 20,2,9,9:4" in text


def test_the_command_in_the_report_has_every_option_that_the_file_depends_on() -> None:
    args = []
    for parameter in encode.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            values = {"resample": "largest", "roi": "1,2,3,4", "map": "a=b", "num_gaussians": "7", "super_tile": "64"}
            if parameter.is_flag or parameter.count:
                args.append(parameter.opts[-1])
            elif isinstance(parameter.type, click.Choice):
                args += [parameter.opts[-1], str(parameter.type.choices[-1])]
            else:
                value = values.get(parameter.name) or ("a=1" if parameter.name.startswith("map") else "1")
                args += [parameter.opts[-1], value]
    context = encode.make_context("igs-encode", ["in.png", *args])
    words = words_of(given_options(context))
    again = encode.make_context("igs-encode", ["in.png", *words])
    differ = {name for name in context.params if context.params[name] != again.params[name]}
    assert differ == {
        *("output", "directory", "no_overwrite", "as_json", "quiet", "verbose", "report", "film", "log"),
        *("log_every", "render_growth", "render_every", "render_dir", "checkpoint", "checkpoint_every"),
    }


def test_the_command_in_the_report_does_it_again(cli: Any, picture: Path, tmp_path: Path) -> None:
    out, page, state = tmp_path / "a.igs", tmp_path / "a.html", tmp_path / "state.npz"
    args = ("-n", "24", "--steps", "60", "--levels", "2", "--downsample", "2", "--no-metadata", "--device", "cpu")
    assert cli("igs-encode", picture, out, *args, "--checkpoint", state, "--checkpoint-every", "20").code == 0
    args = (*args, "--fast-nondeterministic", "--resume", state)
    assert cli("igs-encode", picture, out, *args, "--report", page, "-v").code == 0
    words = page.read_text(encoding="utf-8").partition("<code>")[2].partition("</code>")[0]
    assert words == shlex.join(["igs-encode", str(picture), str(out), *map(str, args)])
    before = out.read_bytes()
    assert cli(*shlex.split(words)).code == 0
    assert out.read_bytes() == before


@pytest.mark.parametrize("times", [2, 3])  # 3: the last means are over less than a square
def test_a_picture_that_was_reduced(
    cli: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    from igs.encoder import load_image
    from igs.view import Scene, film, kinds

    stages = []

    class Stage(film.Stage):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            stages.append((self.width, self.height))

    monkeypatch.setattr(film, "Stage", Stage)
    out, page, movie, folder = (tmp_path / name for name in ("a.igs", "a.html", "a.gif", "growth"))
    args = ("--downsample", times, "--film", movie, "--render-growth", "--render-dir", folder)
    result = cli("igs-encode", picture, out, *SHORT, *args, "--report", page, "--json")
    assert result.code == 0, result.err
    size = -(-40 // times), -(-30 // times)
    assert stages == [size]  # that the Gaussians' positions are in
    text = page.read_text(encoding="utf-8")
    assert f"reduced {times} times" in text
    assert "aspect-ratio:40/30" in text
    with Scene(out) as scene:
        options = kinds.Options(source=load_image(picture).pixels)
        decoded, source = kinds.compared(scene, options, "error", None)
    assert decoded.shape == source.shape == (30, 40, 4)
    psnr = -10 * np.log10(np.mean((decoded - source) ** 2, dtype=np.float64))
    assert psnr == pytest.approx(result.json["psnr"], abs=1e-4)
    for kind in ("error", "zoom", "levels", "overview"):
        assert cli("igs-view", out, tmp_path / "o.png", "-k", kind, "--against", picture).code == 0
    wrong = tmp_path / "wrong.png"
    Image.new("RGBA", (40, 33)).save(wrong)
    refused = cli("igs-view", out, tmp_path / "o.png", "-k", "error", "--against", wrong)
    assert (refused.code, f"expected {size[0]}×{size[1]} pixels" in refused.err) == (1, True)


def test_regions_that_cover_the_picture_have_no_elsewhere(cli: Any, picture: Path, tmp_path: Path) -> None:
    args = ("-n", "24", "--steps", "5")
    part = cli("igs-encode", picture, tmp_path / "a.igs", *args, "--roi", "0,0,40,20")
    assert "elsewhere: " in part.err
    found = cli("igs-encode", picture, tmp_path / "a.igs", *args, "--roi", "0,0,40,20", "--roi", "0,15,40,15")
    assert "regions of interest: " in found.err
    assert "elsewhere" not in found.err


def test_a_report_from_a_pipe(cli: Any, picture: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    result = cli("igs-encode", "-", "-", *SHORT, "--report", page, stdin=picture.read_bytes())
    assert result.code == 0
    assert result.out.startswith(b"\x89IGS")
    assert "standard input" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("parts", ["one", "each"])
def test_a_report_of_a_stack(cli: Any, picture: Path, tmp_path: Path, parts: str) -> None:
    maps, out, page = tmp_path / "maps", tmp_path / "a.igs", tmp_path / "a.html"
    maps.mkdir()
    with Image.open(picture) as image:
        image.convert("RGB").save(maps / "albedo.png")
        image.convert("L").save(maps / "height.png")
    result = cli("igs-encode", maps, out, *SHORT, "--parts", parts, "--report", page, "--json")
    assert result.code == 0, result.err
    text = page.read_text(encoding="utf-8")
    assert "<h1>maps</h1>" in text
    assert "Channel groups" in text
    for group in result.json["groups"]:
        assert f"<b>{group['name']}</b> {group['psnr']:.2f} dB" in text
    assert ("share Gaussians" in text) == (parts == "each")
    assert "How it got there" not in text
    named = cli("igs-encode", "--map", f"albedo={maps / 'albedo.png'}", out, *SHORT, "--report", page)
    assert named.code == 0
    assert f"<code>igs-encode {out} --map" in page.read_text(encoding="utf-8")
    for option in (("--film", "a.gif"), ("--render-growth", "--render-dir", tmp_path / "growth")):
        refused = cli("igs-encode", maps, out, *SHORT, *option)
        assert (refused.code, "single pictures" in refused.err) == (5, True)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--film", "a.mp4"], 1, ".webp or .gif"),
        (["--report", "in.png"], 1, "same file"),
        (["--report", "a.igs"], 1, "overwrite the output a.igs"),
        (["--report", "b.gif", "--film", "b.gif"], 1, "overwrite the output --report b.gif"),
        (["--report", "none/a.html"], 2, "none/a.html"),
        (["--render-growth"], 1, "--render-dir"),
        (["--render-growth", "--render-dir", "in.png"], 1, "in.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_messages_come_before_the_fit(
    cli: Any, picture: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(picture.parent)
    monkeypatch.setattr("igs.cli.encode.load_encoder", None)  # would be called
    result = cli("igs-encode", "in.png", "a.igs", *args)
    assert result.code == code, result.err
    assert words in result.err
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_names_that_are_not_utf8(cli: Any, picture: Path, tmp_path: Path) -> None:
    source, out, page = tmp_path / "i\udcffn.png", tmp_path / "a.igs", tmp_path / "a.html"
    try:
        source.write_bytes(picture.read_bytes())
    except OSError:
        pytest.skip("a file system whose names are UTF-8")
    args = ("-n", "9", "--steps", "5", "--quiet", "--init", "saliency", "--saliency-map", source)
    result = cli("igs-encode", source, out, *args, "--report", page, "--write-settings")
    assert (result.code, result.err) == (0, "")
    with igs.open(out) as im:
        assert r"i\udcffn.png" in im.metadata["soft"]
    assert page.read_text(encoding="utf-8").count(r"i\udcffn.png") >= 3  # the name, the map, the command


def test_a_picture_above_the_default_limits(cli: Any, tmp_path: Path) -> None:
    path, out, page = tmp_path / "wide.npy", tmp_path / "wide.igs", tmp_path / "wide.html"
    np.save(path, np.broadcast_to(np.linspace(0, 1, 33_000, dtype=np.float32)[:, None], (4, 33_000, 3)).copy())
    args = ("-n", "20", "--steps", "5", "--levels", "2", "--dimension-limit", "100000", "--report", page, "--json")
    result = cli("igs-encode", path, out, *args)
    assert result.code == 0, result.err
    assert "33000×4 pixels is above the default limits" in result.err
    assert result.json["psnr"] > 5
    assert page.exists()
    assert cli("igs-info", out).code == 3
    assert cli("igs-info", out, "--dimension-limit", "100000").code == 0


def test_one_picture_only(cli: Any, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture.read_bytes())
    result = cli("igs-encode", picture, tmp_path / "b.png", "-d", tmp_path / "out", "--report", tmp_path / "a.html")
    assert result.code == 1
    assert "--report" in result.err
