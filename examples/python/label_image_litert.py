"""Label a picture with a .tflite file that returns labels, without the package fastscnn.

pip install ai-edge-litert numpy pillow
fastscnn export run/best.safetensors --target litert --static 360x480 --output labels --out labels.tflite
python label_image_litert.py labels.tflite street.jpg labels.png
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, picture, out = sys.argv[1:]
run = Interpreter(model).get_signature_runner()
_, height, width, _ = run.get_input_details()["images"]["shape"]
image = Image.open(picture).convert("RGB")
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
labels = run(images=pixels[None])["labels"][0]
Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST).save(out)
for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
    print(f"class {label}: {count / labels.size:.1%}")
