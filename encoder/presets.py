"""The presets: ours, and the published recipes as they are documented in docs/presets.md and docs/peers.md.

``python -m igs.encoder.presets`` prints them side by side, as the table of docs/presets.md.
"""

from __future__ import annotations

import dataclasses
import math

from igs.encoder.recipe import Recipe

_IMAGE_GS = Recipe(
    steps=5000,
    top_k=10,
    reach2=9.0,
    relative_reach2=math.inf,
    init_uniform=0.3,
    init_power=1.0,
    init_scale=5.0,
    init_scale_mode="fixed",
    edge_stretch=0.0,
    growth_start=0.5,
    growth_rounds=4,
    growth_interval=500,
    growth_scale=5.0,
    growth_blur=0.0,
    growth_error_power=1.0,
    relocate=0.0,
    interlace=0.0,
    loss_l1=1.0,
    loss_l2=0.0,
    loss_ssim=0.1,
    loss_ms_ssim=0.0,
    scale_parameter="inverse",
    lr_position=5e-4,
    lr_position_unit="picture",
    lr_scale=2e-3,
    lr_rotation=2e-3 / math.pi,
    lr_feature=5e-3,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    keep_adam_state=False,
    lr_schedule="constant",
    coding="plain",
    pull_empty=True,  # mended: published, the picture fades to black where nothing reaches
    pos_bits=16,
    scale_bits=16,
    rot_bits=16,
    feat_bits=16,
)

# Both published with 50 000 steps and about as many again for quantisation: here 5000 in all, and learning rates that
# suit these. docs/peers.md has all constants, theirs and these, and what was measured.
_GAUSSIANIMAGE = Recipe(
    steps=5000,
    blend="sum",
    shape="cholesky",
    reach2=2 * math.log(255),  # their rasteriser leaves out what weighs less than 1/255
    relative_reach2=math.inf,
    init="random",
    init_scale=1.0,
    init_scale_mode="fixed",
    edge_stretch=0.0,
    init_color=False,
    growth=False,
    growth_color="zero",  # of what fills a file up: its sum is there already
    growth_blur=0.0,
    growth_error_power=3.0,  # of variants that sample
    growth_scale=1.0,
    relocate=0.0,
    interlace=0.0,
    loss_ms_ssim=0.0,
    pull_empty=False,
    lr_position=1e-2,
    lr_position_unit="picture",
    lr_scale=2e-2,
    lr_rotation=2e-2,
    lr_feature=2e-2,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    lr_schedule="steps",
    lr_decay_from=0.4,
    lr_decay_to=0.5,
    coding="plain",
    pos_quantizer="float16",
    pos_bits=16,
    shape_quantizer="learned",
    scale_bits=6,
    rot_bits=6,
    feat_quantizer="codebook",
    feat_bits=3,
    feat_stages=2,
    quantize_forward=0.5,
)
_GAUSSIANIMAGE_PLUS = dataclasses.replace(
    _GAUSSIANIMAGE,
    shape="covariance",
    init_scale=1 / math.sqrt(9 * math.pi),
    init_scale_mode="area",
    init_color_gain=0.0,
    growth=True,
    growth_start=0.5,
    growth_rounds=2,
    growth_until=0.2,
    growth_where="top",
    growth_color="zero",
    growth_scale=1 / math.sqrt(9 * math.pi),
    lr_position=0.18,
    lr_position_unit="pixels",
    lr_scale=0.18,
    lr_rotation=0.18,
    lr_feature=0.18,
    adam_epsilon=1e-15,
    pos_quantizer="learned",
    pos_bits=12,
    scale_bits=10,
    rot_bits=10,
    feat_quantizer="learned",
    feat_bits=6,
)

PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    "image-gs": _IMAGE_GS,
    "image-gs-code": dataclasses.replace(
        _IMAGE_GS,
        steps=10_000,
        init_power=2.0,
        growth_error_power=2.0,
        lr_schedule="plateau",
        lr_decay_to=0.1,
    ),
    "gaussianimage": _GAUSSIANIMAGE,
    "gaussianimage++": _GAUSSIANIMAGE_PLUS,
}


def presets_table() -> str:
    """One row per field of :class:`Recipe`, one column per preset; what equals the default is left out."""
    names = list(PRESETS)
    lines = ["| field | " + " | ".join(f"`{n}`" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for field in dataclasses.fields(Recipe):
        values = [getattr(PRESETS[n], field.name) for n in names]
        cells = [_text(values[0]), *("" if v == values[0] else _text(v) for v in values[1:])]
        lines.append(f"| `{field.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(presets_table(), end="")
