"""ASTC, BC1 and BC7 as peers for texture stacks: whole blocks at a fixed rate, lower rates from higher mips.

As in the Image-GS paper a rate below a codec's lowest one is that of a higher mip, which is upsampled bilinearly. Maps
are put together into RGB textures as engines do: those of three channels by themselves, single channels by threes. The
encoders are etcpak (BC1, BC7) and the reference astcenc (package astc-encoder-py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from importlib import metadata

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ASTC_BLOCKS = (
    (4, 4),
    (5, 4),
    (5, 5),
    (6, 5),
    (6, 6),
    (8, 5),
    (8, 6),
    (8, 8),
    (10, 6),
    (10, 8),
    (10, 10),
    (12, 10),
    (12, 12),
)
ASTC_QUALITY = 98.0  # astcenc's "thorough"
_SMALLEST = 16  # pixels: the last mip's side

Pixels = NDArray[np.uint8]  # [H, W, C]


@dataclasses.dataclass(frozen=True)
class BlockCodec:
    """One codec at one block size. ``bits`` per block; ``family`` is what a curve is made of."""

    family: str
    block: tuple[int, int]
    bits: int

    @property
    def version(self) -> str:
        package = "astc-encoder-py" if self.family == "astc" else "etcpak"
        return f"{package} {metadata.version(package)}"

    def bytes(self, width: int, height: int) -> int:
        """Bytes of one RGB texture."""
        return math.ceil(width / self.block[0]) * math.ceil(height / self.block[1]) * self.bits // 8

    def coded(self, rgb: Pixels) -> Pixels:
        """An RGB texture [H, W, 3] after encoding and decoding."""
        height, width, _ = rgb.shape
        bw, bh = self.block
        size = -(-width // bw) * bw, -(-height // bh) * bh
        padded = np.pad(rgb, ((0, size[1] - height), (0, size[0] - width), (0, 0)), mode="edge")
        rgba = np.concatenate([padded, np.full((*padded.shape[:2], 1), 255, np.uint8)], axis=2)
        decoded = self._astc(rgba) if self.family == "astc" else self._bc(rgba)
        return decoded[:height, :width, :3]

    def _bc(self, rgba: Pixels) -> Pixels:
        import etcpak
        import texture2ddecoder  # etcpak's own decoder crashes in its portable build

        height, width, _ = rgba.shape
        if self.family == "bc1":
            data = etcpak.compress_bc1(rgba.tobytes(), width, height)
            out = texture2ddecoder.decode_bc1(data, width, height)
        else:
            parameters = etcpak.BC7CompressBlockParams()
            parameters.init_linear_weights()
            parameters.m_uber_level = 4  # the most
            data = etcpak.compress_bc7(rgba.tobytes(), width, height, parameters)
            out = texture2ddecoder.decode_bc7(data, width, height)
        assert len(data) == self.bytes(width, height)
        return np.frombuffer(out, np.uint8).reshape(height, width, 4)[..., [2, 1, 0, 3]]

    def _astc(self, rgba: Pixels) -> Pixels:
        import astc_encoder as astc

        height, width, _ = rgba.shape
        config = astc.ASTCConfig(astc.ASTCProfile.LDR, *self.block, 1, ASTC_QUALITY)
        context = astc.ASTCContext(config)
        swizzle = astc.ASTCSwizzle.from_str("RGBA")
        data = context.compress(astc.ASTCImage(astc.ASTCType.U8, width, height, data=rgba.tobytes()), swizzle)
        assert len(data) == self.bytes(width, height)
        out = context.decompress(data, astc.ASTCImage(astc.ASTCType.U8, width, height), swizzle)
        return np.frombuffer(out.data, np.uint8).reshape(height, width, 4)


CODECS = (
    BlockCodec("bc1", (4, 4), 64),
    BlockCodec("bc7", (4, 4), 128),
    *(BlockCodec("astc", block, 128) for block in ASTC_BLOCKS),
)


def missing(family: str) -> str | None:
    """Why a family can't run here, or None."""
    modules = ("astc_encoder",) if family == "astc" else ("etcpak", "texture2ddecoder")
    try:
        for module in modules:
            __import__(module)
    except ImportError:
        return f"needs `pip install {'astc-encoder-py' if family == 'astc' else 'etcpak texture2ddecoder'}`"
    return None


def textures(channels: Sequence[int]) -> list[list[int]]:
    """Which channels make up each RGB texture: maps of 3 (or 4, without alpha) by themselves, single ones by threes."""
    found, singles, first = [], [], 0
    for count in channels:
        numbers = list(range(first, first + count))
        first += count
        if count >= 3:
            found.append(numbers[:3])
            numbers = numbers[3:]
        singles += numbers
    return found + [singles[i : i + 3] for i in range(0, len(singles), 3)]


def mips(pixels: Pixels) -> list[NDArray[np.float64]]:
    """The mip chain of 8-bit pixels [H, W, C], each level the means of 2×2 of the one before, down to 16 pixels."""
    chain = [pixels.astype(np.float64)]
    while min(chain[-1].shape[:2]) >= 2 * _SMALLEST:
        a = chain[-1][: chain[-1].shape[0] // 2 * 2, : chain[-1].shape[1] // 2 * 2]
        chain.append(a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, -1).mean((1, 3)))
    return chain


def point(pixels: Pixels, groups: Sequence[int], codec: BlockCodec, level: int) -> tuple[int, NDArray[np.float64]]:
    """(bytes, decoded values [H, W, C] in [0, 255]) of a stack coded at a mip level."""
    height, width = pixels.shape[:2]
    mip = np.floor(mips(pixels)[level] + 0.5).astype(np.uint8)
    out, total = np.empty(pixels.shape), 0
    for numbers in textures(groups):
        rgb = mip[..., [numbers[min(i, len(numbers) - 1)] for i in range(3)]]
        decoded = codec.coded(np.ascontiguousarray(rgb))
        total += codec.bytes(mip.shape[1], mip.shape[0])
        for place, number in enumerate(numbers):
            plane = Image.fromarray(np.ascontiguousarray(decoded[..., place], np.float32))
            out[..., number] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR), np.float64)
    return total, out
