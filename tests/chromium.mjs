// Starts a headless Chromium with a fake camera, for the scripts here and in benchmarks/.

import { createRequire } from "node:module";

/** Start Chromium. `orders`: modules (folder of playwright-core), chromium (program), profile (empty folder), camera (file). */
export function launch(orders) {
  const { chromium } = createRequire(`${orders.modules}/`)("playwright-core");
  return chromium.launchPersistentContext(orders.profile, {
    executablePath: orders.chromium,
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
      `--use-file-for-fake-video-capture=${orders.camera}`,
    ],
  });
}
