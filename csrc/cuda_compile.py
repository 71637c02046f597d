"""Compiles the CUDA kernels at first use, by nvcc or NVRTC, and keeps the result on disk. Imports no torch, no numpy.

A kernel is compiled for the machine's own architecture, so that the driver has nothing left to translate. The cache
holds one file per combination of sources, options, architecture and compiler, with a checksum; a file that is not what
was written there is made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

__all__ = ["SOURCES", "CudaUnavailable", "compile_kernels", "compilers"]

SOURCES = Path(__file__).parent / "cuda"
# --fmad=false: who counts must come out as everywhere else (spec §7). Sums ask for fused operations themselves.
FLAGS = ("--std=c++17", "--fmad=false")
_TIMEOUT = 300  # seconds; a kernel takes a few


class CudaUnavailable(RuntimeError):
    """CUDA can't be used here; the message says what is missing."""


class Compiler(Protocol):
    name: str  # with its version: part of the cache's key

    def compile(self, source: Path, architecture: str, options: tuple[str, ...]) -> bytes: ...


class Nvcc:
    """The CUDA toolkit's compiler."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            done = subprocess.run([path, "--version"], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise CudaUnavailable(f"{path}: {error}") from error
        version = done.stdout.decode(errors="replace").strip().splitlines()
        if not version:
            raise CudaUnavailable(f"{path}: expected a version, found none")
        self.name = f"nvcc {version[-1]}"

    def compile(self, source: Path, architecture: str, options: tuple[str, ...]) -> bytes:
        """The machine code (cubin) of a source file."""
        with tempfile.TemporaryDirectory(prefix="igs-") as folder:
            out = Path(folder, "kernels.cubin")
            command = [self.path, *FLAGS, f"-arch={architecture}", *options, "-cubin", "-o", str(out), str(source)]
            try:
                done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, cwd=folder)
            except (OSError, subprocess.SubprocessError) as error:
                raise CudaUnavailable(f"{self.path}: {error}") from error
            if done.returncode or not out.exists():
                log = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
                raise CudaUnavailable(f"{self.name} on {source.name}: {log}")
            return out.read_bytes()


class Nvrtc:
    """The runtime compiler: a library that PyTorch's CUDA builds bring along, and the toolkit has."""

    def __init__(self, path: str) -> None:
        try:
            # It opens this one by its bare name when it compiles, and so finds it only where it is loaded already.
            for builtins in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")):
                ctypes.CDLL(str(builtins))
            lib = ctypes.CDLL(path)
            major, minor = ctypes.c_int(), ctypes.c_int()
            lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
            lib.nvrtcGetCUBIN  # noqa: B018 (from 11.1 on)
        except (OSError, AttributeError) as error:
            raise CudaUnavailable(f"{path}: {error}") from error
        lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.name, self._lib = f"NVRTC {major.value}.{minor.value}", lib

    def _check(self, code: int) -> None:
        if code:
            raise CudaUnavailable(f"{self.name}: {self._lib.nvrtcGetErrorString(code).decode()}")

    def compile(self, source: Path, architecture: str, options: tuple[str, ...]) -> bytes:
        """The machine code (cubin) of a source file."""
        lib, program = self._lib, ctypes.c_void_p()
        text, name = source.read_bytes(), str(source).encode()
        self._check(lib.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
        try:
            given = [*FLAGS, f"--gpu-architecture={architecture}", f"-I{source.parent}", *options]
            array = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
            code = lib.nvrtcCompileProgram(program, len(given), array)
            if code:
                log = self._read(program, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog)
                raise CudaUnavailable(f"{self.name} on {source.name}: {log.decode(errors='replace').strip()[-2000:]}")
            return self._read(program, lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN)
        finally:
            lib.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, size_of: Any, get: Any) -> bytes:
        size = ctypes.c_size_t()
        self._check(size_of(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(get(program, buffer))
        return buffer.raw


def _nvcc_paths() -> Iterator[str]:
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and Path(home, "bin", "nvcc").is_file():
            yield str(Path(home, "bin", "nvcc"))
    for path in (shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if path and Path(path).is_file():
            yield path


def _nvrtc_paths() -> Iterator[str]:
    """Those of the packages that PyTorch installs, newest first, then the system's."""
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        found = glob.glob(f"{root}/cu*/lib/libnvrtc.so.*") + glob.glob(f"{root}/cuda_nvrtc/lib/libnvrtc.so.*")
        yield from sorted(found, key=lambda path: path.rpartition(".so.")[2], reverse=True)
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if home:
            yield from sorted(glob.glob(f"{home}/lib64/libnvrtc.so.*"), key=len)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


@functools.cache
def compilers() -> tuple[Compiler, ...]:
    """What can compile here, the first that works of each kind: nvcc, then NVRTC. Perhaps none."""
    found: list[Compiler] = []
    for kind, paths in ((Nvcc, _nvcc_paths()), (Nvrtc, _nvrtc_paths())):
        for path in paths:
            with contextlib.suppress(CudaUnavailable):
                found.append(kind(path))
                break
    return tuple(found)


@functools.cache
def _digest() -> bytes:
    """Of everything that a kernel may include."""
    files = [p for p in sorted(SOURCES.iterdir()) if p.suffix in (".cu", ".cuh", ".h")]
    hashes = hashlib.sha256()
    for path in [*files, SOURCES.parent / "gaussian.h"]:
        hashes.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hashes.digest()


def cache_folder() -> Path:
    """Where compiled kernels are kept: $IGS_CACHE_DIR, else igs in the user's cache."""
    chosen = os.environ.get("IGS_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "igs"


def _cache_file(name: str) -> Path | None:
    try:
        return cache_folder() / name
    except RuntimeError:  # a user without a home: nothing is kept
        return None


def _cached(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[32:]
    return code if code and hashlib.sha256(code).digest() == content[:32] else None


def _keep(path: Path, code: bytes) -> None:
    """Whole or not at all; a folder that can't be written only costs the next start its time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def compile_kernels(
    source: str, architecture: str, defines: tuple[str, ...] = (), load: Callable[[bytes], Any] = bytes
) -> Any:
    """Machine code of csrc/cuda/``source`` for an architecture such as ``sm_90``, from the cache if it is there.

    defines: ``NAME=VALUE`` each. load: makes what is returned of it; if that raises CudaUnavailable, as a driver may
    for a newer compiler's code, the next compiler is tried. Raises CudaUnavailable with what came of each.
    """
    options = tuple(f"-D{define}" for define in defines)
    failures = []
    for compiler in compilers():
        key = hashlib.sha256(_digest())
        for part in (source, architecture, compiler.name, *FLAGS, *options):
            key.update(b"\0" + part.encode())
        path = _cache_file(f"{Path(source).stem}-{architecture}-{key.hexdigest()[:32]}.cubin")
        known = path and _cached(path)
        try:
            code = known or compiler.compile(SOURCES / source, architecture, options)
            loaded = load(code)
        except CudaUnavailable as error:
            failures.append(str(error))
            continue
        if path and not known:
            _keep(path, code)
        return loaded
    raise CudaUnavailable(
        "\n".join(failures) or "no CUDA compiler: expected nvcc, or NVRTC as PyTorch's CUDA builds bring it"
    )
