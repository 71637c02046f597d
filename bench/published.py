"""The published Image-GS code, run on a picture beside igs: seconds of its steps, and the PSNR that they reach.

    python bench/published.py CHECKOUT PICTURE --gaussians N --steps S [--fused-ssim CHECKOUT] [--check]

CHECKOUT is a clone of https://github.com/NYU-ICL/image-gs (MIT), which holds its own fork of gsplat; that fork is
compiled here, for this GPU: it takes nvcc (of $CUDA_HOME, or /usr/local/cuda, or the path), of the CUDA version that
PyTorch was built for, a C++ compiler, and ninja on the path (`pip install ninja`). `bench/gpu.py --image-gs CHECKOUT`
runs this program for its table. Prints one JSON object; ends with 1 where a tool is missing. What of the published
program is not as published:

- The fork names its architectures itself, and newer GPUs are not among them: it is built for the one at hand.
- Packages that its modules import and that aren't installed are stand-ins, and named in the result. Two of them are
  called: `torchvision`'s Gaussian blur (once per growth) and `fused_ssim` (in every step) are written out below in
  plain PyTorch. For SSIM that is slower than the original: with --fused-ssim, a clone of
  https://github.com/rahul-goel/fused-ssim, the original is compiled.
- No pictures, checkpoints or measurements are made between the steps, and the learning rate keeps its value, so that
  all S steps are made. The four growths end by 40 % of the steps, as they do of the least that it takes, 5000. The
  rest, losses included, is its configuration's.

--check takes a dense stand-in for the fork as well and runs on the CPU: to see that this program works, on a tiny
picture; its seconds mean nothing.

    python bench/published.py CHECKOUT --compare

runs it so on parts of Kodak pictures, 64² pixels of each reduced to 192 × 128, with 100 Gaussians and 1000 steps, and
igs' presets beside it: whether `image-gs` is the recipe that it says it is.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import common
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

PACKAGES = (
    "fused_ssim",
    "jaxtyping",
    "lpips",
    "matplotlib",
    "pytorch_msssim",
    "rich",
    "scipy",
    "skimage",
    "torchvision",
    "yaml",
)
GROWTHS = 4  # as many as the published configuration has


class Nothing:
    """Stands for whatever a missing package would hold: any use of it gives itself again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class StandIns:
    """Finds the missing packages of PACKAGES, and their parts, as modules in which every name is `Nothing`."""

    def __init__(self, given: dict[str, dict[str, Any]]) -> None:
        self.given = given  # {module: {name: what it is}}, in place of nothing
        self.used = sorted(p for p in PACKAGES if importlib.util.find_spec(p) is None)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in self.used else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update({"__getattr__": Nothing().__getattr__} | self.given.get(module.__name__, {}))


def _window(size: int, deviation: float, like: torch.Tensor) -> torch.Tensor:
    taps = torch.arange(size, device=like.device, dtype=like.dtype) - (size - 1) / 2
    taps = torch.exp(-0.5 * (taps / deviation) ** 2)
    return taps / taps.sum()


def _smooth(image: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] → the same shape less the taps' reach."""
    channels = image.shape[1]
    down, right = (taps.view(1, 1, *shape).expand(channels, 1, *shape) for shape in ((-1, 1), (1, -1)))
    return F.conv2d(F.conv2d(image, down, groups=channels), right, groups=channels)


