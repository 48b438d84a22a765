"""A TOML file that describes an ONNX file of another network.

```toml
model = "espnetv2.onnx"            # relative to this file
classes = ["road", "sidewalk"]     # in the order of the output's channels; or "cityscapes" (19 classes) or "camvid" (11)
size = "512x1024"                  # input size HxW; or "native", the size of each image
multiple = 32                      # with "native": sides are enlarged to a multiple of this; the default is 1
mean = [123.675, 116.28, 103.53]   # of each channel, in the order of `order`, of values from 0 to 255; the default is 0
std = [58.395, 57.12, 57.375]      # as `mean`; the default is 1
order = "rgb"                      # of the channels: "rgb", the default, or "bgr"
layout = "nchw"                    # of the input: "nchw", the default, or "nhwc"
output = "logits"                  # the default; or "probabilities", after softmax
output_name = "logits"             # the default is the first output
output_layout = "nchw"             # the default is that of the input
terms = "..."                      # terms of use of the weights; the default is "not stated"
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastscnn.base.arguments import is_number
from fastscnn.base.errors import ArgumentError, FastSCNNError, unknown
from fastscnn.data.class_lists import CLASS_LISTS
from fastscnn.data.spec import DatasetSpec
from fastscnn.data.toml_table import Table
from fastscnn.inference.size import NetworkSize, network_size
from fastscnn.model.label_set import LabelSet

_KEYS = ("model", "classes", "size", "multiple", "mean", "std", "order", "layout", "output", "output_name", "output_layout",
         "terms")
_MAX_MULTIPLE = 1024


@dataclass(frozen=True)
class Description:
    """The content of such a file; the attributes are its keys.

    Attributes:
        path: the TOML file.
        model: the ONNX file.
        size: (height, width), or "native".
    """

    path: Path
    model: Path
    classes: tuple[str, ...]
    size: NetworkSize
    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str
    layout: str
    output: str
    output_name: str
    output_layout: str
    terms: str


def load(path: Path) -> Description:
    """Read a description.

    Raises:
        FastSCNNError: no such file, not TOML, or a key that is missing, unknown or invalid.
    """
    table = Table.load(path)
    table.only(_KEYS)
    size = _size(table)
    if "multiple" in table and size != "native":
        raise table.error("multiple", 'is for size = "native"; remove it.')
    layout = table.choice("layout", ("nchw", "nhwc"), "nchw")
    return Description(
        path=path,
        model=path.parent / table.text("model"),
        classes=_classes(table),
        size=size,
        multiple=table.whole("multiple", 1, 1, _MAX_MULTIPLE),
        mean=_channels(table, "mean", 0.0),
        std=_channels(table, "std", 1.0),
        order=table.choice("order", ("rgb", "bgr"), "rgb"),
        layout=layout,
        output=table.choice("output", ("logits", "probabilities"), "logits"),
        output_name=table.text("output_name", ""),
        output_layout=table.choice("output_layout", ("nchw", "nhwc"), layout),
        terms=table.text("terms", DatasetSpec.terms),
    )


def _classes(table: Table) -> tuple[str, ...]:
    value = table.value("classes")
    if isinstance(value, str):
        if value not in CLASS_LISTS:
            raise FastSCNNError(f"{table.path}: {unknown('list of classes', value, CLASS_LISTS)}")
        return CLASS_LISTS[value]
    names = table.texts("classes")
    if len(names) < 2:
        raise table.error("classes", "needs at least two names, one for each channel of the output.")
    try:
        return LabelSet(names).names
    except FastSCNNError as error:
        raise FastSCNNError(f"{table.path}: {error}") from None


def _size(table: Table) -> NetworkSize:
    text = table.text("size")
    try:
        size = network_size(text)
    except ArgumentError as error:
        raise FastSCNNError(f"{table.path}: {error}") from None
    assert size is not None
    return size


def _channels(table: Table, key: str, default: float) -> tuple[float, ...]:
    """Return a number for each of the three channels; for `std`, above 0."""
    values = table.value(key, [default] * 3)
    valid = isinstance(values, list) and len(values) == 3 and all(map(is_number, values))
    if not valid or (key == "std" and min(values) <= 0):
        wanted = "three numbers above 0" if key == "std" else "three numbers"
        raise table.error(key, f"is {values!r}; it must be {wanted}, one for each channel, for values from 0 to 255.")
    if key == "std" and max(values) < 1:
        raise table.error(key, f"is {values!r}, which is for values from 0 to 1; multiply mean and std by 255.")
    return tuple(map(float, values))
