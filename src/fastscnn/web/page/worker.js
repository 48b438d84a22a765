// Runs the network in a worker, so that the page stays responsive. All files arrive by message, modules as blob URLs: the
// worker can make no requests (see `start` in engine.js).

let labels, inShape, resize, ort; // from lazy.js, from resize.js (two), and ONNX Runtime
let session, size, classes;
const canvas = new OffscreenCanvas(1, 1);
const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });

const TASKS = {
  async load({ urls, wasm, weights, card, threads }) {
    [{ labels }, { inShape, resize }, ort] = await Promise.all([urls.lazy, urls.resize, urls.ort].map((url) => import(url)));
    ort.env.wasm.wasmPaths = { mjs: urls.glue };
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    session = await ort.InferenceSession.create(weights, {
      executionProviders: ["wasm"],
      logSeverityLevel: 3, // errors
      extra: { session: { intra_op: { allow_spinning: "0" } } }, // spinning threads slow down the page
    });
    size = card.size;
    classes = card.names.length;
    return [{}, []];
  },

  /** Return the labels, the input's size, and the bitmap, so that the page draws the picture that the labels belong to. */
  async label({ bitmap }) {
    const full = [bitmap.height, bitmap.width];
    const start = performance.now();
    const pixels = read(bitmap);
    const atResize = performance.now();
    const input = inShape(size, full);
    const resized = resize(pixels, full, input);
    const atNetwork = performance.now();
    const logits = await run(resized, input);
    const atLabels = performance.now();
    const result = labels(logits.data, logits.dims.slice(1), full);
    const counts = new Uint32Array(256);
    for (const label of result) counts[label]++;
    const milliseconds = {
      read: atResize - start, resize: atNetwork - atResize, network: atLabels - atNetwork, labels: performance.now() - atLabels,
    };
    return [{ bitmap, input, labels: result, counts: counts.slice(0, classes), milliseconds }, [bitmap, result.buffer]];
  },
};

onmessage = async ({ data: { id, task, ...values } }) => {
  try {
    const [answer, transfer] = await TASKS[task](values);
    postMessage({ id, answer }, transfer);
  } catch (error) {
    postMessage({ id, error: String(error?.message ?? error) });
  }
};

function read(bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height)
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

/** Return the logits [1, classes, h, w] of RGB bytes of a size; the network contains the normalisation. */
async function run(pixels, input) {
  const { logits } = await session.run({ images: new ort.Tensor("uint8", pixels, [1, ...input, 3]) });
  return logits;
}
