"""igs.format: the `.igs` container of spec/igs.md. Bytes ↔ header, index, sections, codes, Gaussians.

The pipeline in file names: source → header, sections, index, head → read → codecs, bitpack → quantize, gaussians; and
partition → write. document.py rewrites files, validate.py reports on them, describe.py shows them. Never imports torch.
"""

from igs.format.errors import (
    IgsError,
    InputError,
    InvalidFile,
    LimitExceeded,
    Unsupported,
    UnsupportedFile,
    UsageError,
)
from igs.format.fields import (
    Alpha,
    Blend,
    Codec,
    Colour,
    LevelMode,
    Primitive,
    QuantizerKind,
    ScaleMap,
    Shape,
    Transfer,
)
from igs.format.gaussians import Gaussians, dequantize, quantize, reach_areas, reach_boxes
from igs.format.header import Group, Header
from igs.format.limits import Limits
from igs.format.quantize import Quantizer
from igs.format.read import FileReader, Level, open_file
from igs.format.write import write

__all__ = [
    "Alpha",
    "Blend",
    "Codec",
    "Colour",
    "FileReader",
    "Gaussians",
    "Group",
    "Header",
    "IgsError",
    "InputError",
    "InvalidFile",
    "Level",
    "LevelMode",
    "LimitExceeded",
    "Limits",
    "Primitive",
    "Quantizer",
    "QuantizerKind",
    "ScaleMap",
    "Shape",
    "Transfer",
    "Unsupported",
    "UnsupportedFile",
    "UsageError",
    "dequantize",
    "open_file",
    "quantize",
    "reach_areas",
    "reach_boxes",
    "write",
]
