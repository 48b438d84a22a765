"""The images that a folder, a list or a Parquet table names, and the path of the results of each."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.cluster import stores
from fastscnn.cluster.stores import Store
from fastscnn.media import images, inputs

COLUMN = "path"


@dataclass(frozen=True)
class Source:
    """The images to segment.

    Attributes:
        results: path or address of each image -> path of its results in the output folder, without suffixes.
        left_out: a sentence about the other files in a local folder; "" if there are none.
    """

    results: dict[str, str]
    left_out: str = ""


def find(source: str, out: Store) -> Source:
    """Return the images of a source.

    Args:
        source: a folder, searched recursively; a .txt file with a path in each line, # for comments; or a .parquet file or
            folder with a column "path" of strings. Each may be an address that fsspec opens. Relative paths in a list begin
            at its folder. A path outside that folder is kept whole below the output folder, without its root or protocol, so
            that a longer list later changes no name.
        out: the output folder, whose files are not inputs.

    Raises:
        FastSCNNError: no such source, no images, a table without that column, or two images that would write the same file.
    """
    source = source if files.is_address(source) else str(files.expand(source))
    suffix = PurePosixPath(source).suffix.lower()
    if suffix in (".txt", ".parquet"):
        listed = _lines(source) if suffix == ".txt" else _column(source)
        if not listed:
            raise FastSCNNError(f"{source}: names no image.")
        folder = source.rpartition("/")[0]
        return Source(_placed(dict(_resolved(path, folder) for path in listed)))
    if not files.is_address(source):
        return _local_folder(Path(source), out)
    below = out.root.removeprefix(source.rstrip("/") + "/") + "/" if out.root.startswith(source.rstrip("/") + "/") else ""
    store = Store(source)
    found = sorted(name for name in store.names() if _is_image(name) and not (below and name.startswith(below)))
    if not found:
        raise FastSCNNError(f"{source}: contains no image ({', '.join(sorted(images.SUFFIXES))}).")
    return Source(_placed({store.at(name): name for name in found}))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in images.SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _local_folder(folder: Path, out: Store) -> Source:
    if not files.is_folder(folder):
        raise FastSCNNError(f"{folder}: no such folder; give a folder of images, a list (.txt) or a table (.parquet).")
    place = Path(out.root) if out.local else Path("out")  # the second is cut off again
    found = inputs.find([folder.absolute()], place)
    return Source({str(job.image): job.result.relative_to(place).as_posix() for job in found.jobs}, found.left_out)


def _placed(results: dict[str, str]) -> dict[str, str]:
    placed = inputs.placed({image: Path(result) for image, result in results.items()})
    return {image: result.as_posix() for image, result in placed.items()}


def _resolved(path: str, folder: str) -> tuple[str, str]:
    """Return an image of a list in `folder` as a path that holds on every node, and the path of its results."""
    if not files.is_address(path):
        path = str(files.expand(path))
        if files.is_address(folder):
            path = f"{folder}/{path}" if not path.startswith("/") else path
        else:
            path, folder = str((Path(folder) / path).absolute()), str(Path(folder).absolute())
    inside = path.startswith(folder.rstrip("/") + "/")
    kept = path.removeprefix(folder.rstrip("/") + "/") if inside else path.partition("://")[2] or path
    parts = [part for part in PurePosixPath(kept).parts if part not in ("/", "..", ".")]
    return path, "/".join(parts)


def _lines(source: str) -> list[str]:
    try:
        text = stores.read(source).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FastSCNNError(f"{source}: is not text in UTF-8; write one path in each line.") from error
    return [line for line in (line.strip() for line in text.splitlines()) if line and not line.startswith("#")]


def _column(source: str) -> list[str]:
    try:
        import pyarrow as pa
        import pyarrow.dataset as ds
    except ModuleNotFoundError as error:
        raise missing_extra(f"{source}: reading Parquet", "ray") from error
    system, place = stores.filesystem(source)
    try:
        table: Any = ds.dataset(place, format="parquet", filesystem=system)
        kinds = {field.name: field.type for field in table.schema}
        kind = kinds.get(COLUMN)
        if kind is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            columns = ", ".join(f"{name} ({type_})" for name, type_ in kinds.items())
            raise FastSCNNError(f"{source}: has the columns {columns}; a column '{COLUMN}' of strings is needed.")
        paths: list[str | None] = table.to_table(columns=[COLUMN]).column(COLUMN).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise FastSCNNError(f"{source}: is no Parquet that can be read ({reason}).") from error
    for row, path in enumerate(paths):
        if not path:
            raise FastSCNNError(f"{source}: row {row} has no path in the column '{COLUMN}'.")
    return [path for path in paths if path]


def opened(image: str) -> str | BytesIO:
    """Return an image of any file system as `Segmenter.segment` reads it. Raises FastSCNNError if it cannot be read."""
    if not files.is_address(image):
        return image
    file = BytesIO(stores.read(image))
    file.name = image  # for the sentences of errors
    return file
