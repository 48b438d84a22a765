// Drives the page for web.py: node benchmarks/web.mjs < ORDERS.json, prints JSON.

import { readFileSync } from "node:fs";
import { launch } from "../tests/chromium.mjs";

const orders = JSON.parse(readFileSync(0, "utf8"));
const context = await launch(orders);
const page = context.pages()[0];
await context.addInitScript((value) => { // the page uses half of the processors that it detects
  Object.defineProperty(navigator, "hardwareConcurrency", { value });
}, 2 * orders.threads);
await page.goto(orders.url);
await page.waitForSelector("body.ready");

for (const { path, labels } of orders.pictures) {
  await page.setInputFiles("#file", path);
  const name = path.split("/").at(-1);
  await page.waitForFunction((name) => document.getElementById("status").textContent.startsWith(`Labelled ${name}`), name);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-labels")]);
  await download.saveAs(labels);
}

await page.click("#camera");
await page.waitForFunction(() => document.getElementById("rate").textContent.includes("frames/s"));
const readings = [];
for (let second = 0; second < orders.seconds; second++) {
  await page.waitForTimeout(1000);
  readings.push(await page.evaluate(() => ({
    rate: parseFloat(document.getElementById("rate").textContent),
    ...JSON.parse(document.getElementById("split").dataset.milliseconds),
  })));
}
const [threads] = (await page.textContent("#split")).match(/\d+(?= thread)/);
process.stdout.write(JSON.stringify({ browser: orders.version, threads: Number(threads), readings }));
await context.close();
