"""Encodes from end to end: determinism, hard cases, every option, the report. Bad options: test_options.py."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from encoder_cases import picture, small

import igs
from igs.csrc.cuda_compile import CudaUnavailable
from igs.encoder import EncodeOptions, encode, job
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.model import Model, scale_parameter
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.rounding.lattice import Noise, rate_gradients


def test_same_input_same_bytes_whatever_the_threads():
    files = {small(picture(), threads=t, seed=3).data for t in (1, 2, 2)}
    assert len(files) == 1
    assert small(picture(), seed=4).data not in files


def test_threads_of_torch_are_left_as_they_were():
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        small(picture(), threads=2, on_step=lambda fit: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 3
        assert set(seen) == {1 if kernels.available() else 2}
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("settings", [{}, {"primitive": "gradient", "bpp": 2.0, "num_gaussians": None}, {"levels": 2}])
def test_what_torch_makes_by_default_does_not_matter(settings):
    expected = small(picture(), device="cpu", **settings).data
    try:
        for kind, device in ((torch.float64, "cpu"), (torch.float32, "meta")):
            torch.set_default_dtype(kind)
            torch.set_default_device(device)
            assert small(picture(), device="cpu", **settings).data == expected, (kind, device)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError),
        (CudaUnavailable("CUDA driver: error 700, an illegal memory access was encountered"), igs.Unsupported),
        (RuntimeError("something else"), RuntimeError),
    ],
)
def test_errors_of_torch_and_the_gpu_are_what_they_are(error, expected, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Fit, "run", fail)
    with pytest.raises(expected) as caught:
        small(picture())
    assert type(caught.value) is expected


def test_encodes_side_by_side_are_those_of_one_after_the_other():
    pictures = [picture(40 + 24 * k, 32 + 8 * k) for k in range(3)]

    def data(source):
        return encode(source, num_gaussians=30, steps=60, seed=1).data

    expected, before = [data(p) for p in pictures], torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(data, pictures * 3)) == expected * 3
    assert torch.get_num_threads() == before


def test_threads_of_torch_after_fits_that_overlap():
    """The caller's ends first, another one's goes on: then, too, PyTorch is here as before, and in new threads."""
    before, ours, theirs = torch.get_num_threads(), threading.Event(), threading.Event()
    torch.set_num_threads(3)
    try:

        def other():
            def wait(fit):
                theirs.set()
                assert ours.wait(60)

            small(picture(), on_step=wait)

        thread = threading.Thread(target=other)
        small(picture(), on_step=lambda fit: (thread.is_alive() or thread.ident or thread.start(), theirs.wait(60)))
        assert torch.get_num_threads() == 3
        ours.set()
        thread.join()
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_flat_colour_is_exact():
    image = np.full((9, 14, 3), (10, 200, 77), np.uint8)
    encoded = encode(image, num_gaussians=3, steps=5, feat_bits=32)
    assert (igs.open(encoded.data).decode() == image).all()
    assert encoded.report["exact"]
    assert encoded.report["psnr"] is None


def test_flat_colour_of_coarse_codes():
    """A perfect fit has the finest lattice, and large Gaussians many of its steps."""
    for image in (np.full((9, 14, 3), (10, 200, 77), np.uint8), np.full((300, 400), 0.3, np.float32)):
        encoded = encode(image, num_gaussians=3, steps=5)
        assert encoded.report["psnr"] is None or encoded.report["psnr"] > 50


def test_steps_of_a_lattice_as_large_as_the_picture():
    rng = np.random.default_rng(0)
    for width, height, channels in ((29, 1, 1), (3, 2, 3), (50, 1, 3), (1, 6, 1), (26, 2, 1)):
        image = (rng.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)
        for seed in range(4):
            encoded = encode(image, num_gaussians=20, steps=3, seed=seed)
            assert igs.open(encoded.data).decode().shape == image.shape


@pytest.mark.parametrize("top", [40.0, 1e5])
def test_values_far_above_one(top):
    image = (picture() / 255 * top).astype(np.float32)
    if top == 1e5:
        with pytest.raises(igs.UsageError, match="plain"):
            small(image)
        settings = {"coding": "plain"}
    else:
        settings = {}
    assert np.isfinite(igs.open(small(image, **settings).data).decode(dtype="float32")).all()


@pytest.mark.parametrize("scale_map", ["raw", "inverse"])
def test_noise_is_the_same_for_every_parameterisation(scale_map):
    g = torch.Generator().manual_seed(0)
    n = 50
    logs = torch.rand(n, 2, generator=g) * 2 - 0.5
    shared = torch.rand(n, 2, generator=g) * 30, torch.rand(n, generator=g), torch.rand(n, 3, generator=g)

    def model(name):
        position, rotation, feature = (t.clone() for t in shared)
        return Model(
            position, logs.clone() if name == "log" else scale_parameter(logs.exp(), name), rotation, feature, name
        )

    first, second = (Noise(3, 3, [0], 5, TorchBackend()).add(model(name), 0.5) for name in ("log", scale_map))
    assert second.scale_map == scale_map
    torch.testing.assert_close(second.sigmas(), first.sigmas())
    for a, b in ((first.position, second.position), (first.rotation, second.rotation), (first.feature, second.feature)):
        torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
    (by_log, feature), (by_scale, same) = (rate_gradients(model(name), [0]) for name in ("log", scale_map))
    slope = model(scale_map).scale if scale_map == "raw" else -model(scale_map).scale
    torch.testing.assert_close(by_scale * slope, by_log, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(same, feature)


def test_bits_per_code_are_those_asked_for():
    assert small(picture(), feat_bits=6).report["bits_per_gaussian"] == 2 * 14 + 2 * 8 + 10 + 3 * 6


@pytest.mark.parametrize(
    ("width", "height", "n"), [(1, 1, 1), (1, 1, 50), (1, 40, 10), (40, 1, 10), (2, 31, 8), (5, 4, 100)]
)
def test_degenerate_sizes(width, height, n):
    image = picture(width, height)
    encoded = encode(image, num_gaussians=n, steps=10)
    with igs.open(encoded.data) as im:
        assert im.decode().shape == image.shape
        assert im.num_gaussians == n


def test_sixteen_megapixels():
    y, x = np.ogrid[0.0:1.0:4096j, 0.0:1.0:4096j]
    grey = (255 * np.sin(2 * x * y).astype(np.float32)).astype(np.uint8)
    report = encode(grey, num_gaussians=64, steps=16).report
    assert report["psnr"] > 33  # five seeds have 35.4 to 38.4, with 12 steps 33.4 to 36.0; of one colour 10.0


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_any_number_of_channels(channels):
    image = picture(20, 16, channels)
    encoded = small(image)
    assert igs.open(encoded.data).decode().shape == image.shape
    assert encoded.report["channels"] == channels


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "image-gs"},
        {"preset": "image-gs-code"},
        {"blend": "sum"},
        {"primitive": "gradient"},
        {"primitive": "gradient", "blend": "sum", "quantize_forward": 0.5},
        {"primitive": "gradient", "feat_bits": 32},
        {"init": "saliency"},
        {"init": "saliency", "saliency": "fine-grained"},
        {"init": "random"},
        {"init_color": False},
        {"scale_parameter": "raw"},
        {"scale_parameter": "inverse"},
        {"growth": False},
        {"loss_l1": 1.0, "loss_l2": 0.0, "loss_ssim": 0.1},
        {"gamma": 2.2},
        {"quantize_forward": 0.5},
        {"pos_bits": 32, "scale_bits": 32, "rot_bits": 32, "feat_bits": 32},
        {"pos_bits": 9, "scale_bits": 5, "rot_bits": 4, "feat_bits": 6},
        {"codec": "raw"},
        {"top_k": 3},
    ],
    ids=str,
)
def test_every_option_makes_a_valid_file(settings):
    encoded = small(picture(), **settings)
    with igs.open(encoded.data) as im:
        decoded = im.decode()
    assert decoded.shape == (30, 40, 3)
    assert encoded.report["psnr"] > 10


def test_report_is_of_the_decoded_file():
    image = picture()
    encoded = small(image)
    error = (igs.open(encoded.data).decode().astype(float) - image) / 255
    assert encoded.report["psnr"] == pytest.approx(-10 * math.log10((error**2).mean()), abs=1e-4)
    assert encoded.report["bytes"] == len(encoded.data)
    assert encoded.report["bpp"] == pytest.approx(len(encoded.data) * 8 / (40 * 30))
    json.dumps(encoded.report)


@pytest.mark.parametrize(
    "settings",
    [{}, {"downsample": 2}, {"downsample": 5}, {"levels": 2}, {"roi": [(3, 2, 9, 20)]}, {"psnr": 25}],
    ids=str,
)
def test_quality_is_the_same_by_strips(settings, monkeypatch):
    image, given = picture(41, 30, 4), {"steps": 20} | ({} if "psnr" in settings else {"num_gaussians": 30}) | settings
    whole = encode(image, **given)
    monkeypatch.setattr(job, "_STRIP", 7)
    strips = encode(image, **given)
    assert strips.data == whole.data
    found, expected = (rounded(e.report | {"seconds": 0}) for e in (strips, whole))
    assert found == expected
    assert found["psnr"] > 15


def rounded(value):
    """The same with all numbers to nine digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_no_point_of_the_picture_is_bare():
    from igs.decoder import holes
    from igs.format import Gaussians, open_file

    encoded = encode(picture(64, 48), num_gaussians=4, steps=30, reach2=2.0, pos_bits=6, scale_bits=4)
    reader = open_file(encoded.data)
    gaussians = Gaussians.concatenate([reader.gaussians(i) for i in range(reader.num_chunks)])
    assert len(holes(reader.header, gaussians, 4)) == 0


def test_saliency_map_from_a_file(tmp_path):
    from PIL import Image

    Image.fromarray(np.eye(10, dtype=np.uint8) * 255).save(tmp_path / "map.png")
    assert small(picture(), saliency_map=tmp_path / "map.png").report["psnr"] > 10
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(igs.InputError, match="bad"):
        small(picture(), saliency_map=tmp_path / "bad.png")


def test_options_object_and_device():
    assert encode(picture(8, 8), EncodeOptions(num_gaussians=2, overrides={"steps": 2})).report["steps"] == 2
    with pytest.raises(igs.Unsupported, match="cuda"):
        encode(picture(8, 8), num_gaussians=2, device="cuda")


def test_presets_page_shows_the_presets():
    from pathlib import Path

    from igs.encoder.presets import presets_table

    page = Path(__file__).resolve().parents[2] / "docs" / "presets.md"
    assert presets_table() in page.read_text(), "run: python bench/make_docs.py"
