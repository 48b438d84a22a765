"""inputs: which files are meant, and where their results go."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastscnn import inputs
from fastscnn.errors import FastSCNNError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*paths: str, out: str = "out") -> dict[str, str]:
    """Image -> path of its results without suffix."""
    jobs = inputs.find([Path(path) for path in paths], Path(out))
    assert len({job.image for job in jobs}) == len(jobs)
    return {str(job.image): str(job.result) for job in jobs}


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


def test_beside() -> None:
    assert inputs.Job(Path("a.b.png"), Path("out/a.b")).beside(".labels.png") == Path("out/a.b.labels.png")


@pytest.mark.parametrize(
    ("files", "paths", "out", "message"),
    [
        (["p/notes.txt"], ["p"], "out", r"p: holds no image \(\.bmp, "),
        (["p/a.png"], ["p"], ".", "p: all its images lie in ., the folder for results"),
        (["p/a.png"], ["p"], "p", "p: all its images lie in p, the folder for results"),
        (["p/a.png", "q/a.png"], ["p", "q"], "out", "q/a.png: its results would overwrite those of p/a.png"),
        (["a.png", "a.jpg", "a.png.bmp"], ["."], "out", "its results would overwrite"),
    ],
)
def test_errors(files: list[str], paths: list[str], out: str, message: str) -> None:
    touch(*files)
    with pytest.raises(FastSCNNError, match=message):
        found(*paths, out=out)
