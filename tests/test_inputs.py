"""inputs: which files are meant, and where their results go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.media import images, inputs


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*paths: str, out: str = "out") -> dict[str, str]:
    """Image -> path of its results without suffix."""
    jobs = inputs.find([Path(path) for path in paths], Path(out)).jobs
    assert len({job.image for job in jobs}) == len(jobs)
    return {str(job.image): str(job.result) for job in jobs}


def left_out(*paths: str) -> str:
    """The sentence about what is left out."""
    return inputs.find([Path(path) for path in paths], Path("out")).left_out


@pytest.mark.parametrize(
    ("files", "paths", "expected"),
    [
        (["a.png"], ["a.png"], {"a.png": "out/a"}),
        ([], ["gone.png"], {"gone.png": "out/gone"}),
        (["a.xyz"], ["a.xyz"], {"a.xyz": "out/a"}),
        (["p/a.b.png"], ["p/a.b.png"], {"p/a.b.png": "out/a.b"}),
        (["p/b.JPG", "p/a.jpeg", "p/notes.txt", "p/c.labels"], ["p"], {"p/a.jpeg": "out/a", "p/b.JPG": "out/b"}),
        (["p/x/y/a.tif", "p/a.webp"], ["p"], {"p/a.webp": "out/a", "p/x/y/a.tif": "out/x/y/a"}),
        (["p/a.png", "p/a.jpg", "p/b.png"], ["p"], {"p/a.jpg": "out/a.jpg", "p/a.png": "out/a.png", "p/b.png": "out/b"}),
        (["p/a.png", "q/a.jpg"], ["p", "q"], {"p/a.png": "out/a.png", "q/a.jpg": "out/a.jpg"}),
        (["p/a.png", "q/b.png"], ["q", "p/a.png"], {"q/b.png": "out/b", "p/a.png": "out/a"}),
        (["p/a.png", "b.png"], ["p", "p", "./p/a.png"], {"p/a.png": "out/a"}),
        (["a.png", "out/a.overlay.jpg", "out/x/b.png"], ["."], {"a.png": "out/a"}),
        (["p/out/a.png"], ["p"], {"p/out/a.png": "out/out/a"}),
        (["out/a.png"], ["out/a.png"], {"out/a.png": "out/a"}),
    ],
)
def test_find(files: list[str], paths: list[str], expected: dict[str, str]) -> None:
    touch(*files)
    assert found(*paths) == expected
    assert list(found(*paths)) == list(expected), "the order of the arguments, sorted within a folder"


def test_a_folder_named_as_an_image_is_a_folder() -> None:
    touch("p/a.png/b.png")
    assert found("p") == {"p/a.png/b.png": "out/a.png/b"}


def test_the_folder_of_results_is_known_by_any_name(tmp_path: Path) -> None:
    touch("p/a.png", "p/seen/a.overlay.jpg")
    assert list(found("p", out=str(tmp_path / "p" / "x" / ".." / "seen"))) == ["p/a.png"]


Pairs = dict[str, str | None]  # image -> its thermal file, None where none belongs to it


@pytest.mark.parametrize(
    ("files", "paths", "thermal", "expected"),
    [
        (["a.png", "t/b.tif"], ["a.png"], "t/b.tif", {"a.png": "t/b.tif"}),
        (["a.png", "b.png"], ["a.png", "b.png"], "b.png", {"a.png": "b.png"}),
        (["r/a.jpg", "r/b.JPG", "t/a.PNG", "t/b.tif", "t/c.png"], ["r"], "t", {"r/a.jpg": "t/a.PNG", "r/b.JPG": "t/b.tif"}),
        (["r/a.jpg", "t/a.txt", "t/a.b.png"], ["r"], "t", {"r/a.jpg": None}),
        (["r/a.b.jpg", "t/a.c.png", "t/a.b.png"], ["r"], "t", {"r/a.b.jpg": "t/a.b.png"}),
        (["r/x/1.png", "r/y/1.png", "t/x/1.png", "t/y/1.png"], ["./r"], "t",
         {"r/x/1.png": "t/x/1.png", "r/y/1.png": "t/y/1.png"}),
        (["r/x/1.png", "r/y/2.png", "t/z/1.png", "t/2.png"], ["r"], "t", {"r/x/1.png": "t/z/1.png", "r/y/2.png": "t/2.png"}),
        # by name alone, only where it is one image's and one file's: frames of two drives bear the same numbers
        (["r/x/1.png", "r/y/1.png", "t/y/1.png"], ["r"], "t", {"r/x/1.png": None, "r/y/1.png": "t/y/1.png"}),
        (["r/x/1.png", "t/y/1.png", "t/z/1.png"], ["r"], "t", {"r/x/1.png": None}),
        (["r/x/1.png", "t/x/1.png", "t/z/1.png"], ["r"], "t", {"r/x/1.png": "t/x/1.png"}),
        (["r/1.png", "t/1.png", "t/1.tif", "t/x/1.png"], ["r"], "t", {"r/1.png": None}),
        (["r/1.png", "r/1.jpg", "t/1.tif"], ["r"], "t", {"r/1.jpg": "t/1.tif", "r/1.png": "t/1.tif"}),
        (["r/x/1.png", "t/1.png"], ["r/x/1.png"], "t", {"r/x/1.png": "t/1.png"}),
        (["r/x/1.png", "t/x/1.png"], ["r/x/1.png"], "t", {"r/x/1.png": "t/x/1.png"}),
        # what lies in the thermal folder is no image
        (["p/a.png", "p/t/a.png"], ["p"], "p/t", {"p/a.png": "p/t/a.png"}),
        (["p/a.png", "p/t/a.png"], ["p/a.png", "p/t/a.png"], "p/t", {"p/a.png": "p/t/a.png"}),
        (["r/a.png", "t/a.png"], ["r", "t"], "t", {"r/a.png": "t/a.png"}),
        (["r/a.png", "t/a.png", "out/b.overlay.png"], ["."], "t", {"r/a.png": "t/a.png"}),
    ],
)
def test_thermal_files(files: list[str], paths: list[str], thermal: str, expected: Pairs) -> None:
    touch(*files)
    jobs = inputs.find([Path(path) for path in paths], Path("out"), Path(thermal)).jobs
    assert {str(job.image): str(job.extra_channels[0]) if job.extra_channels else None for job in jobs} == expected
    for job in jobs:
        assert job.fault == "" if job.extra_channels else job.fault.startswith(f"{job.image}: ")


def test_what_keeps_an_image_from_its_thermal_file() -> None:
    touch("r/x/1.png", "r/2.png", "t/1.png", "t/y/1.png", "t/2.tif", "t/2.png", "r/x/3.png")
    faults = [job.fault for job in inputs.find([Path("r")], Path("out"), Path("t")).jobs]
    assert faults == [
        "r/2.png: both t/2.png and t/2.tif could be its thermal file; keep one of them.",
        "r/x/1.png: both t/1.png and t/y/1.png could be its thermal file; keep one of them.",
        "r/x/3.png: has no thermal file named 3 in t/x; add it or remove the image.",
    ]


def test_links_lie_where_they_stand() -> None:
    """Data sets that are kept by content are folders of links into one store."""
    touch("store/1.png", "store/2.png")
    for folder, target in (("p", "1.png"), ("p/t", "2.png")):
        Path(folder).mkdir()
        Path(folder, "a.png").symlink_to(Path("store", target).resolve())
    (job,) = inputs.find([Path("p")], Path("out"), Path("p/t")).jobs
    assert (job.image, job.extra_channels) == (Path("p/a.png"), (Path("p/t/a.png"),))
    (job,) = inputs.find([Path("p")], Path("out"), Path("p/t/a.png")).jobs
    assert (job.image, job.extra_channels) == (Path("p/a.png"), (Path("p/t/a.png"),))


@pytest.mark.parametrize(
    ("files", "paths", "thermal", "message"),
    [
        (["a.png"], ["a.png"], "t", "t: no such file or folder of thermal images"),
        (["a.png", "t/a.txt"], ["a.png"], "t", r"t: contains no thermal image \(\.apng, "),
        (["a.png", "b.png", "c.png"], ["a.png", "b.png"], "c.png", "c.png: one thermal file for 2 images; give a folder"),
        (["t/a.png"], ["t"], "t", "t: all given images are thermal ones"),
        (["t/r/a.png"], ["t/r"], "t", "t: all given images are thermal ones"),
        (["a.png"], ["a.png"], "a.png", "a.png: all given images are thermal ones"),
        (["a.png"], [], "a.png", "a.png: all given images are thermal ones"),
    ],
)
def test_wrong_thermal_files(files: list[str], paths: list[str], thermal: str, message: str) -> None:
    touch(*files)
    with pytest.raises(FastSCNNError, match=message):
        inputs.find([Path(path) for path in paths], Path("out"), Path(thermal))


def test_a_folder_of_videos_is_told_from_one_without_anything() -> None:
    touch("p/x/b.MTS", "p/a.mp4.txt")
    with pytest.raises(FastSCNNError, match=r"^p: contains no image .* Left out .*: 1 video \(give it by name\), p/x/b\.MTS"):
        found("p")


@pytest.mark.parametrize("name", ["a.mp4", "a.MTS", "a.m2ts", "a.3gp", "a.wmv", "a.flv", "a.mpeg"])
def test_videos_are_known_by_their_suffix(name: str) -> None:
    assert inputs.is_video(Path(name))
    Path(name).mkdir()
    assert not inputs.is_video(Path(name)), "a folder"
    assert not inputs.is_video(Path("mp4"))


def test_beside() -> None:
    assert inputs.Job(Path("a.b.png"), Path("out/a.b")).beside(".labels.png") == Path("out/a.b.labels.png")


@pytest.mark.parametrize(
    ("files", "paths", "out", "message"),
    [
        (["p/notes.txt"], ["p"], "out", r"p: contains no image \(\.apng, .*\)\. Left out .*: 1 file .*, p/notes\.txt\.$"),
        (["p/a.png"], ["p"], ".", "p: all its images are in ., the output folder"),
        (["p/a.png"], ["p"], "p", "p: all its images are in p, the output folder"),
        (["p/a.png", "q/a.png"], ["p", "q"], "out", "q/a.png: its results would overwrite those of p/a.png"),
        (["a.png", "a.jpg", "a.png.bmp"], ["."], "out", "its results would overwrite"),
    ],
)
def test_errors(files: list[str], paths: list[str], out: str, message: str) -> None:
    touch(*files)
    with pytest.raises(FastSCNNError, match=message):
        found(*paths, out=out)


def test_every_format_of_photographs_is_found_in_any_case() -> None:
    names = {f"p/{suffix[1:]}{suffix.upper()}" for suffix in images.SUFFIXES}
    touch(*names, "p/a.eps", "p/a.heic", "p/a.svg", "p/a.ico", "p/Thumbs.db")
    assert set(found("p")) == names
    assert {".jfif", ".jpe", ".avif", ".gif", ".jp2", ".j2k", ".pgm", ".pbm", ".pnm", ".tga", ".dib"} < images.SUFFIXES
    assert left_out("p") == (
        "Left out of the folders: 4 files that are not images that can be read, such as p/a.eps.")


def test_hidden_files_and_folders_are_skipped() -> None:
    touch("p/a.png", "p/._a.png", "p/.ipynb_checkpoints/a.png", "p/.DS_Store", "p/x/.cache/b.png")
    assert list(found("p")) == ["p/a.png"]
    assert left_out("p") == (
        "Left out of the folders: 3 hidden files and folders, such as p/._a.png.")
    touch(".hidden/a.png")
    assert list(found(".hidden", "p/._a.png")) == [".hidden/a.png", "p/._a.png"], "given by name"


def test_linked_folders_are_followed_once() -> None:
    """Loops end, and what is reached twice keeps its own place."""
    touch("nas/day1/b.png", "drive/day0/a.png", "nas/c.png")
    for link, target in {"day1": "nas/day1", "a_loop": "drive", "again": "drive/day0", "c.png": "nas/c.png",
                         "d.png": "nas/c.png", "gone.png": "nowhere.png"}.items():
        Path("drive", link).symlink_to(Path(target).resolve())
    assert found("drive") == {
        "drive/c.png": "out/c", "drive/day0/a.png": "out/day0/a", "drive/day1/b.png": "out/day1/b"}
    assert left_out("drive") == (
        "Left out of the folders: 3 links to what is listed already, such as drive/a_loop; "
        "1 pipe, device or broken link, drive/gone.png.")


def test_the_folder_of_results_is_not_entered_by_a_link() -> None:
    touch("p/a.png", "out/b.png", "out/notes.txt")
    Path("p/results").symlink_to(Path("out").resolve())
    assert list(found("p")) == ["p/a.png"]
    assert left_out("p") == ""


def test_pipes_are_left_out() -> None:
    touch("p/a.png")
    os.mkfifo("p/b.png")
    assert list(found("p")) == ["p/a.png"]
    assert left_out("p", "q.png") == (
        "Left out of the folders: 1 pipe, device or broken link, p/b.png.")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can open every folder")
def test_folders_that_cannot_be_opened_are_named() -> None:
    touch("p/a.png", "p/x/b.png")
    Path("p/x").chmod(0)
    assert list(found("p")) == ["p/a.png"]
    assert "1 folder that cannot be opened, p/x" in left_out("p")
    Path("p/x").chmod(0o700)


def test_several_kinds_in_several_folders() -> None:
    touch("p/a.png", "p/b.mp4", "q/c.png", "q/d.MOV", "q/notes.txt")
    assert left_out("p", "q", "p/a.png") == (
        "Left out of the folders: 2 videos (give them by name), such as p/b.mp4; "
        "1 file that is not an image that can be read, q/notes.txt.")


def test_each_folder_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(f"p/x{folder}/{name}.png" for folder in range(3) for name in range(4)), "p/notes.txt", "out/a.png")
    seen: list[str] = []
    scan = os.scandir

    def note(place: Path) -> object:
        seen.append(str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", note)
    found = inputs.find([Path("p")], Path("out"))
    assert (len(found.jobs), sorted(seen)) == (12, ["p", "p/x0", "p/x1", "p/x2"])
    assert "1 file that is not an image that can be read, p/notes.txt" in found.left_out


def test_paths_are_resolved_once_for_each_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(f"p/x{folder}/{name}.png" for folder in range(3) for name in range(50)), "p/x0/t/0.png", "t/0.png")
    seen: list[str] = []
    resolve = os.path.realpath

    def note(place: Path, **more: bool) -> str:
        seen.append(str(place))
        return resolve(place, **more)

    monkeypatch.setattr(os.path, "realpath", note)
    assert len(inputs.find([Path("p")], Path("out"), Path("t")).jobs) == 151
    assert len(seen) < 20


def test_what_is_reached_in_the_folder_of_results_is_no_input() -> None:
    touch("p/a.png", "out/sub/deep/b.png", "out/c.png")
    Path("p/link").symlink_to(Path("out/sub").resolve())
    Path("p/c.png").symlink_to(Path("out/c.png").resolve())  # a link is where it is itself
    assert list(found("p")) == ["p/a.png", "p/c.png"]
    with pytest.raises(FastSCNNError, match="out/sub: all its images are in out, the output folder"):
        found("out/sub")
    assert list(found("out/sub", out="out/other")) == ["out/sub/deep/b.png"]
    assert list(found("out/sub", out="out/su")) == ["out/sub/deep/b.png"], "a name that begins like the folder"
