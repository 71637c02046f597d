"""Shared by the benchmarks: the machine in words, yardsticks of the same run, medians, and where results are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
# Pictures to measure with: beside the checkout, or where the environment says.
DATA = Path(os.environ.get("IGS_DATA") or REPO.parent / "shared" / "data").resolve()
RESULTS = Path(__file__).resolve().parent / "results"
SETS = {
    "stylized": "stylized/*/*.png",
    "kodak": "kodak/*.png",
    "textures": "textures/*/*.png",  # single maps
    "stacks": "textures/*",
}
CUDA_HOME = "/usr/local/cuda"  # where the toolkit is, unless the environment says otherwise
_ENCODER = tuple(f"igs.encoder.{part}" for part in ("loading", "raster", "fitting", "rounding"))
_PACKAGES = ("igs", "igs.format", "igs.decoder", "igs.encoder", *_ENCODER, "igs.csrc", "igs.cli")
_SOURCES = {".py", ".cpp", ".h", ".inc"}


@dataclasses.dataclass
class Row:
    """One line of a table. value and bound in ``unit``; bound None: only reported; ``least``: it is a lower one."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    note: str = ""
    least: bool = False

    @property
    def verdict(self) -> str:
        """Whether the bound holds."""
        if self.bound is None:
            return ""
        met = self.value >= self.bound if self.least else self.value <= self.bound
        return "ok" if met else "MISSED"

    def __str__(self) -> str:
        line = f"{self.what:<72} {self.value:>10.4g} {self.unit}"
        sign = "≥" if self.least else "≤"
        return line if self.bound is None else f"{line:<92} {sign} {self.bound:g} {self.verdict}"


def machine() -> dict[str, Any]:
    """Processor, cores, versions: what a figure can't be read without."""
    import numpy

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    for module in ("torch", "numba"):
        with contextlib.suppress(ImportError):
            versions[module] = __import__(module).__version__
    return {"processor": name, "cores": os.cpu_count(), "system": platform.system(), **versions}


def cannot_compile() -> str | None:
    """What PyTorch lacks here to compile CUDA extensions, of ninja and nvcc; None where it can. Loads no torch."""
    home = os.environ.get("CUDA_HOME") or (CUDA_HOME if Path(CUDA_HOME).is_dir() else None)
    nvcc = shutil.which("nvcc", path=os.path.join(home, "bin") if home else None)
    lacking = [name for name, found in (("ninja", shutil.which("ninja")), ("nvcc", nvcc)) if found is None]
    return f"expected ninja on the path and CUDA's nvcc, found no {' and no '.join(lacking)}" if lacking else None


def today() -> str:
    """The date as results keep it."""
    return time.strftime("%Y-%m-%d")


@functools.cache
def sources_version() -> str:
    """igs' version and the first hex digits of a hash over its sources for the CPU: another byte, another codec."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for folder in importlib.import_module(package).__path__:
            for path in sorted(Path(folder).iterdir()):
                if path.suffix in _SOURCES:
                    digest.update(f"{package}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    return f"igs {importlib.import_module('igs').__version__} ({digest.hexdigest()[:12]})"


def _seconds(call: Callable[[], Any], runs: int, warmup: int) -> list[float]:
    for _ in range(warmup):
        call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def median_seconds(call: Callable[[], Any], runs: int = 5, warmup: int = 1) -> float:
    """Median wall-clock seconds of a call."""
    return statistics.median(_seconds(call, runs, warmup))


def best_seconds(call: Callable[[], Any], runs: int = 7) -> float:
    """Wall-clock seconds of the fastest of several calls, after one to warm up."""
    return min(_seconds(call, runs, 1))


def peak_and_seconds(code: str, told: list[str] | None = None) -> tuple[float, float]:
    """Peak memory in MiB and seconds of a Python process that runs ``code``; its lines of output go to ``told``."""
    # Not getrusage: on Linux that starts from the peak of the process that started this one.
    peak = "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", f"{code}\n{peak}"], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    *lines, last = done.stdout.splitlines()
    if told is not None:
        told += lines
    return int(last) / 1024, seconds


def save(section: str, rows: list[dict[str, Any]], show: bool = True) -> None:
    """Print a section's rows (if asked) and keep them in bench/results/cpu.json with the machine's description."""
    keep_section("cpu.json", section, {"machine": machine(), "date": today(), "rows": rows})
    if not show:
        return
    print(f"\n{section}")
    for row in rows:
        print("  " + "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))


def keep_section(file: str, section: str, entry: dict[str, Any]) -> None:
    """Put an entry into bench/results, in the place of the one of that section."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / file
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {section: entry}, indent=1) + "\n")


def keep_settings(file: str, settings: dict[str, Any], entry: dict[str, Any], but: Container[str] = ()) -> None:
    """Put an entry into bench/results, in the place of those with the same settings ``but`` for some."""

    def counted(of: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in of.items() if name not in but}

    path = RESULTS / file
    known = json.loads(path.read_text()) if path.exists() else []
    known = [k for k in known if counted(k["settings"]) != counted(settings)]
    about = {"settings": counted(settings), "machine": machine(), "igs": sources_version(), "date": today()}
    path.write_text(json.dumps([*known, about | entry], indent=1) + "\n")


def kodak(count: int | None = None) -> list[Path]:
    """The Kodak images beside the checkout."""
    return sorted((DATA / "kodak").glob("*.png"))[:count]
