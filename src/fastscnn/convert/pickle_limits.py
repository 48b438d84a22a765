"""Pickles that would crash the interpreter or fill the memory are refused before they are read.

Their instructions are counted, without following them: values nested too deep overflow the stack of C where they are hashed or
freed, a memo index of 2 billion takes 16 GB, and a tuple that holds another one twice takes twice as long to hash. A pickle
that cannot be followed here is refused, since its reader may accept it: Python's in C takes hexadecimal numbers, `pickletools`
does not.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError

_DEEPEST = 100  # values inside one another
MAX_INSTRUCTIONS = 5_000_000  # of a pickle: a checkpoint with a long log has some 100,000
_EXPANSION = 20  # times its own size that an archive may become; PyTorch does not compress
_GET, _PUT = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_INTO = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # they fill the value below the others
_BROKEN = (ValueError, IndexError, KeyError, EOFError, OverflowError)


def check(path: Path, data: bytes, pickles: int = 1) -> None:
    """Check pickles that follow one another.

    Args:
        path: the file, for errors.
        data: its content.
        pickles: how many.

    Raises:
        FastSCNNError: values nested too deep or too often, too many instructions, a memo index out of all proportion, or a
            broken pickle.
    """
    file = io.BytesIO(data)
    try:
        for _ in range(pickles):
            depths = _Depths(path)
            for instruction, argument, _ in pickletools.genops(file):
                depths.follow(instruction, argument)
    except _BROKEN as error:
        raise broken(path, str(error)) from error


def checked_archive(path: Path, data: bytes) -> bytes:
    """Check the pickle in an archive of PyTorch, and return the archive written again.

    PyTorch finds the members of an archive in another way than Python: a file made for that has one pickle for the check, and
    another one for the reader. An archive that Python writes is the same for both.

    Args:
        path: the file, for errors.
        data: its content.

    Raises:
        FastSCNNError: as `check`; also for a TorchScript archive, or one that unpacks to far more than its size.
    """
    written = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(written, "w") as copy:
            members = {member.filename.lower(): member for member in archive.infolist()}  # PyTorch ignores case
            if any("/code/" in name for name in members):
                raise FastSCNNError(f"{path}: is a TorchScript archive, which holds code; save the state dict of its network: "
                                    "torch.save(network.state_dict(), FILE).")
            if len(members) < len(archive.infolist()):
                raise FastSCNNError(f"{path}: holds two members of one name, which is no checkpoint.")
            size = sum(member.file_size for member in members.values())
            if size > _EXPANSION * len(data):
                raise FastSCNNError(f"{path}: unpacks to {size / 1e9:.1f} GB, which is no checkpoint.")
            for name, member in members.items():
                content = archive.read(member)
                if name.rpartition("/")[2] == "data.pkl":
                    check(path, content)
                copy.writestr(member.filename, content)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, zlib.error, *_BROKEN) as error:
        raise broken(path, str(error)) from error
    return written.getvalue()


def broken(path: Path, reason: str) -> FastSCNNError:
    """Return the error for a file that cannot be read as a checkpoint, with the first line of the reason."""
    lines = reason.splitlines() or ["it ends early"]
    return FastSCNNError(f"{path}: is not a checkpoint of tensors or is truncated ({lines[0][:200]}).")


@dataclass(slots=True)
class _Value:
    """A value on the stack of a pickle or in its memo.

    Attributes:
        depth: how deep values are nested in it.
        size: how many values it holds, shared ones each time.
        used: whether it was taken out of the memo. From then on it may be in others, whose depth would not follow its own.
    """

    depth: int = 0
    size: int = 1
    used: bool = False


class _Depths:
    """Follows the stack of a pickle."""

    def __init__(self, path: Path) -> None:
        self._path, self._count = path, 0
        self._stack: list[_Value | None] = []  # None: a mark
        self._memo: dict[int, _Value] = {}

    def follow(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow the next instruction. Raises FastSCNNError where a limit is passed."""
        self._count += 1
        if self._count > MAX_INSTRUCTIONS:
            raise FastSCNNError(f"{self._path}: has over {MAX_INSTRUCTIONS:,} instructions, which is no checkpoint.")
        if instruction.name in _GET:
            self._memo[argument].used = True
            self._stack.append(self._memo[argument])
        elif instruction.name in _PUT:
            place = len(self._memo) if argument is None else argument
            if place > self._count:
                raise FastSCNNError(f"{self._path}: remembers value {place:,} of {self._count:,}, which is no checkpoint.")
            self._memo[place] = self._stack[-1] or _Value()
        elif instruction.name == "MARK":
            self._stack.append(None)
        elif instruction.name == "DUP":  # Python writes none
            raise FastSCNNError(f"{self._path}: duplicates a value (DUP), which Python never writes: it is no checkpoint.")
        else:
            self._replace(instruction)

    def _replace(self, instruction: pickletools.OpcodeInfo) -> None:
        """Replace the values that an instruction takes by those that it gives."""
        taken = [value for kind in reversed(instruction.stack_before) for value in self._take(kind)]
        made, inside = _Value(), taken
        if instruction.name in _INTO:
            *inside, made = taken
            if made.used:
                raise FastSCNNError(f"{self._path}: fills a value that is used already, such as one that holds itself, "
                                    "which is no checkpoint.")
        made.depth = max((made.depth, *(1 + value.depth for value in inside)))
        made.size += sum(value.size for value in inside)
        if made.depth > _DEEPEST:
            raise FastSCNNError(f"{self._path}: holds values nested more than {_DEEPEST} deep, which is no checkpoint.")
        if made.size > MAX_INSTRUCTIONS:
            raise FastSCNNError(f"{self._path}: holds over {MAX_INSTRUCTIONS:,} values in one, which is no checkpoint.")
        self._stack += [made] * len(instruction.stack_after)

    def _take(self, kind: object) -> list[_Value]:
        """Take values of one kind off the stack: all above a mark, the mark, or a single value."""
        if kind is pickletools.markobject:
            self._stack.pop()
            return []
        if kind is not pickletools.stackslice:
            return [self._stack.pop() or _Value()]
        taken = []
        while (value := self._stack[-1]) is not None:
            taken.append(value)
            self._stack.pop()
        return taken
