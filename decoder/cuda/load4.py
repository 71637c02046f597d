"""One 16-byte load, which Numba has no word for: a Gaussian's mean and half its factor in one instruction.

Without it the kernels are bound by loads: five of them for seven operations. Not used in the simulator.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic


@intrinsic  # type: ignore[misc,unused-ignore]
def load4(typingctx: Any, words: Any, at: Any) -> Any:
    """Words ``at`` … ``at`` + 3 of an int32 array, ``at`` being a multiple of 4, as a tuple."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = ir.IntType(32)
        vector = ir.VectorType(word, 4)
        place = builder.gep(array.data, [arguments[1]])
        four = builder.load(builder.bitcast(place, vector.as_pointer()), align=16)
        elements = [builder.extract_element(four, ir.Constant(word, lane)) for lane in range(4)]
        return context.make_tuple(builder, signature.return_type, elements)

    four_words: Any = types.UniTuple(types.int32, 4)  # type: ignore[no-untyped-call,unused-ignore]
    return four_words(words, at), codegen
