"""Bring an exported network into its form: opset, labels in the graph, fixed size. The card then states the form."""

from __future__ import annotations

import dataclasses

import onnx

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.form import Form
from fastscnn.exporting.metadata import card_of, with_card
from fastscnn.exporting.outputs import append_labels
from fastscnn.exporting.shapes import fix_size


def finished(content: bytes, form: Form) -> bytes:
    """Return the file in its form; the precision is that of `content`.

    Args:
        content: of the ONNX file, which returns logits of any size.
        form: the form.

    Raises:
        FastSCNNError: the graph cannot be converted to the opset, or its size cannot be fixed.
    """
    if (form.output, form.static, form.opset) == ("logits", None, None):
        return content
    model = onnx.load_from_string(content)
    described = card_of(model)
    if form.output != "logits":
        append_labels(model, form, described.temperature)
    if form.static:
        model = fix_size(model, form.static)
    if form.opset:  # last: an operator that cannot be converted may be folded by then
        model = _with_opset(model, form.opset)
    return with_card(model, dataclasses.replace(described, output=form.output, fixed_size=form.static))


def _with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return the graph in another version of the ONNX operators, with the lowest version of the file format that has it."""
    try:
        converted = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # the errors of the converter share no public base class
        reason = str(error).strip().splitlines()[-1].rpartition("failed: ")[2]
        raise FastSCNNError(f"opset: ONNX cannot convert the network to opset {opset} ({reason}); use a higher one, or "
                            "also fix the size by --static.") from error
    converted.ir_version = onnx.helper.find_min_ir_version_for(converted.opset_import)
    return converted
