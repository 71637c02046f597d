"""Speed and quality of the encoder: `python bench/encode.py [SECTION …]`, of step, kodak, whole, efforts, qualities,
convergence, memory and fallback; without arguments all of them, about 80 minutes on two cores.

Needs the image set beside the checkout.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import PIL.Image
import torch
from encodes import encode_once

from igs.csrc import library
from igs.encoder import PRESETS, encode, load_image
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.kernels import Rasterizer

FULL = {"pos_bits": 32, "scale_bits": 32, "rot_bits": 32, "feat_bits": 32}


def step() -> None:
    """One training step, 2048×2048, 10K Gaussians, after a short fit of a real picture."""
    source = load_image(common.DATA / "stylized/digital_art/canopee.png")
    target = torch.from_numpy(np.ascontiguousarray(source.pixels.transpose(2, 0, 1)))
    rows = [row for top_k in (10, PRESETS["default"].top_k) for row in _step_rows(target, top_k)]
    common.save("training step 2048x2048, 10K Gaussians", rows)


def _step_rows(target: torch.Tensor, top_k: int) -> list[dict[str, object]]:
    recipe = dataclasses.replace(PRESETS["default"], steps=60, top_k=top_k)
    fit = Fit(target, 10_000, recipe, KernelBackend())
    model = fit.run()
    factors = kernels.factors(model.scale, model.rotation, model.scale_map)
    arrays = model.position, factors, model.feature
    rasterizer = Rasterizer()
    image, grad = torch.empty_like(target), torch.empty_like(target)

    def binning() -> None:
        rasterizer.bin(*arrays, fit.options)

    def l2() -> None:
        rasterizer.bin(*arrays, fit.options)
        rasterizer.fused(*arrays, fit.options, target, 0.0, 1.0)

    def l2_ssim() -> None:
        rasterizer.bin(*arrays, fit.options)
        rasterizer.forward(*arrays, fit.options, image)
        kernels.loss_and_gradient(image, target, 0.0, 1.0, 0.1, out=grad)
        rasterizer.backward(*arrays, fit.options, grad)

    peak = library().igs_fma_peak(1.0)
    bin_seconds = common.median_seconds(binning)
    seconds = {"l2": common.median_seconds(l2, 9), "l2_ssim": common.median_seconds(l2_ssim, 9)}
    l2()
    evaluated, selected = rasterizer.work()
    # Per candidate and row of 16 pixels: d² 3, smallest 1, weight 10, sums 4, backward 17; selection 2K.
    operations = 16.0 * (evaluated * 35 + selected * 2 * top_k)
    peak = max(peak, library().igs_fma_peak(1.0))
    rows = []
    for name, s in seconds.items():
        row: dict[str, object] = {"top_k": top_k, "loss": name, "ms": s * 1e3, "binning_ms": bin_seconds * 1e3}
        if name == "l2":
            row |= {"share_of_fma_peak": operations / (s - bin_seconds) / peak, "fma_peak_G": peak / 1e9}
        pixels = target[0].numel()
        row |= {"candidates_per_pixel": evaluated * 16 / pixels, "selected_share": selected / evaluated}
        rows.append(row)
    return rows


def kodak() -> None:
    """3000 Gaussians, default effort, 32 bits, all Kodak images; the same for the image-gs preset in the same time."""
    rows = []
    for preset in ("default", "image-gs"):
        psnr, ssim, seconds = {}, [], []
        # Half of the images for image-gs, which only serves to compare.
        for path in common.kodak()[:: 1 if preset == "default" else 2]:
            settings = dict(FULL)
            if preset == "image-gs":
                settings |= {"steps": 870}  # about the default preset's seconds
            report = encode(path, preset=preset, num_gaussians=3000, **settings).report
            psnr[path.stem] = report["psnr"]
            ssim.append(report["ms_ssim"])
            seconds.append(report["seconds"])
            print(path.name, preset, f"{report['psnr']:.2f} dB {report['seconds']:.1f} s", flush=True)
        rows.append(
            {
                "preset": preset,
                "images": len(psnr),
                "steps": report["steps"],
                "psnr": float(np.mean(list(psnr.values()))),
                "psnr_of_every_second": float(np.mean([psnr[p.stem] for p in common.kodak()[::2]])),
                "ms_ssim": float(np.mean(ssim)),
                "seconds_mean": float(np.mean(seconds)),
                "seconds_max": float(np.max(seconds)),
            }
        )
    common.save("Kodak, 3000 Gaussians, 32 bits per attribute", rows)


def efforts() -> None:
    """Efforts 1–9 on the 16 Kodak images at 0.2 bits per pixel. Resumable: each encode is kept."""
    rows = []
    pictures = [np.asarray(PIL.Image.open(p).convert("RGB")) for p in common.kodak()]
    for effort in range(1, 10):
        reports = [encode_once(p, effort=effort, bpp=0.2)[1] for p in pictures]
        rows.append(
            {
                "effort": effort,
                "steps": reports[0]["steps"],
                "psnr": float(np.mean([r["psnr"] for r in reports])),
                "seconds": float(np.mean([r["seconds"] for r in reports])),
            }
        )
        print(rows[-1], flush=True)
    common.save("efforts, Kodak (16 images), 0.2 bpp", rows)


def qualities() -> None:
    """Rates and PSNR that qualities give every second Kodak image."""
    rows = []
    for quality in (10, 25, 50, 75, 90):
        reports = [encode(p, quality=quality).report for p in common.kodak()[::2]]
        row: dict[str, object] = {"quality": quality}
        for name in ("bpp", "psnr"):
            values = [r[name] for r in reports]
            row |= {name: float(np.mean(values)), f"{name}_least": min(values), f"{name}_most": max(values)}
        rows.append(row)
        print(row, flush=True)
    common.save("qualities, Kodak (8 images)", rows)


def convergence() -> None:
    """Steps and seconds to 95 % and 99 % of the final PSNR."""
    rows = []
    for preset in ("default", "image-gs"):
        for path in common.kodak()[::8]:
            log = []
            settings = {"log_every": 10, "on_progress": log.append}
            encode(path, preset=preset, num_gaussians=3000, **settings)
            log = [p for p in log if p.psnr is not None]
            final = max(p.psnr for p in log)
            row = {"preset": preset, "image": path.stem, "final_psnr": final}
            for share in (0.95, 0.99):
                first = next(p for p in log if p.psnr >= share * final)
                row |= {f"steps_{share:.0%}": first.step, f"seconds_{share:.0%}": first.seconds}
            rows.append(row)
            print(row, flush=True)
    common.save("convergence, 3000 Gaussians", rows)


def whole() -> None:
    """Whole processes of igs-encode at the default effort; beside them Pillow's AVIF of the same picture, same run."""
    rows = []
    canopee, command = common.DATA / "stylized/digital_art/canopee.png", [sys.executable, "-m", "igs.cli.encode"]
    with tempfile.TemporaryDirectory() as folder:
        for path, bpp in ((common.DATA / "kodak/kodim07.png", 0.4), (canopee, 0.08), (canopee, 0.2)):
            yardstick = common.median_seconds(functools.partial(_avif, path, Path(folder, "a.avif")), 3)
            start = time.perf_counter()
            out = subprocess.run(
                [*command, str(path), str(Path(folder, "a.igs")), "--bpp", str(bpp), "--json", "--quiet"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            seconds = time.perf_counter() - start
            report = json.loads(out)
            rows.append(
                {
                    "picture": path.stem,
                    "bpp": bpp,
                    "bytes": report["bytes"],
                    "psnr": report["psnr"],
                    "seconds": seconds,
                    "avif_seconds": yardstick,
                    "times_avif": seconds / yardstick,
                }
            )
            print(rows[-1], flush=True)
    common.save("whole encodes, default effort", rows)


def _avif(source: Path, to: Path) -> None:
    """PNG to AVIF within this process: speed 4 of 10, the one that docs/rate-distortion.md compares with."""
    with PIL.Image.open(source) as image:
        image.save(to, "AVIF", quality=50, speed=4)


def memory() -> None:
    """Peak memory of whole processes that encode 2048²."""
    canopee = common.DATA / "stylized/digital_art/canopee.png"
    rows = []
    for name, settings in {
        "encode 2048x2048, 10K Gaussians": "steps=20",
        "encode 2048x2048 with SSIM": "steps=20, loss_ssim=0.1",
    }.items():
        code = f"from igs.encoder import encode; encode({str(canopee)!r}, num_gaussians=10000, {settings})"
        peak, seconds = common.peak_and_seconds(code)
        rows.append({"what": name, "peak_MiB": peak, "seconds": seconds})
    common.save("peak memory of the encoder", rows)


def fallback() -> None:
    """A Kodak picture without the compiled kernels, in plain torch with its fewer steps, and with them."""
    kodim07 = common.DATA / "kodak/kodim07.png"
    rows = []
    for name, before in {"kernels": "", "plain torch": "import igs.csrc; igs.csrc.library = lambda: None; "}.items():
        code = (
            f"{before}from igs.encoder import encode; "
            f"r = encode({str(kodim07)!r}, num_gaussians=3000).report; print(r['steps'], r['psnr'], r['backend'])"
        )
        told: list[str] = []
        peak, seconds = common.peak_and_seconds(code, told)
        steps, psnr, backend = told[0].split()
        row = {"what": name, "backend": backend, "steps": int(steps), "psnr": float(psnr)}
        rows.append(row | {"peak_MiB": peak, "seconds": seconds})
    rows[1]["times_kernels"] = rows[1]["seconds"] / rows[0]["seconds"]
    common.save("without compiled kernels, kodim07, 3000 Gaussians", rows)


SECTIONS = {f.__name__: f for f in (step, kodak, whole, efforts, qualities, convergence, memory, fallback)}

if __name__ == "__main__":
    start = time.perf_counter()
    for wanted in sys.argv[1:] or SECTIONS:
        SECTIONS[wanted]()
    print(f"\n{time.perf_counter() - start:.0f} s")
