"""Options of the command line: each flag is described once, so that it means the same in every verb."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Annotated, Any, cast

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from fastscnn.backends.protocol import DEVICES, MAX_THREADS
from fastscnn.base import files
from fastscnn.base.arguments import height_width, hxw, whole
from fastscnn.base.errors import unknown
from fastscnn.base.types import BackendName, DeviceName, PrecisionName
from fastscnn.inference.size import NetworkSize


def value(metavar: str, read: Callable[[str], Any], none: str = "none", write: Callable[[Any], str] = str) -> Any:
    """Return how tyro reads one word as a value, and shows its default; `none` is what it shows for None."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda _: True,
        str_from_instance=lambda shown: [none if shown is None else write(shown)],
    )


def described(text: str, **more: Any) -> Any:
    """Return the help of an option; its default is shown without quotes, and not at all if there is none."""

    def hint(default: str) -> str:
        shown = " ".join(shlex.split(default))
        return "" if shown in ("", "none") else f"(default: {shown})"

    return arg(help=text, help_behavior_hint=hint, **more)


def switch(text: str, *aliases: str) -> Any:
    """Return the help of an option without a value."""
    return arg(help=text, help_behavior_hint="", aliases=aliases)


def required(text: str, metavar: str | None = None) -> Any:
    """Return the help of an argument that must be given."""
    return arg(help=text, metavar=metavar, help_behavior_hint="(required)")


def path(metavar: str, none: str = "none") -> Any:
    """Return how one word is read as a path; `~` is expanded, also in --out=~/results, which the shell leaves as it is."""
    return value(metavar, files.expand, none)


def number_within(low: float, high: float) -> Callable[[str], float]:
    """Return what reads a number from `low` to `high`; it raises ValueError for anything else."""

    def read(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(f"must be from {low:g} to {high:g}, not {text}")
        return number

    return read


def milliseconds(text: str) -> float:
    """Read a time such as 33ms or 33. Raise ValueError for anything else."""
    try:
        number = float(text.lower().removesuffix("ms"))
    except ValueError:
        number = 0
    if not 0 < number < inf:
        raise ValueError(f"expected milliseconds a frame, for example 33ms, not {text!r}")
    return number


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas. Raise ValueError for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected numbers separated by commas, for example 0.5,1, not {text!r}") from None


def several_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Read sizes HxW separated by commas. Raise ValueError for anything else."""
    try:
        return tuple(height_width(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected HxW, or several separated by commas, for example 512x1024,1024x2048, "
                         f"not {text!r}") from None


def _network_size(text: str) -> NetworkSize:
    try:
        return "native" if text == "native" else height_width(text)
    except ValueError:
        raise ValueError(f"expected HxW, for example 360x480, or native, not {text!r}") from None


def _tile(text: str) -> tuple[int, int] | str:
    try:
        return "auto" if text == "auto" else height_width(text)
    except ValueError:
        raise ValueError(f"expected HxW, for example 360x480, or auto, not {text!r}") from None


def _device(text: str) -> DeviceName:
    if text not in DEVICES:
        raise unknown("device", text, DEVICES)
    return cast(DeviceName, text)


def _threads(text: str) -> int:
    return whole("threads", int(text), 1, MAX_THREADS)


def write_size(size: tuple[int, int] | str) -> str:
    """Write (height, width) as HxW."""
    return size if isinstance(size, str) else hxw(size)


def write_numbers(values: tuple[float, ...]) -> str:
    """Write numbers separated by commas."""
    return ",".join(f"{number:g}" for number in values)


_DATASET = "NAME:ROOT, such as camvid:ROOT or cityscapes:ROOT, or the path of a dataset.toml."
Dataset = Annotated[Positional[str], required(_DATASET, "DATASET")]
MoreDatasets = Annotated[
    Positional[tuple[str, ...]],
    arg(help="Further datasets. Or give one mixture file, which names them all (docs/datasets.md).", metavar="[DATASET ...]",
        help_behavior_hint=""),
]
OptionalDataset = Annotated[str | None, value("DATASET", str), described(_DATASET)]
DatasetOption = Annotated[str, required(_DATASET, "DATASET")]
Weights = Annotated[
    Path | None, path("FILE", "the bundled weights"),
    described("Weight file, .onnx or .safetensors, or hf://OWNER/NAME on the Hugging Face Hub (docs/hub.md)."),
]
Backend = Annotated[
    BackendName, described("Inference backend. auto: the fastest one installed that the model card rates within "
                           "0.5 mIoU of float32."),
]
Precision = Annotated[
    PrecisionName, described("Arithmetic. auto: the fastest that the model card rates within 0.5 mIoU of float32."),
]
Device = Annotated[
    DeviceName | None, value("NAME", _device, "cpu"),
    described(f"Where the network runs: {', '.join(DEVICES)}. Others than cpu run .onnx files with the backend onnx and need "
              "another package of ONNX Runtime (docs/deploy.md)."),
]
Size = Annotated[
    NetworkSize | None, value("HxW", _network_size, "the model's", write_size),
    described("Network input size, HxW or native (the image's own)."),
]
Tile = Annotated[
    tuple[int, int] | str | None, value("HxW|auto", _tile, write=write_size),
    described("Run the network on overlapping tiles of this size and blend their logits (auto: the model's input size). "
              "For images of up to 1,000 megapixels. The image is not resized unless --size HxW is given."),
]
Scales = Annotated[
    tuple[float, ...], value("S,S,...", numbers, write=write_numbers),
    described("Factors of the input size to run each image at, such as 0.5,1; probabilities are averaged."),
]
Flip = Annotated[bool, switch("Also run each image mirrored, and average.")]
Threads = Annotated[int | None, value("N", _threads, "all"), described("CPU threads.")]
Json = Annotated[bool, switch("Print results as JSON lines on stdout, and nothing else there.")]
Report = Annotated[Path | None, path("DIR"), described("Also write an HTML report into this folder.")]
Quiet = Annotated[bool, switch("Hide progress and notes.", "-q")]
Verbose = Annotated[bool, switch("Show the traceback of an error.", "-v")]
SPLIT = described("Split of the dataset; join several by +.")
