"""Builds the CPU kernels (csrc/*.cpp) as a plain shared library that igs.csrc loads by ctypes.

One source is compiled once per instruction set and the library picks among them at run time, so that a wheel built on
one machine runs at full speed on another. Everything else about the package is in pyproject.toml.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What each copy of the kernels is compiled for: macro suffix → compiler flags. The library asks the processor at load.
X86_TARGETS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512cd",
        "-mfma",
        "-mprefer-vector-width=512",
    ],
}
COMMON = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-pthread"]
# Finite mathematics without signed zeros turns comparisons into min/max instructions, association lets sums be
# vectorised. Only for the kernels and never at the link: linked, -ffast-math would switch denormals off for the whole
# Python process.
FAST = ["-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros", "-fassociative-math"]


class BuildKernels(build_ext):
    """Compiles kernels.cpp once per target, dispatch.cpp once, and links them without any Python or torch symbol."""

    def build_extension(self, ext: Extension) -> None:
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        targets = X86_TARGETS if x86 else {"baseline": []}
        objects = []
        for name, flags in targets.items():
            objects += self.compiler.compile(
                ["csrc/kernels.cpp"],
                output_dir=str(Path(self.build_temp, name)),
                macros=[("IGS_TARGET", name)],
                include_dirs=["csrc"],
                extra_postargs=COMMON + FAST + flags,
                depends=ext.depends,
            )
        objects += self.compiler.compile(
            ["csrc/dispatch.cpp"],
            output_dir=str(Path(self.build_temp, "dispatch")),
            macros=[("IGS_X86", "1")] if x86 else [],
            include_dirs=["csrc"],
            extra_postargs=COMMON,
            depends=ext.depends,
        )
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(ext.name), extra_postargs=["-pthread"], target_lang="c++"
        )

    def get_output_mapping(self) -> dict[str, str]:
        """Only what was built: a strict editable install would otherwise try to link a library that doesn't exist."""
        return {built: copy for built, copy in super().get_output_mapping().items() if Path(built).exists()}


setup(
    ext_modules=[
        # optional: without a compiler the package still installs, and the encoder falls back to torch.
        Extension(
            "igs.csrc._kernels",
            ["csrc/kernels.cpp", "csrc/dispatch.cpp"],
            depends=sorted(str(p) for p in [*Path("csrc").glob("*.h"), *Path("csrc").glob("*.inc")]),
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
