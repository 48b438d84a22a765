"""The interface of an export target: a file format, the form of network that it takes, and the runtime that checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.exporting.form import OUTPUTS, PRECISIONS, ExportPrecision, Form, Output
from fastscnn.model.card import Card

if TYPE_CHECKING:
    from fastscnn.network.fast_scnn import FastSCNN

# Takes images uint8 [N, H, W, channels]; returns logits float32 [N, classes, H/8, W/8], labels uint8 [N, H, W] or confidence
# float32 [N, H, W], by these names.
Runner = Callable[[UInt8Array], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Exported:
    """A finished network, ready to be written for a target.

    Attributes:
        content: of the ONNX file in `form`, with the card. If the target makes `form.precision` itself
            (`Target.own_precisions`), it is in float32.
        card: the model card, as in `content`.
        form: what was asked for.
        load_network: loads the fused PyTorch network, in evaluation mode on the CPU. It takes uint8 [N, H, W, channels] and
            returns logits.
        calibration: images uint8 [H, W, channels] of the network's input size, similar to those in use; empty without a
            dataset.
    """

    content: bytes
    card: Card
    form: Form
    load_network: Callable[[], FastSCNN]
    calibration: tuple[UInt8Array, ...] = ()

    @cached_property
    def network(self) -> FastSCNN:
        """The PyTorch network, for targets that convert it instead of the ONNX graph."""
        return self.load_network()


@dataclass(frozen=True)
class Target:
    """A file format to export to.

    Attributes:
        name: as in `--target NAME`.
        suffix: of the file to write; "": a folder is written.
        what: one line for the help and the docs.
        check: raises FastSCNNError with the installation command if the converter or the runtime is missing or too old.
        write: converts an `Exported` and writes it to a path: a file, files beside it, or a folder. The folder around it is
            temporary: whatever is in it is moved to its place after the verification. It raises OSError if the disk is full.
        load: loads what `write` wrote into the real runtime; None: no runtime runs here ("converted, not run").
        outputs, precisions: what it can represent.
        own_precisions: precisions that its converter makes itself, from the float32 network.
        static: whether it needs a fixed input size.
        runtime: what `load` runs the file by, for the report.
    """

    name: str
    suffix: str
    what: str
    check: Callable[[], None]
    write: Callable[[Exported, Path], None]
    load: Callable[[Path, Card], Runner] | None
    outputs: tuple[Output, ...] = OUTPUTS
    precisions: tuple[ExportPrecision, ...] = PRECISIONS
    own_precisions: tuple[ExportPrecision, ...] = ()
    static: bool = False
    runtime: str = ""

    def refuse(self, form: Form) -> None:
        """Raise ArgumentError if the target cannot represent a form."""
        for option, wanted, known in (("output", form.output, self.outputs), ("precision", form.precision, self.precisions)):
            if wanted not in known:
                raise ArgumentError(f"target {self.name}: has no {option} {wanted}; use --{option} {' or '.join(known)}.")
        if self.static and form.static is None:
            raise ArgumentError(f"target {self.name}: needs a fixed input size; add --static HxW, such as --static 360x480.")


def needs(
    target: str, package: str, requirement: str, least: tuple[int, ...], below: tuple[int, ...] = (), then: str = ""
) -> None:
    """Check the version of an installed package.

    Args:
        target: the target that needs it, for the error.
        package: name of the distribution.
        requirement: what `pip install` takes, for the error.
        least: the lowest version, such as (2026, 1).
        below: the lowest version that is too new; () for none.
        then: a further command after that, for the error.

    Raises:
        FastSCNNError: it is missing or has another version.
    """
    install = f"run pip install '{requirement}'{then and f', then {then}'}"
    try:
        installed = version(package)
    except PackageNotFoundError:
        raise FastSCNNError(f"target {target}: needs {package}, which is not installed; {install}.") from None
    parts = tuple(int(part) for part in installed.split("+")[0].split(".") if part.isdigit())
    if parts < least or (below and parts >= below):
        raise FastSCNNError(f"target {target}: does not work with {package} {installed}; {install}.")
