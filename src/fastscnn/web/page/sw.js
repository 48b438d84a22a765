// Caches the page's files, so that it works offline, and adds the headers that threads need, so that any web server works.
// The name of the cache changes whenever a file changes: browsers then download all files again. Requests for other files on
// the server, even below the page's folder, are not handled.

const OURS = `fastscnn ${registration.scope} `; // other copies of the page on this server have their own caches
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

// On the first visit the page downloads the large files through this worker and shows the progress. A newer worker caches
// everything before it takes control, and waits until no page uses the old files.
addEventListener("install", (event) => {
  if (!registration.active) skipWaiting();
  const names = registration.active ? [...SHELL, ...LARGE] : SHELL;
  const requests = names.map((name) => new Request(name, { cache: "no-cache" })); // revalidate with the server
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
    if (!response.ok) return response; // unchanged: a redirect has status 0, which a new Response cannot have
    const copy = response.clone();
    event.waitUntil(caches.open(CACHE).then((cache) => cache.put(file, copy)).catch(() => {})); // disk full: online only
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { headers });
}
