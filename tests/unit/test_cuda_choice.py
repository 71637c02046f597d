"""Which backend is chosen, and what is said where there is no GPU, or one that can't be used."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="the encoder needs torch")

from cuda_cases import emulated, picture, target
from cuda_emulator import EmulatedKernels

import igs
from igs.csrc.cuda_compile import CudaUnavailable
from igs.encoder import encode
from igs.encoder.fitting.fit import Fit
from igs.encoder.options import EncodeOptions
from igs.encoder.raster import cuda_backend, devices
from igs.encoder.raster.model import Model
from igs.encoder.recipe import Recipe


def test_cuda_without_a_gpu_is_unsupported_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(igs.Unsupported, match=r"--device cuda: .*(install one for CUDA|no CUDA GPU).*--device cpu"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda")
    with pytest.raises(igs.UsageError, match="tiles: expected True on a GPU"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda", tiles=False)


@pytest.fixture
def unusable_gpu(monkeypatch):
    def open_device(*, atomic=False):
        raise CudaUnavailable("no CUDA compiler")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_backend, "open_device", open_device)
    monkeypatch.setattr(devices, "_said", set())


def test_a_gpu_that_cannot_be_used_is_told_once_and_leaves_the_cpu(unusable_gpu):
    said = []
    for _ in range(2):
        report = encode(picture(), num_gaussians=4, steps=2, on_warning=said.append).report
        assert report["device"] == "cpu"
    assert [s for s in said if "GPU" in s] == [
        "there is a GPU, but it can't be used, so encoding runs on the CPU: no CUDA compiler"
    ]
    with pytest.raises(igs.Unsupported, match="no CUDA compiler"):
        encode(picture(), num_gaussians=4, steps=2, device="cuda")


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_backend, "open_device", lambda *, atomic: asked.append(atomic) or emulated())
    recipe, options = Recipe(), EncodeOptions(fast_nondeterministic=True)
    assert devices.choose_backend(options, recipe, pytest.fail).name == "emulated"
    assert asked == [True]
    cpu = dataclasses.replace(options, device="cpu", fast_nondeterministic=False)
    assert devices.choose_backend(cpu, recipe, pytest.fail).device == "cpu"
    reference = devices.choose_backend(EncodeOptions(), Recipe(tiles=False), pytest.fail)
    assert (reference.name, reference.device) == ("torch", "cpu")


def test_kernels_that_compute_nonsense_are_found_out(monkeypatch):
    backend = emulated()
    backend.try_out()
    nothing = Model(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3), "log")
    assert torch.equal(backend.render(nothing, Fit(target(), 1, Recipe(), backend).options), torch.zeros(3, 30, 40))
    monkeypatch.setattr(EmulatedKernels, "launch", lambda *_: None)
    broken = emulated()
    real = broken._rasterizer._totals
    monkeypatch.setattr(broken._rasterizer, "_totals", lambda out=None: real(out).fill_(float("nan")))
    with pytest.raises(CudaUnavailable, match="error nan"):
        broken.try_out()
