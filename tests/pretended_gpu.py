"""A CUDA device that isn't there, for PyTorch built for the CPU: whether code would run on one, and where it waits.

Tensors on it are wrappers of tensors of the host. What a real device refuses raises here too: operations on tensors of
both places, and turning one into NumPy. Every operation for which the host would have to wait is counted. The kernels
of igs are those of the emulator.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from cuda_emulator import EmulatedKernels
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from igs.encoder.raster import cuda_backend

PLACE = torch.device("cuda", 0)
_SOURCE = Path(__file__).with_name("pretended_gpu.cpp")
_WAITS = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2", "unique_dim"}
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
_real_tensor, _RealGenerator = torch.tensor, torch.Generator


class Mixed(RuntimeError):
    """Tensors of both places in one operation."""


def _is_there(device) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class There(torch.Tensor):
    """A tensor that says it is on the device; ``inner`` has its values."""

    @staticmethod
    def __new__(cls, inner):
        about = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        found = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=PLACE, layout=inner.layout, **about)
        found.inner = inner
        return found

    def __repr__(self) -> str:
        return f"There({self.inner!r})"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self):
        Pretended.current.waits["tolist"] += 1
        return self.inner.tolist()

    def new_tensor(self, data, *, dtype=None, device=None):
        return _real_tensor(data, dtype=dtype or self.dtype).to(PLACE if device is None else device)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return Pretended.current.run(function, args, kwargs or {})


class Generator(torch.Generator):
    """Random numbers for either place: those of the host."""

    def __new__(cls, device="cpu"):
        return _RealGenerator.__new__(cls, "cpu")

    def __init__(self, device="cpu") -> None:
        self._place = PLACE if _is_there(device) else torch.device("cpu")

    @property
    def device(self):
        return self._place


class Pretended(TorchDispatchMode):
    """The device, while entered. waits: how often the host would have waited for it, by operation."""

    current: Pretended

    def __init__(self) -> None:
        super().__init__()
        self.waits = Counter()
        Pretended.current = self

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def run(self, function, args, kwargs):
        """One operation: refused, counted, or done by the host."""
        name, given = function._schema.name.rpartition("::")[2], tree_flatten((args, kwargs))[0]
        there, asked = any(isinstance(t, There) for t in given), kwargs.get("device")
        if not there and not _is_there(asked):
            return function(*args, **kwargs)
        if name == "lift_fresh":
            return args[0]
        if name in ("copy_", "_to_copy"):
            self._copy(name, args, asked)
        else:
            self._check(name, args, given, function)
        unwrap = lambda t: t.inner if isinstance(t, There) else t  # noqa: E731
        args, kwargs = tree_map(unwrap, args), tree_map(unwrap, kwargs)
        stays = there if asked is None else _is_there(asked)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        return self._wrapped(function, function(*args, **kwargs), given, tree_flatten((args, kwargs))[0], stays)

    def _copy(self, name, args, asked) -> None:
        source, target = (args[1], isinstance(args[0], There)) if name == "copy_" else (args[0], asked)
        to_device = target if isinstance(target, bool) else target is None or _is_there(target)
        if isinstance(source, torch.Tensor) and isinstance(source, There) != to_device:
            self.waits["copy to the device" if to_device else "copy to the host"] += 1

    def _check(self, name, args, given, function) -> None:
        here = [t for t in given if isinstance(t, torch.Tensor) and not isinstance(t, There) and t.dim()]
        if name in _WAITS:
            self.waits[name] += 1
        if name in _INDEXING:
            places = [i for i in args[1] if i is not None]
            self.waits["mask"] += any(i.dtype in (torch.bool, torch.uint8) for i in places)
            here = [t for t in here if not any(t is i for i in places)]  # indices of the host are copied
            self.waits["copy to the device"] += any(not isinstance(i, There) for i in places)
        if here and any(isinstance(t, There) for t in given):
            raise Mixed(f"expected all tensors on one device: {function} with {[tuple(t.shape) for t in here]} on cpu")

    @staticmethod
    def _wrapped(function, found, given, unwrapped, stays):
        """What an operation gives, on the device if it stays there; in place of what it wrote to, that itself."""
        returns = function._schema.returns

        def wrap(value, k):
            if not isinstance(value, torch.Tensor) or not stays:
                return value
            alias = returns[min(k, len(returns) - 1)].alias_info
            if alias is not None and alias.is_write:
                return next(a for a, b in zip(given, unwrapped, strict=True) if isinstance(a, There) and b is value)
            return There(value)

        if isinstance(found, (tuple, list)):
            return type(found)(wrap(value, k) for k, value in enumerate(found))
        return wrap(found, 0)


def _tensor(data, *, dtype=None, device=None, **more):
    made = _real_tensor(data, dtype=dtype, **more)
    return made if device is None else made.to(device)


def _guard() -> Path:
    """The library that makes PyTorch take such tensors, built once per state of its source; skips where it can't be."""
    if torch.backends.cuda.is_built():
        pytest.skip("PyTorch is built for CUDA itself")
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler to pretend a device with")
    digest = hashlib.sha256(_SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()
    built = Path(tempfile.gettempdir(), f"igs-pretended-{os.getuid()}-{digest[:20]}.so")
    if not built.exists():
        handle, temporary = tempfile.mkstemp(suffix=".so")
        os.close(handle)
        home = Path(torch.__file__).parent
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        flags = ["-std=c++17", "-O0", "-shared", "-fPIC", abi, f"-I{home}/include"]
        libraries = [f"-L{home}/lib", "-lc10"]
        subprocess.run([*compiler.split(), *flags, "-o", temporary, str(_SOURCE), *libraries], check=True)
        os.replace(temporary, built)
    return built


@pytest.fixture
def gpu(monkeypatch):
    """The device, entered; ``igs.encode(…, device="cuda")`` takes it for a real one."""
    ctypes.CDLL(str(_guard()))
    for name, value in (("is_available", True), ("current_device", 0), ("device_count", 1), ("_lazy_init", None)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "tensor", _tensor)
    kernels = type("Kernels", (EmulatedKernels,), {"architecture": "sm_90"})
    monkeypatch.setattr(cuda_backend, "_kernels", lambda ordinal: kernels())
    with Pretended() as device:
        yield device
