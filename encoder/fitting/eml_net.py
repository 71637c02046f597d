"""EML-Net: a trained network that says where people look, run on the CPU with weights that the user brings.

Sources: Jia and Bruce, *EML-NET: An Expandable Multi-Layer NETwork for saliency prediction*, Image and Vision Computing
95 (2020), and its repository SenJia/EML-NET-Saliency as of commit 75233b2, in the form that Image-GS (section 3.2)
draws first positions from: two ResNet-50, first trained on ImageNet and on Places, and a small decoder. Modules have
the names that the published state dicts know them by. igs comes with no weights, trains none, and was not run with the
published ones; docs/saliency.md says how to make a file of these. Pickles are never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from igs.encoder.blur import blur, gaussian_taps
from igs.encoder.fitting.init import Map, resample_map
from igs.format.errors import InputError

SIZE = (480, 640)  # rows and columns that the network sees, whatever the picture's: those of SALICON, its training data
_BLUR, _REACH = 5.0, 20  # standard deviation of the published code's blur, and where it ends, in pixels of that size
_HEAD_MOST = 2**20  # bytes of a file's table of tensors; the published ones take a tenth of that
# What a published checkpoint has, but a map doesn't depend on: counters, and the last layer of an encoder on its own.
_UNUSED = re.compile(r"(.+\.)?num_batches_tracked|(imagenet|places)\.combined\..+")
_FLOATS = ("F32", "F16", "BF16")


# -- the network


class Bottleneck(nn.Module):
    """A block of ResNet-50, [1, inputs, h, w] → [1, 4·width, h/stride, w/stride]: 1×1, 3×3, 1×1, added to its input."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if inputs != 4 * width:
            shortcut = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(4 * width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(inputs, width, stride), *rest)


def _readout(channels: int) -> nn.Sequential:
    """To one plane; what is done with its values is said where it is used."""
    return nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1), nn.BatchNorm2d(1))


class Encoder(nn.Module):
    """A ResNet-50 of which each level is read out: [1, 3, H, W] in [0, 1] → five [1, 1, h, w], of H/2 to H/32 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, stride=2)
        self.output0 = _readout(64)
        self.output1 = _readout(256)
        self.output2 = _readout(512)
        self.output3 = _readout(1024)
        self.output4 = _readout(2048)
        self.combined = _readout(5)  # makes a map of an encoder on its own; here a name in its checkpoint, no more

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        planes = [F.relu(self.output0(x))]
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for layer, output in (
            (self.layer1, self.output1),
            (self.layer2, self.output2),
            (self.layer3, self.output3),
            (self.layer4, self.output4),
        ):
            x = layer(x)
            planes.append(F.relu(output(x)))
        return planes


class Decoder(nn.Module):
    """The planes of both encoders, five each, to one map [1, 1, H, W] in [0, 1] of the network's size."""

    def __init__(self) -> None:
        super().__init__()
        self.img_model = nn.ModuleList(_readout(1) for _ in range(5))
        self.pla_model = nn.ModuleList(_readout(1) for _ in range(5))
        self.combined = _readout(10)

    def forward(self, imagenet: list[Tensor], places: list[Tensor]) -> Tensor:
        pairs = zip([*self.img_model, *self.pla_model], [*imagenet, *places], strict=True)
        planes = [F.interpolate(F.relu(readout(plane)), SIZE, mode="nearest") for readout, plane in pairs]
        return torch.sigmoid(self.combined(torch.cat(planes, dim=1)))


