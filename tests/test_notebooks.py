"""The notebooks of examples/, executed again: each cell gives the output that is stored."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.modules import loaded
from PIL import Image

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbclient and ipykernel, which the extra dev installs")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WITHOUT_PYTORCH = ["1_first_labels.ipynb"]
MOST_BYTES, MOST_WIDE = 300_000, 480


maker = loaded(ROOT / "benchmarks" / "notebooks.py")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def texts(cell: Any) -> list[str]:
    """What a cell prints and displays as text. If it varies with the machine, numbers are left out."""
    found = ["".join(output.get("text", "") or output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return [re.sub(r"\s*[\d.]+", " #", text) for text in found] if tagged(cell, "varies") else found


def images(cell: Any) -> list[Image.Image]:
    encoded = [output["data"]["image/jpeg"] for output in cell.outputs if "image/jpeg" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in encoded]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_stored(path: Path, tmp_path: Path) -> None:
    if path.name not in WITHOUT_PYTORCH:
        pytest.importorskip("torch")
    stored, fresh = nbformat.read(path, as_version=4), maker.executed(path, tmp_path)
    for before, after in zip(code_cells(stored), code_cells(fresh), strict=True):
        assert [output.text for output in after.outputs if output.get("name") == "stderr"] == [], before.source
        assert texts(before) == texts(after), before.source
        assert [image.size for image in images(before)] == [image.size for image in images(after)], before.source
        if "run/best" in before.source:
            continue  # the labels of weights that were trained here depend on the machine
        for old, new in zip(images(before), images(after), strict=True):
            assert np.abs(np.asarray(old, float) - np.asarray(new, float)).mean() < 5, before.source
    for cell in code_cells(stored):
        if tagged(cell, "alone"):  # the files that the notebook wrote are still there
            program = f"import sys\nsys.modules['fastscnn'] = None\n{cell.source}"
            done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert [done.stdout] == texts(cell), done.stderr


def test_what_is_stored_is_small_and_does_not_change_by_itself() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3"]
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_BYTES
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.language_info == {"name": "python"}  # without a version
        assert any(images(cell) for cell in code_cells(notebook))
        for cell in code_cells(notebook):
            assert cell.execution_count is None
            assert set(cell.metadata) <= {"tags"}  # no times
            assert all(image.width <= MOST_WIDE for image in images(cell))
            assert all(output.get("execution_count") is None for output in cell.outputs)
            assert all(output.get("name") != "stderr" and output.output_type != "error" for output in cell.outputs)


def test_links_between_files_are_not_dead() -> None:
    for path in NOTEBOOKS:
        links = re.findall(r"\]\(([^)#]+)\)", "".join(cell.source for cell in nbformat.read(path, as_version=4).cells))
        assert [link for link in links if not link.startswith("http") and not (FOLDER / link).exists()] == []
        assert links
