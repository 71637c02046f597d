"""Two small neural image codecs at equal bytes: a SIREN and a multi-resolution hash grid. CPU, steps capped.

Both are networks from a position to a colour, fitted to one picture with Adam on the squared error; the file is their
quantised weights. They stand for their kind at this effort, not for the best that was published: COIN's SIRENs are
fitted for 50 000 steps, Cool-Chic and C3 add an entropy model, which is where most of their rate goes down.

SIREN (Sitzmann et al. 2020; as a codec COIN, Dupont et al. 2021): three hidden layers of equal width, sin(30·(Wx + b)),
weights as binary16. The width is the largest that the bytes allow: 0.1 bpp of a 768×512 picture are width
33, 0.4 bpp 68.

Hash grid (Müller et al. 2022, in 2D): 8 levels from 12 cells on the longer side up to one cell per 3 pixels, 2
features per entry, bilinear, then one hidden layer of 16 ReLU; a level whose grid has more corners than the table has
entries is hashed. Tables as 6-bit codes with a binary16 step per level (the last third of the fit sees the rounded
values), the small network as binary16. All tables are capped at one size, the largest that the bytes allow.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rd.codecs import Encoded, Settings
from rd.sets import Profile

BATCH = 1 << 13  # pixels per step, of the 393 216 of a Kodak picture
STEPS = 4000
RATES = 3  # per picture, spread over the profile's rates

_HEADER = struct.Struct("<HHH")  # width, height, layer width or table entries
_PRIMES = (1, 2654435761)  # of the hash, as published
# Chosen on kodim15 at 0.2 bpp, 2000 steps: 28.1 dB; 6 levels 27.9, a finest cell of 2 or 6 pixels 26.9 and 27.9, 8 bits
# 27.2. At the final learning rates (further down) 28.2 dB, with 5 bits 27.3.
_LEVELS, _FEATURES, _HIDDEN, _COARSEST, _FINEST = 8, 2, 16, 12, 3
_BITS = 6


def positions(width: int, height: int) -> Tensor:
    """Pixel centres [H·W, 2] with the longer side in (0, 1)."""
    side = max(width, height)
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / side, (torch.arange(width) + 0.5) / side, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], 1)


class Siren(torch.nn.Module):
    """Position [n, 2] → colour [n, 3]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [2, width, width, width, 3]
        layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = torch.nn.ModuleList(layers)
        for i, layer in enumerate(layers):  # the publication's initialisation
            bound = 1 / sizes[i] if i == 0 else math.sqrt(6 / sizes[i]) / 30
            torch.nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, position: Tensor) -> Tensor:
        x = 2 * position - 1
        for layer in self.layers[:-1]:
            x = torch.sin(30 * layer(x))
        return self.layers[-1](x) * 0.5 + 0.5


class HashGrid(torch.nn.Module):
    """Position [n, 2] → colour [n, 3]; `quantize` makes the forward pass see the codes' values."""

    def __init__(self, entries: int, width: int, height: int) -> None:
        super().__init__()
        self.sizes = level_sizes(width, height)
        self.tables = torch.nn.ParameterList(
            torch.nn.Parameter(1e-2 * torch.randn(min((c + 1) * (r + 1), entries), _FEATURES)) for c, r in self.sizes
        )
        self.network = torch.nn.Sequential(
            torch.nn.Linear(_LEVELS * _FEATURES, _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, 3)
        )
        self.aspect = torch.tensor([width, height]) / max(width, height)
        self.quantize = False

    def step(self, level: int) -> Tensor:
        """A level's quantiser step, as the file stores it."""
        largest = self.tables[level].detach().abs().max()
        return (largest / (2 ** (_BITS - 1) - 1)).clamp_min(1e-6).half().float()

    def codes(self, level: int) -> Tensor:
        limit = 2 ** (_BITS - 1) - 1
        return (self.tables[level].detach() / self.step(level)).round().clamp(-limit, limit)

    def forward(self, position: Tensor) -> Tensor:
        unit = position / self.aspect
        found = []
        for level, (columns, rows) in enumerate(self.sizes):
            table: Tensor = self.tables[level]
            if self.quantize:  # straight through
                table = table + (self.codes(level) * self.step(level) - table.detach())
            at = unit * torch.tensor([columns, rows])
            corner = at.floor().long()
            f = at - corner
            value = torch.zeros(len(position), _FEATURES)
            for dx in (0, 1):
                for dy in (0, 1):
                    weight = (f[:, 0] if dx else 1 - f[:, 0]) * (f[:, 1] if dy else 1 - f[:, 1])
                    x, y = corner[:, 0] + dx, corner[:, 1] + dy
                    if len(table) == (columns + 1) * (rows + 1):
                        index = y * (columns + 1) + x
                    else:
                        index = ((x * _PRIMES[0]) ^ (y * _PRIMES[1])) % len(table)
                    value = value + weight[:, None] * torch.nn.functional.embedding(index, table)
            found.append(value)
        return self.network(torch.cat(found, 1)) + 0.5


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """(columns, rows) of each level's cells, in geometric steps."""
    side = max(width, height)
    growth = (side / _FINEST / _COARSEST) ** (1 / (_LEVELS - 1))
    cells = [_COARSEST * growth**level for level in range(_LEVELS)]
    return [(math.ceil(c * width / side), math.ceil(c * height / side)) for c in cells]


