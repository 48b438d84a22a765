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
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError

_DEEPEST = 100  # values inside one another
_MOST_INSTRUCTIONS = 5_000_000  # of a pickle: a checkpoint with a long log has some 100,000
_EXPANSION = 20  # times its own size that an archive may become; PyTorch does not compress
_GET, _PUT = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_INTO = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # they fill the value below the others
_ONE = (0, 1)  # depth and size of a value without others in it
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


class _Depths:
    """How deep each value on the stack of a pickle is nested, and how many values it holds, shared ones each time."""

    def __init__(self, path: Path) -> None:
        self._path, self._count = path, 0
        self._stack: list[tuple[int, int] | None] = []  # depth and size; None: a mark
        self._memo: dict[int, tuple[int, int]] = {}

    def follow(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow the next instruction. Raises FastSCNNError where a limit is passed."""
        self._count += 1
        if self._count > _MOST_INSTRUCTIONS:
            raise FastSCNNError(f"{self._path}: has over {_MOST_INSTRUCTIONS:,} instructions, which is no checkpoint.")
        if instruction.name in _GET:
            self._stack.append(self._memo[argument])
        elif instruction.name in _PUT:
            place = len(self._memo) if argument is None else argument
            if place > self._count:
                raise FastSCNNError(f"{self._path}: remembers value {place:,} of {self._count:,}, which is no checkpoint.")
            self._memo[place] = self._stack[-1] or _ONE
        elif instruction.name == "MARK":
            self._stack.append(None)
        else:
            self._replace(instruction)

    def _replace(self, instruction: pickletools.OpcodeInfo) -> None:
        """Replace the values that an instruction takes by those that it gives."""
        taken = [value for kind in reversed(instruction.stack_before) for value in self._take(kind)]
        depths, size = [depth for depth, _ in taken], 1 + sum(size for _, size in taken)
        depth = 1 + max(depths, default=0)
        if instruction.name in _INTO:
            depth = max(depths[-1], 1 + max(depths[:-1], default=0))
        if depth > _DEEPEST:
            raise FastSCNNError(f"{self._path}: holds values nested more than {_DEEPEST} deep, which is no checkpoint.")
        if size > _MOST_INSTRUCTIONS:
            raise FastSCNNError(f"{self._path}: holds over {_MOST_INSTRUCTIONS:,} values in one, which is no checkpoint.")
        self._stack += [(depth, size)] * len(instruction.stack_after)

    def _take(self, kind: object) -> list[tuple[int, int]]:
        """Take values of one kind off the stack: all above a mark, the mark, or a single value."""
        if kind is pickletools.markobject:
            self._stack.pop()
            return []
        if kind is not pickletools.stackslice:
            return [self._stack.pop() or _ONE]
        taken = []
        while (value := self._stack[-1]) is not None:
            taken.append(value)
            self._stack.pop()
        return taken
