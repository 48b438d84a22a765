"""Small changes of valid files. Equal random generators give equal changes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

_NUMBERS = ("0", "-1", "1", "255", "256", "65536", "2147483648", "9223372036854775808", "1e308", "1e999", "-0.0", "0.5",
            "NaN", "-Infinity", "true", "null", "[]", "{}", '""', "9" * 5000, "0x10", "1_0")  # fmt: skip
_TEXTS = ("", " ", "\0", "..", "/", "*", "**", "{stem}", "{9}", "ignore", "é", "e\u0301", "\ud800", "\x1b[31m", "a" * 300, "~",
          "\ufeff", "\u2028", "1", "-1", "٣", "²")  # fmt: skip
_BYTES = (b"\0", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\n", b"\r\n", b"\xef\xbb\xbf",
          b"\xff\xfe", b'"', b"'", b"[", b"{", b"[" * 200, b"(", b"\\", b":", b",", b" " * 50, b"#", b"=")  # fmt: skip
_TYPES: tuple[Any, ...] = (None, True, -1, 10**400, 0.5, "", "a", [], [[]], [0, "a"], {}, {"a": []})
_LONGEST = 100_000  # bytes that are changed again
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(rb'"[^"\n]*"')


def mutated(data: bytes, random: Random) -> bytes:
    """Return `data` with one to four changes, of JSON where it is JSON."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if len(data) > _LONGEST:  # repeated repetitions would take all memory
            break
        change = random.choice((_of_json, _of_json, _of_tokens, _of_lines, _of_bytes))
        data = change(data, random)
    return data


def retyped(data: bytes) -> Iterator[bytes]:
    """Yield JSON with one value after the other replaced by values of other types; nothing if `data` is no JSON."""
    try:
        table = json.loads(data)
    except ValueError:
        return
    for holder, key in list(_places(table)):
        value = holder[key]
        for other in _TYPES:
            holder[key] = other
            yield json.dumps(table).encode()
        holder[key] = value


def _of_json(data: bytes, random: Random) -> bytes:
    """Replace, remove, copy or wrap one value."""
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return _of_tokens(data, random)
    places = list(_places(table))
    if not places:
        return _of_bytes(data, random)
    holder, key = random.choice(places)
    match random.randrange(5):
        case 0:
            holder[key] = random.choice((*_TEXTS, None, True, 0, -1, 0.5, 1e308, float("nan"), 1 << 63, 10**30, [], {}, [[]]))
        case 1:
            del holder[key]
        case 2:
            other, at = random.choice(places)
            holder[key] = json.loads(json.dumps(other[at]))
        case 3:
            holder[key] = [holder[key]] * random.choice((1, 2, 9))
        case _ if isinstance(holder, dict):
            holder[random.choice((*_TEXTS, *map(str, holder)))] = holder.pop(key)
        case _:
            random.shuffle(holder)
    return json.dumps(table, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _places(table: Any) -> Any:
    """Yield (object or list, key or index) of each value inside a JSON value."""
    inside = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in list(inside):
        yield table, key
        yield from _places(value)


def _of_tokens(data: bytes, random: Random) -> bytes:
    """Replace a number, or a text in quotes."""
    pattern, values = random.choice(((_NUMBER, _NUMBERS), (_QUOTED, tuple(json.dumps(text) for text in _TEXTS))))
    found = list(pattern.finditer(data))
    if not found:
        return _of_bytes(data, random)
    match = random.choice(found)
    value = random.choice((*values, random.choice(found)[0].decode("latin1")))
    return data[: match.start()] + value.encode("latin1") + data[match.end() :]


def _of_lines(data: bytes, random: Random) -> bytes:
    """Remove, repeat or exchange lines."""
    lines = data.split(b"\n")
    place, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(other, lines[place])
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case _:
            lines[place] *= random.choice((2, 10, 100))
    return b"\n".join(lines)


def _of_bytes(data: bytes, random: Random) -> bytes:
    """Change, remove, repeat or insert bytes."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((1, 1, 2, 4, 8, 64)))
    part: Callable[[], bytes] = random.choice((
        lambda: b"",
        lambda: data[start:end] * random.choice((2, 3, 50)),
        lambda: random.choice(_BYTES),
        lambda: random.choice(_BYTES) + data[start:end],
        lambda: random.randbytes(end - start),
        lambda: bytes(byte ^ 1 << random.randrange(8) for byte in data[start : start + 1]) + data[start + 1 : end],
    ))
    return data[:start] + part() + data[end:]
