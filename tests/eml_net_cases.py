"""Weights for EML-Net that were drawn, not trained: what tests of it run with, as there are none in the repository."""

from __future__ import annotations

import math

import numpy as np
import torch

from igs.encoder.fitting.eml_net import EmlNet


def drawn_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of the whole network, float16, that neither dies out nor saturates; the same on every machine."""
    rng = np.random.default_rng(seed)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in EmlNet().state_dict().items()}
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(1)
            continue
        values = rng.standard_normal(shape, np.float32)
        if len(shape) == 4:
            values *= math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith("running_var"):
            values = 1 + 0.25 * np.abs(values)
        elif name.endswith("weight"):  # small where a block adds to its input, and before the sigmoid
            values = (0.2 if "bn3" in name or name.startswith("decoder.combined") else 1.0) + 0.1 * values
        else:  # biases and means
            values *= 0.25
        found[name] = torch.from_numpy(values).half()
    return found
