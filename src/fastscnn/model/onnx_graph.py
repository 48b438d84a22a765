"""Check what an ONNX file asks for, before a backend reads it: its operators, and the sizes that it declares."""

from __future__ import annotations

from math import isqrt, prod
from pathlib import Path

from fastscnn.base.errors import FastSCNNError
from fastscnn.model import onnx_constants
from fastscnn.model.onnx_operators import ALLOWED
from fastscnn.model.protobuf import BYTES, Reader, WireError

MAX_NODES = 100_000  # operators of a network; the largest for segmentation have about 20,000
MAX_VALUES = 2**28  # that an operator makes of constants: 1 GiB in float32
MAX_SIDE = 2**16  # of a kernel, a stride or a padding
_MAX_RANK = 64

# Tags in onnx.proto (`protobuf.Reader`): of the model, a graph, a node, an attribute, and a tensor.
_GRAPH, _METADATA, _TRAINING, _FUNCTION = 0x3A, 0x72, 0xA2, 0xCA
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 0x0A, 0x2A, 0x7A
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 0x0A, 0x12, 0x22, 0x2A, 0x3A
_NAME, _TENSORS, _SUBGRAPHS, _SPARSE_TENSORS = 0x0A, (0x2A, 0x52), (0x32, 0x5A), (0xB2, 0xBA)
_INTS, _FLOATS = (0x18, 0x40, 0x42), (0x15, 0x3A, 0x3D)
_DIMS, _TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = (0x08, 0x0A), 0x42, 0x6A, 0x70

_SIDES = {  # attribute -> its largest number
    **dict.fromkeys((b"pads", b"kernel_shape", b"output_shape", b"output_padding", b"strides", b"dilations"), MAX_SIDE),
    **dict.fromkeys((b"output_height", b"output_width", b"pooled_shape"), isqrt(MAX_VALUES)),  # of RoiAlign and MaxRoiPool
}
_SCALES = (b"scales", b"height_scale", b"width_scale")  # attributes of Upsample before opset 9
_HOSTILE = "the file is damaged, or made to fill the memory; copy it again from its source"

Span = tuple[int, int]  # where the content of a message starts and ends


def check(path: Path, data: bytes) -> dict[str, str]:
    """Check an ONNX file, and return its metadata.

    Args:
        path: the file to name in errors.
        data: its content.

    Raises:
        FastSCNNError: not ONNX, or truncated; an operator that is not in `ALLOWED`; functions, subgraphs, sparse tensors, or
            weights in another file; more operators or larger tensors than a network has.
    """
    try:
        return _Checked(path, data).metadata
    except ValueError as error:
        raise FastSCNNError(f"{path}: is not an ONNX model, or it is damaged or truncated; copy it again from its source, or "
                            "export it again.") from error


