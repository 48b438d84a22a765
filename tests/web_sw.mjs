// Runs the service worker in Node with a simulated browser, for test_web.py: node tests/web_sw.mjs SW.JS
// prints a report as JSON. test_web.py checks the report.

import { readFileSync } from "node:fs";
import vm from "node:vm";

const SCOPE = "http://host/copy/";
const source = readFileSync(process.argv[2], "utf8");
const path = (request) => new URL(request.url ?? request, SCOPE).pathname;

/** A browser with one service worker: `reply(pathname)` is the network, `kept` the caches by name, `full`: the disk is full. */
function browser({ reply = (name) => new Response(name), kept = {}, active = null, full = false } = {}) {
  const listeners = {}, asked = [];
  const request = (asked_) => asked_.url ? asked_ : new Request(new URL(asked_, SCOPE));
  const fetched = async (wanted) => {
    asked.push([path(wanted), wanted.cache]);
    return reply(path(wanted));
  };
  const cache = (name) => ({
    async put(wanted, response) {
      if (full) throw new DOMException("full", "QuotaExceededError");
      (kept[name] ??= {})[path(wanted)] = await response.text();
    },
    async addAll(requests) {
      for (const wanted of requests) await this.put(wanted, await fetched(request(wanted)));
    },
  });
  const caches = {
    keys: async () => Object.keys(kept),
    open: async (name) => cache(name),
    delete: async (name) => delete kept[name],
    async match(wanted, { cacheName }) {
      if (full) throw new DOMException("full", "UnknownError");
      const body = kept[cacheName]?.[path(wanted)];
      return body === undefined ? undefined : new Response(body);
    },
  };
  vm.runInNewContext(source, {
    addEventListener: (name, listener) => { listeners[name] = listener; },
    registration: { scope: SCOPE, active }, skipWaiting() {}, clients: { claim: async () => {} }, fetch: fetched,
    caches, Headers, Response, URL,
    Request: function request_(name, options) { return new Request(new URL(name, SCOPE), options); },
  });
  /** Fire an event, wait for all its work, and return the answer to a request, if any. */
  async function fire(name, event = {}) {
    const waited = [];
    let answer;
    const waitUntil = (promise) => waited.push(promise);
    listeners[name]({ ...event, waitUntil, respondWith: (given) => { answer = given; } });
    const given = await answer;
    const body = given?.status === 200 ? await given.text() : undefined;
    await Promise.all(waited);
    return answer && { status: given.status, type: given.type, body, policy: given.headers.get("Cross-Origin-Embedder-Policy") };
  }
  const get = (url, method = "GET") => fire("fetch", { request: { url: new URL(url, SCOPE).href, method } });
  return { fire, get, asked, kept };
}

const report = {};

const ours = browser();
report.names = ["./", "index.html", "?a=b", "labels.json", "scene.png?x", "ort/ort.wasm.min.mjs"];
report.ours = [];
for (const name of report.names) report.ours.push(await ours.get(name));
report.others = [];
for (const name of ["other.html", "old.js", "notes/index.html", "/", "/copy/ort/", "http://elsewhere/copy/"])
  report.others.push(await ours.get(name) ?? null);
report.posted = await ours.get("labels.json", "POST") ?? null;

const first = browser();
await first.fire("install");
report.first = [...first.asked];
for (const [name] of report.first) await first.get(name);
report.askedAgain = first.asked.length - report.first.length;
await first.get("weights.onnx");
report.large = Object.values(first.kept).map((files) => files["/copy/weights.onnx"]);

const newer = browser({ active: {} });
await newer.fire("install");
report.newer = newer.asked;

const redirect = { ok: false, status: 0, type: "opaqueredirect", headers: new Headers() }; // cannot be constructed
report.redirected = await browser({ reply: () => redirect }).get("./");
report.missing = await browser({ reply: () => new Response("no", { status: 404 }) }).get("labels.json");
report.full = await browser({ full: true }).get("labels.json");

const names = ["fastscnn http://host/copy/ old", "fastscnn http://host/copy/nested/ old", "fastscnn http://host/ a", "mine"];
const kept = Object.fromEntries(names.map((name) => [name, {}]));
await browser({ kept }).fire("activate");
report.left = Object.keys(kept);

process.stdout.write(JSON.stringify(report));
