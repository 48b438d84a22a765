// The size of the network's input: in_shape of the Python package (inference/size.py). Every operation is the same one in
// float64, so the sizes are equal.

const STRIDE = 32; // of the network's coarsest grid; also the smallest side
const SAME_SHAPE = 1.1; // ratio of two aspect ratios up to which a picture is resized to the other shape

/**
 * Return a network input size in the shape of a picture: of about the same area as `size`, with sides that differ from those
 * of `size` by multiples of 32. If the aspect ratios differ by less than 10 %, it is `size`.
 * @param {[number, number]} size height and width of the input that the weights were trained for, at least 32 each.
 * @param {[number, number]} picture height and width.
 * @returns {[number, number]} height and width.
 */
export function inShape(size, picture) {
  const stretch = (picture[1] * size[0]) / (picture[0] * size[1]); // of the aspect ratios, width over height
  if (1 / SAME_SHAPE < stretch && stretch < SAME_SHAPE) return size;
  const root = Math.sqrt(stretch);
  return [congruent(size[0] / root, size[0]), congruent(size[1] * root, size[1])];
}

/** Return the number nearest to `side` that differs from `trained` by a multiple of 32, at least 32; halves go up. */
function congruent(side, trained) {
  const nearest = trained + STRIDE * Math.floor((side - trained) / STRIDE + 0.5);
  return Math.max(nearest, STRIDE + (trained % STRIDE));
}
