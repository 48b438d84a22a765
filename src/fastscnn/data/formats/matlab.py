"""The matrices of numbers in a .mat file of Matlab 4 to 7.2.

SciPy's reader is not used: it does not check the numbers of data types, so that one wrong byte can crash the interpreter.
Source: MathWorks, "MAT-File Format" (Matlab 5 and 4). Cells, texts, objects, sparse and complex matrices hold no labels; they
are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastscnn.base.arguments import MAX_PIXELS

Matrix = npt.NDArray[np.number]
Elements = Iterator[tuple[int, memoryview]]  # type and content

# Numbers of data types and of classes of arrays, Matlab 5
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_FLAGS, _WHOLE, _TEXT, _MATRIX, _COMPRESSED = (6,), (5, 6), (1, 2, 16), 14, 15
_STRUCT, _NUMERIC = 2, range(6, 16)
_COMPLEX = 0x800
_HEADER = 128  # bytes of a file, before the elements
_OLD_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")  # Matlab 4
_MOST_BYTES = 10 * MAX_PIXELS  # of the compressed matrices and structs of a file: the largest matrix of float64, and 80 MB more
_MOST_NAMES, _LONGEST_NAME = 10_000, 255  # of variables in a file and of fields in a struct; Matlab writes up to 63 characters
_START = 4096  # bytes of a variable that hold its class, shape and name


class TooLargeError(ValueError):
    """The matrices of a file take more memory than is allowed."""


def matrices(data: bytes) -> tuple[dict[str, Matrix], dict[str, Matrix]]:
    """Return the matrices of a file with more than one row and column, [rows, columns], by name.

    Args:
        data: the content of the file.

    Returns:
        The variables that are matrices, and the matrices in the first element of each struct, as "struct.field". Their type is
        the one in the file, which may be smaller than the variable's.

    Raises:
        TooLargeError: compressed matrices and structs of over 400 MB.
        ValueError: truncated, broken, or not of Matlab.
    """
    if 0 in data[:4]:  # the first number of Matlab 4; later files begin with text
        return dict(_old(data)), {}
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("has no header")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, Matrix] = {}
    fields: dict[str, Matrix] = {}
    left = _MOST_BYTES
    for number, (kind, content) in enumerate(_elements(memoryview(data)[_HEADER:], order)):
        if number == _MOST_NAMES:
            raise ValueError(f"has over {_MOST_NAMES:,} variables")
        variable: memoryview | None = content if kind == _MATRIX else None
        if kind == _COMPRESSED:
            variable = _decompressed(content, order, left)
            left -= len(variable or b"")
        if variable is not None:
            _add(variable, order, found, fields)
    return found, fields


def _add(variable: memoryview, order: str, found: dict[str, Matrix], fields: dict[str, Matrix]) -> None:
    """Add a variable, or the fields of a struct."""
    kind, name, shape, parts = _start(variable, order)
    if name and kind in _NUMERIC:
        array = _numbers(shape, parts, order)
        if array is not None:
            found[name] = array
    elif name and kind == _STRUCT:
        for field, content in zip(_names(parts, order), parts, strict=False):  # of the first element: those of others follow
            if content[0] != _MATRIX:
                raise ValueError("a field of a struct is broken")
            if content[1]:
                kind, _, shape, inner = _start(content[1], order)
                array = _numbers(shape, inner, order) if kind in _NUMERIC else None
                if array is not None:
                    fields[f"{name}.{field}"] = array


def _start(variable: memoryview, order: str) -> tuple[int, str, memoryview, Elements]:
    """Return class, name and shape of a variable, and the elements that follow; the class 0 if it is skipped."""
    parts = _elements(variable, order)
    flags = _next(parts, _FLAGS)
    if len(flags) != 8:
        raise ValueError("the flags of a variable are broken")
    word = struct.unpack_from(f"{order}I", flags)[0]
    kind = word & 0xFF
    if kind != _STRUCT and (kind not in _NUMERIC or word & _COMPLEX):
        return 0, "", memoryview(b""), parts
    shape = _next(parts, _WHOLE)
    return kind, _text(_next(parts, _TEXT)), shape, parts


def _numbers(shape: memoryview, parts: Elements, order: str) -> Matrix | None:
    """Return a matrix; None if it has other than two dimensions, or only one row or column."""
    if len(shape) != 8:
        return None
    rows, columns = struct.unpack(f"{order}2i", shape)
    if min(rows, columns) < 2:
        return None
    kind, content = next(parts, (0, memoryview(b"")))
    if kind not in _TYPES:
        raise ValueError("a matrix has no values of a known type")
    dtype = np.dtype(f"{order}{_TYPES[kind]}")
    if rows * columns * dtype.itemsize != len(content):
        raise ValueError(f"a matrix of {rows}x{columns} has {len(content)} bytes of values")
    return _matrix(content, dtype, rows, columns)


def _names(parts: Elements, order: str) -> list[str]:
    """Return the names of the fields of a struct."""
    size, texts = _next(parts, _WHOLE), _next(parts, _TEXT)
    length = struct.unpack(f"{order}i", size)[0] if len(size) == 4 else -1
    if not texts:
        return []
    if not 0 < length <= _LONGEST_NAME or len(texts) % length or len(texts) > length * _MOST_NAMES:
        raise ValueError("the names of a struct are broken")
    return [_text(texts[start : start + length]) for start in range(0, len(texts), length)]


def _elements(data: memoryview, order: str) -> Elements:
    """Yield each element. Contents of up to 4 bytes stand in the tag; others end at 8 bytes, but for variables."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise ValueError("ends in an element")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        place = start + size if kind in (_MATRIX, _COMPRESSED) else start + (size + 7) // 8 * 8
        if kind >> 16:
            kind, size, start, place = kind & 0xFFFF, kind >> 16, start - 4, start
            if size > 4:
                raise ValueError("an element is broken")
        if start + size > len(data):
            raise ValueError("ends in an element")
        yield kind, data[start : start + size]


