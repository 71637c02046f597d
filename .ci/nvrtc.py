"""nvcc for .ci/run where there is none: a CUDA source to a cubin by NVRTC, with what the assembler says of registers.

    python .ci/nvrtc.py -arch=sm_90 [-DNAME=VALUE …] -o OUT SOURCE

Needs igs and NVRTC, as `pip install '.[cuda]'` brings it.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

from igs.csrc.cuda_compile import FLAGS, Nvrtc, compilers


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-arch", required=True)
    parser.add_argument("-D", action="append", default=[])
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("source", type=Path)
    given = parser.parse_args()
    nvrtc = next((c for c in compilers() if isinstance(c, Nvrtc)), None)
    if nvrtc is None:
        print("expected nvcc or NVRTC, found neither")
        return 1
    lib, program = nvrtc._lib, ctypes.c_void_p()
    text = given.source.read_bytes()
    nvrtc._check(lib.nvrtcCreateProgram(ctypes.byref(program), text, str(given.source).encode(), 0, None, None))
    options = [*FLAGS, f"--gpu-architecture={given.arch}", f"-I{given.source.parent}", "--ptxas-options=-v"]
    options += [f"-D{define}" for define in given.D]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    code = lib.nvrtcCompileProgram(program, len(options), array)
    print(nvrtc._read(program, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog).decode(errors="replace"))
    if code == 0:
        given.o.write_bytes(nvrtc._read(program, lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN))
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
