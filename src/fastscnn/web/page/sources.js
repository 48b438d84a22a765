// Where pictures come from: a file, a video or a camera. Nothing here leaves the browser.

const LEAST = 32, MOST = 40e6; // a side, and pixels of all: the limits of the Python package

/**
 * A picture file as the network takes it: upright, its colours as they stand in the file.
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function picture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name ?? "This"} is not a picture or video that this browser can read.`);
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < LEAST) throw new Error(`The picture has ${width}×${height} pixels; it needs ${LEAST} a side.`);
  if (width * height > MOST) throw new Error(`The picture has ${width}×${height} pixels, over the limit of 40 megapixels.`);
  return bitmap;
}

/** Plays a video file in the element. */
export async function playFile(video, file) {
  video.src = URL.createObjectURL(file);
  await play(video, `${file.name} is not a video that this browser can play.`);
}

/** Asks for the camera. */
export async function camera() {
  if (!navigator.mediaDevices) throw new Error("The camera needs a page from https or localhost.");
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 960 }, height: { ideal: 720 }, frameRate: { ideal: 60 } },
    });
  } catch (error) {
    throw new Error({
      NotAllowedError: "The camera was refused; allow it in the browser's settings of this page, then try again.",
      NotFoundError: "No camera was found; connect one, or open a picture.",
      NotReadableError: "The camera is in use by another program; close that, then try again.",
    }[error.name] ?? `The camera cannot be used (${error.message}).`);
  }
}

/** Plays a camera in the element. */
export async function playCamera(video, stream) {
  video.srcObject = stream;
  await play(video, "The camera gives no picture.");
}

/** Lets go of the video or camera that the element shows. */
export function close(video) {
  video.pause();
  stop(video.srcObject);
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
}

/** Switches a camera off. */
export function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

async function play(video, sentence) {
  try {
    await video.play();
  } catch (error) {
    if (error.name === "AbortError") return; // another source took its place
    close(video);
    throw new Error(sentence);
  }
}

/**
 * Waits for frames: the function it gives resolves once the element shows a frame that was not there at its last call,
 * at once where that has come meanwhile. Frames that nobody waits for are skipped. Ends with the first frame for which
 * `wanted` gives false.
 */
export function frames(video, wanted) {
  let fresh = false, wake = () => {};
  const next = (then) =>
    video.requestVideoFrameCallback ? video.requestVideoFrameCallback(then) : requestAnimationFrame(then);
  const tick = () => {
    fresh = true;
    wake();
    if (wanted()) next(tick);
  };
  next(tick);
  return async () => {
    if (!fresh) await new Promise((resolve) => { wake = resolve; });
    fresh = false;
  };
}
