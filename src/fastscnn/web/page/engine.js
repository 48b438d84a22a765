// Downloads the files of the network, and starts and calls worker.js.

/** A tiny WebAssembly module that uses SIMD: a browser that rejects it cannot run ONNX Runtime. */
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);
const MODULES = ["worker.js", "lazy.js", "resize.js", "ort/ort.wasm.min.mjs", "ort/ort-wasm-simd-threaded.mjs"];
const MOST_THREADS = 4; // ONNX Runtime's default, as is half of the processors

export const threads = self.crossOriginIsolated
  ? Math.min(Math.ceil((navigator.hardwareConcurrency || 1) / 2), MOST_THREADS)
  : 1; // shared memory needs cross-origin isolation

/**
 * Download the network, ONNX Runtime and the modules of the worker.
 * @param {object} card labels.json.
 * @param {(share: number) => void} progress called with the fraction downloaded, 0 to 1.
 * @returns {Promise<object>} the argument of `start`.
 */
export async function load(card, progress) {
  if (!self.WebAssembly?.validate(SIMD))
    throw new Error("This browser supports WebAssembly without SIMD, which the network needs; use a newer browser.");
  let loaded = 0;
  const count = (bytes) => progress(Math.min(1, (loaded += bytes) / card.bytes));
  const [weights, wasm, ...modules] = await Promise.all([
    ...["weights.onnx", "ort/ort-wasm-simd-threaded.wasm"].map((name) => download(name, count)),
    ...MODULES.map((name) => download(name)),
  ]);
  return { weights, wasm, modules, card };
}

/**
 * Start the worker with the network. The worker and its modules are blobs: a blob worker inherits the page's current policy;
 * a worker from a file would get its policy from the server.
 * @param {object} loaded the result of `load`.
 * @returns {Promise<(bitmap: ImageBitmap) => Promise<object>>} labels a picture: see `label` in worker.js.
 */
export async function start({ weights, wasm, modules, card }) {
  const [worker, lazy, resize, ort, glue] = modules.map((bytes) =>
    URL.createObjectURL(new Blob([bytes], { type: "text/javascript" })));
  const call = caller(new Worker(worker, { type: "module" }));
  await call("load", { urls: { lazy, resize, ort, glue }, weights, wasm, card, threads }, [weights.buffer, wasm.buffer]);
  return (bitmap) => call("label", { bitmap }, [bitmap]);
}

/** Return the bytes of a file; call `count` with the length of each part received. */
export async function download(name, count = () => {}) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing on this server (${response.status}); run fastscnn web again.`);
  const parts = [];
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    count(value.length);
  }
}

/** Return a function that sends a task to the worker and resolves to its answer. */
function caller(worker) {
  const waiting = new Map();
  let last = 0;
  const fail = (reason) => {
    for (const { reject } of waiting.values()) reject(new Error(reason));
    waiting.clear();
  };
  worker.onerror = (event) => fail(event.message || "This browser does not support modules in workers; use a newer browser.");
  worker.onmessage = ({ data: { id, answer, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  };
  return (task, values, transfer) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ id: last, task, ...values }, transfer);
  });
}
