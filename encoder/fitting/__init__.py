"""Gaussians fitted to a picture: where they start, how they move, grow and stop. Knows nothing of files or bits."""
