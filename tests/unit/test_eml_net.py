"""EML-Net: the published code's tensors and map, with weights that were drawn; and files that hold anything else."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs torch")
save_file = pytest.importorskip("safetensors.torch", reason="its weights need safetensors").save_file

from eml_net_cases import drawn_weights

from igs.decoder.output import visible
from igs.encoder.fitting import eml_net, saliency
from igs.encoder.loading.image import load_image
from igs.format import Alpha, Colour, Group, Transfer
from igs.format.errors import InputError, Unsupported, UsageError

SIZE = (96, 128)  # instead of 480 × 640: a 25th of the time

# Of the lines "NAME SHAPE" of the state dicts of resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3]), as imagenet and
# places, and decoder.Decoder(SIZE, 5, 5), as decoder, of SenJia/EML-NET-Saliency at commit 75233b2, sorted.
# NYU-ICL/image-gs has the same classes.
PUBLISHED = "b55127398818e57ddbdbe8b3abf45385b963fb20ba4c1d46c8af71334966b51f"
# What those classes give for drawn_weights(0) and picture() at SIZE, every 24th row and 32nd column (torch 2.13, CPU).
PUBLISHED_MAP = [
    [0.5789, 0.56195, 0.54759, 0.52696],
    [0.58764, 0.55139, 0.53293, 0.52755],
    [0.56241, 0.4589, 0.40956, 0.43458],
    [0.56772, 0.4987, 0.50434, 0.51619],
]


def picture(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    planes = [np.sin(9 * x + 5 * y), np.cos(7 * y * x), np.sin(4 * y)]
    return (np.stack(planes, axis=2) / 2 + 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> eml_net.EmlNet:
    with torch.device("meta"):
        found = eml_net.EmlNet().eval()
    weights = {name: t.float() if t.is_floating_point() else t for name, t in drawn_weights().items()}
    found.load_state_dict(weights, assign=True)
    return found


@pytest.fixture
def loaded(net: eml_net.EmlNet, monkeypatch: pytest.MonkeyPatch) -> eml_net.EmlNet:
    """The network at a small size, as if from a file."""
    monkeypatch.setattr(eml_net, "SIZE", SIZE)
    monkeypatch.setattr(eml_net, "load", lambda path: net)
    return net


# -- the network


def test_tensors_are_the_published_ones() -> None:
    with torch.device("meta"):
        found = eml_net.EmlNet()
    lines = sorted(f"{name} {list(t.shape)}\n" for name, t in found.state_dict().items())
    assert len(lines) == 2 * 360 + 77
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == PUBLISHED
    counts = [sum(p.numel() for p in part.parameters()) for part in (found.imagenet, found.places, found.decoder)]
    assert counts == [23_543_231, 23_543_231, 213]


def test_the_map_is_the_published_codes(loaded: eml_net.EmlNet) -> None:
    x = torch.from_numpy(picture().transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        planes = loaded.imagenet(x)
        found = loaded(x)
    assert [tuple(p.shape) for p in planes] == [(1, 1, 96 >> k, 128 >> k) for k in range(1, 6)]
    assert tuple(found.shape) == (1, 1, *SIZE)
    np.testing.assert_allclose(found[0, 0, ::24, ::32].numpy(), PUBLISHED_MAP, atol=2e-4)  # here they are equal


@pytest.mark.parametrize("shape", [(60, 200), (1, 1), (300, 7)])
def test_a_map_of_any_picture(loaded: eml_net.EmlNet, shape: tuple[int, int]) -> None:
    found = eml_net.eml_net(picture(*shape), Path("drawn"))
    assert found.shape == shape
    assert found.dtype == np.float64
    assert 0 <= found.min() <= found.max() <= 1
    if shape == (60, 200):
        assert found.min() < 0.1
        assert found.max() > 0.9


def test_the_map_is_the_same_whatever_the_threads(loaded: eml_net.EmlNet) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(eml_net.eml_net(picture(), Path("drawn")).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_what_the_network_sees() -> None:
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4, 1)
    three = np.concatenate([ramp, ramp**2, 1 - ramp], axis=2)

    def seen(pixels: np.ndarray, *groups: Group) -> np.ndarray:
        found = visible(pixels, groups or load_image(pixels).groups, paper=0)
        assert found.shape == (3, 4, 3)
        assert found.dtype == np.float32
        return found

    np.testing.assert_array_equal(seen(three), three)
    np.testing.assert_array_equal(seen(ramp), np.repeat(ramp, 3, axis=2))
    np.testing.assert_allclose(seen(np.concatenate([three, ramp], axis=2)), three * ramp)  # alpha
    np.testing.assert_allclose(seen(np.concatenate([1 - ramp, ramp], axis=2))[:, :, 1:2], (1 - ramp) * ramp)
    ink = np.concatenate([1 - three, np.full_like(ramp, 0.25)], axis=2)
    np.testing.assert_allclose(seen(ink, Group(channels=4, colour=Colour.CMYK)), three * 0.75, atol=1e-6)
    light = seen(three * 4, Group(channels=3, colour=Colour.RGB, transfer=Transfer.PQ))
    assert light[2, 3, 0] == 1
    assert light[0, 1, 0] == pytest.approx(1.055 * (4 / 11) ** (1 / 2.4) - 0.055, rel=1e-5)
    stack = np.concatenate([ramp, three], axis=2)
    groups = Group(channels=1, name="height"), Group(channels=3, colour=Colour.RGB, name="albedo")
    np.testing.assert_array_equal(seen(stack, *groups), np.repeat(ramp, 3, axis=2))
    several = Group(channels=6, alpha=Alpha.NONE)
    np.testing.assert_array_equal(seen(np.concatenate([three, three], axis=2), several), three)


# -- files


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_gives_its_tensors(tmp_path: Path, net: eml_net.EmlNet, dtype: torch.dtype) -> None:
    """Of a part of the network; what a map doesn't depend on may be there or not, whatever it is."""
    state = net.decoder.img_model.state_dict(prefix="decoder.img_model.")
    half = {name: t.to(dtype) for name, t in state.items() if t.is_floating_point()}
    extra = {"imagenet.combined.0.bias": torch.ones(3), "decoder.combined.1.num_batches_tracked": torch.tensor(1)}
    save_file(half | extra, tmp_path / "w")
    shapes = {name: list(t.shape) for name, t in half.items()}
    with eml_net.safe_open(tmp_path / "w", framework="pt") as file:
        found = dict(eml_net._tensors(file, shapes, tmp_path / "w"))
    assert set(found) == set(shapes)
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half[name].float())


