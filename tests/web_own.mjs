// Opens one picture on a page with a user's own network, for test_web.py: node tests/web_own.mjs < ORDERS.json, prints JSON.

import { readFileSync } from "node:fs";
import { launch } from "./chromium.mjs";

const orders = JSON.parse(readFileSync(0, "utf8"));
const context = await launch(orders);
const page = context.pages()[0];
await page.goto(orders.url);
await page.waitForSelector("body.ready");
await page.setInputFiles("#file", orders.picture);
await page.waitForFunction((name) => document.getElementById("status").textContent.startsWith(`Labelled ${name}`),
  orders.picture.split("/").at(-1));
const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-labels")]);
await download.saveAs(orders.labels);
process.stdout.write(JSON.stringify({
  legend: await page.$$eval("#legend .name", (names) => names.map((name) => name.textContent)),
  footer: await page.textContent("footer"),
}));
await context.close();
