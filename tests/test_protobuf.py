"""The reader of protobuf's wire format: any bytes are read or refused, in bounded time and memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import onnx_graph
from fastscnn.model.protobuf import Reader, WireError


def test_every_wire_type() -> None:
    short = [b"\x08\x96\x01", b"\x11" + bytes(8), b"\x1a\x03abc", b"\x25" + bytes(4), b"\xd2\x01\x00"]
    data = b"".join(short) + b"\x22\x80\x01" + bytes(128)
    assert list(Reader(data).fields()) == [
        (0x08, 1, 3), (0x11, 4, 12), (0x1A, 14, 17), (0x25, 18, 22), (0xD2, 25, 25), (0x22, 28, 156),
    ]  # fmt: skip
    assert Reader(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x96\x01").integers(0, 13) == [1, -1, 150]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00", b"\x02\x00",  # field number 0
        b"\x0b", b"\x0c",  # groups
        b"\x0f",  # a wire type that does not exist
        b"\x08", b"\x0a", b"\x0a\x02a", b"\x0d\0\0\0", b"\x09\0", b"\x0a\x80", b"\x0a\x80\x01", b"\x08" + b"\xff" * 10,
        b"\xba\x80\x80\x80\x10\x00",  # field 7 with a bit above 32: other parsers would see field 7
    ],
)  # fmt: skip
def test_damage(data: bytes) -> None:
    with pytest.raises(WireError):
        list(Reader(data).fields())


def test_a_message_ends_where_its_parent_says() -> None:
    with pytest.raises(WireError, match="truncated"):
        list(Reader(b"\x0a\x03abc").fields(0, 4))


def test_the_number_of_fields_is_limited_in_all() -> None:
    reader = Reader(b"\x0a\x00" * 10, most=25)
    assert len(list(reader.fields())) == 10
    assert len(list(reader.fields())) == 10
    with pytest.raises(WireError, match="too many fields"):
        list(reader.fields())


_FIELDS = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(st.tuples(st.sampled_from([0x0A, 0x12, 0x22, 0x2A, 0x3A, 0x4A, 0x72]), inner), max_size=4).map(
        lambda parts: b"".join(bytes([tag, len(part)]) + part for tag, part in parts if len(part) < 0x80)
    ),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=200), _FIELDS))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    tracemalloc.start()
    start = process_time()
    with suppress(FastSCNNError):
        onnx_graph.check(Path("a.onnx"), data)
    seconds, peak = process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 2**20
