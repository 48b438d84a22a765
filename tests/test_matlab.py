"""The reader of .mat files: SciPy's files and results, other byte orders, and broken files."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
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
    shape = data.draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
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
        assert fields.keys() == {"GTcls.Segmentation"}
        np.testing.assert_array_equal(fields["GTcls.Segmentation"], SMALL)
    several = np.array([(SMALL,), (SMALL + 1,)], [("ids", object)])  # of several elements, the first
    np.testing.assert_array_equal(matlab.matrices(saved({"s": several}))[1]["s.ids"], SMALL)


def test_cells_sparse_and_complex_matrices_are_skipped() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    content = {"cells": np.array([SMALL, "x"], object), "sparse": sparse.csc_matrix(SMALL), "complex": SMALL + 1j,
               "cube": np.zeros((2, 3, 4)), "row": np.zeros((1, 9)), "empty": {}, "ids": SMALL}  # fmt: skip
    for compressed in (False, True):
        found, fields = matlab.matrices(saved(content, do_compression=compressed))
        assert found.keys() == {"ids"}
        assert fields == {}


def test_files_of_other_programs() -> None:
    """Shapes as uint32 and names in UTF-8, as in files that SciPy keeps; data of objects, in a variable without a name."""
    flags, values = element(6, struct.pack("<II", 9, 0)), element(2, SMALL.tobytes("F"))
    for shape, text in ((6, 1), (5, 16)):
        content = element(14, flags + element(shape, struct.pack("<2i", 2, 3)) + element(text, b"ids") + values)
        np.testing.assert_array_equal(matlab.matrices(file(content, variable(b"", SMALL)))[0]["ids"], SMALL)
    empty = element(14, flags + element(5, bytes(8)) + element(1, b"none") + bytes(8))  # SciPy 1.17 crashes
    assert matlab.matrices(file(empty, variable(b"ids", SMALL)))[0].keys() == {"ids"}


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
        (file(variable(b"ids", SMALL, stored=0x50002)), "an element is broken"),
        (file(variable(b"ids", SMALL, stored=14)), "a matrix has no values of a known type"),
        (file(variable(b"ids", SMALL, stored=4)), r"a matrix of 2x3 has 6 bytes of values"),
        (file(variable(b"a" * 256, SMALL)), "a name is longer than 255 bytes"),
        (file(*[variable(b"a", SMALL)] * 10_001), "has over 10,000 variables"),
        (file(element(14, element(6, b"\t\0\0\0"))), "the flags of a variable are broken"),
        (file(element(14, b"")), "an element is missing"),
        (file(struct.pack("<HH", 1, 9) + b"abcd"), "an element is broken"),
        (file(element(15, b"no zlib")), "a compressed variable is broken"),
        (file(element(15, zlib.compress(variable(b"ids", SMALL))[:-9])), "ends in a compressed variable"),
        (file(element(15, zlib.compress(variable(b"ids", SMALL))[:-4] + b"abcd")), "a compressed variable is broken"),
        (struct.pack("<5i", 40, 2, 3, 0, 4) + b"ids\0" + bytes(11), "ends in a variable"),
        (struct.pack("<5i", 90, 2, 3, 0, 4), "the header of a variable is broken"),
        (struct.pack("<5i", 50, -2, 3, 0, 4), "the header of a variable is broken"),
        (struct.pack("<3i", 50, 2, 3), "ends in a header"),
    ],
)
def test_broken_files(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matlab.matrices(content)


@pytest.mark.parametrize("kind", ["little", "big", "old", "struct", "compressed"])
def test_any_byte_may_be_wrong(kind: str) -> None:
    """SciPy 1.17 ends the interpreter at some of these."""
    order = ">" if kind == "big" else "<"
    whole = file(variable(b"ids", SMALL, order=order), variable(b"s", SMALL, 6, order=order), order=order)
    if kind == "old":
        whole = 20 * (struct.pack("<5i", 50, *SMALL.shape, 0, 4) + b"ids\0" + SMALL.tobytes("F"))
    elif kind in {"struct", "compressed"}:
        whole = saved({"ids": SMALL, "s": {"ids": SMALL}}, do_compression=kind == "compressed")
    refused = 0
    for place in range(len(whole)):
        for value in (0, 1, 2, 14, 15, 16, 127, 255):
            try:
                matlab.matrices(whole[:place] + bytes([value]) + whole[place + 1 :])
            except ValueError:
                refused += 1
    assert refused > 200
    for end in range(len(whole)):
        try:
            found, _ = matlab.matrices(whole[:end])
        except ValueError:
            continue
        assert found.keys() <= {"ids"}


def packed(start: bytes, zeros: int) -> bytes:
    """A compressed variable that ends with many zeros."""
    stream = zlib.compressobj(1)
    made = stream.compress(struct.pack("<II", 14, len(start) + zeros) + start)
    made += b"".join(stream.compress(bytes(1 << 20)) for _ in range(zeros >> 20)) + stream.flush()
    return struct.pack("<II", 15, len(made)) + made


START = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<2i", 20_000, 25_000)) + element(1, b"ids")
STRUCT = element(6, struct.pack("<II", 2, 0))


@pytest.mark.parametrize(("start", "zeros"), [
    (START + struct.pack("<II", 2, 500_000_000), 500 << 20),
    (STRUCT, 500 << 20),
    (STRUCT + element(5, bytes(8)) + element(1, b"s") + element(5, struct.pack("<i", 2)) + struct.pack("<II", 1, 80 << 20),
     80 << 20),
    (element(6, struct.pack("<II", 9, 0)) + struct.pack("<II", 5, 80 << 20), 80 << 20),
    (b"", 8 << 20),
], ids=["matrix", "struct", "names", "dimensions", "zeros"])  # fmt: skip
def test_small_files_that_want_much_are_refused_at_once(start: bytes, zeros: int) -> None:
    bomb = packed(start, zeros) if start else bytes(zeros)
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(ValueError, match=r"^$|of a struct are broken|ends in an element|missing|has over"):
            matlab.matrices(file(bomb))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
        assert time.process_time() - begin < 2
    finally:
        tracemalloc.stop()


def test_large_matrices_that_are_no_candidates_are_skipped() -> None:
    cube = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<3i", 500, 1000, 1000)) + element(1, b"features")
    found, _ = matlab.matrices(file(packed(cube + struct.pack("<II", 2, 500 << 20), 500 << 20), variable(b"ids", SMALL)))
    assert found.keys() == {"ids"}