def _next(parts: Elements, wanted: tuple[int, ...]) -> memoryview:
    """Return the content of the next element, which must be of one of some types."""
    kind, content = next(parts, (0, memoryview(b"")))
    if kind not in wanted:
        raise ValueError("an element is missing, or of another type")
    return content


def _text(name: memoryview) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name is longer than {_LONGEST_NAME} bytes")
    return bytes(name).partition(b"\0")[0].decode("latin-1")


def _decompressed(content: memoryview, order: str, most: int) -> memoryview | None:
    """Return a compressed variable; None if it is skipped by its class or shape, as far as they are in its first bytes."""
    stream = zlib.decompressobj()
    try:
        start = stream.decompress(content, _START)
        if len(start) < 8:
            raise ValueError("ends in a compressed variable")
        kind, size = struct.unpack_from(f"{order}II", start)
        if kind != _MATRIX:
            return None
        kind, _, shape, _ = _start(memoryview(start)[8 : 8 + size], order)
        if kind != _STRUCT and (kind not in _NUMERIC or len(shape) != 8):
            return None
        if size > most:
            raise TooLargeError
        plain = start + stream.decompress(stream.unconsumed_tail, max(1, 8 + size - len(start)))
        stream.decompress(stream.unconsumed_tail, 8)  # the checksum, at the end
    except zlib.error as error:
        raise ValueError(f"a compressed variable is broken: {error}") from None
    if len(plain) < 8 + size or not stream.eof:
        raise ValueError("ends in a compressed variable")
    return memoryview(plain)[8 : 8 + size]


def _old(data: bytes) -> Iterator[tuple[str, Matrix]]:
    """Yield the matrices of a file of Matlab 4: of each, five numbers, its name and its values."""
    order = "<" if struct.unpack_from("<I", data.ljust(4, b"\0"))[0] < 1000 else ">"
    place = number = 0
    while place < len(data):
        number += 1
        if number > _MOST_NAMES:
            raise ValueError(f"has over {_MOST_NAMES:,} variables")
        if place + 20 > len(data):
            raise ValueError("ends in a header")
        form, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", data, place)
        kind, content = form // 10 % 10, form % 10
        if form // 10 not in (kind, 100 + kind) or kind >= len(_OLD_TYPES) or content > 2 or min(rows, columns, length) < 0:
            raise ValueError("the header of a variable is broken")
        dtype = np.dtype(f"{order}{_OLD_TYPES[kind]}")
        start = place + 20 + length
        size = rows * columns * dtype.itemsize
        place = start + size * (2 if imaginary and content < 2 else 1)
        if place > len(data):
            raise ValueError("ends in a variable")
        if content == 0 and not imaginary and min(rows, columns) > 1:
            name, values = memoryview(data)[start - length : start], memoryview(data)[start : start + size]
            yield _text(name), _matrix(values, dtype, rows, columns)


def _matrix(values: memoryview, dtype: np.dtype[np.number], rows: int, columns: int) -> Matrix:
    """Return a matrix that is stored column after column, in the byte order of this machine."""
    found = np.frombuffer(values, dtype)
    return found.astype(dtype.newbyteorder("="), copy=False).reshape((rows, columns), order="F")
