"""Target ncnn: its files in ncnn, compared with our labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made import mobile

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.agreement import compare
from fastscnn.exporting.targets.ncnn import TARGET
from fastscnn.model.card import Card

ncnn = pytest.importorskip("ncnn", reason="needs ncnn (docs/deploy.md)")
pnnx = pytest.importorskip("pnnx", reason="needs pnnx (docs/deploy.md)")

SIZE = (96, 160)


def loaded(file: Path) -> Any:
    return TARGET.load and TARGET.load(file, mobile.reference().card)


@pytest.mark.parametrize(("precision", "difference"), [("float32", 1e-3), ("float16", 0.5)])
def test_it_agrees(precision: str, difference: float, tmp_path: Path) -> None:
    exported, file = mobile.bundled_export(SIZE, precision), tmp_path / "model.param"
    TARGET.write(exported, file)
    found = compare(mobile.reference(), loaded(file), exported.form)
    assert found.passed
    assert found.logit_difference is not None
    assert found.logit_difference < difference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.card.json", "model.param"]
    described = Card.from_json((tmp_path / "model.card.json").read_text(), file)
    assert described.precision == precision
    size = {"float32": 4, "float16": 2}[precision] * 1.13e6
    assert (tmp_path / "model.bin").stat().st_size == pytest.approx(size, rel=0.02)


def test_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    exported, file = mobile.bundled_export(SIZE), tmp_path / "model.param"
    TARGET.write(exported, file)
    image = mobile.noise(exported)
    net = ncnn.Net()
    net.load_param(str(file))
    net.load_model(str(file.with_suffix(".bin")))
    with net.create_extractor() as extractor:
        extractor.input("in0", ncnn.Mat.from_pixels(image[0], ncnn.Mat.PixelType.PIXEL_RGB, SIZE[1], SIZE[0]))
        logits = np.array(extractor.extract("out0")[1])
    np.testing.assert_allclose(logits, mobile.reference()(image)[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "size", "channels"), mobile.UNUSUAL)
def test_other_networks(variant: str, size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    exported = mobile.untrained_export(variant, size, channels)
    TARGET.write(exported, tmp_path / "other.param")
    got = loaded(tmp_path / "other.param")(mobile.noise(exported))["logits"]
    np.testing.assert_allclose(got, mobile.expected(exported), atol=1e-4)


def test_a_converter_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stdout="pnnx 1\nno such operator", stderr="")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    with pytest.raises(FastSCNNError, match=r"pnnx cannot convert the network \(no such operator\)"):
        TARGET.write(mobile.bundled_export(SIZE), tmp_path / "model.param")
    assert not list(tmp_path.iterdir())
