"""Means that were published, quoted with their pictures and rates. Other pictures or rates: not comparable to ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published mean; `psnr` in dB as printed."""

    codec: str
    pictures: str
    rate: str
    psnr: str
    source: str


PUBLISHED = (
    Published(
        "Image-GS", "its 45 stylised images, 2K²", "0.122 bpp", "29.20 (MS-SSIM 0.924)", "its paper, SIGGRAPH 2025"
    ),
    Published(
        "Image-GS", "its 45 stylised images, 2K²", "0.366 bpp", "32.99 (MS-SSIM 0.966)", "its paper, SIGGRAPH 2025"
    ),
    Published("GaussianImage", "Kodak", "0.15 / 1.0 bpp", "25.0 / 29.6", "its paper, ECCV 2024, read off a plot"),
    Published("GaussianImage++", "Kodak", "0.15 / 1.08 bpp", "25.3 / 31.1", "its paper, AAAI 2026"),
    Published("GaussianImage++, unquantised", "Kodak", "5k / 10k Gaussians", "31.83 / 35.41", "its paper, AAAI 2026"),
    Published("C3", "Kodak", "0.15 bpp", "29.05", "its paper"),
    Published("Cool-Chic 2", "Kodak", "0.15 bpp", "28.0", "its paper"),
    Published("Cool-Chic 5", "Kodak", "0.15 bpp", "about 29.2", "its paper"),
    Published("JPEG", "Kodak", "0.3 bpp", "25.97", "CompressAI's tables"),
    Published("WebP", "Kodak", "0.3 bpp", "29.20", "CompressAI's tables"),
    Published("JPEG 2000", "Kodak", "0.3 bpp", "29.21", "CompressAI's tables"),
    Published("AV1", "Kodak", "0.3 bpp", "31.30", "CompressAI's tables"),
    Published("VTM", "Kodak", "0.3 bpp", "32.08", "CompressAI's tables"),
)

# (codec, what, time, source)
SPEEDS = (
    ("Image-GS", "2K², 10K / 50K Gaussians, 1000 steps", "18.7 / 26.3 s", "its paper, RTX A6000"),
    ("Image-GS", "2K², 10K / 50K Gaussians, one rendering", "3.7 / 4.5 ms", "its paper, RTX A6000"),
    ("GaussianImage", "Kodak picture, 9K Gaussians, 50 000 steps", "29.9 s", "an issue of its repository, RTX 4090"),
)
