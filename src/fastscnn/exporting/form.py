"""The form of an export: the output, the precision, the shapes and the opset of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fastscnn.base.arguments import MAX_PIXELS, height_width, hxw, whole
from fastscnn.base.errors import ArgumentError, unknown
from fastscnn.model.architecture import MIN_SIDE

Output = Literal["logits", "labels", "confidence"]
ExportPrecision = Literal["float32", "float16", "int8", "int8-symmetric"]
Hxw = str | Sequence[int]  # "HxW" or (height, width)
OUTPUTS: tuple[Output, ...] = get_args(Output)
PRECISIONS: tuple[ExportPrecision, ...] = get_args(ExportPrecision)
OPSETS = range(17, 25)


@dataclass(frozen=True)
class Form:
    """What the graph of an exported file takes and returns.

    Attributes:
        output: "logits": float32 [N, classes, H/8, W/8]. "labels": uint8 [N, H, W]. "confidence": these labels and the
            probability of each, float32 [N, H, W].
        precision: of the weights and the arithmetic. "int8" has uint8 activations with zero points, for CPUs;
            "int8-symmetric" has int8 activations with zero points 0, for TensorRT and NPUs.
        static: (height, width) of the only input, whose batch is 1; None: any batch, height and width.
        output_size: (height, width) of labels and confidence; None: those of the input.
        opset: version of the ONNX operators; None: that of the exporter.
    """

    output: Output = "logits"
    precision: ExportPrecision = "float32"
    static: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    opset: int | None = None

    @property
    def int8(self) -> bool:
        """Whether the network is quantised, which needs calibration images."""
        return self.precision.startswith("int8")


def checked_form(
    output: str = "logits",
    precision: str = "float32",
    static: Hxw | None = None,
    output_size: Hxw | None = None,
    opset: int | None = None,
) -> Form:
    """Return the form that these arguments of `export` describe.

    Raises:
        ArgumentError: an unknown name, a size that is no HxW or out of range, an opset outside 17 to 24, or an output size
            without labels.
    """
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    if precision not in PRECISIONS:
        raise unknown("precision of an export", precision, PRECISIONS)
    if output_size is not None and output == "logits":
        raise ArgumentError("output-size: is the size of labels; add the output labels or confidence, or omit it.")
    return Form(
        output, precision,
        None if static is None else _size("static", static, MIN_SIDE),
        None if output_size is None else _size("output-size", output_size, 1),
        None if opset is None else whole("opset", opset, OPSETS[0], OPSETS[-1]),
    )  # fmt: skip


def _size(name: str, given: Hxw, least: int) -> tuple[int, int]:
    """Return a size as (height, width). Raise ArgumentError that names the argument."""
    try:
        height, width = height_width(given) if isinstance(given, str) else given
    except (ArgumentError, TypeError, ValueError):
        raise ArgumentError(f"{name}: expected HxW, for example 360x480, not {given!r}.") from None
    size = whole(f"{name}: height", height, least), whole(f"{name}: width", width, least)
    if size[0] * size[1] > MAX_PIXELS:
        raise ArgumentError(f"{name}: {hxw(size)} is over the limit of {MAX_PIXELS // 1_000_000} megapixels.")
    return size
