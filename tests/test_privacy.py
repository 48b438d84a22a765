"""Nothing phones home: a run touches its inputs, its outputs and our own cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made.street import street

from fastscnn.media import images

WORK = """
import time, fastscnn
from fastscnn import cli
segmenter = fastscnn.Segmenter.load(backend={backend!r}, threads=1)
image, start = fastscnn.read_image("street.jpg"), time.time()
while time.time() - start < {seconds}:
    segmenter.segment(image)
    time.sleep(0.2)
assert cli.main(["segment", "street.jpg", "--out", "results", "--backend", {backend!r}, "-q"]) == 0
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with an image."""
    images.write(tmp_path / "street.jpg", street(64, 96).image)
    return tmp_path


def run(home: Path, code: str, *before: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    words = [*before, sys.executable, "-c", code]
    done = subprocess.run(words, cwd=home, env={**kept, "HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_the_home_folder_has_our_cache_only(home: Path, backend: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[backend])
    run(home, WORK.format(backend=backend, seconds=1))
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    ours = (Path("street.jpg"), Path("results"), Path(".cache/fastscnn"), Path("Library/Caches/fastscnn"))
    assert [file for file in files if not any(file.is_relative_to(place) for place in ours)] == []
    assert (home / "results/street.labels.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_run_of_40_seconds_asks_the_network_for_nothing(
    home: Path, backend: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[backend])
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs strace")
    trace = tmp_path_factory.mktemp("trace") / "trace"
    run(home, WORK.format(backend=backend, seconds=40), strace, "-f", "-qq", "-e", "trace=network", "-o", str(trace))
    called = [line for line in trace.read_text(errors="replace").splitlines()
              if re.search(r"\b(connect|sendto|sendmsg|sendmmsg)\(", line) and "AF_INET" in line]
    assert called == []


def test_a_user_may_allow_the_reports_of_onnx_runtime(home: Path) -> None:
    code = "import os; os.environ[NAME] = '0'; import fastscnn.backends; assert os.environ[NAME] == '0'"
    run(home, f"NAME = 'ORT_DISABLE_TELEMETRY'; {code}")
    run(home, "import fastscnn.backends.onnx, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'")
