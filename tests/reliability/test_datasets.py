"""Wrong dataset.toml files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from promises import Some, refusal

from fastscnn.data import datasets
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.media import images

TOML = {
    "name": '"d"', "classes": '["a", "b"]', "colours": "[[0, 0, 0], [9, 9, 9]]", "ignore": "255", "labels_are": '"ids"',
    "terms": '"none"', "map": '{ "0" = "a", "1" = "b" }', "splits": "{}", "splits.train.images": '"images/*.png"',
    "splits.train.labels": '"labels/{stem}.png"',
}  # fmt: skip
VALUES = (
    "true", "-1", "1" * 40, "nan", "1979-05-27T07:32:00Z", '""', '"' + "x" * 5000 + '"', r'"\u0000\u001b[31m"', "{ a = {} }",
    "[" * 60 + "]" * 60,
)  # fmt: skip


def written(key: str, value: str) -> str:
    """The text of a dataset.toml in which one key has another value."""
    table = {**TOML, key: value}
    if key != "splits":  # it would be defined twice
        del table["splits"]
    else:
        table = {name: text for name, text in table.items() if not name.startswith("splits.")}
    return "\n".join(f"{name} = {text}" for name, text in table.items())


@pytest.mark.reliability("toml")
def test_wrong_values_in_a_dataset_toml(tmp_path: Path, some: Some, record_property: Callable[[str, object], None]) -> None:
    images.write(tmp_path / "images/a.png", np.zeros((64, 96, 3), np.uint8))
    images.write(tmp_path / "labels/a.png", np.zeros((64, 96), np.uint8))
    path, cases, refused = tmp_path / "dataset.toml", some((key, value) for key in TOML for value in VALUES), 0

    def checked() -> CheckReport:
        return check(datasets.load(path), cache=tmp_path / "cache")

    path.write_text(written("name", '"whole"'))
    assert checked().ok
    for key, value in cases:
        path.write_text(written(key, value))
        message = refusal(checked)
        if message is not None:
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            refused += 1
    assert refused > len(cases) // 2
    record_property("refused", refused)
    record_property("cases", len(cases))
