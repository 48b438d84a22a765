// Keeps the page's files, so that it runs offline, and adds the headers that threads need, so that any web server will do.
// The name of the cache changes with every change of any file: browsers then take all files anew. What else lies on the
// server, below the page's folder too, is none of its business.

const OURS = `fastscnn ${registration.scope} `; // other copies of the page on this server keep their own files
const CACHE = `${OURS}@BUILD@`;
const SHELL = [
  "./", "style.css", "icon.svg", "app.js", "engine.js", "lazy.js", "png.js", "resize.js", "sources.js", "view.js", "worker.js",
  "weights-terms.txt",
];
const LARGE = [
  "labels.json", "scene.png", "weights.onnx", "ort/ort.wasm.min.mjs", "ort/ort-wasm-simd-threaded.mjs",
  "ort/ort-wasm-simd-threaded.wasm",
];
const FILES = new Set([...SHELL, ...LARGE].map((name) => new URL(name, registration.scope).href));
const HEADERS = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

// On the first visit the page itself loads the large files, through this worker, and shows how far it is; a newer worker
// has everything before it takes over, and waits until no page runs on the old files.
addEventListener("install", (event) => {
  if (!registration.active) skipWaiting();
  const names = registration.active ? [...SHELL, ...LARGE] : SHELL;
  const requests = names.map((name) => new Request(name, { cache: "no-cache" })); // asks the server whether they changed
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

addEventListener("activate", (event) => {
  const clean = caches.keys().then((names) =>
    Promise.all(names.filter((name) => name.startsWith(OURS) && name !== CACHE).map((name) => caches.delete(name))));
  event.waitUntil(clean.then(() => clients.claim()));
});

addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const file = (origin + pathname).replace(/\/index\.html$/, "/");
  if (event.request.method === "GET" && FILES.has(file)) event.respondWith(answer(event, file));
});

async function answer(event, file) {
  let response = await caches.match(file, { cacheName: CACHE }).catch(() => {});
  if (!response) {
    response = await fetch(event.request);
    if (!response.ok) return response; // as it is: a redirected page has the status 0, which no new response may have
    const copy = response.clone();
    event.waitUntil(caches.open(CACHE).then((cache) => cache.put(file, copy)).catch(() => {})); // no room: not offline, then
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { headers });
}
