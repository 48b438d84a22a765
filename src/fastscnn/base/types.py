"""Types that several folders use: arrays, and the names that an argument accepts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

BackendName = Literal["auto", "onnx", "openvino", "torch", "cuda"]
AnnotationFormat = Literal["coco", "coco-rle", "labelme", "yolo"]
PresetName = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]
PRESET: PresetName = "veryfast"
ResultName = Literal["labels", "overlay", "confidence", "ood_mask"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DeviceName = Literal["cpu", "cuda", "tensorrt", "coreml", "directml", "openvino-gpu"]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]
