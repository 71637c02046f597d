"""Files of several parts in the commands: what they say of each part, fewer bits, pictures of one part's Gaussians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts_cases import SECTIONS, Stack, make_file, payload_bytes, stack
from PIL import Image

import igs
from igs.format import open_file, read, split, validate_file


@pytest.fixture(scope="module")
def made() -> Stack:
    return stack(SECTIONS)


@pytest.fixture
def source(made: Stack, tmp_path: Path) -> Path:
    path = tmp_path / "in.igs"
    path.write_bytes(made.data)
    return path


def test_info_tells_of_each_part(cli: Any, source: Path, made: Stack) -> None:
    text = cli("igs-info", source).text
    assert "33 × 21 pixels, 9 channels\n210 Gaussians of 70.48 bits in " in text
    with open_file(made.data) as file:
        sizes = [len(payload_bytes(made.data, part)) for part in range(3)]
        chunks = [part.last_chunk - part.first_chunk for part in file.parts]
    lines = text.splitlines()
    assert f"part 0: 'albedo', 'ao': 60 Gaussians of 88 bits in {chunks[0]} chunks, {sizes[0]} bytes" in lines
    assert f"part 1: 'normal': 70 Gaussians of 72 bits in {chunks[1]} chunks, {sizes[1]} bytes" in lines
    assert f"part 2: 'height': 80 Gaussians of 56 bits in {chunks[2]} chunks, {sizes[2]} bytes" in lines
    assert "part 0" not in cli("igs-info", "-", stdin=made.files[0]).text


def test_info_as_json(cli: Any, source: Path, made: Stack) -> None:
    found = cli("igs-info", source, "--json", "--chunks", "--bits").json
    assert [part["groups"] for part in found["parts"]] == [["albedo", "ao"], ["normal"], ["height"]]
    assert [part["channels"] for part in found["parts"]] == [5, 3, 1]
    assert [part["bits_per_gaussian"] for part in found["parts"]] == [88, 72, 56]
    # Parameters are of parts; what they have in common is said of the file as well.
    assert found["position"] == {"kind": "uniform", "bits": 12, "shared": False, "stages": 0}
    for number, data in enumerate(made.files):
        alone = cli("igs-info", "-", "--json", "--chunks", stdin=data).json
        part = found["parts"][number]
        for name in ("position", "scale", "rotation", "feature"):
            assert part[name] == alone[name]
            assert {**alone[name], **found[name]} == alone[name]
        assert alone["parts"] == [{key: part[key] for key in list(part)[:6]}]
        assert [part[key] for key in ("num_chunks", "num_gaussians")] == [
            alone[key] for key in ("num_chunks", "num_gaussians")
        ]
        own = [chunk for chunk in found["chunks"] if chunk["part"] == number]
        assert [{**chunk, "part": 0} for chunk in own] == alone["chunks"]
    assert sum(part["num_gaussians"] for part in found["parts"]) == found["num_gaussians"]
    assert found["bits_per_gaussian"] == pytest.approx((60 * 88 + 70 * 72 + 80 * 56) / 210, abs=0.005)
    assert sum(found["bits_by_attribute"].values()) == pytest.approx(8 * len(made.data), abs=0.01)


def test_info_of_lattices(cli: Any) -> None:
    made = stack(lattice=True)
    found = cli("igs-info", "-", "--json", "--bits", stdin=made.data).json
    assert "lattice" not in found
    for number, data in enumerate(made.files):
        alone = cli("igs-info", "-", "--json", stdin=data).json
        part = found["parts"][number]
        assert part["lattice"] == alone["lattice"]
        assert part["bits_per_gaussian"] == alone["bits_per_gaussian"]
        assert part["bits_per_gaussian"] == round(8 * part["bytes"] / part["num_gaussians"], 2)
    payloads = sum(part["bytes"] for part in found["parts"])
    assert found["bits_per_gaussian"] == round(8 * payloads / found["num_gaussians"], 2)
    assert sum(found["bits_by_attribute"].values()) == pytest.approx(8 * len(made.data), abs=0.01)
    assert cli("igs-info", "-", stdin=made.data).text.count("  lattice: steps position ") == 3


def test_info_lists_chunks_with_their_part(cli: Any, source: Path, made: Stack) -> None:
    with open_file(made.data) as file:
        parts = [file.chunk_part(chunk) for chunk in range(file.num_chunks)]
    lines = cli("igs-info", source, "--chunks").text.splitlines()
    assert [line.split()[1] for line in lines[-len(parts) :]] == [str(part) for part in parts]
    assert lines[-len(parts) - 1].split() == ["chunk", "part", "bytes", "count", "codec", "box"]
    assert "part" not in cli("igs-info", "-", "--chunks", stdin=made.files[0]).text


def test_validate_counts_chunks_through_all_parts(cli: Any, source: Path, made: Stack) -> None:
    found = cli("igs-validate", source, "--json").json
    assert (found["valid"], found["checked_gaussians"]) == (True, 210)
    damaged = bytearray(made.data)
    damaged[payload_bytes(made.data, 2)[0]] ^= 1
    with open_file(made.data) as file:
        first = file.parts[2].first_chunk
    result = cli("igs-validate", "-", stdin=bytes(damaged))
    assert (result.code, f"E_CHUNK_CRC at byte {payload_bytes(made.data, 2)[0]}" in result.text) == (3, True), (
        result.text
    )
    assert f"chunk {first}: " in result.text


def test_metadata_is_edited(cli: Any, source: Path, made: Stack) -> None:
    assert cli("igs-edit", source, "-", "--strip").out == stack().data
    result = cli("igs-edit", "-", "-", "--remove", "soft", "--set-dpi", "300", stdin=made.data)
    assert sorted(read(result.out).section_data()) == ["json", "phys"]
    assert read(result.out).payloads == read(made.data).payloads


def test_fewer_bits(cli: Any, source: Path, made: Stack, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    limit = len(made.data) - 500
    result = cli("igs-edit", source, out, "--size", limit, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json["num_gaussians"] == 210
    assert result.json["bytes"] == out.stat().st_size <= limit
    assert result.json["psnr_to_input"] > 20
    assert read(out).section_data() == SECTIONS
    assert [part.groups for part in read(out).head.parts] == [part.groups for part in read(made.data).head.parts]
    assert cli("igs-edit", source, out, "--feat-bits", 5).code == 0
    assert [read(data).header.feature.bits for data in split(out.read_bytes())] == [5, 5, 5]
    assert validate_file(out).valid
    result = cli("igs-edit", source, out, "--size", 100)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "the smallest of this file with steps 64 times as large, found 100" in result.err


# -- pictures


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("kind", ["ellipses", "ids", "density", "chunks"])
@pytest.mark.parametrize("part", range(3))
def test_gaussians_are_those_of_the_part_that_is_shown(
    cli: Any, source: Path, made: Stack, tmp_path: Path, kind: str, part: int
) -> None:
    alone = tmp_path / "alone.igs"
    alone.write_bytes(made.files[part])
    name = ["ao", "normal", "height"][part]
    pictures = []
    for file in (source, alone):
        out = tmp_path / "out.png"
        result = cli("igs-view", file, out, "-k", kind, "--bare", "--group", name)
        assert (result.code, result.err) == (0, "")
        pictures.append(pixels_of(out))
    if kind != "chunks":  # whose colours are of their numbers in the file
        assert np.array_equal(*pictures)
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 8


@pytest.mark.parametrize("kind", ["ellipses", "ids", "density", "error", "levels", "zoom", "chunks", "overview"])
@pytest.mark.parametrize("group", [None, "height"])
def test_every_kind(cli: Any, source: Path, tmp_path: Path, kind: str, group: str | None) -> None:
    maps, out = tmp_path / "maps", tmp_path / "out.png"
    maps.mkdir()
    assert cli("igs-decode", source, maps).code == 0
    against = ("--against", maps) if kind in ("error", "levels", "zoom", "overview") else ()
    shown = () if group is None else ("--group", group)
    result = cli("igs-view", source, out, "-k", kind, *against, *shown)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("kind", ["gradient", "saliency"])
def test_maps_of_a_file_are_of_all_channels(cli: Any, source: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.png"
    assert cli("igs-view", source, out, "-k", kind, "--bare").code == 0
    assert pixels_of(out).std() > 0


def test_a_group_is_seen_where_another_part_is_damaged(cli: Any, made: Stack, tmp_path: Path) -> None:
    damaged = bytearray(made.data)
    damaged[payload_bytes(made.data, 1)[0]] ^= 1
    out = tmp_path / "out.png"
    assert cli("igs-view", "-", out, "--beside", "--group", "ao", stdin=bytes(damaged)).code == 0
    assert cli("igs-view", "-", out, "--beside", "--group", "normal", stdin=bytes(damaged)).code == 3
    assert cli("igs-decode", "-", tmp_path / "ao.png", "--group", "ao", stdin=bytes(damaged)).code == 0


def test_a_file_of_one_part_is_told_as_before(cli: Any) -> None:
    data = make_file(read(stack().data).header.groups)
    found = cli("igs-info", "-", "--json", stdin=data).json
    assert [part["groups"] for part in found["parts"]] == [["albedo", "normal", "ao", "height"]]
    assert "lo" in found["position"]
    assert "position" not in found["parts"][0]
    with igs.open(data) as im:
        assert found["parts"][0]["num_gaussians"] == im.num_gaussians
