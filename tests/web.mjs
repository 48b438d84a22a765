// Drives the page in a headless Chromium for test_web.py: node tests/web.mjs < ORDERS.json, prints a report as JSON.
// test_web.py checks the report.

import { readFileSync } from "node:fs";
import { launch } from "./chromium.mjs";

const orders = JSON.parse(readFileSync(0, "utf8"));
const context = await launch(orders);
const report = { complaints: [], requests: [] };
const page = context.pages()[0];
page.on("console", (message) => ["error", "warning"].includes(message.type()) && report.complaints.push(message.text()));
page.on("pageerror", (error) => report.complaints.push(String(error)));
page.on("request", (request) => report.requests.push(request.url()));

const status = () => page.textContent("#status");
const says = (text) => page.waitForFunction((part) => document.getElementById("status").textContent.includes(part), text);
const ready = () => page.waitForSelector("body.ready");

/** Drop a file on the page, and wait for a message. */
async function drop(path, type, text) {
  const name = path.split("/").at(-1);
  await page.evaluate(async ([base64, name, type]) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type }));
    dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }, [readFileSync(path).toString("base64"), name, type]);
  await says(text);
}

/** Click, and save the file that the page downloads. */
async function save(selector, path) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  await download.saveAs(path);
  return download.suggestedFilename();
}

/** Return the mean alpha of the labels. */
const alpha = () => page.evaluate(() => {
  const canvas = document.getElementById("labels");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let i = 3; i < data.length; i += 4) sum += data[i];
  return sum / (data.length / 4);
});

/** Try every kind of request of a page or worker; return those that succeeded. */
const probe = async ([own, foreign]) => {
  const worked = [];
  const image = (url) => new Promise((resolve, reject) => {
    Object.assign(new Image(), { onload: resolve, onerror: reject, src: url });
  });
  const old = (url) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    Object.assign(request, { onload: resolve, onerror: reject });
    request.open("GET", url);
    request.send();
  });
  const nested = (url) => new Promise((resolve, reject) => {
    const code = `fetch("${url}").then(() => postMessage(true), () => postMessage(false))`;
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    Object.assign(worker, { onmessage: ({ data }) => (data ? resolve : reject)(), onerror: reject });
  });
  const ways = {
    get: () => fetch(`${own}labels.json`),
    post: () => fetch(own, { method: "POST", body: "pixels" }),
    foreign: () => fetch(foreign, { method: "POST", body: "pixels", mode: "no-cors" }),
    old: () => old(`${own}labels.json`),
    kept: async () => (await caches.open("probe")).add(`${own}labels.json`),
    nested: () => nested(`${own}labels.json`),
    ...(self.document && { image: () => image(`${own}scene.png?again`) }),
  };
  for (const [name, way] of Object.entries(ways)) {
    try {
      await way();
      worked.push(name);
    } catch {}
  }
  return worked;
};

await page.goto(orders.url);
await ready();
report.isolated = await page.evaluate(() => crossOriginIsolated);
report.meter = await page.textContent("#meter");
report.requests = []; // drop those of loading
report.atReady = await (await context.request.get(`${orders.url}count`)).json();

report.names = [];
report.inputs = []; // sizes of the network's input, as shown
const input = async () => (await page.textContent("#meter")).match(/input (\S+)/)[1];
for (const { path, type, labels } of orders.pictures) {
  await drop(path, type, `Labelled ${path.split("/").at(-1)}`);
  report.names.push(await save("#save-labels", labels));
  report.inputs.push(await input());
}
report.names.push(await save("#save-overlay", orders.overlay));
await drop(orders.text, "text/plain", "is not a picture");
report.refused = await status();
await drop(orders.tiny, "image/png", "each side");
report.small = await status();

report.legend = await page.$$eval("#legend .name", (names) => names.map((name) => name.textContent));
report.shares = await page.$$eval("#legend .share", (shares) => shares.map((share) => share.textContent));
report.solid = await alpha();
await page.hover("#legend button");
report.dimmed = await alpha();
await page.mouse.move(0, 0);
report.restored = await alpha();
await page.fill("#opacity", "20");
report.opacity = await page.$eval("#labels", (canvas) => getComputedStyle(canvas).opacity);
const boxes = () => page.$$eval("#stage canvas", (canvases) => canvases.map((canvas) => canvas.getBoundingClientRect().left));
report.over = await boxes();
await page.check("input[value=beside]", { force: true });
report.beside = await boxes();
await page.check("input[value=over]", { force: true });

await page.focus("#stage");
await page.keyboard.press("ArrowDown");
report.probe = await page.textContent("#probe output");
report.here = await page.textContent("#legend .here .name");
await page.keyboard.press("Escape");
report.probeAfter = await page.isVisible("#probe");
const box = await page.locator("#picture").boundingBox();
await page.mouse.move(box.x + box.width * 0.25, box.y + box.height * 0.25);
report.pointed = await page.textContent("#probe output");

