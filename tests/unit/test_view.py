"""Pictures of Gaussians: ellipses, maps, sheets, logs. On small conformance files; no stored pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from files import VALID
from parts_cases import make_file, stack

from igs.decoder.measure import compared
from igs.decoder.output import visible
from igs.format import Alpha, Colour, Group, Transfer, join, open_file
from igs.format.errors import InputError, UsageError
from igs.format.transfer import from_linear
from igs.view import KINDS, Scene, draw, maps
from igs.view.canvas import Bar, Panel, compose, framed, plain, rounded_up, ticks
from igs.view.colours import PAPER, amounts, numbers, oklch, sequential
from igs.view.ellipses import Style, draw_ellipses
from igs.view.kinds import Options
from igs.view.log import read_log

FILES = sorted(VALID.glob("*.igs"))


def _traits(path: Path) -> tuple[object, ...]:
    with open_file(path, allow_partial=True) as file:
        h = file.header
        groups = tuple((g.colour, g.alpha) for g in h.groups)
        return h.blend, h.primitive, groups, h.level_mode, file.available_levels, max(h.width, h.height) > 1000


DIFFERENT = list({_traits(path): path for path in reversed(FILES)}.values())
TOPK = VALID / "topk_1.igs"
SOLID = Style(fill=1.0, line=0.0)


# -- colours


def _lightness(rgb):
    """CIE L* of sRGB uint8: another measure than the one the map was made by."""
    v = rgb / 255.0
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return np.where(linear > 0.008856, 116 * np.cbrt(linear) - 16, 903.3 * linear)


def test_the_map_for_amounts_grows_lighter_evenly():
    light = _lightness(sequential())
    assert (np.diff(light) > -0.3).all()  # 8 bits per channel: single entries may stumble
    thirds = np.diff(light[[0, 85, 170, 255]])
    assert thirds.min() > 0.7 * thirds.max()


def test_oklch_stays_inside_srgb_and_keeps_greys():
    assert oklch(1.0, 0.0, 0.3).tolist() == [255, 255, 255]
    assert oklch(0.0, 0.3, 0.3).tolist() == [0, 0, 0]
    assert np.ptp(oklch(0.6, 0.0, 0.1).astype(int)) <= 1


def test_amounts_clip_and_mark_what_is_no_number():
    found = amounts([[-1.0, 0.0, 2.0, 5.0, np.nan]], 0.0, 2.0)
    assert (found[0, 0] == found[0, 1]).all()
    assert (found[0, 2] == found[0, 3]).all()
    assert (found[0, 2] == sequential()[255]).all()
    assert not (found[0, 4] == found[0, 1]).all()
    assert amounts(np.zeros((2, 2)), 0.0, 0.0).shape == (2, 2, 3)


def test_numbers_are_told_apart():
    found = numbers(np.array([-1, *range(64)]))
    assert found[0].tolist() == list(PAPER)
    assert len(np.unique(found, axis=0)) == 65
    assert (np.abs(np.diff(found[1:].astype(int), axis=0)).max(axis=1) > 20).all()


# -- what is seen


def test_pictures_of_all_kinds_become_rgb():
    grey, rgb, cmyk = Colour.GREY, Colour.RGB, Colour.CMYK
    assert visible([[[0.25]]], [_group(1, grey)]).tolist() == [[[0.25] * 3]]
    assert visible([0.25, 0.5], [_group(2, grey, Alpha.STRAIGHT)]) == pytest.approx(0.625)  # half of it is paper
    assert visible([0.1, 0.2, 1.5, 0.9], [_group(3, rgb), _group(1, grey)]) == pytest.approx([0.1, 0.2, 1.0])
    assert visible([0.0, 0.5, 1.0, 0.5], [_group(4, cmyk)]) == pytest.approx([0.5, 0.25, 0.0])
    assert visible([0.3, 0.4], [_group(2, Colour.UNSPECIFIED)]) == pytest.approx(0.3)


def test_what_has_no_alpha_is_no_error():
    groups = [_group(1, Colour.GREY), _group(2, Colour.GREY, Alpha.PREMULTIPLIED)]
    values = np.array([[2.0, 0.7, 0.0], [0.5, 0.5, 0.5]], np.float32)
    assert compared(values, groups) == pytest.approx(np.array([[2, 0, 0], [0.5, 0.25, 0.5]]))


@pytest.mark.parametrize("transfer", [Transfer.PQ, Transfer.LOG])
def test_light_is_shown_as_srgb_and_compared_by_its_curve(transfer):
    groups = [Group(channels=2, alpha=Alpha.STRAIGHT, colour=Colour.GREY, transfer=transfer, name="y")]
    assert visible([0.2140411, 1.0], groups) == pytest.approx(0.5, abs=1e-4)
    assert visible([7.5, 1.0], groups) == pytest.approx(1.0)
    curve = from_linear(7.5, transfer)
    assert compared(np.array([7.5, 0.5], np.float32), groups) == pytest.approx([curve / 2, 0.5])
    assert curve < 1


def _group(channels, colour, alpha=Alpha.NONE):
    return Group(channels=channels, alpha=alpha, colour=colour, name=str(channels))


# -- ellipses


def test_an_ellipse_covers_its_area():
    for s1, s2, turn in ((10.0, 4.0, 0.3), (6.0, 6.0, 0.0), (20.0, 0.8, 1.2)):
        canvas = np.zeros((64, 96, 3), np.float32)
        c, s = np.cos(turn), np.sin(turn)
        cov = [[s1**2 * c * c + s2**2 * s * s, (s1**2 - s2**2) * s * c, s1**2 * s * s + s2**2 * c * c]]
        draw_ellipses(canvas, [[47.3, 31.6]], cov, [[1.0, 0.5, 0.0]], SOLID)
        assert canvas[..., 0].sum() == pytest.approx(np.pi * s1 * s2, rel=0.06)  # 4.9 %: the thin one, 1.6 pixels wide
        assert canvas[..., 1].sum() == pytest.approx(canvas[..., 0].sum() / 2, rel=1e-4)
        y, x = np.indices(canvas.shape[:2])
        assert (canvas[..., 0] * (x + 0.5)).sum() / canvas[..., 0].sum() == pytest.approx(47.3, abs=0.05)
        assert (canvas[..., 0] * (y + 0.5)).sum() / canvas[..., 0].sum() == pytest.approx(31.6, abs=0.05)


def test_small_ellipses_lie_on_large_ones_and_edges_cut():
    canvas = np.zeros((20, 30, 3), np.float32)
    both = [[10.0, 10.0], [10.0, 10.0], [-100.0, 5.0], [29.0, 19.0]]
    cov = [[4.0, 0.0, 4.0], [400.0, 0.0, 400.0], [1.0, 0.0, 1.0], [9.0, 0.0, 9.0]]
    draw_ellipses(canvas, both, cov, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], SOLID)
    assert canvas[10, 10].tolist() == [1, 0, 0]
    assert canvas[10, 20].tolist() == [0, 1, 0]
    assert canvas[..., 2].max() == 1.0
    assert canvas[:, :5, 2].max() == 0.0


def test_bands_draw_what_boxes_do():
    rng = np.random.default_rng(5)
    means = rng.random((60, 2)) * [120, 90] - 10
    sigma, turn = 2.0 ** rng.uniform(-2, 7, (60, 2)), rng.random(60) * np.pi
    sigma[:30, 1] = 0.4  # long and thin
    a, b, c, s = sigma[:, 0] ** 2, sigma[:, 1] ** 2, np.cos(turn), np.sin(turn)
    cov = np.stack([a * c * c + b * s * s, (a - b) * s * c, a * s * s + b * c * c], axis=1)
    for deviations in (0.5, 1.0, 3.0):
        pictures = []
        for bands in (True, False):
            pictures.append(np.zeros((70, 100, 3), np.float32))
            draw_ellipses(pictures[-1], means, cov, np.full((60, 3), 0.7), Style(deviations, 0.5), bands)
        assert np.abs(pictures[0] - pictures[1]).max() < 1e-6
        assert pictures[0].max() > 0.3


def test_lines_are_as_wide_as_asked():
    sums = []
    for width in (1.0, 3.0):
        canvas = np.zeros((60, 60, 3), np.float32)
        style = Style(fill=0.0, line=1.0, width=width, shade=1.0)
        draw_ellipses(canvas, [[30.0, 30.0]], [[400.0, 0.0, 400.0]], [[1, 1, 1]], style)
        sums.append(canvas[..., 0].sum())
    assert sums[0] == pytest.approx(2 * np.pi * 20 * 1.0, rel=0.02)
    assert sums[1] == pytest.approx(2 * np.pi * 20 * 3.0, rel=0.02)


# -- maps


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_nearest_is_what_trying_all_finds(path):
    with Scene(path, allow_partial=True) as scene:
        size = min(scene.width, 40), min(scene.height, 30)
        splats, rule = scene.splats()
        if splats.means.shape[1] > 1000 or max(scene.width, scene.height) > 4096:
            pytest.skip("too many for the slow twin")
        whole = (scene.width, scene.height)
        region = (0.0, 0.0, float(size[0]), float(size[1]))
        for scale in (1.0, 1.5):
            found = maps.nearest(splats, rule, whole, region, scale)
            assert np.array_equal(found, maps.nearest_reference(splats, rule, whole, region, scale))


def test_nearest_tells_large_numbers_exactly():
    n = 9001  # two parts, neither rounded by a float32 kernel
    with Scene(TOPK) as scene:
        splats, rule = scene.splats()
        one = dataclasses.replace(
            splats,
            means=np.full((2, n), 2**20, np.int32),
            factors=np.ascontiguousarray(np.repeat(splats.factors[:, :1], n, axis=1)),
            features=np.zeros((n, splats.features.shape[1]), np.float32),
        )
        one.means[:, n - 2] = 4 << 14
        found = maps.nearest(one, rule, (scene.width, scene.height))
        assert set(np.unique(found).tolist()) <= {-1, n - 2}
        assert found[4, 4] == n - 2


def test_density_counts_all_that_are_inside():
    rng = np.random.default_rng(0)
    points = rng.random((500, 2)) * [50, 40]
    found = maps.density(np.concatenate([points, [[-3.0, 5.0], [99.0, 1.0]]]), 50, 40, blur=0)
    assert found.sum() == pytest.approx(500 * 1000)
    blurred = maps.density(points, 50, 40)
    assert blurred.mean() == pytest.approx(250, rel=0.1)
    assert blurred.min() > 0


def test_a_blur_keeps_constants_up_to_the_border():
    assert maps.smoothed(np.full((7, 30), 3.5), 4.0) == pytest.approx(3.5)
    spike = np.zeros((41, 41))
    spike[20, 20] = 1
    found = maps.smoothed(spike, 2.0)
    assert found.sum() == pytest.approx(1, abs=1e-3)
    assert found[20, 22] / found[20, 20] == pytest.approx(np.exp(-0.5))


def test_errors_in_steps_and_decibels():
    source = np.full((20, 20, 3), 0.5)
    errors = maps.errors(source + 10 / 255, source)
    assert errors == pytest.approx(10)
    assert maps.error_db(errors) == pytest.approx(20 * np.log10(25.5))
    assert maps.error_db(np.zeros((4, 4))) == pytest.approx(maps.BEST_DB)


def test_the_busiest_place_is_found():
    picture = np.zeros((60, 80, 3), np.float32)
    picture[30:40:2, 50:60] = 1
    x, y, w, h = maps.busiest(picture, 16)
    assert (w, h) == (16, 16)
    assert x <= 50
    assert x + w >= 60
    assert y <= 31
    assert y + h >= 39
    assert maps.busiest(picture[:5, :6], 16) == (0, 0, 6, 5)


# -- sheets


def test_ticks_are_round_and_inside():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.13, 0.42, 3) == pytest.approx([0.2, 0.3, 0.4])
    assert ticks(5, 5) == [5]
    assert [rounded_up(v) for v in (0.0, 0.9, 1.0, 7.1, 23)] == [1.0, 1.0, 1.0, 8.0, 30.0]
    assert rounded_up(0.13) == pytest.approx(0.15)


def test_a_sheet_holds_its_panels():
    red, blue = np.full((30, 40, 3), [255, 0, 0], np.uint8), np.full((20, 50, 3), [0, 0, 255], np.uint8)
    panels = [Panel(red, "a title that is longer than its picture", bar=Bar(0, 1, "u")), Panel(blue, "b", "note")]
    sheet = np.asarray(compose(panels))
    assert (sheet == [255, 0, 0]).all(axis=2).sum() == 1200
    assert (sheet == [0, 0, 255]).all(axis=2).sum() == 1000
    assert (sheet[[0, -1]] == PAPER).all()
    assert compose(panels, columns=1).height > compose(panels).height


def test_labels_keep_to_what_the_font_has():
    assert plain("2 × 3 – 4σ ä") == "2 x 3 - 4sigma ?"


def test_a_frame_leaves_its_content_alone():
    grey = np.full((50, 60, 3), 90, np.uint8)
    found = framed(grey, (20, 10, 16, 12))
    assert (found[10:22, 20:36] == 90).all()
    assert (found != 90).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", DIFFERENT, ids=lambda p: p.stem)
def test_every_kind_of_every_file(path, kind):
    with Scene(path, allow_partial=True) as scene:
        if max(scene.width, scene.height) > 1000:
            pytest.skip("a picture of many pixels")
        source = np.clip(np.asarray(scene.image.decode(dtype="float32")), 0, 1)
        options = Options(source=source, scale=1.5, beside=True)
        sheet = np.asarray(draw(kind, scene, options))
        assert sheet.ndim == 3
        assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 3
        alone = np.asarray(draw(kind, scene, dataclasses.replace(options, bare=True, beside=False)))
        if kind not in ("zoom", "overview"):
            assert alone.shape == (int(scene.height * 1.5 + 0.5), int(scene.width * 1.5 + 0.5), 3)


def test_a_sample_is_a_part_and_always_the_same():
    with Scene(TOPK) as scene:
        some = [np.asarray(draw("ellipses", scene, Options(sample=3, bare=True))) for _ in range(2)]
        assert np.array_equal(*some)
        every = np.asarray(draw("ellipses", scene, Options(bare=True)))
        assert ((every != PAPER).sum() > (some[0] != PAPER).sum()) or len(scene.drawn()) <= 3


def test_a_group_can_be_named():
    path = next(p for p in DIFFERENT if "groups" in p.stem or len(_traits(p)[2]) > 1)
    with Scene(path) as scene:
        names = [g.name for g in scene.groups]
        source = np.zeros((scene.height, scene.width, scene.header.channels), np.float32)
    sheets = []
    for name in (None, *names):
        with Scene(path, group=name) as scene:
            assert scene.compared(source).shape[2] == (scene.groups[scene.number].channels if name else source.shape[2])
            sheets.append(np.asarray(draw("ellipses", scene, Options(bare=True))))
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[1], sheets[2])
    with pytest.raises(UsageError, match="expected one of"):
        Scene(path, group="nonsense")


def test_what_cannot_be_drawn_is_told():
    with Scene(TOPK) as scene:
        with pytest.raises(UsageError, match="--against FILE"):
            draw("error", scene)
        with pytest.raises(UsageError, match="as in the"):
            draw("error", scene, Options(source=np.zeros((3, 4, 1), np.float32)))
        with pytest.raises(UsageError, match="expected one of"):
            draw("nonsense", scene)
        with pytest.raises(UsageError, match="--region"):
            Options(region=(0, 0, 1e6, 1)).check(scene)


# -- logs


def _line(**changes):
    entry = {"step": 10, "steps": 20, "seconds": 0.5, "num_gaussians": 7, "loss": 0.1, "psnr": 20.5, "ssim": None}
    return json.dumps(entry | changes).encode()


def test_a_log_is_read(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(_line() + b"\n\n" + _line(step=20, psnr=None))
    found = read_log(str(path), "log")
    assert [(e.step, e.psnr, e.num_gaussians) for e in found] == [(10, 20.5, 7), (20, None, 7)]


@pytest.mark.parametrize("bad", [b"", b"\n", b"[]", b"{}", b"\x89IGS", _line(step="x"), _line(psnr=True), b"[" * 99999])
def test_what_is_no_log_is_refused(bad):
    with pytest.raises(InputError, match="expected"):
        read_log(bad, "log")


# -- files of several parts


def test_a_scene_has_the_gaussians_of_the_part_that_is_shown():
    made = stack()
    for part, (name, sharing) in enumerate(
        [("ao", ("albedo", "ao")), ("normal", ("normal",)), ("height", ("height",))]
    ):
        with Scene(made.data, group=name) as scene, Scene(made.files[part], group=name) as alone:
            assert (scene.sharing, alone.sharing) == (sharing, ())
            assert scene.part == scene.reader.parts[part]
            assert len(scene.drawn()) == len(scene.gaussians()) == 60 + 10 * part
            for field in ("means", "covariances", "colours", "levels"):
                assert np.array_equal(getattr(scene.drawn(), field), getattr(alone.drawn(), field))
            assert np.array_equal(scene.drawn().chunks - scene.part.first_chunk, alone.drawn().chunks)
            assert np.array_equal(scene.picture(), alone.picture())
            assert np.array_equal(scene.picture((2, 3, 9, 8), 2.5), alone.picture((2, 3, 9, 8), 2.5))
            pair = [maps.nearest(*s.splats(), (s.width, s.height)) for s in (scene, alone)]
            assert np.array_equal(*pair)
            options = Options(bare=True)
            for kind in ("ellipses", "ids", "density", "zoom"):
                assert np.array_equal(np.asarray(draw(kind, scene, options)), np.asarray(draw(kind, alone, options)))
    with Scene(made.data) as scene:
        assert scene.sharing == ("albedo", "ao")
        assert scene.decoded().shape == (scene.height, scene.width, 9)


def test_titles_say_whose_gaussians_they_are():
    with Scene(stack().data) as scene:
        for kind in ("ellipses", "density", "chunks"):
            (panel,) = KINDS[kind](scene, Options())
            assert panel.title.endswith(" of albedo and ao")
        assert KINDS["ids"](scene, Options())[0].note.endswith(" of 60 Gaussians of albedo and ao count most somewhere")
        error = KINDS["error"](scene, Options(source=np.zeros((scene.height, scene.width, 9), np.float32)))
        assert [panel.title for panel in error[1:]] == [f"Error of {g.name}" for g in scene.groups]
        (panel,) = KINDS["levels"](scene, Options())
        assert panel.title == "Level 0: 210 Gaussians"
    many = [Group(channels=1, name=str(i)) for i in range(7)]
    with Scene(join([make_file(many[:6]), make_file(many[6:], 1)])) as scene:
        assert KINDS["ellipses"](scene, Options())[0].title == "60 Gaussians of 0, 1, 2 and 3 more"
    with Scene(make_file(many)) as scene:
        assert KINDS["ellipses"](scene, Options())[0].title == "60 Gaussians"


def test_memory_is_that_of_the_part():
    groups = [Group(channels=1, name=name) for name in "ab"]
    data = join([make_file(groups[:1], n=20), make_file(groups[1:], 1, n=900)])
    needed = []
    for name in "ab":
        with Scene(data, group=name) as scene:
            needed.append(Options().memory(scene, "ellipses"))
    assert needed[1] - needed[0] == 880 * (200 + 12)
