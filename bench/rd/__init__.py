"""The parts of `bench/rate_distortion.py`, in the order in which a point passes through them.

`sets` finds the pictures, `codecs`, `gaussians` and `neural` turn a picture into bytes and back, `metrics` compares,
`cache` keeps each point, `measure` runs what is missing, `curves` makes BD-rates of points, `results` gathers
everything into one JSON file; `plots`, `summary`, `tables` and `document` make docs/rate-distortion.md of that file
with `published` figures and `notes`, and of nothing else. `timing` measures seconds apart from all that, `lpips` is
one more metric for who has its weights. `stacks`, `blocks` and `texture_tables` are parts of `bench/textures.py`,
`degradations` of `bench/restoration.py`.
"""
