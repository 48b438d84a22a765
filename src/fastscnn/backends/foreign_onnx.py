"""ONNX files of other networks, without a model card: the caller knows their normalisation and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastscnn.backends.onnx import session
from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import Float32Array
from fastscnn.model import card, onnx_file

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class ForeignOnnx:
    """A network that takes one image, float32 or float16 of rank 4, and has an output of such a type.

    Args:
        path: the file. Its weights must not be in another file (external data).
        threads: number of CPU threads.
        output: name of the output; "" takes the first one.

    Attributes:
        shape: of the input, 4 numbers; None where any number is accepted.

    Raises:
        FastSCNNError: the file cannot be read or is refused (`onnx_file.load_foreign`), ONNX Runtime cannot run it, or it
            has other inputs or outputs.
        ArgumentError: there is no output of that name.
    """

    def __init__(self, path: Path, threads: int, output: str = "") -> None:
        data = onnx_file.load_foreign(path)
        try:
            self._session = session(data, threads)
        except Exception as error:  # the errors of onnxruntime share no public base class
            raise card.no_model(path) from error
        self.path = path
        inputs, outputs = self._session.get_inputs(), {each.name: each for each in self._session.get_outputs()}
        if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) != 4:
            found = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
            raise FastSCNNError(f"{path}: must take one image of floats [N, 3, H, W] or [N, H, W, 3], but its inputs are "
                                f"{found}; export it with such an input.")
        if output and output not in outputs:
            raise unknown(f"output of {path.name}", output, outputs)
        self._input, self._output = inputs[0].name, output or next(iter(outputs))
        if (kind := outputs[self._output].type) not in _FLOATS:
            raise FastSCNNError(f"{path}: its output {self._output!r} is {kind}, which is not logits or probabilities; "
                                "choose another one by output_name, or export the network without argmax.")
        self._type = _FLOATS[inputs[0].type]
        self.shape = tuple(side if isinstance(side, int) else None for side in inputs[0].shape)

    def __call__(self, values: Float32Array) -> Float32Array:
        """Return the output, float32, of an input float32 of rank 4. Raises FastSCNNError if the network cannot run it."""
        try:
            (found,) = self._session.run([self._output], {self._input: np.ascontiguousarray(values, self._type)})
        except Exception as error:  # another size than the network takes, or too little memory
            reason = str(error).splitlines()[0]
            raise FastSCNNError(f"{self.path}: cannot run an input of shape {list(values.shape)} ({reason}); "
                                "use the input size that it was exported at.") from error
        return np.asarray(found, np.float32)
