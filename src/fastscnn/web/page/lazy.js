// Full-size labels from logits at 1/8; upsample.py of the Python package explains the rule. A cell whose four corners agree
// on the class is filled. Other cells are interpolated, for the classes that can win. Every sum and product follows NumPy's
// order and is rounded to float32, so that all labels equal Python's, ties included.

const round = Math.fround;

/**
 * Return the class of every pixel, equal to bilinear interpolation and argmax over the classes.
 * @param {Float32Array} logits [classes, height, width].
 * @param {[number, number, number]} shape classes (at most 255), height and width of `logits`.
 * @param {[number, number]} size height and width of the result.
 * @returns {Uint8Array} class ids, rows of pixels.
 * @throws {Error} if a logit is NaN or infinite.
 */
export function labels(logits, [classes, height, width], size) {
  const coarse = argmax(logits, classes, height * width);
  const rows = axis(height, size[0]), columns = axis(width, size[1]);
  const result = new Uint8Array(size[0] * size[1]);
  const settle = settler(logits, classes, height * width, rows, columns, result, size[1]);
  for (let row = 0; row < rows.cells; row++) {
    const upper = rows.low[row] * width, lower = rows.high[row] * width;
    const start = rows.first[row] * size[1], stop = start + size[1];
    for (let column = 0; column < columns.cells; column++)
      result.fill(coarse[upper + columns.low[column]], start + columns.first[column], start + columns.stop[column]);
    for (let y = rows.first[row] + 1; y < rows.stop[row]; y++) result.copyWithin(y * size[1], start, stop);
    for (let column = 0; column < columns.cells; column++) {
      const low = columns.low[column], high = columns.high[column];
      const label = coarse[upper + low];
      if (label !== coarse[upper + high] || label !== coarse[lower + low] || label !== coarse[lower + high])
        settle(row, column, [upper + low, upper + high, lower + low, lower + high]);
    }
  }
  return result;
}

/** Return the first best class of each of `pixels` positions. */
function argmax(logits, classes, pixels) {
  const best = logits.slice(0, pixels);
  const winner = new Uint8Array(pixels);
  let broken = false;
  for (let k = 0, at = 0; k < classes; k++)
    for (let i = 0; i < pixels; i++, at++) {
      const value = logits[at];
      broken ||= value - value !== 0; // inf - inf is NaN as well
      if (value > best[i]) {
        best[i] = value;
        winner[i] = k;
      }
    }
  if (broken) throw new Error("The logits contain NaN or infinity: the weights are broken.");
  return winner;
}

/** Map `target` pixels of one axis to `source` logits, as upsample.axis does. Cell k covers first[k] to stop[k] - 1. */
function axis(source, target) {
  const low = [], high = [], first = [], stop = [];
  const weight = new Float32Array(target); // of the high input, for each pixel
  for (let pixel = 0; pixel < target; pixel++) {
    const position = Math.max(0, (pixel + 0.5) * (source / target) - 0.5);
    const below = Math.min(Math.trunc(position), source - 1);
    if (below !== low.at(-1)) {
      low.push(below);
      high.push(Math.min(below + 1, source - 1));
      first.push(pixel);
      stop.push(pixel);
    }
    stop[stop.length - 1] = pixel + 1;
    weight[pixel] = position - below;
  }
  return { cells: low.length, low, high, first, stop, weight };
}

/** Return a function that interpolates a cell whose corners disagree, and writes its labels into `result`. */
function settler(logits, classes, plane, rows, columns, result, stride) {
  const [a, b, c, d, most, left, slope] = Array.from({ length: 7 }, () => new Float32Array(classes));
  const candidate = new Uint8Array(classes);
  return (row, column, [upperLow, upperHigh, lowerLow, lowerHigh]) => {
    let bound = -Infinity; // largest minimum over the corners: a class that stays below it cannot win
    for (let k = 0, at = 0; k < classes; k++, at += plane) {
      a[k] = logits[at + upperLow];
      b[k] = logits[at + upperHigh];
      c[k] = logits[at + lowerLow];
      d[k] = logits[at + lowerHigh];
      most[k] = Math.max(a[k], b[k], c[k], d[k]);
      bound = Math.max(bound, Math.min(a[k], b[k], c[k], d[k]));
    }
    let count = 0;
    for (let k = 0; k < classes; k++)
      if (most[k] >= bound) {
        a[count] = a[k];
        b[count] = b[k];
        c[count] = c[k];
        d[count] = d[k];
        candidate[count++] = k;
      }
    for (let y = rows.first[row]; y < rows.stop[row]; y++) {
      const down = rows.weight[y];
      for (let k = 0; k < count; k++) {
        left[k] = a[k] + round(round(c[k] - a[k]) * down);
        slope[k] = round(b[k] + round(round(d[k] - b[k]) * down)) - left[k];
      }
      for (let x = columns.first[column]; x < columns.stop[column]; x++) {
        const right = columns.weight[x];
        let best = -Infinity, winner = 0;
        for (let k = 0; k < count; k++) {
          const value = round(round(slope[k] * right) + left[k]);
          if (value > best) {
            best = value;
            winner = candidate[k];
          }
        }
        result[y * stride + x] = winner;
      }
    }
  };
}
