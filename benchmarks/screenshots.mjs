// Takes the pictures of the page in docs/web:
//     fastscnn web --out site --port 8000 &
//     node benchmarks/screenshots.mjs NODE_MODULES http://localhost:8000/ docs/web
// NODE_MODULES is a folder node_modules with playwright-core; the browser is the program `chromium`.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "../tests/chromium.mjs";

const [modules, url, out] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "screenshots-"));
const chromium = execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
const context = await launch({ modules, chromium, profile, camera: "" });
const page = context.pages()[0];

async function open(scheme, width, height) {
  await page.emulateMedia({ colorScheme: scheme });
  await page.setViewportSize({ width, height });
  await page.goto(url);
  await page.waitForSelector("body.ready");
  await page.waitForFunction(() => document.getElementById("split").textContent.includes("network"));
  for (let frame = 0; frame < 5; frame++) { // the first is slower than the others
    await page.click("#example");
    await page.waitForTimeout(500);
  }
}

async function shoot(name) {
  await page.screenshot({ path: join(out, name), type: "jpeg", quality: 88 });
}

await open("light", 1280, 800);
await page.hover("#stage", { position: { x: 520, y: 370 } });
await shoot("desktop.jpg");
await open("light", 360, 740);
await shoot("phone.jpg");
await open("dark", 1280, 800);
await page.click("text=Side by side");
await page.click("#legend button:has-text('Road')");
await page.waitForTimeout(300);
await shoot("dark.jpg");
await context.close();
rmSync(profile, { recursive: true });
