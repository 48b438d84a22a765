"""Label a picture with a .param file and its .bin file, without the package fastscnn.

pip install ncnn numpy pillow
fastscnn export run/best.safetensors --target ncnn --static 360x480 --out model.param
python label_image_ncnn.py model.param 360x480 street.jpg labels.png
"""

import sys

import ncnn
import numpy as np
from PIL import Image

model, size, picture, out = sys.argv[1:]
height, width = map(int, size.split("x"))
net = ncnn.Net()
net.load_param(model)
net.load_model(model.removesuffix("param") + "bin")
image = Image.open(picture).convert("RGB")
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
with net.create_extractor() as run:
    run.input("in0", ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, width, height))
    logits = np.array(run.extract("out0")[1])  # [classes, height / 8, width / 8]
full = [np.asarray(Image.fromarray(plane).resize(image.size, Image.Resampling.BILINEAR)) for plane in logits]
labels = np.argmax(full, 0).astype(np.uint8)
Image.fromarray(labels).save(out)
for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
    print(f"class {label}: {count / labels.size:.1%}")
