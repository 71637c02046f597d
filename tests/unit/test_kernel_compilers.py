"""Compiling CUDA kernels at first use: the cache, what is tried, and what is said when nothing works."""

from __future__ import annotations

import os
import stat

import pytest

from igs.csrc import cuda_compile, cuda_driver
from igs.csrc.cuda_compile import CudaUnavailable, compile_kernels


class Compiler:
    def __init__(self, name="a compiler 1.0", error=None):
        self.name, self.error, self.calls = name, error, []

    def compile(self, source, architecture, options):
        self.calls.append((source.name, architecture, options))
        if self.error:
            raise CudaUnavailable(self.error)
        return f"{self.name} {source.name} {architecture} {options}".encode()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IGS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use(monkeypatch, *compilers):
    monkeypatch.setattr(cuda_compile, "compilers", lambda: compilers)


def test_what_was_compiled_is_kept(cache, monkeypatch):
    compiler = Compiler()
    use(monkeypatch, compiler)
    code = compile_kernels("raster.cu", "sm_90", ("IGS_CHANNELS=1",))
    assert compile_kernels("raster.cu", "sm_90", ("IGS_CHANNELS=1",)) == code
    assert len(compiler.calls) == 1
    assert compiler.calls == [("raster.cu", "sm_90", ("-DIGS_CHANNELS=1",))]
    (kept,) = cache.iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(kept.stat().st_mode) & 0o077 == 0


def test_anything_else_is_compiled_anew(cache, monkeypatch):
    compiler = Compiler()
    use(monkeypatch, compiler)
    keys = ("raster.cu", "sm_90"), ("raster.cu", "sm_80"), ("bin.cu", "sm_90"), ("raster.cu", "sm_90", ("A=1",))
    codes = {compile_kernels(*key) for key in keys}
    use(monkeypatch, Compiler("a compiler 1.1"))
    codes.add(compile_kernels("raster.cu", "sm_90"))
    monkeypatch.setattr(cuda_compile, "_digest", lambda: b"other sources")
    compile_kernels("raster.cu", "sm_90")
    assert len(codes) == 5
    assert len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:40] + b"\0" + b[41:], lambda b: b"", lambda b: b[:32]]
)
def test_a_damaged_cache_file_is_made_anew(damage, cache, monkeypatch):
    use(monkeypatch, Compiler())
    code = compile_kernels("bin.cu", "sm_90")
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert compile_kernels("bin.cu", "sm_90") == code
    assert kept.read_bytes() == good


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IGS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    compiler = Compiler()
    use(monkeypatch, compiler)
    assert compile_kernels("bin.cu", "sm_90") == compile_kernels("bin.cu", "sm_90")
    assert len(compiler.calls) == 2


def test_a_user_without_a_home_compiles_each_time(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("IGS_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cuda_compile.Path, "home", homeless)
    compiler = Compiler()
    use(monkeypatch, compiler)
    assert compile_kernels("bin.cu", "sm_90") == compile_kernels("bin.cu", "sm_90")
    assert len(compiler.calls) == 2


def test_the_next_compiler_is_tried_where_a_driver_refuses_the_code(cache, monkeypatch):
    def load(code):
        if code.startswith(b"newer"):
            raise CudaUnavailable("CUDA driver: error 222")
        return "loaded"

    compilers = Compiler("newer"), Compiler("older")
    use(monkeypatch, *compilers)
    for _ in range(2):
        assert compile_kernels("bin.cu", "sm_90", (), load) == "loaded"
    assert [len(compiler.calls) for compiler in compilers] == [2, 1]  # what couldn't be loaded isn't kept
    use(monkeypatch, compilers[0])
    with pytest.raises(CudaUnavailable, match="error 222"):
        compile_kernels("bin.cu", "sm_90", (), load)


def test_the_next_compiler_is_tried_and_all_are_named_if_none_works(cache, monkeypatch):
    use(monkeypatch, Compiler("one", "one: no host compiler"), Compiler("two"))
    assert compile_kernels("bin.cu", "sm_90").startswith(b"two")
    use(monkeypatch, Compiler("one", "one: no host compiler"), Compiler("three", "three: too old"))
    with pytest.raises(CudaUnavailable, match=r"(?s)one: no host compiler.*three: too old"):
        compile_kernels("loss.cu", "sm_90")
    use(monkeypatch)
    with pytest.raises(CudaUnavailable, match="expected nvcc, or NVRTC"):
        compile_kernels("loss.cu", "sm_90")


@pytest.mark.parametrize("script", ["exit 1", "true"])
def test_programs_that_are_no_compilers_are_passed_over(script, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "nvcc"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(cuda_compile, "_nvrtc_paths", lambda: iter([str(tmp_path / "libnvrtc.so.13")]))
    cuda_compile.compilers.cache_clear()
    try:
        assert str(fake) not in {getattr(c, "path", None) for c in cuda_compile.compilers()}
        with pytest.raises(CudaUnavailable):
            cuda_compile.Nvrtc(str(tmp_path / "libnvrtc.so.13"))
    finally:
        cuda_compile.compilers.cache_clear()


def test_every_kernel_file_is_known():
    files = {path.name for path in cuda_compile.SOURCES.glob("*.cu")}
    assert set(cuda_driver._FILES) == files
    for name, kernels in cuda_driver._FILES.items():
        text = (cuda_compile.SOURCES / name).read_text()
        assert text.count("IGS_KERNEL(") == len(kernels)
        assert all(kernel in text and cuda_driver.source_of(kernel) == name for kernel in kernels)


@pytest.mark.parametrize("kind", [cuda_compile.Nvcc, cuda_compile.Nvrtc])
def test_real_compilers_compile_and_report_errors(kind, tmp_path):
    """One small file; .ci/run compiles them all, for every variant."""
    found = [c for c in cuda_compile.compilers() if isinstance(c, kind)]
    if not found:
        pytest.skip(f"no {kind.__name__.upper()} on this machine")
    assert found[0].compile(cuda_compile.SOURCES / "optimize.cu", "sm_90", ()).startswith(b"\x7fELF")
    (tmp_path / "wrong.cu").write_text("int f() { return g(); }\n")
    with pytest.raises(CudaUnavailable, match=r"wrong.cu.*\n?.*g"):
        found[0].compile(tmp_path / "wrong.cu", "sm_90", ())


def test_without_a_driver_this_is_said(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", missing)
    cuda_driver.driver.cache_clear()
    with pytest.raises(CudaUnavailable, match=r"no NVIDIA driver: libcuda.so.1"):
        cuda_driver.driver()