def _tensors(**shapes: list[int]) -> Callable[[Path], None]:
    return lambda path: save_file({name.replace("_", "."): torch.zeros(shape) for name, shape in shapes.items()}, path)


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _header(table: object, data: bytes = b"") -> Callable[[Path], None]:
    text = json.dumps(table).encode()
    return _bytes(len(text).to_bytes(8, "little") + text + data)


FIRST = "imagenet.conv1.weight"


@pytest.mark.parametrize(("write", "words"), [
    (_tensors(), f"expected a tensor {FIRST} of shape [64, 3, 7, 7], found none"),
    (_tensors(imagenet_conv1_weight=[64, 3, 3, 3]), f"{FIRST} of shape [64, 3, 7, 7], found [64, 3, 3, 3]"),
    (_tensors(imagenet_conv1_weight=[64, 3, 7, 7]), "expected a tensor imagenet.bn1.weight of shape [64], found none"),
    (_tensors(conv1_weight=[64, 3, 7, 7]), "the 656 tensors of EML-Net, found another named 'conv1.weight'"),
    (lambda path: save_file({FIRST: torch.zeros(64, 3, 7, 7, dtype=torch.int8)}, path), "F32, F16, BF16, found I8"),
    (lambda path: save_file({"a\nb" * 999: torch.zeros(1)}, path), r"another named 'a\nba\nb"),
    (_bytes(b""), "expected a .safetensors file of EML-Net's weights, found 0 bytes"),
    (_bytes(b"P6\n"), "found 3 bytes"),
    (_bytes(b"\x89PNG\r\n\x1a\n"), "found a table of"),
    (_bytes(b"\0" * 99), "found a table of 0 bytes"),
    (_bytes((2**63).to_bytes(8, "little") + b"{}"), f"found a table of {2**63} bytes"),
    (_bytes(b"PK\x03\x04" + b"\0" * 99), "found a checkpoint of PyTorch, which docs/saliency.md says how to convert"),
    (_bytes(b"\x80\x02\x8a\nl\xfc\x9c\x46\xf9\x20"), "found a checkpoint of PyTorch"),
    (_bytes((50).to_bytes(8, "little") + b"{"), "found a damaged one"),
    (_bytes((20).to_bytes(8, "little") + b"\xff" * 20), "found a damaged one"),
    (_header([1, 2]), "found a damaged one"),
    (_header({FIRST: {"dtype": "F32", "shape": [64, 3, 7, 7], "data_offsets": [0, 37632]}}), "found a damaged one"),
    (_header({FIRST: {"dtype": "F32", "shape": [2**40] * 4, "data_offsets": [0, 4]}}, b"1234"), "found a damaged one"),
    (_header({"a\nb" * 999: {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}}), "found a damaged one"),
    (_header({FIRST: {"dtype": "F32", "shape": [1] * 999, "data_offsets": [0, 4]}}, b"1234"), "found [1, 1, 1,"),
    (lambda path: path.mkdir(), "found no regular file"),
    (lambda path: None, "No such file or directory"),
])  # fmt: skip
def test_what_is_no_file_of_weights(tmp_path: Path, write: Callable[[Path], None], words: str) -> None:
    write(tmp_path / "w")
    with pytest.raises(InputError) as error:
        eml_net.load(tmp_path / "w")
    assert str(error.value).startswith(f"{tmp_path / 'w'}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(tmp_path)) + 350


def test_weights_that_give_no_numbers(loaded: eml_net.EmlNet) -> None:
    bias = loaded.decoder.combined[1].bias.data
    before = bias.clone()
    try:
        bias.fill_(float("nan"))
        with pytest.raises(InputError, match="drawn: expected weights that give finite values"):
            eml_net.eml_net(picture(), Path("drawn"))
    finally:
        bias.copy_(before)


def test_a_flat_map_is_zero(loaded: eml_net.EmlNet) -> None:
    weight = loaded.decoder.combined[1].weight.data
    before = weight.clone()
    try:
        weight.fill_(0)
        assert not eml_net.eml_net(picture(), Path("drawn")).any()
    finally:
        weight.copy_(before)


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "igs.encoder.fitting.eml_net")
    with pytest.raises(Unsupported, match=r'pip install "igs-codec\[encoder,saliency\]"'):
        saliency.map_of("eml-net", picture(), load_image(picture()).groups, "w")


def test_weights_belong_to_the_network() -> None:
    groups = load_image(picture()).groups
    with pytest.raises(UsageError, match="expected saliency_network with eml-net"):
        saliency.map_of("eml-net", picture(), groups)
    with pytest.raises(UsageError, match="expected none but for saliency eml-net, found w for fine-grained"):
        saliency.map_of("fine-grained", picture(), groups, "w")
    found = saliency.map_of("fine-grained", picture(), groups)
    np.testing.assert_array_equal(found, saliency.fine_grained(picture()))
