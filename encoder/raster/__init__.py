"""Gaussians to pixels and gradients back: the reference, its fast twins, and the backends that a fit draws with."""
