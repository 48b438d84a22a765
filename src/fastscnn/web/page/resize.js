// Pillow's resizer, bit for bit, so that the network gets the input of the Python package (images.resize). Each axis is one
// pass in fixed point with 22 fractional bits, rounded to bytes after each pass, the width first. Reduction uses area averages
// (BOX), enlargement is bilinear (BILINEAR).

const BITS = 22;
const BOX = { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BILINEAR = { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) };

const SAME_SHAPE = 1.1, STRIDE = 32; // as in inference/size.py

/**
 * Return the network input size of an image, as `in_shape` of inference/size.py: about the area of `size` in the image's shape.
 * @param {[number, number]} size height and width that the weights were trained for.
 * @param {[number, number]} image height and width.
 */
export function inShape(size, image) {
  const stretch = (image[1] * size[0]) / (image[0] * size[1]);
  if (1 / SAME_SHAPE < stretch && stretch < SAME_SHAPE) return size;
  return [congruent(size[0] / Math.sqrt(stretch), size[0]), congruent(size[1] * Math.sqrt(stretch), size[1])];
}

function congruent(side, trained) {
  const nearest = trained + STRIDE * Math.floor((side - trained) / STRIDE + 0.5);
  return Math.max(nearest, STRIDE + (trained - STRIDE) % STRIDE);
}

/**
 * Resize an image.
 * @param {Uint8Array|Uint8ClampedArray} pixels RGB or RGBA, rows of pixels; alpha is dropped.
 * @param {[number, number]} from height and width of `pixels`.
 * @param {[number, number]} to height and width of the result.
 * @returns {Uint8Array} RGB.
 */
export function resize(pixels, [height, width], [toHeight, toWidth]) {
  let image = { pixels, height, width, step: pixels.length / (height * width) };
  const lessWidth = Math.min(width, toWidth), lessHeight = Math.min(height, toHeight);
  image = down(across(image, lessWidth, BOX), lessHeight, BOX);
  return opaque(down(across(image, toWidth, BILINEAR), toHeight, BILINEAR));
}

function across(image, width, filter) {
  if (width === image.width) return image;
  const { pixels, height, step } = image;
  const { first, count, weights, most } = taps(image.width, width, filter);
  const result = new Uint8Array(height * width * 3);
  for (let y = 0, out = 0; y < height; y++) {
    const row = y * image.width * step;
    for (let x = 0; x < width; x++, out += 3) {
      let red = 1 << (BITS - 1), green = red, blue = red;
      let from = row + first[x] * step;
      for (let tap = x * most, end = tap + count[x]; tap < end; tap++, from += step) {
        const weight = weights[tap];
        red += pixels[from] * weight;
        green += pixels[from + 1] * weight;
        blue += pixels[from + 2] * weight;
      }
      result[out] = red >> BITS; // weights are non-negative and sum to 1: no overflow
      result[out + 1] = green >> BITS;
      result[out + 2] = blue >> BITS;
    }
  }
  return { pixels: result, height, width, step: 3 };
}

function down(image, height, filter) {
  if (height === image.height) return image;
  const { pixels, width, step } = image;
  const { first, count, weights, most } = taps(image.height, height, filter);
  const stride = width * step;
  const result = new Uint8Array(height * stride);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (BITS - 1));
    for (let k = 0; k < count[y]; k++) {
      const weight = weights[y * most + k];
      const row = (first[y] + k) * stride;
      for (let i = 0; i < stride; i++) sums[i] += pixels[row + i] * weight;
    }
    for (let i = 0, out = y * stride; i < stride; i++, out++) result[out] = sums[i] >> BITS;
  }
  return { pixels: result, height, width, step };
}

/** Return the source pixels and weights of each target pixel of an axis, as Pillow's precompute_coeffs. */
function taps(source, target, filter) {
  const scale = source / target;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(target), count = new Int32Array(target), weights = new Int32Array(target * most);
  for (let x = 0; x < target; x++) {
    const centre = (x + 0.5) * scale;
    first[x] = Math.max(0, Math.trunc(centre - support + 0.5));
    count[x] = Math.min(source, Math.trunc(centre + support + 0.5)) - first[x];
    const shares = [];
    for (let k = 0; k < count[x]; k++) shares.push(filter.at((k + first[x] - centre + 0.5) * (1 / stretch)));
    const sum = shares.reduce((a, b) => a + b, 0);
    shares.forEach((share, k) => { weights[x * most + k] = Math.trunc(0.5 + (share / sum) * (1 << BITS)); });
  }
  return { first, count, weights, most };
}

function opaque({ pixels, height, width, step }) {
  if (step === 3) return pixels instanceof Uint8Array ? pixels : new Uint8Array(pixels);
  const result = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; to < result.length; from += 4, to += 3) {
    result[to] = pixels[from];
    result[to + 1] = pixels[from + 1];
    result[to + 2] = pixels[from + 2];
  }
  return result;
}
