// Labels a picture with ONNX Runtime and sharp in Node, and the modules of the web page, without a browser.
//
//     npm install
//     node label_image.mjs WEIGHTS.onnx IMAGE LABELS.png [HxW]
//
// WEIGHTS.onnx is a file of fastscnn, in float32 or int8, whose output is `logits` or `labels`. HxW is the size of the network's
// input, `size` of the model card; without it, the size of a static graph, or that of IMAGE. LABELS.png has the size of IMAGE,
// and one byte per pixel: the class id.

import { labels as interpolated } from "../../src/fastscnn/web/page/lazy.js";
import { resize } from "../../src/fastscnn/web/page/resize.js";

process.env.ORT_DISABLE_TELEMETRY = "1"; // read when onnxruntime-node is imported
const { default: ort } = await import("onnxruntime-node");
const { default: sharp } = await import("sharp");

/** Return the size [height, width] of the network's input for an image of a size. */
function inputSize(session, words, image) {
  if (words) return words.split("x").map(Number);
  const [, height, width] = session.inputMetadata[0].shape;
  return typeof height === "number" && typeof width === "number" ? [height, width] : image;
}

/** Return the pixel of `labels` that is nearest to each pixel of an image, for labels of another size. */
function nearest(labels, [height, width], [toHeight, toWidth]) {
  if (height === toHeight && width === toWidth) return labels;
  const result = new Uint8Array(toHeight * toWidth);
  for (let y = 0, at = 0; y < toHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / toHeight) * width;
    for (let x = 0; x < toWidth; x++) result[at++] = labels[row + Math.floor(((x + 0.5) * width) / toWidth)];
  }
  return result;
}

const [weights, source, target, size] = process.argv.slice(2);
if (!target) throw new Error("Usage: node label_image.mjs WEIGHTS.onnx IMAGE LABELS.png [HxW]");
const session = await ort.InferenceSession.create(weights);
const { data, info } = await sharp(source).rotate().removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
const image = [info.height, info.width];
const input = inputSize(session, size, image);
const images = new ort.Tensor("uint8", resize(data, image, input), [1, ...input, 3]);
const output = await session.run({ images });
const result = output.labels
  ? nearest(output.labels.data, output.labels.dims.slice(1), image) // uint8 [1, height, width]
  : interpolated(output.logits.data, output.logits.dims.slice(1), image); // float32 [1, classes, height / 8, width / 8]
await sharp(result, { raw: { width: image[1], height: image[0], channels: 1 } }).toColourspace("b-w").png().toFile(target);
