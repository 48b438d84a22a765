"""ONNX Runtime on the CPU: what runs where nothing but fastscnn is installed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from fastscnn import card
from fastscnn.arrays import Float32Array, UInt8Array
from fastscnn.errors import FastSCNNError

_ERRORS_ONLY = 3


class OnnxRuntime:
    """An ONNX file made by `fastscnn export`, run in the precision that its card names.

    Args:
        path: the file.
        threads: to compute with.

    Raises:
        FastSCNNError: missing, truncated, not ONNX, or without a card.
    """

    name = "onnx"

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads = threads
        options.log_severity_level = _ERRORS_ONLY
        # A file must not make the engine open others (external data): where it looks for them, there can be none.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error
        except Exception as error:  # onnxruntime's own errors share no public base class
            raise FastSCNNError(f"{path}: is no ONNX model that can be run, or is truncated; export it again.") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if card.KEY not in metadata:
            raise card.missing(path)
        self.card = card.Card.from_json(metadata[card.KEY], path)
        self.precision = self.card.precision
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [image.name for image in inputs] != ["images"] or len(outputs) != 1 or len(outputs[0].shape) != 4:
            raise FastSCNNError(f"{path}: does not take `images` and give logits; export it again by `fastscnn export`.")
        classes = outputs[0].shape[1]
        if classes != len(self.card.label_set):
            named = len(self.card.label_set)
            raise FastSCNNError(f"{path}: gives {classes} classes but its card names {named}; export it again.")

    def __call__(self, images: UInt8Array) -> Float32Array:
        """See `Runtime`."""
        try:
            (logits,) = self._session.run(None, {"images": np.ascontiguousarray(images)})
        except Exception as error:  # onnxruntime's own errors share no public base class; most often memory is short
            reason = str(error).splitlines()[0]
            raise FastSCNNError(f"ONNX Runtime cannot run {list(images.shape)} ({reason}); give a smaller --size.") from error
        return np.asarray(logits, np.float32)
