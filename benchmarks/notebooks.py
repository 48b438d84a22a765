"""Execute the notebooks of examples/notebooks and store their outputs. Needs the extra `dev`.

    python benchmarks/notebooks.py [NOTEBOOK ...]

Images are stored as JPEG files of at most 480 pixels a row, so that the notebooks stay small. tests/test_notebooks.py executes
the notebooks again and compares the outputs. Numbers of a cell with the tag `varies` depend on the
machine. A cell with the tag `alone` needs neither fastscnn nor the cells before it, but their files.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
WIDTH, QUALITY = 480, 80  # of stored images


def executed(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with fresh outputs as they are stored. It runs in `folder`; an error in a cell is raised."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False,
                            coalesce_streams=True, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_small(output) for output in cell.outputs]
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    return notebook


def _small(output: NotebookNode) -> NotebookNode:
    """Return an output without its number, and with its image as a small JPEG file."""
    if "execution_count" in output:
        output.execution_count = None
    data = output.get("data", {})
    encoded = data.pop("image/png", None) or data.get("image/jpeg")
    if encoded:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            shown = image.convert("RGB")
        shown.thumbnail((WIDTH, 10 * WIDTH))
        jpeg = io.BytesIO()
        shown.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
        data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()
    return output


def main(names: list[str]) -> None:
    """Store the outputs of these notebooks; of all, without names."""
    for path in [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
