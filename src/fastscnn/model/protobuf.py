"""Read the wire format of protobuf, in which ONNX files are stored, without the `onnx` package.

Time and memory are in proportion to the bytes that are there, whatever sizes they declare. What other parsers might read
otherwise is refused, so that a backend gets the file that was checked.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_MOST_FIELDS = 2_000_000  # a segmentation network of 5,000 operators has about 100,000

Field = tuple[int, int, int]  # tag, and where the content starts and ends


class WireError(ValueError):
    """Bytes that are not a protobuf message."""


class Reader:
    """Reads the fields of a message, and of the messages in it.

    Args:
        data: the bytes.
        most: number of fields that are read in all.
    """

    def __init__(self, data: bytes, most: int = _MOST_FIELDS) -> None:
        self.data, self._left = data, most

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """Yield the fields of the message at a place, in order; messages in it are one field.

        A tag is 8 times the field's number, plus its wire type.

        Raises:
            WireError: not a message, truncated, or too many fields.
        """
        data, place, end = self.data, start, len(self.data) if end is None else end
        count = 0
        for count in range(self._left + 1):  # noqa: B007 - read after the loop
            if place >= end:
                break
            tag, start = data[place], place + 1
            # The common cases: a tag of one byte, with a length of up to two bytes or a value of one byte.
            if not 8 <= tag < 0x80 or start >= end:
                tag, start, place = self._field(place, end)
            elif tag & 7 == BYTES and (size := data[start]) < 0x80:
                start += 1
                place = start + size
            elif tag & 7 == BYTES and start + 1 < end and (high := data[start + 1]) < 0x80:
                start += 2
                place = start + size - 0x80 + (high << 7)
            elif tag & 7 == VARINT and data[start] < 0x80:
                place = start + 1
            else:
                tag, start, place = self._field(place, end)
            if place > end:
                raise WireError("a truncated field")
            yield tag, start, place
        else:
            raise WireError("too many fields")
        self._left -= count

    def _field(self, place: int, end: int) -> Field:
        tag, start = self.varint(place, end)
        if not 8 <= tag < 1 << 32:  # other parsers drop the bits above, and see another field
            raise WireError(f"the field number {tag >> 3}")
        kind = tag & 7
        if kind == VARINT:
            return tag, start, self.varint(start, end)[1]
        if kind == BYTES:
            length, start = self.varint(start, end)
            return tag, start, start + length
        if kind in (FIXED64, FIXED32):
            return tag, start, start + (8 if kind == FIXED64 else 4)
        raise WireError(f"the wire type {kind}")

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """Return the unsigned integer of at most 64 bits at a place, and the place after it. Raises WireError."""
        value = 0
        for shift, byte in enumerate(self.data[place : min(place + 10, end)]):
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, place + shift + 1
        raise WireError("no integer of variable length")

    def integers(self, start: int, end: int, most: int | None = None) -> list[int]:
        """Return the signed integers of 64 bits from one place to another, the first `most` of them. Raises WireError."""
        values = list[int]()
        while start < end and len(values) != most:
            value = self.data[start]
            if value < 0x80:
                start += 1
            else:
                value, start = self.varint(start, end)
            values.append(value - (value >> 63 << 64))
        return values
