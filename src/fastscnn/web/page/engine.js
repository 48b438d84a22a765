// The page's side of worker.js, and what it is started with.

/** The bytes of a tiny module that uses SIMD: a browser that refuses it cannot run ONNX Runtime. */
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);
const MODULES = ["worker.js", "lazy.js", "resize.js", "ort/ort.wasm.min.mjs", "ort/ort-wasm-simd-threaded.mjs"];
const MOST_THREADS = 4; // ONNX Runtime's own choice, as is the half: the page and the system compute, too

export const threads = self.crossOriginIsolated
  ? Math.min(Math.ceil((navigator.hardwareConcurrency || 1) / 2), MOST_THREADS)
  : 1; // without isolation there is no shared memory

/**
 * Loads all that the worker is made of.
 * @param {object} card labels.json.
 * @param {(share: number) => void} progress called with the share of bytes that are there.
 * @returns {Promise<object>} for `start`.
 */
export async function load(card, progress) {
  if (!self.WebAssembly?.validate(SIMD))
    throw new Error("This browser runs WebAssembly without SIMD, which the network needs; use a newer browser.");
  let loaded = 0;
  const count = (bytes) => progress(Math.min(1, (loaded += bytes) / card.bytes));
  const [weights, wasm, ...modules] = await Promise.all([
    ...["weights.onnx", "ort/ort-wasm-simd-threaded.wasm"].map((name) => download(name, count)),
    ...MODULES.map((name) => download(name)),
  ]);
  return { weights, wasm, modules, card };
}

/**
 * Starts the worker with the network. It and its modules are blobs: a worker from a blob is under the policy that the page
 * has at this moment, one from a file would be under what its server sends with it, if anything.
 * @param {object} loaded what `load` gave.
 * @returns {Promise<(bitmap: ImageBitmap) => Promise<object>>} labels a picture: see `label` in worker.js.
 */
export async function start({ weights, wasm, modules, card }) {
  const [worker, lazy, resize, ort, glue] = modules.map((bytes) =>
    URL.createObjectURL(new Blob([bytes], { type: "text/javascript" })));
  const call = caller(new Worker(worker, { type: "module" }));
  await call("load", { urls: { lazy, resize, ort, glue }, weights, wasm, card, threads }, [weights.buffer, wasm.buffer]);
  return (bitmap) => call("label", { bitmap }, [bitmap]);
}

/** A file's bytes; `count` hears of each part as it comes. */
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

/** A function that sends a task to the worker and gives its answer. */
function caller(worker) {
  const waiting = new Map();
  let last = 0;
  const fail = (reason) => {
    for (const { reject } of waiting.values()) reject(new Error(reason));
    waiting.clear();
  };
  worker.onerror = (event) => fail(event.message || "This browser is too old for the page: its workers know no modules.");
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
