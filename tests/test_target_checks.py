"""What the targets for phones say if their converters are missing or too new, and about forms that they do not have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.exporting.form import checked_form
from fastscnn.exporting.targets import TARGETS

_VERSION = "fastscnn.exporting.targets.target.version"


@pytest.mark.parametrize(("name", "install"), [
    ("litert", "needs litert-torch, which is not installed; run pip install 'litert-torch==0.10.*', "
               "then pip install --upgrade typing-extensions."),
    ("ncnn", "needs pnnx, which is not installed; run pip install 'pnnx>=20261020'."),
    ("coreml", "needs coremltools, which is not installed; run pip install 'coremltools>=9,<10'."),
])  # fmt: skip
def test_a_missing_converter(name: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(_VERSION, missing)
    with pytest.raises(FastSCNNError) as error:
        TARGETS[name].check()
    assert str(error.value) == f"target {name}: {install}"


@pytest.mark.parametrize(("name", "package", "version"), [
    ("litert", "litert-torch", "0.11.0"), ("litert", "litert-torch", "0.9.1"), ("coreml", "coremltools", "10.0b1"),
    ("coreml", "coremltools", "8.3.0"), ("ncnn", "pnnx", "20240819"),
])  # fmt: skip
def test_a_converter_of_another_version(name: str, package: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_VERSION, lambda _: version)
    with pytest.raises(FastSCNNError, match=f"^target {name}: does not work with {package} {version}; run pip install"):
        TARGETS[name].check()


def test_tested_versions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = {"litert-torch": "0.10.0", "pnnx": "20261020", "ncnn": "1.0.20261020", "coremltools": "9.0"}
    monkeypatch.setattr(_VERSION, tested.__getitem__)
    for name in ("litert", "ncnn", "coreml"):
        TARGETS[name].check()


@pytest.mark.parametrize(("name", "form", "message"), [
    ("ncnn", checked_form("labels", static=(96, 160)), "has no output labels; use --output logits"),
    ("litert", checked_form(precision="float16", static=(96, 160)), "no precision float16; use --precision float32 or int8"),
    ("coreml", checked_form(), "needs a fixed input size; add --static HxW"),
])  # fmt: skip
def test_a_form_that_a_target_does_not_have(name: str, form: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TARGETS[name].refuse(form)  # type: ignore[arg-type]
