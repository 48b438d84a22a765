"""Constants of an ONNX file that are sizes: how many values an operator makes of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import inf, prod

from fastscnn.model.protobuf import Reader, WireError

SIZES = {  # operator -> the inputs that are sizes; of Resize, the first has them in opset 10
    b"AffineGrid": (1,), b"CenterCropPad": (1,), b"ConstantOfShape": (0,), b"Expand": (1,), b"MaxUnpool": (2,), b"OneHot": (1,),
    b"Pad": (1,), b"Range": (0, 1, 2), b"Resize": (1, 2, 3), b"Tile": (1,), b"Upsample": (1,),
}  # fmt: skip
_MOST = 128  # numbers of a constant: two for each of 64 dimensions
_MOST_BYTES = 8 * (_MOST + 1)
_FORMATS = {1: "<f", 6: "<i", 7: "<q", 11: "<d", 12: "<I", 13: "<Q"}  # TensorProto.DataType -> format of `struct`

# Tags in onnx.proto (`protobuf.Reader`): of a tensor, then of an attribute. Lists may be packed, or one field per number.
_TYPE, _REALS, _INTEGERS = 0x10, (0x22, 0x25, 0x4A, 0x51, 0x52), (0x28, 0x2A, 0x38, 0x3A, 0x58, 0x5A)
_RAW = 0x4A
_TENSOR, _A_REALS, _A_INTEGERS, _LISTS = 0x2A, (0x15, 0x3A, 0x3D), (0x18, 0x40, 0x42), (0x3A, 0x3D, 0x40, 0x42)


def tensor_values(reader: Reader, start: int, end: int) -> list[float]:
    """Return the values of a tensor; none if they are no numbers.

    Raises:
        WireError: damage, more values than any size has, or values in several fields, of which each parser takes another one.
    """
    kind, raw, values, field = 0, bytearray(), list[float](), 0
    for tag, first, last in reader.fields(start, end):
        if tag == _TYPE:
            kind = reader.varint(first, last)[0]
        elif tag in _REALS or tag in _INTEGERS:
            if field not in (0, tag >> 3) or (field and tag == _RAW):
                raise WireError("a tensor with its values in several fields")
            field = tag >> 3
            if tag in _INTEGERS:
                values += reader.integers(first, last, _MOST + 1)
            else:  # raw_data, float_data or double_data
                raw += reader.data[first : min(last, first + _MOST_BYTES)]
    return _few((unpacked(_FORMATS[kind], raw) if kind in _FORMATS else []) + values)


def attribute_values(reader: Reader, start: int, end: int) -> list[float]:
    """Return the values that an attribute of the operator Constant holds. Raises WireError as `tensor_values`."""
    values, field = list[float](), 0
    for tag, first, last in reader.fields(start, end):
        if tag == _TENSOR or tag in _A_INTEGERS or tag in _A_REALS:
            if field not in (0, tag >> 3) or (field and tag not in _LISTS):
                raise WireError("an attribute with several values")
            field = tag >> 3
            if tag == _TENSOR:
                values += tensor_values(reader, first, last)
            elif tag in _A_INTEGERS:
                values += reader.integers(first, last, _MOST + 1)
            else:
                values += unpacked("<f", reader.data[first : min(last, first + _MOST_BYTES)])
    return _few(values)


def _few(values: list[float]) -> list[float]:
    """Return the values. Raises WireError if they are more than any size has."""
    if len(values) > _MOST:
        raise WireError("no size has so many numbers")
    return values


def unpacked(format_: str, raw: bytes | bytearray) -> list[float]:
    """Return the numbers that are stored one after another in a format of `struct`."""
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