def fit(
    model: torch.nn.Module, pixels: NDArray[np.uint8], steps: int, rates: list[dict], on_step: Callable[[int], None]
) -> None:
    """Adam on batches of random pixels; learning rates stay for half of the steps, then fall to 1 % exponentially."""
    height, width = pixels.shape[:2]
    grid = positions(width, height)
    target = torch.from_numpy(pixels.reshape(-1, 3).astype(np.float32) / 255)
    optimizer = torch.optim.Adam(rates, betas=(0.9, 0.99))
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.01 ** max(0.0, 2 * s / steps - 1))
    for step in range(steps):
        on_step(step)
        pick = torch.randint(len(grid), (min(BATCH, len(grid)),))
        loss = (model(grid[pick]) - target[pick]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fall.step()


@torch.inference_mode()
def render(model: torch.nn.Module, width: int, height: int) -> NDArray[np.uint8]:
    """The network's picture, in slices that fit into memory."""
    parts = [model(p) for p in positions(width, height).split(1 << 16)]
    values = torch.cat(parts).clamp(0, 1).reshape(height, width, 3).numpy()
    return np.floor(values * 255 + 0.5).astype(np.uint8)


def _halves(tensors: Sequence[Tensor]) -> bytes:
    return b"".join(t.detach().numpy().astype("<f2").tobytes() for t in tensors)


def _load_halves(data: bytes, tensors: Sequence[Tensor]) -> None:
    values = np.frombuffer(data, "<f2").astype(np.float32)
    for t in tensors:
        t.data = torch.from_numpy(values[: t.numel()].copy()).reshape(t.shape)
        values = values[t.numel() :]


def pack_siren(model: Siren, width: int, height: int) -> bytes:
    return _HEADER.pack(width, height, model.layers[0].out_features) + _halves(list(model.parameters()))


def unpack_siren(data: bytes) -> tuple[Siren, int, int]:
    width, height, layer = _HEADER.unpack_from(data)
    model = Siren(layer)
    _load_halves(data[_HEADER.size :], list(model.parameters()))
    return model, width, height


def pack_grid(model: HashGrid, entries: int, width: int, height: int) -> bytes:
    """Header, network and steps as binary16, then the codes, bit-packed."""
    head = _HEADER.pack(width, height, entries) + _halves(list(model.network.parameters()))
    steps = _halves([model.step(level) for level in range(_LEVELS)])
    codes = np.concatenate([model.codes(level).numpy().ravel() for level in range(_LEVELS)])
    codes = (codes + 2 ** (_BITS - 1)).astype(np.uint8)  # [n], below 2^bits
    bits = np.unpackbits(codes[:, None], axis=1)[:, 8 - _BITS :]
    return head + steps + np.packbits(bits).tobytes()


def unpack_grid(data: bytes) -> tuple[HashGrid, int, int]:
    width, height, entries = _HEADER.unpack_from(data)
    model = HashGrid(entries, width, height)
    network = list(model.network.parameters())
    at = _HEADER.size
    end = at + 2 * sum(p.numel() for p in network)
    _load_halves(data[at:end], network)
    steps = np.frombuffer(data, "<f2", _LEVELS, end).astype(np.float32)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=end + 2 * _LEVELS))
    count = sum(t.numel() for t in model.tables)
    codes = bits[: count * _BITS].reshape(count, _BITS) @ (1 << np.arange(_BITS - 1, -1, -1))
    values = codes.astype(np.float32) - 2 ** (_BITS - 1)
    for level, table in enumerate(model.tables):
        table.data = torch.from_numpy(values[: table.numel()] * steps[level]).reshape(table.shape)
        values = values[table.numel() :]
    return model, width, height


