"""The CUDA kernels on the host: builds csrc/cuda/emulate and offers it as igs.csrc.cuda_driver.DeviceKernels is."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parent.parent / "csrc"
_FLAGS = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-shared", "-fPIC", "-DIGS_EMULATE"]


def library() -> ctypes.CDLL:
    """Built once per state of the sources; skips the test where there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler to emulate the CUDA kernels with")
    extra = os.environ.get("IGS_EMULATE_FLAGS", "").split()  # such as -g -fsanitize=address,undefined
    digest = hashlib.sha256(" ".join([compiler, *_FLAGS, *extra]).encode())
    for path in sorted([*CSRC.glob("cuda/**/*.*"), CSRC / "gaussian.h"]):
        digest.update(path.read_bytes())
    built = Path(tempfile.gettempdir(), f"igs-emulate-{os.getuid()}-{digest.hexdigest()[:20]}.so")
    if not built.exists():
        handle, temporary = tempfile.mkstemp(suffix=".so")
        os.close(handle)
        source = CSRC / "cuda" / "emulate" / "emulate.cpp"
        subprocess.run([*compiler.split(), *_FLAGS, *extra, f"-I{CSRC}/cuda", "-o", temporary, str(source)], check=True)
        os.replace(temporary, built)
    lib = ctypes.CDLL(str(built))
    lib.igs_emulate.argtypes = [ctypes.c_char_p, *[ctypes.c_uint] * 4, ctypes.c_void_p, ctypes.c_uint]
    return lib


class EmulatedKernels:
    """Threads and blocks run in an order that ``seed`` shuffles; results must not depend on it."""

    name = "cuda-emulated"

    def __init__(self, seed: int = 0) -> None:
        self._lib, self.seed = library(), seed

    def launch(self, kernel, grid, threads, arguments, variant=None) -> None:
        if variant is not None:
            kernel = "{}_{}_{}".format(kernel, *variant)
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        self.seed += 1
        assert self._lib.igs_emulate(kernel.encode(), *grid, threads, pointers, self.seed) == 0, kernel
