// The sources of pictures: a file, a video or a camera. Nothing leaves the browser.

const LEAST = 32, MOST = 40e6; // pixels per side, and in total: the limits of the Python package

/**
 * Decode a picture file: rotated by EXIF, colours not converted.
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
  if (Math.min(width, height) < LEAST) throw new Error(`The picture has ${height}x${width} pixels; each side needs at least ${LEAST}.`);
  if (width * height > MOST) throw new Error(`The picture has ${height}x${width} pixels; the limit is 40 megapixels.`);
  return bitmap;
}

/** Play a video file in the element. */
export async function playFile(video, file) {
  video.src = URL.createObjectURL(file);
  await play(video, `${file.name} is not a video that this browser can play.`);
}

/** Ask for the camera. */
export async function camera() {
  if (!navigator.mediaDevices) throw new Error("The camera needs a page served by https or from localhost.");
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 960 }, height: { ideal: 720 }, frameRate: { ideal: 60 } },
    });
  } catch (error) {
    throw new Error({
      NotAllowedError: "Access to the camera was denied; allow it in the browser's settings for this page, then try again.",
      NotFoundError: "No camera was found; connect one, or open a picture.",
      NotReadableError: "The camera is in use by another program; close that program, then try again.",
    }[error.name] ?? `The camera cannot be used (${error.message}).`);
  }
}

/** Play a camera in the element. */
export async function playCamera(video, stream) {
  video.srcObject = stream;
  await play(video, "The camera delivers no picture.");
}

/** Close the video or camera of the element. */
export function close(video) {
  video.pause();
  stop(video.srcObject);
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
}

/** Switch a camera off. */
export function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

async function play(video, sentence) {
  try {
    await video.play();
  } catch (error) {
    if (error.name === "AbortError") return; // another source replaced it
    close(video);
    throw new Error(sentence);
  }
}

/**
 * Return a function that resolves when the element shows a frame that is newer than at its last call. Frames that arrive
 * while nothing waits are skipped. Ends with the first frame for which `wanted` returns false.
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
