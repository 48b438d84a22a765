"""Target coreml: the program in the package, computed operator by operator, compared with our labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import mobile

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.agreement import compare
from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.coreml import TARGET
from fastscnn.model import card
from fastscnn.model.card import Card

with quiet("coremltools"):
    coremltools = pytest.importorskip("coremltools", reason="needs coremltools (docs/deploy.md)")

SIZE = (96, 160)


def loaded(file: Path) -> Any:
    return TARGET.load and TARGET.load(file, mobile.reference().card)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("output", ["logits", "labels"])
def test_it_agrees(precision: str, output: str, tmp_path: Path) -> None:
    exported, package = mobile.bundled_export(SIZE, precision, output), tmp_path / "model.mlpackage"
    TARGET.write(exported, package)
    found = compare(mobile.reference(), loaded(package), exported.form)
    assert found.passed
    read = coremltools.models.MLModel(str(package), skip_model_load=True)
    described = Card.from_json(read.user_defined_metadata[card.KEY], package)
    assert described.precision == precision
    (image,), (result,) = read.get_spec().description.input, read.get_spec().description.output
    assert (image.name, image.type.imageType.height, image.type.imageType.width) == ("image", *SIZE)
    assert result.name == output


@pytest.mark.parametrize(("variant", "size", "channels"), mobile.UNUSUAL)
def test_other_networks(variant: str, size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    exported = mobile.untrained_export(variant, size, channels)
    TARGET.write(exported, tmp_path / "other.mlpackage")
    got = loaded(tmp_path / "other.mlpackage")(mobile.noise(exported))["logits"]
    np.testing.assert_allclose(got, mobile.expected(exported), atol=1e-3)


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    """The check reads the saved file: it would be worthless on the network in memory."""
    exported, package = mobile.bundled_export(SIZE), tmp_path / "model.mlpackage"
    TARGET.write(exported, package)
    (weights,) = package.rglob("weight.bin")
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2  # of a large layer, far from the headers between layers
    content[middle : middle + 4096] = bytes(4096)
    weights.write_bytes(content)
    found = compare(mobile.reference(), loaded(package), exported.form)
    assert found.logit_difference is not None
    assert found.logit_difference > 0.01


def test_an_operator_that_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastscnn.exporting.targets import mil

    package = tmp_path / "model.mlpackage"
    TARGET.write(mobile.bundled_export(SIZE), package)
    monkeypatch.delitem(mil.OPERATORS, "linear")
    with pytest.raises(FastSCNNError, match="made the operator linear, which is not checked"):
        loaded(package)
