"""The page, the film and the charts, from made-up moments; and a recorder at a real fit."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from files import VALID
from parts_cases import GROUPS, make_file, stack
from PIL import Image

from igs.format import open_file
from igs.format.errors import UsageError
from igs.view import Report, Scene, charts, html_report, save_film
from igs.view.film import Stage, caption, growth_sheet
from igs.view.log import Entry

FILE = VALID / "lattice.igs"
HISTORY = [Entry(10 * k, 5 + k // 3, 1 / (k + 1), 20 + k**0.5, k / 10) for k in range(30)]


class Moment:
    """Made up; what igs.encoder.fitting.record.Snapshot has."""

    def __init__(self, step, scene, count=6, new=0, seed=0):
        rng = np.random.default_rng(seed)
        channels = scene.header.channels
        self.step, self.growth, self.num_gaussians, self.added = step, bool(new) or step == 0, count, new
        self.psnr = None if step == 0 else 20.0 + step / 100
        self.values = rng.integers(0, 256, (scene.height, scene.width, channels), np.uint8)
        self.position = (rng.random((count, 2)) * [scene.width, scene.height]).astype(np.float32)
        self.covariance = np.tile(np.array([4, 1, 3], np.float32), (count, 1))
        self.feature = rng.random((count, channels), np.float32)
        self.new = np.arange(count) >= count - new


@pytest.fixture(scope="module")
def scene():
    with Scene(FILE) as opened:
        yield opened


@pytest.fixture(scope="module")
def moments(scene):
    return [Moment(0, scene), Moment(7, scene, 9, 3), Moment(50, scene, 9), Moment(100, scene, 9)]


# -- film


@pytest.mark.parametrize("kind", [".webp", ".gif"])
def test_a_film_has_a_frame_for_each_moment(scene, moments, kind):
    stage = Stage(scene.width, scene.height, scene.groups, side=120)
    files = [io.BytesIO() for _ in range(2)]
    for file in files:
        assert save_film(file, kind, moments, stage) == 4
    assert files[0].getvalue() == files[1].getvalue()
    with Image.open(files[0]) as film:
        assert film.n_frames == 4
        assert film.size[0] == 2 * stage.size[0] + 36
        shown = []
        for number in range(4):
            film.seek(number)
            film.load()
            if number == 1:  # the mark is red in either format
                r, g, b = np.asarray(film.convert("RGB"), int)[:, stage.size[0] + 24 :].transpose(2, 0, 1)
                assert (r - np.maximum(g, b)).max() > 90
            shown.append(film.info["duration"])
        assert shown[1] > shown[2]  # a growth stays longer
        assert shown[3] > 1000


@pytest.mark.parametrize("kind", [".webp", ".gif"])
def test_a_film_is_written_through_the_file_whose_errors_are_seen(scene, moments, kind):
    class Watched(io.BytesIO):
        def fileno(self):
            raise AssertionError("written behind the file's back, where a part may pass for the whole")

    stage = Stage(scene.width, scene.height, scene.groups, side=120)
    assert save_film(Watched(), kind, moments, stage) == 4


def test_what_is_no_film(scene, moments):
    stage = Stage(scene.width, scene.height, scene.groups)
    with pytest.raises(UsageError, match=r"\.webp or \.gif"):
        save_film(io.BytesIO(), ".mp4", moments, stage)
    with pytest.raises(UsageError, match="found none"):
        save_film(io.BytesIO(), ".gif", [], stage)


def test_new_gaussians_are_marked(scene, moments):
    stage = Stage(scene.width, scene.height, scene.groups, side=160)
    marked, plain = (np.ptp(stage.growth(m).astype(int), axis=2).max() for m in (moments[1], moments[2]))
    assert marked > 100  # red on grey
    assert plain <= 1  # all grey
    assert "9 Gaussians (3 new)" in caption(moments[1])
    assert caption(moments[0]) == "step 0, 6 Gaussians"
    assert growth_sheet(moments[1], stage).width > 2 * stage.size[0]


# -- charts


def test_the_curve_has_a_point_for_each_entry():
    svg = charts.convergence(HISTORY, [(70, 3)])
    points = re.search(r'polyline class="curve" points="([^"]*)"', svg).group(1).split()
    assert len(points) == 31  # the last one twice: it is kept whatever is thinned out
    heights = [float(p.split(",")[1]) for p in points]
    assert heights == sorted(heights, reverse=True)
    assert svg.count("<title>step 70: +3</title>") == 1
    assert charts.convergence(HISTORY[:1], []) == ""
    assert charts.convergence([e._replace(psnr=None) for e in HISTORY], []) == ""


def test_a_long_log_is_thinned_out():
    long = [Entry(k, 5, 0.1, 20 + k / 1e4, k / 10) for k in range(5000)]
    assert 200 < charts.convergence(long, []).count("<rect") < 402


def test_the_bar_adds_up():
    bar, table = charts.bits({"position": 800.0, "feature": 200.0, "sections": 0.0}, 10)
    assert [float(s) for s in re.findall(r"flex-grow:([\d.]+)", bar)] == [0.8, 0.2]
    assert "Metadata" not in table
    assert "<td>100.00</td>" in table  # bits per Gaussian of all


# -- the page


class _Checker(HTMLParser):
    """Notes what a page refers to, and whether its elements nest."""

    EMPTY = frozenset({"meta", "br", "img", "input", "path", "polyline", "rect"})

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in self.EMPTY or tag in ("path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _facts(scene):
    return {
        "width": scene.width, "height": scene.height, "channels": scene.header.channels, "bytes": FILE.stat().st_size,
        "num_gaussians": scene.reader.num_gaussians, "bpp": 1.25, "bits_per_gaussian": 41.5, "psnr": 33.25,
        "ms_ssim": None, "seconds": 1.5, "steps": 290,
    }  # fmt: skip


def _page(scene, **changes):
    source = np.clip(np.asarray(scene.image.decode(dtype="float32")), 0, 1)
    source[0, 0] = 1 - source[0, 0]
    facts = _facts(scene)
    given = {"name": "a <b> & c", "data": FILE.read_bytes(), "source": source, "facts": facts, "history": HISTORY}
    return html_report(Report(**(given | changes)))


def test_the_page_is_whole_and_fetches_nothing(scene, moments):
    page = _page(scene, moments=moments, settings={"steps": "<290>"}, command="igs-encode 'a <b>' out.igs")
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.sources) > 10
    for address in checker.sources:
        kind, _, data = address.partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
    assert not re.search(r"https?:|@import|url\(", page)
    assert "<b> & c" not in page
    text = " ".join(checker.text)
    for words in ("a <b> & c", "33.25 dB", "1.250", "41.5", "<290>", "igs-encode 'a <b>' out.igs", "3 new"):
        assert words in text
    assert checker.tags.count("script") == 1


def test_a_page_without_a_log_or_with_an_exact_picture(scene):
    page = _page(scene, history=(), facts={**_facts(scene), "psnr": None, "ms_ssim": 0.98765})
    assert "How it got there" not in page
    assert "exact" in page
    assert "0.9877" in page


@pytest.mark.parametrize("traits", ["groups", "levels"])
def test_groups_and_levels_have_their_place(traits):
    for path in sorted(FILE.parent.glob("*.igs")):
        with Scene(path, allow_partial=True) as scene:
            many = len(scene.groups) if traits == "groups" else scene.reader.available_levels
            if many > 1 and max(scene.width, scene.height) < 1000:
                page = _page(scene, data=path.read_bytes(), facts=_facts(scene))
                assert ("<h2>Channel groups</h2>" in page) == (len(scene.groups) > 1)
                assert ("<h2>Levels</h2>" in page) == (scene.reader.available_levels > 1)
                return
    raise AssertionError("no such file")


def test_the_page_is_the_same_every_time(scene, moments):
    assert _page(scene, moments=moments) == _page(scene, moments=moments)


# -- a real fit


def _picture():
    y, x = np.mgrid[0:36, 0:48]
    planes = [0.5 + 0.4 * np.sin((x * (c + 1) + y) / 9.0) * np.where(x > 20, 1, 0.4) for c in range(3)]
    return np.round(np.stack(planes, axis=2) * 255).astype(np.uint8)


@pytest.mark.parametrize("settings", [{}, {"preset": "gaussianimage++"}], ids=["default", "gaussianimage++"])
def test_a_recorder_changes_nothing_and_misses_no_growth(settings):
    pytest.importorskip("torch")
    from igs.encoder import encode
    from igs.encoder.fitting.record import Recorder

    wanted = {"num_gaussians": 40, "steps": 60} | settings
    recorder = Recorder(frames=8, side=20)
    watched = encode(_picture(), **wanted, on_step=recorder)
    assert watched.data == encode(_picture(), **wanted).data
    growths = [s for s in recorder.snapshots if s.growth]
    assert len(growths) > 2
    assert sum(s.added for s in growths) == 40
    assert [int(s.new.sum()) for s in growths] == [0] + [s.added for s in growths[1:]]
    steps = [s.step for s in recorder.snapshots]
    assert steps[0] == 0
    assert steps[-1] == 60
    assert steps == sorted(set(steps))
    assert {round(60 * (k / 8) ** 2) for k in (2, 4, 6)} <= {s + d for s in steps for d in (-1, 0, 1)}
    last = recorder.snapshots[-1]
    assert last.values.shape == (12, 16, 3)
    truth = _picture().reshape(12, 3, 16, 3, 3).mean(axis=(1, 3))
    assert np.abs(last.values - truth).mean() < (40 if settings else 12)  # the preset's 5000 steps are not taken here
    assert (last.covariance[:, 0] * last.covariance[:, 2] > last.covariance[:, 1] ** 2).all()


def test_a_fit_that_goes_on_is_followed_to_its_end():
    pytest.importorskip("torch")
    from igs.encoder import encode
    from igs.encoder.fitting.record import Recorder

    recorder = Recorder(frames=6)
    encoded = encode(_picture(), psnr=26.0, steps=30, on_step=recorder)
    steps = [s.step for s in recorder.snapshots]
    assert encoded.report["steps"] > 30
    assert max(steps) > 30
    growths = sum(s.growth for s in recorder.snapshots)
    frames = 6 * (encoded.report["steps"] / 30) ** 0.5
    assert len(steps) <= frames + growths + 2
    assert sum(s.added for s in recorder.snapshots) >= recorder.snapshots[-1].num_gaussians  # some are left out again


def test_recorded_covariances_are_those_of_the_file():
    torch = pytest.importorskip("torch")
    from igs.encoder.fitting.record import covariances
    from igs.encoder.raster.model import Model
    from igs.encoder.raster.shapes import parameters

    sigma, turn = torch.tensor([[5.0, 2.0], [1.0, 3.0]]), torch.tensor([0.2, 0.7])
    found = []
    for map_ in ("log", "inverse", "raw", "cholesky", "covariance"):
        scale, rotation = parameters(sigma, turn, map_)
        found.append(covariances(Model(torch.zeros(2, 2), scale, rotation, torch.zeros(2, 3), map_), 0.5))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4)
    with open_file(FILE) as file:
        every = file.gaussians(0)
    sxx, sxy, syy = every.covariances.T
    angle = 0.5 * np.arctan2(2 * sxy, sxx - syy) / np.pi
    along = np.sqrt(np.linalg.eigvalsh(np.stack([np.stack([sxx, sxy], 1), np.stack([sxy, syy], 1)], 1))[:, ::-1])
    scale, rotation = parameters(torch.tensor(along.copy()), torch.tensor(angle), "raw")
    model = Model(torch.zeros(len(along), 2), scale, rotation, torch.zeros(len(along), 1), "raw")
    np.testing.assert_allclose(covariances(model, 0.0), every.covariances, rtol=1e-6, atol=1e-9)


def test_the_error_shown_is_the_error_reported():
    pytest.importorskip("torch")
    from igs.encoder import encode
    from igs.view import maps

    pixels = np.concatenate([_picture(), np.full((36, 48, 1), 255, np.uint8)], axis=2)
    pixels[:9, :, 3] = 30
    encoded = encode(pixels, num_gaussians=40, steps=40)
    with Scene(encoded.data) as scene:
        source = pixels.astype(np.float32) / 255
        errors = maps.errors(scene.compared(scene.decoded()), scene.compared(source))
    assert 10 * np.log10(255**2 / np.mean(errors**2)) == pytest.approx(encoded.report["psnr"], abs=1e-4)


def test_very_many_gaussians_are_thinned_out(monkeypatch):
    pytest.importorskip("torch")
    from igs.encoder import encode
    from igs.encoder.fitting import record

    monkeypatch.setattr(record, "MOST", 7)
    recorder = record.Recorder()
    encode(_picture(), num_gaussians=30, steps=20, on_step=recorder)
    assert {len(s.position) for s in recorder.snapshots} == {7}
    assert {len(s.new) for s in recorder.snapshots} == {7}
    assert recorder.snapshots[-1].num_gaussians == 30


def test_the_page_says_which_maps_share_gaussians():
    pages = []
    for data in (stack().data, make_file(GROUPS)):
        with Scene(data) as opened:
            source = np.zeros((opened.height, opened.width, 9), np.float32)
            pages.append(html_report(Report("maps", data, source, _facts(opened))))
    checker = _Checker()
    checker.feed(pages[0])
    assert checker.open == []
    text = "".join(checker.text)
    assert "Those on one line share Gaussians:'albedo', 'ao': 60 Gaussians of 88 bits in " in text
    assert "'normal': 70 Gaussians of 72 bits in " in text
    assert "Gaussians are those of albedo and ao." in text
    with open_file(stack().data) as file:
        first = file.parts[0].last_chunk
    assert f"{first} chunks of albedo and ao" in text
    assert "share Gaussians" not in pages[1]
    assert "Gaussians are those" not in pages[1]