def siren_width(budget: int) -> int:
    """The largest width whose file has at most so many bytes."""
    size = 4
    while _HEADER.size + 2 * _siren_weights(size + 1) <= budget:
        size += 1
    return size


def _siren_weights(width: int) -> int:
    return 2 * (width * width + width) + 3 * width + 3 * width + 3


def grid_entries(budget: int, width: int, height: int) -> int:
    """The largest table whose file has at most so many bytes."""
    corners = [(c + 1) * (r + 1) for c, r in level_sizes(width, height)]
    network = (_LEVELS * _FEATURES + 1) * _HIDDEN + (_HIDDEN + 1) * 3
    room = 8 * (budget - _HEADER.size - 2 * network - 2 * _LEVELS) // (_BITS * _FEATURES)
    low, high = 16, 65535
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(c, middle) for c in corners) <= room else (low, middle - 1)
    return low


@dataclass(frozen=True)
class Network:
    """A neural peer as a codec; `kind` is `siren` or `hash-grid`."""

    name: str
    label: str
    pictures: str = "few"
    keep: bool = True
    stops: bool = False
    steps: int = STEPS

    @property
    def family(self) -> str:
        return self.name

    @property
    def version(self) -> str:
        """Changes with the constants above, which are the codec."""
        grid = (_LEVELS, _FEATURES, _HIDDEN, _COARSEST, _FINEST, _BITS) if self.name == "hash-grid" else ()
        constants = (BATCH, *grid, *_LEARNING_RATES[self.name])
        return f"1 ({zlib.crc32(repr(constants).encode()):08x})"

    def missing(self) -> str | None:
        return None

    def ladders(self, profile: Profile) -> list[list[Settings]]:
        rates = profile.rates
        picked = sorted({rates[i * (len(rates) - 1) // (RATES - 1)] for i in range(RATES)})
        return [[{"bpp": r, "steps": self.steps} for r in picked]]

    def encode(self, pixels: NDArray[np.uint8], settings: Settings) -> Encoded:
        height, width = pixels.shape[:2]
        budget = int(settings["bpp"] * width * height / 8)
        torch.manual_seed(0)
        steps = settings["steps"]
        rate = _LEARNING_RATES[self.name]
        if self.name == "siren":
            siren = Siren(siren_width(budget))
            fit(siren, pixels, steps, [{"params": siren.parameters(), "lr": rate[0]}], lambda step: None)
            return Encoded(pack_siren(siren, width, height), {"width": siren.layers[0].out_features})
        entries = grid_entries(budget, width, height)
        grid = HashGrid(entries, width, height)

        def on_step(step: int) -> None:
            grid.quantize = 3 * step >= 2 * steps

        groups = [
            {"params": grid.tables.parameters(), "lr": rate[1]},
            {"params": grid.network.parameters(), "lr": rate[0]},
        ]
        fit(grid, pixels, steps, groups, on_step)
        return Encoded(pack_grid(grid, entries, width, height), {"entries": entries})

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        return render(*(unpack_siren(data) if self.name == "siren" else unpack_grid(data)))


# SIREN: 4e-3 ends 0.4 dB higher than 1e-3 on kodim15 at 0.2 bpp (26.5, 2000 steps), but diverges where the network is
# wide (kodim01 at 0.4 bpp: 19.2 after 4000 steps, against 22.1 after 3000).
_LEARNING_RATES = {"siren": (1e-3,), "hash-grid": (1e-2, 5e-2)}  # network, tables

NETWORKS = (
    Network("siren", "SIREN"),
    Network("hash-grid", "hash grid"),
)
