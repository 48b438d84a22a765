"""Files in tar archives: every kind of archive, and every kind of damage."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from fastscnn.base import archives
from fastscnn.base.errors import FastSCNNError

LONG = f"{'folder/' * 20}{'name' * 30}.jpg"
CONTENTS = {"a.jpg": b"a" * 700, "a.png": b"", "b.jpg": b"b" * 512, "deep/ü.jpg": b"c", LONG: b"d" * 1500}


def pack(path: Path, contents: Mapping[str, bytes] = CONTENTS, kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_files_are_read_as_they_were_packed(tmp_path: Path, kind: int) -> None:
    archive = pack(tmp_path / "0.tar", kind=kind)
    assert list(archives.names(archive)) == list(CONTENTS)
    assert archives.problem(archive) == ""
    for name, content in CONTENTS.items():
        assert archives.read(archive / name) == content
        with archives.opened(archive / name) as file:
            assert file.read() == content
        assert archives.is_member(archive / name)
    assert archives.beside(archive / "deep") == [archive / "deep/ü.jpg"]
    assert archives.beside(archive) == [archive / name for name in ("a.jpg", "a.png", "b.jpg")]


def test_what_is_in_no_archive(tmp_path: Path) -> None:
    archive = pack(tmp_path / "0.tar")
    folder = tmp_path / "folder.tar"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"plain")
    assert archives.read(folder / "a.jpg") == b"plain"
    assert archives.read(archive) == archive.read_bytes()
    for path in (folder / "a.jpg", folder / "b.jpg", archive, archive / "c.jpg", tmp_path / "none.tar" / "a.jpg"):
        assert not archives.is_member(path)
    assert archives.member(archive) is archives.member(folder / "a.jpg") is None
    assert archives.beside(folder) == []
    with pytest.raises(FileNotFoundError):
        archives.read(archive / "c.jpg")
    with pytest.raises(FileNotFoundError):
        archives.read(tmp_path / "none.tar" / "a.jpg")


@pytest.mark.skipif(not shutil.which("tar"), reason="needs the command tar")
def test_archives_of_the_command_tar(tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    subprocess.run(["tar", "-cf", tmp_path / "0.tar", "-C", tmp_path / "files", "."], check=True)
    assert sorted(archives.names(tmp_path / "0.tar")) == sorted(CONTENTS)
    assert archives.problem(tmp_path / "0.tar") == ""
    assert all(archives.read(tmp_path / "0.tar" / name) == content for name, content in CONTENTS.items())


def test_an_archive_that_is_cut_anywhere(tmp_path: Path) -> None:
    """The files before the cut are read, no other is, and the archive is found to be damaged."""
    data = pack(tmp_path / "whole.tar").read_bytes()
    end = data.rstrip(b"\0")
    first_zeros = -(-len(end) // 512) * 512
    archive = tmp_path / "0.tar"
    for cut in range(0, first_zeros + 512, 100):
        archive.write_bytes(data[:cut])
        os.utime(archive, ns=(cut, cut))
        found = list(archives.names(archive))
        assert found == list(CONTENTS)[: len(found)]
        assert all(archives.read(archive / name) == CONTENTS[name] for name in found)
        where = f"after {found[-1]!r}" if found else "at its beginning"
        assert archives.problem(archive) == f"{archive}: is truncated or damaged {where}; copy it again, or pack it again."
    archive.write_bytes(data[: first_zeros + 512])
    assert archives.problem(archive) == ""


def test_damaged_headers(tmp_path: Path) -> None:
    """A changed byte of a header and a header of zeros, which tarfile alone takes for the end of the archive."""
    data = pack(tmp_path / "whole.tar", {f"{number}.jpg": b"x" * 600 for number in range(5)}).read_bytes()
    headers = range(0, 5 * 1536, 1536)
    assert [data[place : place + 5] for place in headers] == [f"{number}.jpg".encode() for number in range(5)]
    random = np.random.default_rng(0)
    for number, header in enumerate(headers):
        for trial in range(20):
            changed = bytearray(data)
            if trial:
                changed[header + int(random.integers(512))] ^= int(random.integers(1, 256))
            else:
                changed[header : header + 512] = bytes(512)
            archive = tmp_path / f"{number}-{trial}.tar"
            archive.write_bytes(changed)
            assert list(archives.names(archive)) == [f"{before}.jpg" for before in range(number)], trial
            assert "is truncated or damaged" in archives.problem(archive)


def test_a_negative_size_ends(tmp_path: Path) -> None:
    """tarfile may read such an archive for ever (CVE-2025-8194)."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    first = pack(tmp_path / "0.tar", {"0.jpg": b"0"}).read_bytes()[:1024]
    (tmp_path / "0.tar").write_bytes(first + header + bytes(2048))
    assert list(archives.names(tmp_path / "0.tar")) == ["0.jpg"]
    assert "is truncated or damaged after '0.jpg'" in archives.problem(tmp_path / "0.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_refused(tmp_path: Path, kind: bytes) -> None:
    """WebDataset would leave them out without a word."""
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
        entry = tarfile.TarInfo("b.jpg")
        entry.type, entry.linkname = kind, "a.jpg"
        tar.addfile(entry)
    assert list(archives.names(tmp_path / "0.tar")) == ["a.jpg"]
    assert "0.tar: contains 'b.jpg', which is a link or a special file" in archives.problem(tmp_path / "0.tar")


@pytest.mark.parametrize(("names", "said"), [
    (("a.jpg", "./a.jpg"), "contains 'a.jpg' twice"),
    (("../a.jpg",), "contains '../a.jpg' outside of it"),
    (("/etc/a.jpg",), "contains '/etc/a.jpg' outside of it"),
])  # fmt: skip
def test_names_that_cannot_be_used(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    assert said in archives.problem(tmp_path / "0.tar")


@pytest.mark.parametrize(("kind", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_archives_are_refused(tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "0.tar").write_bytes(compress(pack(tmp_path / "whole.tar").read_bytes()))
    assert f"0.tar: is compressed ({kind}), so that no file in it can be read by itself; decompress it." in archives.problem(
        tmp_path / "0.tar")


def test_an_archive_that_changes(tmp_path: Path) -> None:
    archive = pack(tmp_path / "0.tar", {"a.jpg": b"old"})
    found = archives.member(archive / "a.jpg")
    assert found is not None
    os.utime(pack(archive, {"b.jpg": b"other", "a.jpg": b"new"}), ns=(1, 1))
    assert archives.read(archive / "a.jpg") == b"new"
    archive.write_bytes(b"")
    with pytest.raises(FastSCNNError, match=r"0\.tar: became shorter while it was read"):
        found.read()


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="needs a user whose rights count")
def test_an_archive_that_may_not_be_read(tmp_path: Path) -> None:
    archive = pack(tmp_path / "0.tar")
    archive.chmod(0)
    with pytest.raises(FastSCNNError, match=r"0\.tar: cannot be read \(Permission denied\)"):
        archives.names(archive)
