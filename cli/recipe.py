"""One option per field of a preset: ``Recipe.init_scale`` is ``--init-scale``. Texts are here, types the field's."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import click

from igs.cli.options import Decorator, Number, option
from igs.encoder.recipe import Recipe, choices

# field → (heading in the help, text). Fields that are not advanced show in the short help too.
_MODEL, _START, _GROWTH, _FIT, _BITS = "Model", "Initialisation", "Growth", "Optimisation", "Quantisation"
HELP: dict[str, tuple[str, str]] = {
    "steps": (_FIT, "Optimisation steps."),
    "blend": (_MODEL, "How Gaussians combine: normalised over the nearest (topk) or added (sum)."),
    "primitive": (_MODEL, "What a Gaussian carries: a colour, or also a slope of brightness (gradient)."),
    "top_k": (_MODEL, "Gaussians that count at a point, 1 to 32."),
    "reach2": (_MODEL, "Squared absolute reach, in standard deviations."),
    "relative_reach2": (_MODEL, "Squared reach beyond the nearest Gaussian's distance; inf for none."),
    "shape": (_MODEL, "How shapes are fitted and stored: deviations and angle, Cholesky factor or covariance."),
    "lowpass_alpha": (_MODEL, "Add s = pixels/(X·Gaussians), 300 at most, to all variances (0: not)."),
    "init": (_START, "Where Gaussians start: by gradient, by saliency or at random."),
    "saliency": (_START, "The map of saliency: what stands out as a whole, or in detail; or by the network EML-Net."),
    "init_uniform": (_START, "Share of the positions drawn uniformly, 0 to 1."),
    "init_power": (_START, "Power that the gradient or saliency map is raised to."),
    "init_scale": (_START, "First standard deviation: pixels, or a multiple of the neighbour distance."),
    "init_scale_mode": (_START, "What --init-scale and --growth-scale are measured in."),
    "edge_stretch": (_START, "How long new Gaussians are along the edges that they lie on; 0: round."),
    "init_color": (_START, "Start with the picture's colours (otherwise random ones)."),
    "init_color_gain": (_START, "Factor of the first colours; 0 starts from black."),
    "growth": (_GROWTH, "Start with some of the Gaussians and add the others where the error is."),
    "growth_start": (_GROWTH, "Share of the Gaussians that the fit starts with."),
    "growth_rounds": (_GROWTH, "How many times Gaussians are added."),
    "growth_until": (_GROWTH, "When the last are added, as a share of the steps, whatever interval a preset has."),
    "growth_interval": (_GROWTH, "Steps between additions, instead of --growth-until."),
    "growth_where": (_GROWTH, "Where they are added: drawn by the error, or at the pixels with the largest."),
    "growth_color": (_GROWTH, "What they start with: the picture's colour, what is missing, or nothing."),
    "growth_blur": (_GROWTH, "How much of a pixel's error is that of the pixels about it, 0 to 1."),
    "growth_error_power": (_GROWTH, "Power of the error that positions are drawn in proportion to."),
    "growth_scale": (_GROWTH, "Standard deviation of added Gaussians."),
    "relocate": (_GROWTH, "Share of the Gaussians that move to where the error is, at a time; 0: none."),
    "loss_l1": (_FIT, "Weight of the absolute error."),
    "loss_l2": (_FIT, "Weight of the squared error."),
    "loss_ssim": (_FIT, "Weight of 1 − SSIM."),
    "loss_ms_ssim": (_FIT, "Weight of 1 − SSIM of the picture reduced by 2, 4, 8 and 16."),
    "scale_parameter": (_FIT, "What is optimised for the size: σ, 1/σ or log σ."),
    "lr_position": (_FIT, "Learning rate of positions."),
    "lr_position_unit": (_FIT, "What --lr-position is measured in."),
    "lr_scale": (_FIT, "Learning rate of sizes."),
    "lr_rotation": (_FIT, "Learning rate of angles, in half-turns."),
    "lr_feature": (_FIT, "Learning rate of colours."),
    "lr_gradient": (_FIT, "Learning rate of slopes of brightness."),
    "adam_beta1": (_FIT, "Adam: decay of the first moment."),
    "adam_beta2": (_FIT, "Adam: decay of the second moment."),
    "adam_epsilon": (_FIT, "Adam: the term that keeps the division finite."),
    "keep_adam_state": (_FIT, "Keep Adam's moments when Gaussians are added."),
    "lr_schedule": (_FIT, "How learning rates fall."),
    "lr_decay_from": (_FIT, "Share of the steps up to which they stay (exponential), or between decays (steps)."),
    "lr_decay_to": (_FIT, "Factor that they end at (exponential), or of one decay (plateau, steps)."),
    "plateau_steps": (_FIT, "Steps without improvement before a decay; the second time the fit stops."),
    "plateau_psnr": (_FIT, "What counts as an improvement of the PSNR, dB."),
    "plateau_ssim": (_FIT, "What counts as an improvement of SSIM."),
    "interlace": (_FIT, "Of pictures above 1 Mpx: share of the steps that see a quarter of the pixels each."),
    "pull_empty": (_FIT, "A pixel that nothing reaches pulls its nearest Gaussian."),
    "coding": (_BITS, "Entropy-coded codes whose precision follows sizes (lattice), or so many bits each (plain)."),
    "coarseness": (_BITS, "Steps of the lattice, in multiples of the root mean squared error."),
    "noise_from": (_BITS, "Share of the steps after which the fit sees noise of the lattice's steps."),
    "rate_weight": (_BITS, "Weight of the bits while there is noise."),
    "compensate": (_BITS, "Let attributes make up for the rounding of those before them."),
    "freeze_rounds": (_BITS, "Rounds in which Gaussians take their codes while the others adapt."),
    "freeze_steps": (_BITS, "Steps between these rounds, as a share of --steps."),
    "freeze_rate": (_BITS, "How far these steps go, 1 being where each Gaussian alone had best be."),
    "pos_bits": (_BITS, "Bits per coordinate, 1 to 32 (32: float); implies --coding plain."),
    "scale_bits": (_BITS, "Bits per size, 1 to 32; implies --coding plain."),
    "rot_bits": (_BITS, "Bits per angle, 1 to 32; implies --coding plain."),
    "feat_bits": (_BITS, "Bits per colour channel, 1 to 32; implies --coding plain."),
    "pos_quantizer": (_BITS, "Codes of positions: uniform over their range, learned steps, or half floats."),
    "shape_quantizer": (_BITS, "Codes of shapes: uniform over their range, or learned steps."),
    "feat_quantizer": (_BITS, "Codes of colours: as of positions, or the rows of a residual codebook."),
    "feat_stages": (_BITS, "Tables of the codebook, of 2^(--feat-bits) rows each."),
    "quantize_lr": (_BITS, "Factor of the learning rates while quantised values are seen."),
    "lr_quantizer": (_BITS, "Learning rate of learned steps, in first steps."),
    "codebook_commit": (_BITS, "Weight that draws colours to the codebook's rows."),
    "quantize_forward": (_BITS, "Last share of the steps that sees quantised values."),
    "gamma": (_FIT, "The fit sees value^(1/gamma)."),
    "tiles": (_FIT, "Find Gaussians by tile (otherwise try all at every pixel: slow)."),
}
_SHORT = {"steps", "init", "saliency"}


def recipe_options() -> list[Decorator]:
    """The decorators, in the recipe's order."""
    types, known = typing.get_type_hints(Recipe), choices()
    return [_option(field, types[field.name], known.get(field.name, ())) for field in dataclasses.fields(Recipe)]


def _option(field: dataclasses.Field[Any], kind: Any, names: tuple[str, ...]) -> Decorator:
    dashed = field.name.replace("_", "-")
    section, text = HELP.get(field.name, ("Other", field.name.replace("_", " ") + "."))
    common: dict[str, Any] = {"section": section, "advanced": field.name not in _SHORT, "help": text, "default": None}
    plain = {k for k in (kind, *typing.get_args(kind)) if k in (bool, int, float)}
    if names:
        return option(f"--{dashed}", type=click.Choice(names), **common)
    if bool in plain:
        return option(f"--{dashed}/--no-{dashed}", **common)
    if int in plain:
        return option(f"--{dashed}", type=Number(0, whole=True), metavar="N", **common)
    # infinity stands for "none" in the relative reach; Recipe.validate judges all others
    return option(f"--{dashed}", type=Number(0, finite=field.name != "relative_reach2"), metavar="X", **common)


def recipe_overrides(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take the recipe's options out of a command's parameters; those that were given."""
    taken = {field.name: parameters.pop(field.name, None) for field in dataclasses.fields(Recipe)}
    return {name: value for name, value in taken.items() if value is not None}