class EmlNet(nn.Module):
    """[1, 3, H, W], RGB in [0, 1] of the network's size, → [1, 1, H, W] in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.imagenet, self.places, self.decoder = Encoder(), Encoder(), Decoder()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.imagenet(x), self.places(x))
        return found


# -- its weights


def load(path: Path) -> EmlNet:
    """The network with the weights of a .safetensors file: tensors ``imagenet.…``, ``places.…`` and ``decoder.…``.

    Names and shapes are compared before any tensor is read, so that no file takes more memory than these, 190 MB.
    Raises InputError for a file that can't be read or holds anything else.
    """
    _check_head(path)
    with torch.device("meta"):  # shapes without memory
        net = EmlNet().eval()
    expected = {name: list(t.shape) for name, t in net.state_dict().items() if not _UNUSED.fullmatch(name)}
    try:
        with safe_open(path, framework="pt") as file:
            weights = dict(_tensors(file, expected, path))
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: PyTorch's, of a file that it can't map
        raise InputError(f"{path}: expected a .safetensors file, found a damaged one: {_short(error)}") from error
    net.load_state_dict(weights, strict=False, assign=True)  # not strict: unused ones stay without values
    return net


def _check_head(path: Path) -> None:
    """Raise InputError for what can't be a small file of that format: it starts with the length of its table."""
    try:
        if not path.is_file():
            path.stat()
            raise InputError(f"{path}: expected a .safetensors file, found no regular file")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    length = int.from_bytes(head, "little")
    if len(head) == 8 and 0 < length <= _HEAD_MOST:
        return
    found = f"a table of {length} bytes" if len(head) == 8 else f"{len(head)} bytes"
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # a zip archive, or a pickle of old
        found = "a checkpoint of PyTorch, which docs/saliency.md says how to convert"
    raise InputError(f"{path}: expected a .safetensors file of EML-Net's weights, found {found}")


def _tensors(file: Any, expected: dict[str, list[int]], path: Path) -> Iterator[tuple[str, Tensor]]:
    """The expected tensors of an open file as float32, the first only when all names and shapes are right."""
    names = set(file.keys())
    strange = sorted(name for name in names - set(expected) if not _UNUSED.fullmatch(name))
    if strange:
        first = _short(repr(strange[0]))
        raise InputError(f"{path}: expected the {len(expected)} tensors of EML-Net, found another named {first}")
    for name, shape in expected.items():
        if name not in names:
            raise InputError(f"{path}: expected a tensor {name} of shape {shape}, found none")
        there = file.get_slice(name)
        if there.get_shape() != shape:
            raise InputError(f"{path}: expected a tensor {name} of shape {shape}, found {_short(there.get_shape())}")
        if there.get_dtype() not in _FLOATS:
            raise InputError(f"{path}: expected a tensor {name} of {', '.join(_FLOATS)}, found {there.get_dtype()}")
    for name in expected:
        yield name, file.get_tensor(name).to(torch.float32)


def _short(found: object) -> str:
    """What a file holds, as part of a message: one line that ends."""
    text = " ".join(str(found).split())
    return text if len(text) <= 200 else text[:200] + "…"


# -- the map


def eml_net(rgb: NDArray[np.float32], weights: Path) -> Map:
    """Saliency [H, W] in [0, 1] of a picture [H, W, 3], sRGB in [0, 1], by the network of a file of weights.

    As the published code does it: the picture is resized to 640 × 480 whatever its shape, bilinear, and goes in as it
    is, without ImageNet's mean and deviation; the map is blurred there and stretched to [0, 1]. It is not rounded to
    8 bits, as theirs is. (Image-GS blurs by 20 pixels of the picture instead: 6.25 of these for one of 2048.)
    All zeros where the map is flat. Raises as :func:`load` does, and InputError for weights that give no numbers.
    """
    height, width = rgb.shape[:2]
    planes = [Image.fromarray(np.ascontiguousarray(rgb[:, :, c], np.float32)) for c in range(3)]
    seen = np.stack([np.asarray(p.resize(SIZE[::-1], Image.Resampling.BILINEAR), np.float32) for p in planes])
    net, threads = load(weights), torch.get_num_threads()
    torch.set_num_threads(1)  # sums are in an order that depends on it, and a file must not
    try:
        with torch.no_grad():
            values = net(torch.from_numpy(seen[None]))[0, 0].double().numpy()
    finally:
        torch.set_num_threads(threads)
    if not np.isfinite(values).all():
        raise InputError(f"{weights}: expected weights that give finite values, found some that don't")
    values = blur(np.pad(values, _REACH, mode="edge"), gaussian_taps(_BLUR, _REACH))
    low, high = values.min(), values.max()
    stretched = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return resample_map(stretched, width, height)