def gaussian_blur(img: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """torchvision's, with its default deviation: [C, H, W], mirrored at the edges."""
    reach = kernel_size // 2
    taps = _window(kernel_size, 0.3 * ((kernel_size - 1) * 0.5 - 1) + 0.8, img)
    return _smooth(F.pad(img[None], (reach,) * 4, mode="reflect"), taps)[0]


def plain_ssim(img1: torch.Tensor, img2: torch.Tensor) -> torch.Tensor:
    """Mean SSIM with zeros outside, as fused_ssim has it: [B, C, H, W], 11 taps of deviation 1.5."""
    taps = _window(11, 1.5, img1)
    a, b, aa, bb, ab = (_smooth(F.pad(x, (5,) * 4), taps) for x in (img1, img2, img1**2, img2**2, img1 * img2))
    luminance = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    return (luminance * (2 * (ab - a * b) + 0.03**2) / (aa - a**2 + bb - b**2 + 0.03**2)).mean()


def compile_extension(
    name: str, sources: list[Path], include: list[Path], defines: tuple[str, ...] = (), cuda: tuple[str, ...] = ()
) -> types.ModuleType:
    """A PyTorch extension of CUDA sources, for the GPU at hand, by nvcc and ninja. Raises what the compiler says.

    defines: of all sources; cuda: nvcc's further options.
    """
    if Path(common.CUDA_HOME).is_dir():  # where nvcc on the path is a wrapper, its folder is not the toolkit's
        os.environ.setdefault("CUDA_HOME", common.CUDA_HOME)
    from torch.utils.cpp_extension import load

    files, folders = [str(p) for p in sources], [str(p) for p in include]
    flags = ["-O3", "--use_fast_math", "--expt-relaxed-constexpr", *cuda, *defines]  # as both setup.py have them
    return load(name, files, extra_cflags=["-O3", *defines], extra_cuda_cflags=flags, extra_include_paths=folders)


def dense_gsplat() -> types.ModuleType:
    """The two functions of the fork that the model calls, without tiles, in plain PyTorch. For --check."""

    def project(xy: Any, scale: Any, rot: Any, height: int, width: int, bounds: Any) -> Any:
        cosine, sine = torch.cos(rot[:, 0]), torch.sin(rot[:, 0])
        turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
        inverse = turn @ torch.diag_embed(scale**-2) @ turn.transpose(1, 2)
        return xy * torch.tensor([width, height]), None, inverse, None

    def rasterize(xy: Any, radii: Any, conic: Any, tiles: Any, colour: Any, height: int, width: int, *rest: Any) -> Any:
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        away = torch.stack([x, y], -1).reshape(-1, 1, 2) - xy  # [P, N, 2]
        weights = torch.exp(-0.5 * torch.einsum("pni,nij,pnj->pn", away, conic, away))
        largest, which = weights.topk(min(10, weights.shape[1]), 1)
        return (colour[which] * (largest / (largest.sum(1, keepdim=True) + 1e-4))[..., None]).sum(1)

    module = types.ModuleType("gsplat")
    module.project_gaussians_2d_scale_rot = project  # type: ignore[attr-defined]
    module.rasterize_gaussians_sum = rasterize  # type: ignore[attr-defined]
    module.rasterize_gaussians_no_tiles = None  # type: ignore[attr-defined]
    return module


def configuration(checkout: Path) -> dict[str, Any]:
    """The values of cfgs/default.yaml, which is one `name: value # comment` a line."""
    values = {}
    for line in (checkout / "cfgs" / "default.yaml").read_text().splitlines():
        name, colon, value = line.split("#")[0].partition(":")
        if colon:
            values[name.strip()] = ast.literal_eval(value.strip())
    return values


def prepare(checkout: Path, fused_ssim: Path | None, check: bool) -> list[str]:
    """Make the published modules importable; the packages that are stand-ins."""
    stand_ins = StandIns(
        {
            "fused_ssim": {"fused_ssim": plain_ssim},
            "torchvision.transforms.functional": {"gaussian_blur": gaussian_blur},
        }
    )
    sys.path[:0] = [str(checkout), str(checkout / "gsplat")]
    os.chdir(checkout)  # where it looks for its fonts
    if fused_ssim is not None:
        sources = [fused_ssim / name for name in ("ssim.cu", "ssim3d.cu", "ext.cpp")]
        sys.modules["fused_ssim_cuda"] = compile_extension(
            "fused_ssim_cuda", sources, [fused_ssim], ("-DFUSED_SSIM_CUDA",), ("--maxrregcount=32",)
        )
        sys.path.insert(0, str(fused_ssim))
        stand_ins.used = [p for p in stand_ins.used if p != "fused_ssim"]
    sys.meta_path.append(stand_ins)  # type: ignore[arg-type]
    if check:
        sys.modules["gsplat"] = dense_gsplat()
        return ["gsplat", *stand_ins.used]
    sources = checkout / "gsplat" / "gsplat" / "cuda" / "csrc"
    files = sorted([*sources.glob("*.cu"), *sources.glob("*.cpp")])
    sys.modules["gsplat.csrc"] = compile_extension("gsplat_csrc", files, [sources / "third_party" / "glm"])
    return stand_ins.used


def run(checkout: Path, picture: Path, gaussians: int, steps: int, stand_ins: list[str], check: bool) -> dict[str, Any]:
    """Fit as published: {"seconds", "psnr" (dB, unquantised), "gaussians", "steps", "stand_ins"}."""
    from model import GaussianSplatting2D

    class Steps(GaussianSplatting2D):  # type: ignore[misc, valid-type]
        """Nothing but the steps and the growth."""

        def _log_images(self, **_: Any) -> None: ...

        def _save_model(self) -> None: ...

        def _separate_and_save_images(self, **_: Any) -> None: ...

    def synchronize() -> None:
        if not check:
            torch.cuda.synchronize()

    never = steps + 1
    share = {"add_steps": max(1, steps // 10), "add_times": GROWTHS, "post_min_steps": 0}  # 500 of 5000
    changes = {"num_gaussians": gaussians, "max_steps": steps, "eval_steps": never, "log_level": "ERROR", **share}
    changes |= {"save_image_steps": never, "save_ckpt_steps": never, "disable_lr_schedule": True}
    changes |= {"data_root": str(picture.parent), "input_path": picture.name, "device": "cpu" if check else "cuda:0"}
    with tempfile.TemporaryDirectory() as folder:
        values = configuration(checkout) | changes | {"log_dir": str(Path(folder, "log"))}
        model = Steps(argparse.Namespace(**values))
        synchronize()
        started = time.perf_counter()
        model.optimize()
        synchronize()
        seconds = time.perf_counter() - started
        with torch.no_grad():
            image = model._render_images().clamp(0, 1)
        psnr = -10 * torch.log10(torch.mean((image - model.gt_images) ** 2)).item()
    return {
        "seconds": seconds,
        "psnr": psnr,
        "gaussians": model.num_gaussians,
        "steps": steps,
        "stand_ins": stand_ins,
    }


class Failed(Exception):
    """The published code could not be built or run."""


def measure(
    image_gs: Path,
    pixels: np.ndarray,
    gaussians: int,
    steps: int,
    fused_ssim: Path | None = None,
    check: bool = False,
) -> dict[str, Any]:
    """What this program prints for pixels [H, W, 3] uint8, run in a process of its own. Raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.png")
        PIL.Image.fromarray(pixels).save(picture)
        command = [sys.executable, __file__, image_gs, picture, "--gaussians", gaussians, "--steps", steps]
        command += ["--fused-ssim", fused_ssim] if fused_ssim else []
        command += ["--check"] if check else []
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the published code ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(checkout: Path) -> None:
    """Print the PSNR of each preset, unquantised, and of the published code, on small parts of six Kodak pictures."""
    from gpu_fits import psnr

    from igs.encoder.fitting.fit import Fit
    from igs.encoder.options import EncodeOptions
    from igs.encoder.raster.kernel_backend import KernelBackend

    presets, rows = ("image-gs", "image-gs-code", "default"), []
    print("picture", *presets, "published", sep="\t")
    for path in common.kodak()[:12:2]:
        with PIL.Image.open(path) as im:
            small = im.convert("RGB").resize((192, 128), PIL.Image.Resampling.LANCZOS)
        pixels = np.asarray(small.crop((32, 32, 96, 96)))
        target = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
        row = []
        for preset in presets:
            overrides = {"steps": 1000} | ({} if preset == "default" else {"lr_schedule": "constant"})
            recipe = EncodeOptions(preset=preset, overrides=overrides).recipe()
            fit = Fit(target, 100, recipe, KernelBackend())
            row.append(psnr(fit, fit.run()))
        row.append(measure(checkout, pixels, 100, 1000, check=True)["psnr"])
        rows.append(row)
        print(path.stem, *(f"{value:.2f}" for value in row), sep="\t", flush=True)
    print("mean", *(f"{value:.2f}" for value in np.mean(rows, axis=0)), sep="\t")


def main() -> int:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="clone of the published Image-GS code")
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--gaussians", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--fused-ssim", type=Path, help="clone of fused-ssim, in place of plain PyTorch")
    parser.add_argument("--check", action="store_true", help="on the CPU, without the fork: to see that it runs")
    parser.add_argument("--compare", action="store_true", help="igs' presets beside it, on small pictures, on the CPU")
    options = parser.parse_args()
    if not options.compare and options.picture is None:
        parser.error("expected a picture, or --compare")
    for name in ("checkout", "picture", "fused_ssim"):
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())
    if not (options.checkout / "cfgs" / "default.yaml").exists():
        parser.error(f"expected a clone of the published code, found no cfgs/default.yaml in {options.checkout}")
    if options.compare:
        compare(options.checkout)
        return 0
    lacking = None if options.check else common.cannot_compile()
    if lacking:
        print(f"published: {lacking}", file=sys.stderr)
        return 1
    stand_ins = prepare(options.checkout, options.fused_ssim, options.check)
    work = options.checkout, options.picture, options.gaussians
    if not options.check:  # once to warm up: what is compiled or allocated at first use
        run(*work, 20, stand_ins, options.check)
    print(json.dumps(run(*work, options.steps, stand_ins, options.check)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