await page.focus("#open");
report.order = ["open"];
for (let i = 0; i < 20; i++) {
  await page.keyboard.press("Tab");
  report.order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
}
report.unnamed = await page.$$eval("button, input, canvas, progress, [tabindex='0']", (parts) => parts
  .filter((part) => !part.getAttribute("aria-label") && !part.textContent.trim() && !part.labels?.length)
  .map((part) => part.outerHTML));

await page.evaluate(() => { // a picture that decodes only after `release`
  const real = createImageBitmap;
  self.createImageBitmap = async (source, ...rest) => {
    if (source.name === "slow.png") await new Promise((resolve) => { self.release = resolve; });
    return real(source, ...rest);
  };
  const dataTransfer = new DataTransfer();
  document.getElementById("picture").toBlob((blob) => {
    dataTransfer.items.add(new File([blob], "slow.png", { type: "image/png" }));
    dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  });
});
await page.waitForFunction(() => self.release);
await page.click("#example");
await says("Labelled scene.png");
await page.evaluate(() => release());
await page.waitForTimeout(500);
report.late = await status();

await page.evaluate(async () => { // record a video of the picture, 16:9
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [160, 90];
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  for (let i = 0; i < 10; i++) {
    context.drawImage(document.getElementById("picture"), i, 0, 160, 90);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  recorder.stop();
  await stopped;
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(parts, "clip.webm", { type: "video/webm" }));
  dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
});
await says("Labelling clip.webm");
await page.waitForFunction(() => document.getElementById("rate").textContent.includes("frames/s"));
report.video = [...await page.$eval("#labels", ({ width, height }) => [width, height]), await input()];
await drop(orders.text, "video/mp4", "is not a video");
report.badVideo = await status();

await page.click("#example");
await says("Labelled scene.png");
await page.click("#camera");
await page.waitForFunction(() => document.getElementById("rate").textContent.includes("frames/s"));
report.camera = [await status(), await page.textContent("#meter")];
await page.evaluate(() => document.getElementById("video").srcObject.getTracks()[0].dispatchEvent(new Event("ended")));
report.unplugged = [await status(), await page.textContent("#camera"), await page.isVisible("#pause")];
await page.evaluate(() => { // a camera whose first frame is slow
  const video = document.getElementById("video");
  video.play = () => new Promise((_, reject) => { self.aborted = () => reject(new DOMException("", "AbortError")); });
});
await page.click("#camera");
await page.waitForFunction(() => self.aborted);
await page.click("#example");
await says("Labelled scene.png");
await page.evaluate(() => {
  delete document.getElementById("video").play;
  aborted();
});
report.left = [await status(), await page.textContent("#camera")];
await page.click("#camera");
await says("Labelling the camera");
await page.click("#pause");
report.paused = await page.textContent("#pause");
await page.click("#camera");
report.off = [await status(), await page.isVisible("#pause")];
await page.evaluate(() => {
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
});
await page.click("#camera");
await says("denied");
report.refusedCamera = await status();

report.atEnd = await (await context.request.get(`${orders.url}count`)).json();
await context.setOffline(true);
await drop(orders.pictures[0].path, orders.pictures[0].type, "Labelled");
report.requested = report.requests.filter((url) => !url.startsWith("blob:"));
report.complaintsAtEnd = [...report.complaints];
await page.reload();
await ready();
report.offline = await status();
await context.setOffline(false);

const foreign = orders.url.replace("localhost", "127.0.0.1"); // another origin, without a service worker
report.blocked = { page: await page.evaluate(probe, [orders.url, foreign]) };
report.blocked.worker = await page.workers()[0].evaluate(probe, [orders.url, foreign]);
const plain = await context.newPage();
await plain.addInitScript(() => { Object.defineProperty(navigator, "serviceWorker", { value: undefined }); });
await plain.goto(foreign);
await plain.waitForSelector("body.ready");
report.plain = await plain.evaluate(async () => [crossOriginIsolated, (await caches.keys()).length]);
report.blocked.plainPage = await plain.evaluate(probe, [foreign, orders.url]);
report.blocked.plainWorker = await plain.workers()[0].evaluate(probe, [foreign, orders.url]);

const other = await context.newPage(); // another page, below the folder of ours
await other.goto(`${orders.url}other.html`);
report.other = [await other.textContent("body"), await other.evaluate(() => crossOriginIsolated)];
report.free = await other.evaluate(probe, [orders.url, foreign]);
report.kept = await other.evaluate(async () => {
  const name = (await caches.keys()).find((name) => name.startsWith("fastscnn "));
  return (await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname).sort();
});

const bare = await context.newPage();
await bare.addInitScript(() => { WebAssembly.validate = () => false; });
await bare.goto(orders.url);
await bare.waitForSelector("#status.error");
report.noSimd = await bare.textContent("#status");

await context.close();
process.stdout.write(JSON.stringify(report));
