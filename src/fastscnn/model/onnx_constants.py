"""Constants of an ONNX file that are sizes: how many values an operator makes of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import inf, prod

from fastscnn.model.protobuf import Reader

SIZES = {  # operator -> the inputs that are sizes
    b"CenterCropPad": (1,), b"ConstantOfShape": (0,), b"Expand": (1,), b"OneHot": (1,), b"Pad": (1,), b"Range": (0, 1, 2),
    b"Resize": (2, 3), b"Tile": (1,), b"Upsample": (1,),
}  # fmt: skip
_MOST_BYTES = 512  # of a constant; 64 numbers are more than any size has
_FORMATS = {1: "<f", 6: "<i", 7: "<q", 11: "<d"}  # TensorProto.DataType -> format of `struct`

# Tags in onnx.proto (`protobuf.Reader`): of a tensor, then of an attribute. Lists may be packed, or one field per number.
_TYPE, _REALS, _INTEGERS = 0x10, (0x22, 0x25, 0x4A, 0x51, 0x52), (0x28, 0x2A, 0x38, 0x3A)
_TENSOR, _A_REALS, _A_INTEGERS = 0x2A, (0x15, 0x3A, 0x3D), (0x18, 0x40, 0x42)


def tensor_values(reader: Reader, start: int, end: int) -> list[float]:
    """Return the first values of a tensor; none if they are no numbers. Raises WireError for damage."""
    kind, raw, values = 0, b"", list[float]()
    for tag, first, last in reader.fields(start, end):
        if tag == _TYPE:
            kind = reader.varint(first, last)[0]
        elif tag in _REALS:  # raw_data, float_data or double_data
            raw += reader.data[first : min(last, first + _MOST_BYTES)]
        elif tag in _INTEGERS:
            values += reader.integers(first, last)
    return (_unpacked(_FORMATS[kind], raw) if kind in _FORMATS else []) + values


def attribute_values(reader: Reader, start: int, end: int) -> list[float]:
    """Return the first values that an attribute of the operator Constant holds. Raises WireError for damage."""
    values = list[float]()
    for tag, first, last in reader.fields(start, end):
        if tag == _TENSOR:
            values += tensor_values(reader, first, last)
        elif tag in _A_INTEGERS:
            values += reader.integers(first, last)
        elif tag in _A_REALS:
            values += _unpacked("<f", reader.data[first : min(last, first + _MOST_BYTES)])
    return values


def _unpacked(format_: str, raw: bytes) -> list[float]:
    size = struct.calcsize(format_)
    return [value for (value,) in struct.iter_unpack(format_, raw[: len(raw) // size * size])]


def made(operator: bytes, inputs: Sequence[Sequence[float]]) -> float:
    """Return how many values an operator makes, at least, by its inputs that are sizes; 0 if none of them is a constant.

    Of Pad: the most values that it adds to one side.

    Args:
        operator: a key of `SIZES`.
        inputs: the values of these inputs; none of an input that is computed.
    """
    if operator == b"Pad":
        return max((abs(value) for values in inputs for value in values), default=0)
    if operator == b"Range":
        if len(inputs) < 3 or not all(inputs):
            return 0
        (start, *_), (limit, *_), (step, *_) = inputs
        return abs(limit - start) / abs(step) if step else inf
    return max((prod(max(1, abs(value)) for value in values) for values in inputs if values), default=0)
