"""The matrices of numbers in a .mat file of Matlab 4 to 7.2.

SciPy's reader is not used: it does not check the numbers of data types, so that one wrong byte can crash the interpreter.
Source: MathWorks, "MAT-File Format" (Matlab 5 and 4). Cells, texts, sparse and complex matrices hold no labels;
they are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod

import numpy as np
import numpy.typing as npt

from fastscnn.base.arguments import MAX_PIXELS

Matrix = npt.NDArray[np.number]

# Numbers of data types and of classes of arrays, Matlab 5
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_STRUCT, _NUMERIC = 2, range(6, 16)
_COMPLEX = 0x800
_HEADER = 128  # bytes of a file, before the elements
_OLD_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")  # Matlab 4
_MOST = 10 * MAX_PIXELS  # bytes of all variables of a file, decompressed: the largest matrix of float64, and 80 MB more


def matrices(data: bytes) -> tuple[dict[str, Matrix], dict[str, Matrix]]:
    """Return the matrices of a file, [rows, columns], by name.

    Args:
        data: the content of the file.

    Returns:
        The variables that are matrices, and the matrices in the first element of each struct, as "struct.field". Their type is
        the one in the file, which may be smaller than the variable's.

    Raises:
        ValueError: truncated, broken, not of Matlab, or over 400 MB when it is decompressed.
    """
    if 0 in data[:4]:  # the first number of Matlab 4; later files begin with text
        return dict(_old(data)), {}
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("has no header")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, Matrix] = {}
    fields: dict[str, Matrix] = {}
    left = _MOST
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        inside = [(kind, content)]
        if kind == _COMPRESSED:
            plain = _decompressed(content, left)
            left -= len(plain)
            inside = list(_elements(memoryview(plain), order))
        for what, variable in inside:
            if what == _MATRIX:
                _add(variable, order, found, fields)
    return found, fields


def _add(variable: memoryview, order: str, found: dict[str, Matrix], fields: dict[str, Matrix]) -> None:
    """Add a variable, or the fields of a struct."""
    kind, name, rest = _start(variable, order)
    if kind in _NUMERIC:
        array = _numbers(rest, order)
        if array is not None:
            found[name] = array
    elif kind == _STRUCT:
        parts = iter(rest[1:])
        length = _whole(_next(parts, _INT32), order)[0]
        texts = bytes(_next(parts, _INT8))
        if length < 1 or len(texts) % length:
            raise ValueError("the names of a struct are broken")
        names = [_text(texts[start : start + length]) for start in range(0, len(texts), length)]
        for field, (what, inner) in zip(names, parts, strict=False):  # of the first element: those of others follow
            if what != _MATRIX:
                raise ValueError("a field of a struct is broken")
            if inner:
                inner_kind, _, inner_rest = _start(inner, order)
                array = _numbers(inner_rest, order) if inner_kind in _NUMERIC else None
                if array is not None:
                    fields[f"{name}.{field}"] = array


def _start(variable: memoryview, order: str) -> tuple[int, str, list[tuple[int, memoryview]]]:
    """Return class and name of a variable, and the elements of its shape and what follows; the class 0 if it is skipped."""
    parts = _elements(variable, order)
    flags = _next(parts, _UINT32)
    if len(flags) != 8:
        raise ValueError("the flags of a variable are broken")
    word = struct.unpack_from(f"{order}I", flags)[0]
    kind = word & 0xFF
    if kind != _STRUCT and (kind not in _NUMERIC or word & _COMPLEX):
        return 0, "", []
    shape, name = _next(parts, _INT32), _next(parts, _INT8)
    return kind, _text(bytes(name)), [(_INT32, shape), *parts]


def _numbers(parts: list[tuple[int, memoryview]], order: str) -> Matrix | None:
    """Return a matrix from its shape and values; None if it has not two dimensions."""
    shape = _whole(parts[0][1], order)
    if len(parts) < 2 or parts[1][0] not in _TYPES:
        raise ValueError("a matrix has no values of a known type")
    kind, content = parts[1]
    values = np.frombuffer(content, f"{order}{_TYPES[kind]}")
    if min(shape, default=-1) < 0 or prod(shape) != len(values):
        raise ValueError(f"a matrix of the shape {list(shape)} has {len(values)} values")
    if len(shape) != 2:
        return None
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(shape, order="F")


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and the content of each element. Contents of up to 4 bytes stand in the tag; others end at 8 bytes."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise ValueError("ends in an element")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        place = start + size if kind == _COMPRESSED else start + (size + 7) // 8 * 8
        if kind >> 16:
            kind, size, start, place = kind & 0xFFFF, kind >> 16, start - 4, start
            if size > 4:
                raise ValueError("an element is broken")
        if start + size > len(data):
            raise ValueError("ends in an element")
        yield kind, data[start : start + size]


def _next(parts: Iterator[tuple[int, memoryview]], wanted: int) -> memoryview:
    """Return the content of the next element, which must be of a type."""
    kind, content = next(parts, (0, memoryview(b"")))
    if kind != wanted:
        raise ValueError("an element is missing, or of another type")
    return content


def _whole(content: memoryview, order: str) -> tuple[int, ...]:
    """Return whole numbers of 32 bits, at least one."""
    if not content or len(content) % 4:
        raise ValueError("whole numbers are broken")
    return struct.unpack(f"{order}{len(content) // 4}i", content)


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("latin-1")


def _decompressed(content: memoryview, most: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(content, most + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed variable is broken: {error}") from None
    if len(plain) > most:
        raise ValueError(f"its variables take over {_MOST // 1_000_000} MB")
    if not stream.eof:
        raise ValueError("ends in a compressed variable")
    return plain


def _old(data: bytes) -> Iterator[tuple[str, Matrix]]:
    """Yield the matrices of a file of Matlab 4: of each, five numbers, its name and its values."""
    order = "<" if struct.unpack_from("<I", data.ljust(4, b"\0"))[0] < 1000 else ">"
    place = 0
    while place < len(data):
        if place + 20 > len(data):
            raise ValueError("ends in a header")
        form, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", data, place)
        kind, content = form // 10 % 10, form % 10
        if form // 10 not in (kind, 100 + kind) or kind >= len(_OLD_TYPES) or content > 2 or min(rows, columns, length) < 0:
            raise ValueError("the header of a variable is broken")
        dtype = np.dtype(f"{order}{_OLD_TYPES[kind]}")
        start = place + 20 + length
        size = rows * columns * dtype.itemsize
        place = start + size * (2 if imaginary else 1)
        if place > len(data):
            raise ValueError("ends in a variable")
        if content == 0 and not imaginary:
            values = np.frombuffer(data, dtype, rows * columns, start)
            yield (_text(data[start - length : start]),
                   values.astype(dtype.newbyteorder("="), copy=False).reshape((rows, columns), order="F"))
