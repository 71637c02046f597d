"""Quantisers (spec §3.1, §3.2, §6): numbers ↔ integer codes, for one attribute of all Gaussians.

Decoding is exact: binary64 in the order that the specification writes. Encoding (nearest code, clipped) is the writer's
choice and not normative. No bits are packed here; see bitpack.py.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igs.format.errors import UsageError
from igs.format.fields import QuantizerKind

Codes = NDArray[np.uint32]
Values = NDArray[np.float64]
_PAIR = (QuantizerKind.UNIFORM, QuantizerKind.AFFINE)
MAX_COLUMNS = 66  # features of 64 channels, and the two slopes of a gradient
BITS = {  # per code: at least, at most
    QuantizerKind.UNIFORM: (1, 32),
    QuantizerKind.AFFINE: (1, 32),
    QuantizerKind.FLOAT16: (16, 16),
    QuantizerKind.FLOAT32: (32, 32),
    QuantizerKind.CODEBOOK: (1, 16),
    QuantizerKind.LATTICE: (0, 0),
}


def _f32(values: ArrayLike) -> tuple[float, ...]:
    """The values as the file will hold them: rounded to binary32 (out of range: infinite, refused by ``problems``)."""
    with np.errstate(over="ignore"):
        return tuple(np.atleast_1d(np.asarray(values, np.float64)).astype(np.float32).astype(np.float64).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class Quantizer:
    """One attribute's quantiser. Use the constructors; parameters are rounded to binary32 as the file stores them.

    columns: numbers per Gaussian. lo, hi (uniform) and offset, step (affine): one float per column, equal ones if
    ``shared``. tables (codebook): float32 [stages, 2^bits, columns].
    """

    kind: QuantizerKind
    bits: int
    columns: int
    lo: tuple[float, ...] = ()
    hi: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    tables: NDArray[np.float32] | None = None
    shared: bool = False

    @classmethod
    def uniform(
        cls, lo: ArrayLike, hi: ArrayLike, bits: int, shared: bool = False, columns: int | None = None
    ) -> Quantizer:
        """2^bits codes spread evenly from lo to hi, both included. bits = 32 gives ``float32`` instead."""
        low, high, columns = _pair(lo, hi, shared, columns)
        if bits == 32:
            return cls.float32(columns)
        return cls(QuantizerKind.UNIFORM, bits, columns, lo=low, hi=high, shared=shared)._checked()

    @classmethod
    def affine(
        cls, offset: ArrayLike, step: ArrayLike, bits: int, shared: bool = False, columns: int | None = None
    ) -> Quantizer:
        """offset + code·step, as learned step sizes need it."""
        low, high, columns = _pair(offset, step, shared, columns)
        return cls(QuantizerKind.AFFINE, bits, columns, offset=low, step=high, shared=shared)._checked()

    @classmethod
    def float16(cls, columns: int) -> Quantizer:
        """Each number as binary16."""
        return cls(QuantizerKind.FLOAT16, 16, columns)._checked()

    @classmethod
    def float32(cls, columns: int) -> Quantizer:
        """Each number as binary32."""
        return cls(QuantizerKind.FLOAT32, 32, columns)._checked()

    @classmethod
    def codebook(cls, tables: ArrayLike) -> Quantizer:
        """Residual vector quantisation. tables: [stages, 2^bits, columns], stages 1–8, bits 1–16."""
        table = np.array(tables, np.float32)
        if table.ndim != 3 or table.shape[1] < 2 or table.shape[1] & (table.shape[1] - 1):
            raise UsageError(f"codebook tables: expected shape [stages, 2^bits, columns], found {table.shape}")
        table.flags.writeable = False
        return cls(QuantizerKind.CODEBOOK, table.shape[1].bit_length() - 1, table.shape[2], tables=table)._checked()

    @classmethod
    def lattice(cls, columns: int) -> Quantizer:
        """Codes that mean something only together with the other attributes' (lattice.py)."""
        return cls(QuantizerKind.LATTICE, 0, columns)

    @property
    def stages(self) -> int:
        """Number of codebook stages; 0 for the other kinds."""
        return 0 if self.tables is None else int(self.tables.shape[0])

    @property
    def code_columns(self) -> int:
        """Codes that a Gaussian stores for this attribute: one per column, or one per codebook stage."""
        return self.stages or self.columns

    @property
    def code_bits(self) -> tuple[int, ...]:
        """Bits of each code column."""
        return (self.bits or 32,) * self.code_columns

    @property
    def parameters(self) -> NDArray[np.float32]:
        """The parameters as the file stores them (spec §3.2): flat float32."""
        if self.tables is not None:
            return self.tables.reshape(-1)
        if self.kind == QuantizerKind.LATTICE:  # one record for all attributes: lattice.py
            return np.empty(0, np.float32)
        first, second = (self.lo, self.hi) if self.kind == QuantizerKind.UNIFORM else (self.offset, self.step)
        pairs = np.array([first, second], np.float32).T
        return pairs[:1].reshape(-1) if self.shared else pairs.reshape(-1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Pairs (expected, found) for what is out of range; nothing for a valid quantiser."""
        low, high = BITS[self.kind]
        if not low <= self.bits <= high:
            yield f"{low} to {high} bits for kind {self.kind.name.lower()}", str(self.bits)
        if not 1 <= self.columns <= MAX_COLUMNS:
            yield f"1 to {MAX_COLUMNS} columns", str(self.columns)
        if self.kind == QuantizerKind.CODEBOOK and not 1 <= self.stages <= 8:
            yield "1 to 8 codebook stages", str(self.stages)
        if self.shared and self.kind not in _PAIR:
            yield f"no shared flag for kind {self.kind.name.lower()}", "it set"
        if self.kind != QuantizerKind.LATTICE and not np.isfinite(self.parameters).all():
            yield "finite parameters", "NaN or infinity"
        for lo, hi in zip(self.lo, self.hi, strict=False):
            if hi < lo:
                yield f"hi of at least lo = {lo}", str(hi)

    def _checked(self) -> Quantizer:
        for expected, found in self.problems():
            raise UsageError(f"quantiser: expected {expected}, found {found}")
        return self

    def decode(self, codes: ArrayLike) -> Values:
        """Codes [n, code_columns] → numbers [n, columns], exactly as spec §6. Float codes may give NaN or infinity."""
        k = np.asarray(codes, np.uint32)
        if self.kind == QuantizerKind.UNIFORM:
            lo, hi = np.array(self.lo), np.array(self.hi)
            return np.asarray(lo + k * ((hi - lo) / (2.0**self.bits - 1)))
        if self.kind == QuantizerKind.AFFINE:
            return np.asarray(np.array(self.offset) + k * np.array(self.step))
        if self.kind == QuantizerKind.FLOAT16:
            return k.astype(np.uint16).view(np.float16).astype(np.float64)
        if self.kind == QuantizerKind.FLOAT32:
            return np.ascontiguousarray(k).view(np.float32).astype(np.float64)
        assert self.tables is not None
        total: Values = self.tables[0][k[:, 0]].astype(np.float64)
        for stage in range(1, self.stages):
            total = total + self.tables[stage][k[:, stage]]
        return total

    def encode(self, values: ArrayLike) -> Codes:
        """Numbers [n, columns] → the nearest codes [n, code_columns], clipped to the range; codebooks greedily.

        Raises UsageError if a number is NaN or infinite.
        """
        v = np.asarray(values, np.float64)
        if v.ndim != 2 or v.shape[1] != self.columns:
            raise UsageError(f"values to quantise: expected shape [n, {self.columns}], found {v.shape}")
        if not np.isfinite(v).all():
            raise UsageError("values to quantise: expected finite numbers, found NaN or infinity")
        if self.kind in _PAIR:
            start, step = self._grid()
            safe = np.where(step == 0, 1.0, step)
            k = np.where(step == 0, 0.0, np.floor((v - start) / safe + 0.5))
            return np.clip(k, 0, 2.0**self.bits - 1).astype(np.uint32)
        if self.kind == QuantizerKind.FLOAT16:
            return np.clip(v, -65504, 65504).astype(np.float16).view(np.uint16).astype(np.uint32)
        if self.kind == QuantizerKind.FLOAT32:
            top = float(np.finfo(np.float32).max)
            return np.ascontiguousarray(np.clip(v, -top, top).astype(np.float32)).view(np.uint32)
        return self._encode_codebook(v)

    def encode_angle(self, turns: ArrayLike) -> Codes:
        """Like ``encode`` for angles in half-turns [n, 1]: t and t + 1 are the same and may wrap to either end."""
        t = np.asarray(turns, np.float64)
        if self.kind not in _PAIR or not np.isfinite(t).all():
            return self.encode(t)
        start, step = self._grid()
        ends = np.stack([start, start + step * (2.0**self.bits - 1)])
        low, high = ends.min(axis=0), ends.max(axis=0)
        t = low + np.mod(t - low, 1.0)
        # Beyond the last code the nearest one may be the first, a half-turn further.
        return self.encode(np.where((t > high) & (t - high > low + 1 - t), low, t))

    def _grid(self) -> tuple[Values, Values]:
        if self.kind == QuantizerKind.AFFINE:
            return np.array(self.offset), np.array(self.step)
        return np.array(self.lo), (np.array(self.hi) - np.array(self.lo)) / (2.0**self.bits - 1)

    def _encode_codebook(self, v: Values) -> Codes:
        assert self.tables is not None
        codes = np.zeros((len(v), self.stages), np.uint32)
        rows = max(1, 2**22 // self.tables.shape[1])  # bounds the distance matrix to 32 MiB
        for start in range(0, len(v), rows):
            rest = v[start : start + rows].copy()
            for stage, table in enumerate(self.tables.astype(np.float64)):
                distance = (table * table).sum(axis=1) - 2 * (rest @ table.T)
                best = distance.argmin(axis=1)
                codes[start : start + rows, stage] = best
                rest -= table[best]
        return codes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantizer):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.kind, self.bits, self.columns, self.shared, self.stages, self.parameters.tobytes())


def _pair(
    first: ArrayLike, second: ArrayLike, shared: bool, columns: int | None
) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    a, b = _f32(first), _f32(second)
    columns = max(len(a), len(b)) if columns is None else columns
    if {len(a), len(b)} - {1, columns}:
        raise UsageError(f"quantiser parameters: expected one or {columns}, found {len(a)} and {len(b)}")
    a, b = (p * columns if len(p) == 1 else p for p in (a, b))
    if shared and (len(set(a)) > 1 or len(set(b)) > 1):
        raise UsageError("quantiser: expected one parameter pair for a shared quantiser, found several")
    return a, b, columns


def quantizer_from_parameters(
    kind: QuantizerKind, bits: int, columns: int, stages: int, shared: bool, parameters: NDArray[np.float32]
) -> Quantizer:
    """The quantiser of a file: record fields and flat parameters (spec §3.2). Unchecked: see ``problems``."""
    if kind == QuantizerKind.CODEBOOK:
        tables = parameters.reshape(stages, 2**bits, columns)
        return Quantizer(kind, bits, columns, tables=tables)
    if kind not in _PAIR:
        return Quantizer(kind, bits, columns, shared=shared)
    pairs = parameters.reshape(-1, 2).astype(np.float64)
    first, second = (tuple(p) * (columns if shared else 1) for p in pairs.T.tolist())
    if kind == QuantizerKind.UNIFORM:
        return Quantizer(kind, bits, columns, lo=first, hi=second, shared=shared)
    return Quantizer(kind, bits, columns, offset=first, step=second, shared=shared)


def parameter_count(kind: int, bits: int, columns: int, stages: int, shared: bool) -> int:
    """How many float32 parameters a quantiser record announces (spec §3.2)."""
    if kind in _PAIR:
        return 2 if shared else 2 * columns
    return stages * 2**bits * columns if kind == QuantizerKind.CODEBOOK else 0


def split_columns(widths: Sequence[int]) -> list[slice]:
    """Slices of consecutive columns of the given widths."""
    return [slice(a, b) for a, b in itertools.pairwise([0, *itertools.accumulate(widths)])]
