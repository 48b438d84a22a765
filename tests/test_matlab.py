"""The reader of .mat files: SciPy's files and results, other byte orders, and broken files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastscnn.data.formats import matlab

DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?")
SMALL = np.array([[1, 2, 3], [4, 5, 250]], np.uint8)


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content.ljust((len(content) + 7) // 8 * 8, b"\0")


def variable(name: bytes, array: npt.NDArray[Any], kind: int = 9, stored: int = 2, order: str = "<", flags: int = 0) -> bytes:
    """A variable of the class `kind`, whose values have the data type `stored`."""
    return element(14, b"".join([
        element(6, struct.pack(f"{order}II", kind | flags, 0), order),
        element(5, struct.pack(f"{order}{array.ndim}i", *array.shape), order),
        element(1, name, order),
        element(stored, array.tobytes("F"), order),
    ]), order)  # fmt: skip


def file(*elements: bytes, order: str = "<") -> bytes:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100)
    return head + (b"IM" if order == "<" else b"MI") + b"".join(elements)


def saved(content: dict[str, Any], **options: Any) -> bytes:
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, content, **options)
    return buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_scipy_writes(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(("4", "5", "5 compressed")))
    dtypes = DTYPES if form != "4" else ("u1", "i2", "u2", "i4", "f4", "f8")  # those of Matlab 4
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    given_ = {
        name: data.draw(arrays.arrays(np.dtype(data.draw(st.sampled_from(dtypes))), shape,
                                      elements={"allow_nan": False}))
        for name in data.draw(st.lists(st.sampled_from(("x", "labels", "a_longer_name")), unique=True))
    }  # fmt: skip
    content = saved(given_ | {"note": "a text"}, format=form[0], do_compression="compressed" in form)
    found, fields = matlab.matrices(content)
    assert fields == {}
    assert found.keys() == given_.keys()
    for name, array in given_.items():
        np.testing.assert_array_equal(found[name], array)


def test_fields_of_structs() -> None:
    cells = np.array([SMALL, "x"], object)
    content = {"GTcls": {"Segmentation": SMALL, "Boundaries": cells, "Empty": np.zeros((0, 0)), "Deep": {"x": SMALL}}}
    for compressed in (False, True):
        found, fields = matlab.matrices(saved(content, do_compression=compressed))
        assert found == {}
        assert fields.keys() == {"GTcls.Segmentation", "GTcls.Empty"}
        np.testing.assert_array_equal(fields["GTcls.Segmentation"], SMALL)
    several = np.array([(SMALL,), (SMALL + 1,)], [("ids", object)])  # of several elements, the first
    np.testing.assert_array_equal(matlab.matrices(saved({"s": several}))[1]["s.ids"], SMALL)


def test_cells_sparse_and_complex_matrices_are_skipped() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    content = {"cells": np.array([SMALL, "x"], object), "sparse": sparse.csc_matrix(SMALL), "complex": SMALL + 1j,
               "cube": np.zeros((2, 3, 4)), "ids": SMALL}  # fmt: skip
    found, fields = matlab.matrices(saved(content))
    assert found.keys() == {"ids"}
    assert fields == {}


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_orders(order: str) -> None:
    wide = SMALL.astype(f"{order}u2") * 257
    found, _ = matlab.matrices(file(variable(b"ids", wide, 11, 4, order), order=order))
    np.testing.assert_array_equal(found["ids"], SMALL.astype(np.uint16) * 257)
    assert found["ids"].dtype.isnative
    old = struct.pack(f"{order}5i", 30 if order == "<" else 1030, *SMALL.shape, 0, 4) + b"ids\0"
    found, _ = matlab.matrices(old + SMALL.astype(f"{order}i2").tobytes("F"))
    np.testing.assert_array_equal(found["ids"], SMALL)


def test_values_in_a_smaller_type_than_the_class() -> None:
    found, _ = matlab.matrices(file(variable(b"ids", SMALL, 6, 2)))  # a matrix of float64, as Matlab writes whole numbers
    np.testing.assert_array_equal(found["ids"], SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header"),
        (b"MATLAB 5.0" + bytes(118), "has no header"),
        (file(b"\0\0\0"), "ends in an element"),
        (file(variable(b"ids", SMALL)[:-8]), "ends in an element"),
        (file(variable(b"ids", SMALL, stored=0x10002)), "an element is broken"),
        (file(variable(b"ids", SMALL, stored=14)), "a matrix has no values of a known type"),
        (file(variable(b"ids", SMALL, stored=4)), r"a matrix of the shape \[2, 3\] has 3 values"),
        (file(element(14, element(6, b"\t\0\0\0"))), "the flags of a variable are broken"),
        (file(element(14, b"")), "an element is missing"),
        (file(struct.pack("<HH", 1, 9) + b"abcd"), "an element is broken"),
        (file(element(15, b"no zlib")), "a compressed variable is broken"),
        (file(element(15, zlib.compress(variable(b"ids", SMALL))[:-9])), "ends in a compressed variable"),
        (struct.pack("<5i", 40, 2, 3, 0, 4) + b"ids\0" + bytes(11), "ends in a variable"),
        (struct.pack("<5i", 90, 2, 3, 0, 4), "the header of a variable is broken"),
        (struct.pack("<5i", 50, -2, 3, 0, 4), "the header of a variable is broken"),
        (struct.pack("<3i", 50, 2, 3), "ends in a header"),
    ],
)
def test_broken_files(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matlab.matrices(content)


def test_any_byte_may_be_wrong() -> None:
    """SciPy 1.17 ends the interpreter at some of these."""
    whole = file(variable(b"ids", SMALL), variable(b"s", SMALL, 6))
    refused = 0
    for place in range(len(whole)):
        for value in (0, 1, 2, 14, 15, 16, 127, 255):
            try:
                matlab.matrices(whole[:place] + bytes([value]) + whole[place + 1 :])
            except ValueError:
                refused += 1
    assert refused > 500
    for end in range(len(whole)):
        try:
            found, _ = matlab.matrices(whole[:end])
        except ValueError:
            continue
        assert found.keys() <= {"ids"}


def test_variables_of_many_gigabytes_are_refused() -> None:
    stream = zlib.compressobj(1)
    packed = b"".join(stream.compress(bytes(1 << 20)) for _ in range(500)) + stream.flush()
    assert len(packed) < 4 << 20
    with pytest.raises(ValueError, match="its variables take over 400 MB"):
        matlab.matrices(file(element(15, packed)))