class _Checked:
    """A file that is checked as it is read. Raises ValueError for damage, FastSCNNError for what is not allowed."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data, self._reader = path, data, Reader(data)
        self.metadata: dict[str, str] = {}
        self._nodes = 0
        self._known: set[bytes] = set()  # attributes that were checked: many are equal
        self._initializers: dict[bytes, Span] = {}
        self._constants: dict[bytes, Span] = {}  # value -> attribute of the node Constant that makes it
        self._sized: list[tuple[bytes, list[bytes]]] = []  # operators whose inputs are sizes, and all of their inputs
        graphs = 0
        for tag, start, end in self._reader.fields():
            if tag == _GRAPH:
                graphs += 1
                self._check_graph(start, end)
            elif tag == _METADATA:
                texts = {inner: data[first:last].decode() for inner, first, last in self._reader.fields(start, end)}
                self.metadata[texts.get(0x0A, "")] = texts.get(0x12, "")
            elif tag in (_FUNCTION, _TRAINING):
                what = "functions (onnx.inliner replaces them)" if tag == _FUNCTION else "a training graph"
                raise self._error(f"has {what}; export the network for inference, without them")
        if not graphs:
            raise WireError("no graph")
        for operator, inputs in self._sized:
            self._check_size(operator, inputs)

    def _check_graph(self, start: int, end: int) -> None:
        for tag, first, last in self._reader.fields(start, end):
            if tag == _NODE:
                self._check_node(first, last)
            elif tag == _INITIALIZER:
                self._initializers[self._check_tensor(first, last)] = first, last
            elif tag == _SPARSE_INITIALIZER:
                raise self._sparse()
            elif tag & 7 != BYTES:
                raise WireError("a graph has messages and texts only")

    def _check_node(self, start: int, end: int) -> None:
        data, operator, domain, attributes = self._data, b"", b"", list[Span]()
        for tag, first, last in self._reader.fields(start, end):
            if tag == _OPERATOR:
                operator = data[first:last]
            elif tag == _ATTRIBUTE:
                attributes.append((first, last))
            elif tag == _DOMAIN:
                domain = data[first:last]
        if (domain, operator) not in ALLOWED:
            raise self._error(f"uses the operator {_text(b'.'.join(filter(None, (domain, operator))))}, which weight files may "
                              "not use; export the network without loops, conditions, random numbers and custom operators")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(f"has more than {MAX_NODES:,} operators; use a smaller network")
        for span in attributes:
            if (content := data[slice(*span)]) not in self._known:
                self._check_attribute(operator, *span)
                self._known.add(content)
        if operator == b"Constant" and attributes:
            if len(attributes) > 1:
                raise WireError("a constant with several values")
            self._constants |= dict.fromkeys(self._names(_OUTPUT, start, end), attributes[0])
        elif operator in onnx_constants.SIZES:
            self._sized.append((operator, self._names(_INPUT, start, end)))

    def _names(self, wanted: int, start: int, end: int) -> list[bytes]:
        """Return the names of the inputs or outputs of a node."""
        return [self._data[first:last] for tag, first, last in self._reader.fields(start, end) if tag == wanted]

    def _check_attribute(self, operator: bytes, start: int, end: int) -> None:
        name, sides, scales = b"", list[int](), bytearray()
        for tag, first, last in self._reader.fields(start, end):
            if tag == _NAME:
                name = self._data[first:last]
            elif tag in _INTS:
                sides += self._reader.integers(first, last)
            elif tag in _FLOATS:
                scales += self._data[first:last]
            elif tag in _TENSORS:
                self._check_tensor(first, last)
            elif tag in _SUBGRAPHS:
                raise self._error(f"has a graph in the operator {_text(operator)}; export the network without loops and "
                                  "conditions")
            elif tag in _SPARSE_TENSORS:
                raise self._sparse()
        if name in _SIDES and (most := max(map(abs, sides), default=0)) > _SIDES[name]:
            raise self._error(f"the operator {_text(operator)} has {most:,} in {_text(name)}, and at most {_SIDES[name]:,} is "
                              f"allowed; {_HOSTILE}")
        if name in _SCALES:
            self._check_made(operator, onnx_constants.made(operator, [onnx_constants.unpacked("<f", scales)]), MAX_VALUES)

    def _check_tensor(self, start: int, end: int) -> bytes:
        """Check a tensor; return its name."""
        dims, name = list[int](), b""
        for tag, first, last in self._reader.fields(start, end):
            if tag in _DIMS:
                dims += self._reader.integers(first, last, _MAX_RANK + 1)
            elif tag == _TENSOR_NAME:
                name = self._data[first:last]
            elif tag == _EXTERNAL_DATA or (tag == _DATA_LOCATION and self._data[first:last] != b"\0"):
                raise self._error("has weights in another file (external data), which is not read; export it as one file (in "
                                  "PyTorch, torch.onnx.export with external_data=False)")
        if len(dims) > _MAX_RANK:
            raise WireError("no tensor has so many dimensions")
        if dims and (min(dims) < 0 or prod(dims) > 4 * (end - start)):  # the smallest types have four values a byte
            raise self._error(f"the tensor {_text(name)} declares the shape {dims}, and has {end - start:,} bytes; {_HOSTILE}")
        return name

    def _check_size(self, operator: bytes, inputs: list[bytes]) -> None:
        """Check what an operator makes, if its inputs that are sizes are constants."""
        sizes = [self._values(inputs[place]) for place in onnx_constants.SIZES[operator] if place < len(inputs)]
        self._check_made(operator, onnx_constants.made(operator, sizes), MAX_SIDE if operator == b"Pad" else MAX_VALUES)

    def _check_made(self, operator: bytes, made: float, most: int) -> None:
        if not made <= most:  # NaN, too
            raise self._error(f"the operator {_text(operator)} makes {made:,.0f} values, and at most {most:,} are allowed; "
                              f"{_HOSTILE}")

    def _values(self, name: bytes) -> list[float]:
        """Return the values of a constant; none for other values."""
        if name in self._initializers:
            return onnx_constants.tensor_values(self._reader, *self._initializers[name])
        if name in self._constants:
            return onnx_constants.attribute_values(self._reader, *self._constants[name])
        return []

    def _sparse(self) -> FastSCNNError:
        return self._error("has sparse tensors, whose size in memory the file does not limit; export the network without them")

    def _error(self, what: str) -> FastSCNNError:
        return FastSCNNError(f"{self._path}: {what}.")


def _text(name: bytes) -> str:
    """Return a name in the file for an error, cut if it is long."""
    return name[:80].decode(errors="replace")
