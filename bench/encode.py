"""Speed and quality of the encoder: `python bench/encode.py [step] [kodak] [efforts] [convergence] [memory]`.

Without arguments everything, about half an hour on two cores. Needs the image set beside the checkout.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import common
import numpy as np
import torch

from igs.csrc import library
from igs.encoder import PRESETS, encode, load_image
from igs.encoder.fitting.fit import Fit
from igs.encoder.raster import kernels
from igs.encoder.raster.backend import KernelBackend
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
                settings |= {"steps": 700, "growth_interval": 70}  # about the default preset's seconds
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
    """Efforts 1–9 on four Kodak images at 0.2 bits per pixel."""
    rows = []
    for effort in range(1, 10):
        reports = [encode(p, effort=effort, bpp=0.2).report for p in common.kodak()[::4]]
        rows.append(
            {
                "effort": effort,
                "steps": reports[0]["steps"],
                "psnr": float(np.mean([r["psnr"] for r in reports])),
                "seconds": float(np.mean([r["seconds"] for r in reports])),
            }
        )
        print(rows[-1], flush=True)
    common.save("efforts, Kodak (4 images), 0.2 bpp", rows)


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


def memory() -> None:
    """Peak memory of whole processes: encode 2048² and the torch fallback on a Kodak image."""
    rows = []
    canopee = common.DATA / "stylized/digital_art/canopee.png"
    for name, code in {
        "encode 2048x2048, 10K Gaussians": f"encode({str(canopee)!r}, num_gaussians=10000, steps=20)",
        "encode 2048x2048 with SSIM": f"encode({str(canopee)!r}, num_gaussians=10000, steps=20, loss_ssim=0.1)",
    }.items():
        script = (
            "import resource, time\nfrom igs.encoder import encode\n"
            f"t = time.perf_counter()\n{code}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - t)"
        )
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        peak, seconds = map(float, out.split())
        rows.append({"what": name, "peak_MiB": peak, "seconds": seconds})
    common.save("peak memory of the encoder", rows)


SECTIONS = {f.__name__: f for f in (step, kodak, efforts, convergence, memory)}

if __name__ == "__main__":
    start = time.perf_counter()
    for wanted in sys.argv[1:] or SECTIONS:
        SECTIONS[wanted]()
    print(f"\n{time.perf_counter() - start:.0f} s")
