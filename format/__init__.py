"""igs.format: the `.igs` container of spec/igs.md. Bytes ↔ header, index, sections, codes, Gaussians.

The pipeline in file names: source → header, parts, sections, index, head → index_reader, reader → codecs (bitpack;
rans, cells, columns) → quantize, lattice, gaussians (with arithmetic); and partition → writer. document.py rewrites
files, joining.py makes parts of one of several, validate.py reports, describe.py shows them, bits.py tells what they
cost, exif.py knows the blocks of cameras, whole_file.py writes what must appear whole. No torch here; Numba only where
a file has coded chunks (jit, rans, cells, columns).
"""

from igs.format.bits import bits_by_attribute
from igs.format.describe import describe, describe_text
from igs.format.document import Document, read
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
from igs.format.groups import Channels, Group, each_group, lit_channels
from igs.format.header import Header, feature_columns
from igs.format.index_reader import Level
from igs.format.joining import join, split
from igs.format.limits import Limits
from igs.format.parts import Part
from igs.format.quantize import Quantizer
from igs.format.reader import FileReader, open_file
from igs.format.validate import Finding, Report, validate_file
from igs.format.writer import chunk_rows, write

__all__ = [
    "Alpha",
    "Blend",
    "Channels",
    "Codec",
    "Colour",
    "Document",
    "FileReader",
    "Finding",
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
    "Part",
    "Primitive",
    "Quantizer",
    "QuantizerKind",
    "Report",
    "ScaleMap",
    "Shape",
    "Transfer",
    "Unsupported",
    "UnsupportedFile",
    "UsageError",
    "bits_by_attribute",
    "chunk_rows",
    "dequantize",
    "describe",
    "describe_text",
    "each_group",
    "feature_columns",
    "join",
    "lit_channels",
    "open_file",
    "quantize",
    "reach_areas",
    "reach_boxes",
    "read",
    "split",
    "validate_file",
    "write",
]
