// The controls of the page and the video loop. Once loaded, the page blocks all further requests by policy.

import { download, load, start, threads } from "./engine.js";
import { camera, close, frames, picture, playCamera, playFile, stop } from "./sources.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const STAGES = ["read", "resize", "network", "labels", "draw"];
const REFRESH = 250; // milliseconds between two updates of the displayed speed
let label, view, scene; // the worker's function, the view, the example picture as a file
let asked = 0; // counts requested sources: a picture decoded after a newer request is dropped
let turn = 0; // counts displayed sources: work on an older one stops
let name = "scene"; // stem of saved files

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

/** Run an action of the user; show its error on the page. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  }
}

/** Close the current source. Return the number of the new one. */
function take() {
  asked++;
  close($("video"));
  $("camera").textContent = "Use camera";
  $("pause").hidden = true;
  $("pause").textContent = "Pause";
  return ++turn;
}

/** Segment and draw one picture. Return the input's size and the milliseconds of each stage, or undefined if another source
 * replaced it. */
async function once(bitmap, mine) {
  const answer = await label(bitmap);
  if (mine !== turn) return answer.bitmap.close();
  const start = performance.now();
  view.show(answer);
  return { input: answer.input, times: { ...answer.milliseconds, draw: performance.now() - start } };
}

async function open(file) {
  if (!file) return;
  const isVideo = file.type.startsWith("video/");
  const request = ++asked;
  const bitmap = isVideo ? null : await picture(file); // decode before the old source is closed
  if (request !== asked) return bitmap.close();
  const mine = take();
  name = (file.name ?? "pasted").replace(/\.[^.]*$/, "");
  if (isVideo) {
    await playFile($("video"), file);
    if (mine !== turn) return;
    say(`Labelling ${file.name}.`);
    return loop(mine);
  }
  const { width, height } = bitmap;
  const done = await once(bitmap, mine);
  if (!done) return;
  say(`Labelled ${file.name ?? "the picture"}, ${height}x${width} pixels.`);
  meter(done, null);
}

async function toggleCamera() {
  if ($("video").srcObject) {
    take();
    return say("The camera is off.");
  }
  const mine = take();
  say("Waiting for the camera.");
  const stream = await camera();
  if (mine !== turn) return stop(stream);
  await playCamera($("video"), stream);
  if (mine !== turn) return;
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (mine !== turn) return;
    take();
    say("The camera was disconnected; connect it again, or open a picture.", true);
  });
  name = "camera";
  $("camera").textContent = "Stop camera";
  say("Labelling the camera. Frames stay in this browser.");
  return loop(mine);
}

/** Label the newest frame of the video, again and again, until another source replaces it. */
async function loop(mine) {
  const video = $("video");
  $("pause").hidden = false;
  const next = frames(video, () => mine === turn);
  const ends = []; // times at which the last frames were drawn
  let shown = 0;
  for (;;) {
    await next();
    if (mine !== turn) return;
    const start = performance.now();
    const bitmap = await createImageBitmap(video);
    const read = performance.now() - start;
    const done = await once(bitmap, mine);
    if (!done) return;
    done.times.read += read;
    const now = performance.now();
    ends.push(now);
    if (ends.length > 31) ends.shift();
    if (now - shown < REFRESH || ends.length < 2) continue;
    shown = now;
    meter(done, (1000 * (ends.length - 1)) / (now - ends[0]));
  }
}

/** Show the milliseconds of each stage, the input's size, and the frame rate of a video. */
function meter({ input, times }, rate) {
  const total = STAGES.reduce((sum, stage) => sum + times[stage], 0);
  $("rate").textContent = rate === null ? `${total.toFixed(0)} ms` : `${rate.toFixed(1)} frames/s`;
  $("split").textContent = STAGES.map((stage) => `${stage} ${times[stage].toFixed(1)}`).join(" · ") +
    ` ms · input ${input.join("x")} · ${threads} thread${threads > 1 ? "s" : ""}`;
  $("split").dataset.milliseconds = JSON.stringify(times);
}

async function save(suffix, made) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await made);
  link.download = name + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function listen() {
  $("file").addEventListener("change", ({ target }) => {
    attempt(() => open(target.files[0]));
    target.value = ""; // so that the same file can be chosen again
  });
  $("open").addEventListener("click", () => $("file").click());
  $("camera").addEventListener("click", () => attempt(toggleCamera));
  $("example").addEventListener("click", () => attempt(() => open(scene)));
  $("pause").addEventListener("click", ({ target }) => {
    const video = $("video");
    if (video.paused) video.play();
    else video.pause();
    target.textContent = video.paused ? "Play" : "Pause";
  });
  $("opacity").addEventListener("input", ({ target }) => {
    $("stage").style.setProperty("--opacity", target.value / 100);
    $("percent").textContent = `${target.value} %`;
  });
  for (const choice of document.getElementsByName("mode"))
    choice.addEventListener("change", () => {
      $("opacity").disabled = $("stage").classList.toggle("beside", choice.value === "beside");
    });
  $("save-labels").addEventListener("click", () => attempt(() => save(".labels.png", view.labelFile())));
  $("save-overlay").addEventListener("click", () => attempt(() => save(".overlay.jpg", view.overlayFile())));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("drop");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("drop"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("drop");
    attempt(() => open(event.dataTransfer.files[0]));
  });
  addEventListener("paste", (event) => attempt(() => open(event.clipboardData.files[0])));
}

/** Put the page under its service worker, which makes it work offline and adds the headers that threads need. */
async function behindServiceWorker() {
  if (!navigator.serviceWorker) return; // neither https nor localhost
  const { active, installing, waiting } = await navigator.serviceWorker.register("sw.js");
  const first = active ? null : (installing ?? waiting);
  if (first && !navigator.serviceWorker.controller) // first visit: the worker takes control once it has cached the small files
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve);
      first.addEventListener("statechange", () => first.state === "redundant" && resolve()); // caching failed
    });
  if (!navigator.serviceWorker.controller) return;
  if (self.crossOriginIsolated || sessionStorage.getItem("reloaded")) return;
  sessionStorage.setItem("reloaded", "yes"); // once: its headers apply from the next load on
  location.reload();
  await new Promise(() => {});
}

/** Block all requests of the page, and of workers started after this call. */
function lock() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "default-src 'none'; script-src blob: 'wasm-unsafe-eval'; worker-src blob:; img-src blob:; media-src blob:";
  document.head.append(policy);
}

await attempt(async () => {
  await behindServiceWorker().catch(() => {}); // not available, as in private windows
  const card = JSON.parse(new TextDecoder().decode(await download("labels.json")));
  view = new View(card);
  $("network").textContent = `${card.precision}, input ${card.size.join("x")} in the shape of each picture`;
  $("terms").textContent = card.terms || "not stated";
  const [example, loaded] = await Promise.all([
    download("scene.png"),
    load(card, (share) => { $("progress").value = share; }),
  ]);
  scene = new File([example], "scene.png", { type: "image/png" });
  lock(); // before the worker starts, so that it inherits the policy
  label = await start(loaded);
  listen();
  (await label(await picture(scene))).bitmap.close(); // warm-up: the first call includes compilation
  await open(scene);
  say("Ready. This is a generated test scene. Drop a picture or a video here; it stays in this browser.");
  for (const control of document.querySelectorAll("[disabled]")) control.disabled = false;
  document.body.classList.add("ready");
});
$("progress").hidden = true;
