/* Full-size labels, and the probability of each, from logits at 1/8: fastscnn_labels.h has the interface. upsample.py explains
 * the method, and its NumPy forms are the oracles. All sums and products of the labels are NumPy's, in its order and in float32.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../base/kernel.h"
#define FASTSCNN_API EXPORTED
#include "fastscnn_labels.h"

enum {
    CHUNK = 8,         /* pixels processed at a time: one AVX register of floats */
    MOST_CLASSES = 255,
    REACH = 8,         /* a logit this far below the best adds at most 3e-4 to the softmax's sum, and is skipped */
    SPREAD = 60,       /* powers of logits farther apart do not fit in float32 without loss */
    GAP = 16           /* floats between the classes of a copied row: without them, powers of two share a cache set */
};

/* upsample.Axis: along one axis, cell k lies between inputs low[k] and the next, and covers pixels first[k] to first[k + 1] - 1. */
struct axis {
    int64_t cells, inputs;
    int32_t *low;   /* [cells] */
    int32_t *first; /* [cells + 1] */
    float *weight;  /* of each pixel the share of the high input; CHUNK - 1 more values may be read */
};

/* One row of the logits, with all classes close together in memory, unlike in the planes. */
struct row {
    float *values;   /* [classes, stride] */
    int32_t *winner; /* [width] */
};

INLINED float least(float a, float b) { return a < b ? a : b; }
INLINED float most(float a, float b) { return a > b ? a : b; }

INLINED int64_t high(const struct axis *axis, int64_t cell)
{
    return axis->low[cell] + 1 < axis->inputs ? axis->low[cell] + 1 : axis->inputs - 1;
}

INLINED int64_t length(const struct axis *axis, int64_t cell) { return axis->first[cell + 1] - axis->first[cell]; }

/* Allocate memory that holds zeros; NULL if there is none. */
static void *reserve(int64_t count, size_t size) { return (uint64_t)count > SIZE_MAX / size ? NULL : calloc((size_t)count, size); }

/* Divide the pixels of an axis among the cells between its inputs, in double as NumPy; return 0 if memory is short. */
static int divide(struct axis *axis, int64_t inputs, int64_t pixels)
{
    const int64_t cells = inputs < pixels ? inputs : pixels; /* at most */
    *axis = (struct axis){0, inputs, reserve(cells, sizeof(int32_t)), reserve(cells + 1, sizeof(int32_t)),
                          reserve(pixels + CHUNK - 1, sizeof(float))};
    if (!axis->low || !axis->first || !axis->weight)
        return 0;
    const double scale = (double)inputs / (double)pixels;
    for (int64_t pixel = 0, last = -1; pixel < pixels; pixel++) {
        const double place = ((double)pixel + 0.5) * scale - 0.5, position = place > 0 ? place : 0;
        const int64_t low = (int64_t)position < inputs ? (int64_t)position : inputs - 1;
        axis->weight[pixel] = (float)(position - (double)low);
        if (low != last) {
            axis->low[axis->cells] = (int32_t)low;
            axis->first[axis->cells++] = (int32_t)pixel;
            last = low;
        }
    }
    axis->first[axis->cells] = (int32_t)pixels;
    return 1;
}

static void release(struct axis *axis)
{
    free(axis->low);
    free(axis->first);
    free(axis->weight);
}

/* Copy a row of the logits and find each column's first best class; return nonzero if a value is NaN or infinite. */
INLINED int take(const float *restrict logits, int64_t plane, int64_t classes, int64_t width, float *restrict best,
                 float *restrict values, int32_t *restrict winner)
{
    int broken = 0;
    for (int64_t x = 0; x < width; x++) {
        best[x] = -INFINITY;
        winner[x] = 0;
    }
    for (int64_t k = 0; k < classes; k++) {
        const float *restrict from = logits + k * plane;
        float *restrict to = values + k * (width + GAP);
        for (int64_t x = 0; x < width; x++) {
            const float value = from[x];
            const int32_t better = -(value > best[x]); /* all bits or none: a branch or ?: prevents vector code in GCC */
            to[x] = value;
            broken |= !(value - value == 0); /* inf - inf is NaN, too */
            winner[x] = ((int32_t)k & better) | (winner[x] & ~better);
            best[x] = most(value, best[x]);
        }
    }
    return broken;
}

/* Get the logits of a cell's corners and the largest of each class; return the best smallest corner of any class. */
INLINED float corners(const float *upper, const float *lower, int64_t classes, int64_t stride, int64_t low, int64_t high,
                      float *a, float *b, float *c, float *d, float *largest)
{
    float bound = -INFINITY;
    for (int64_t k = 0; k < classes; k++) {
        a[k] = upper[k * stride + low];
        b[k] = upper[k * stride + high];
        c[k] = lower[k * stride + low];
        d[k] = lower[k * stride + high];
        largest[k] = most(most(a[k], b[k]), most(c[k], d[k]));
        bound = most(bound, least(least(a[k], b[k]), least(c[k], d[k])));
    }
    return bound;
}

/* Interpolate a cell whose corners disagree, and write the labels of its `tall` by `wide` pixels. */
INLINED void settle(const float *upper, const float *lower, int64_t classes, int64_t stride, int64_t low, int64_t high,
                    const float *down, const float *right, int64_t tall, int64_t wide, uint8_t *labels, int64_t width)
{
    float a[MOST_CLASSES], b[MOST_CLASSES], c[MOST_CLASSES], d[MOST_CLASSES], largest[MOST_CLASSES];
    /* A class whose largest corner is below the best smallest corner cannot win. */
    const float bound = corners(upper, lower, classes, stride, low, high, a, b, c, d, largest);
    int32_t class_[MOST_CLASSES];
    int64_t count = 0;
    for (int64_t k = 0; k < classes; k++) { /* without a branch, which would be mispredicted */
        class_[count] = (int32_t)k;
        a[count] = a[k];
        b[count] = b[k];
        c[count] = c[k];
        d[count] = d[k];
        count += largest[k] >= bound;
    }
    for (int64_t y = 0; y < tall; y += CHUNK) {
        float left[MOST_CLASSES][CHUNK], slope[MOST_CLASSES][CHUNK];
        for (int64_t k = 0; k < count; k++)
            for (int i = 0; i < CHUNK; i++) {
                left[k][i] = a[k] + (c[k] - a[k]) * down[y + i];
                slope[k][i] = b[k] + (d[k] - b[k]) * down[y + i] - left[k][i];
            }
        const int64_t rows = tall - y < CHUNK ? tall - y : CHUNK;
        for (int64_t x = 0; x < wide; x += CHUNK) {
            int32_t winner[CHUNK * CHUNK];
            for (int64_t row = 0; row < rows; row++) {
                float best[CHUNK];
                int32_t leader[CHUNK];
                for (int i = 0; i < CHUNK; i++) {
                    best[i] = -INFINITY;
                    leader[i] = 0;
                }
                for (int64_t k = 0; k < count; k++) {
#ifdef __GNUC__
#pragma GCC unroll 1 /* else GCC unrolls the eight pixels before it vectorises, and then finds no vectors */
#endif
                    for (int i = 0; i < CHUNK; i++) {
                        const float value = slope[k][row] * right[x + i] + left[k][row];
                        const int32_t better = -(value > best[i]);
                        leader[i] = (class_[k] & better) | (leader[i] & ~better);
                        best[i] = most(value, best[i]);
                    }
                }
                memcpy(winner + row * CHUNK, leader, sizeof leader);
            }
            uint8_t bytes[CHUNK * CHUNK];
            for (int64_t i = 0; i < rows * CHUNK; i++) /* all rows at once: GCC does not vectorise rows of eight */
                bytes[i] = (uint8_t)winner[i];
            for (int64_t row = 0; row < rows; row++) {
                uint8_t *const to = labels + (y + row) * width + x;
                if (wide - x >= CHUNK)
                    memcpy(to, bytes + row * CHUNK, CHUNK); /* of known length: one store */
                else
                    memcpy(to, bytes + row * CHUNK, (size_t)(wide - x));
            }
        }
    }
}

/* exp(x) for x from -87 to 0, with a relative error of 3e-7: 2^n times a polynomial, which vectorises, unlike expf. */
INLINED float power(float x)
{
    const int32_t whole = (int32_t)(x * 1.44269504f - 0.5f); /* rounded: the conversion truncates towards zero */
    const float n = (float)whole, r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts: n * the first is exact */
    const float series = ((((1.3981999507e-3f * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r
                          + 5.0000001201e-1f) * r * r + r + 1;
    union { int32_t bits; float value; } scale = {(whole + 127) * (1 << 23)};
    return series * scale.value;
}

/* Compute what `trust` computes, one pixel at a time, from the corners of `count` classes that may be any distance apart. */
INLINED void trust_far(const float *a, const float *b, const float *c, const float *d, int64_t count, const float *down,
                       const float *right, int64_t tall, int64_t wide, float *chances, int64_t width)
{
    for (int64_t y = 0; y < tall; y++)
        for (int64_t x = 0; x < wide; x++) {
            float value[MOST_CLASSES], best = -INFINITY, sum = 0;
            for (int64_t k = 0; k < count; k++) {
                const float above = a[k] + (b[k] - a[k]) * right[x], below = c[k] + (d[k] - c[k]) * right[x];
                value[k] = above + (below - above) * down[y];
                best = most(value[k], best);
            }
            for (int64_t k = 0; k < count; k++)
                sum += power(most(least(value[k] - best, 0), -87)); /* 0 for NaN: differences of huge logits are infinite */
            chances[y * width + x] = 1 / sum;
        }
}

/* Compute the softmax probability of the best class, from interpolated logits, at the `tall` by `wide` pixels of a cell.
 *
 * Down a column the logits change by the same step from row to row, so their powers change by the same factor.
 */
INLINED void trust(const float *upper, const float *lower, int64_t classes, int64_t stride, int64_t low, int64_t high,
                   const float *down, const float *right, int64_t tall, int64_t wide, float *chances, int64_t width)
{
    float a[MOST_CLASSES], b[MOST_CLASSES], c[MOST_CLASSES], d[MOST_CLASSES], largest[MOST_CLASSES];
    const float bound = corners(upper, lower, classes, stride, low, high, a, b, c, d, largest);
    float top = -INFINITY, bottom = INFINITY; /* the best logit lies between `bound` and `top` everywhere in the cell */
    int64_t count = 0;
    for (int64_t k = 0; k < classes; k++) { /* without a branch, which would be mispredicted */
        bottom = least(bottom, least(least(a[k], b[k]), least(c[k], d[k])));
        a[count] = a[k];
        b[count] = b[k];
        c[count] = c[k];
        d[count] = d[k];
        count += largest[k] >= bound - REACH;
        top = most(top, largest[k]);
    }
    if (top - bottom > SPREAD) {
        trust_far(a, b, c, d, count, down, right, tall, wide, chances, width);
        return;
    }
    const float step = down[tall - 1] - down[tall > 1 ? tall - 2 : tall - 1];
    for (int64_t x = 0; x < wide; x += CHUNK) {
        float chance[MOST_CLASSES][CHUNK], factor[MOST_CLASSES][CHUNK];
        const size_t bytes = (size_t)(wide - x < CHUNK ? wide - x : CHUNK) * sizeof(float);
        for (int64_t k = 0; k < count; k++)
#ifdef __GNUC__
#pragma GCC unroll 1
#endif
            for (int i = 0; i < CHUNK; i++) {
                const float above = a[k] + (b[k] - a[k]) * right[x + i], below = c[k] + (d[k] - c[k]) * right[x + i];
                const float change = (below - above) * step;
                chance[k][i] = power(above + (below - above) * down[0] - top);
                const float size = fabsf(change); /* one of the two powers is 1: a branch would prevent vector code in GCC */
                factor[k][i] = power((change - size) / 2) / power((-change - size) / 2);
            }
        for (int64_t y = 0; y < tall; y++) {
            float best[CHUNK], sum[CHUNK];
            for (int i = 0; i < CHUNK; i++)
                best[i] = sum[i] = 0;
            for (int64_t k = 0; k < count; k++)
#ifdef __GNUC__
#pragma GCC unroll 1
#endif
                for (int i = 0; i < CHUNK; i++) {
                    sum[i] += chance[k][i];
                    best[i] = most(chance[k][i], best[i]);
                }
            for (int i = 0; i < CHUNK; i++)
                sum[i] = best[i] / sum[i];
            if (bytes == sizeof sum)
                memcpy(chances + y * width + x, sum, sizeof sum); /* of known length: one store */
            else
                memcpy(chances + y * width + x, sum, bytes);
            if (y + 1 < tall)
                for (int64_t k = 0; k < count; k++)
#ifdef __GNUC__
#pragma GCC unroll 1
#endif
                    for (int i = 0; i < CHUNK; i++)
                        chance[k][i] *= factor[k][i];
        }
    }
}

/* Write the labels of a row of cells, from the rows of logits above and below. */
INLINED void label(struct row upper, struct row lower, int64_t classes, int64_t stride, const struct axis *rows,
                   const struct axis *columns, int64_t row, int64_t width, uint8_t *labels)
{
    const int64_t first = rows->first[row], tall = length(rows, row);
    uint8_t *const line = labels + first * width;
    for (int64_t k = 0; k < columns->cells; k++)
        memset(line + columns->first[k], upper.winner[columns->low[k]], (size_t)length(columns, k));
    for (int64_t y = 1; y < tall; y++)
        memcpy(line + y * width, line, (size_t)width);
    for (int64_t k = 0; k < columns->cells; k++) {
        const int64_t low = columns->low[k], next = high(columns, k), left = columns->first[k];
        const int32_t class_ = upper.winner[low];
        if (class_ != upper.winner[next] || class_ != lower.winner[low] || class_ != lower.winner[next])
            settle(upper.values, lower.values, classes, stride, low, next, rows->weight + first, columns->weight + left, tall,
                   length(columns, k), line + left, width);
    }
}

/* Write the probabilities of a row of cells. */
INLINED void weigh(struct row upper, struct row lower, int64_t classes, int64_t stride, const struct axis *rows,
                   const struct axis *columns, int64_t row, int64_t width, float *chances)
{
    /* The pixels above the centre of the first logits all have their value: a run of rows with its own step. */
    for (int64_t first = rows->first[row], next; first < rows->first[row + 1]; first = next) {
        next = first;
        while (next < rows->first[row + 1] && (row > 0 || !rows->weight[next] == !rows->weight[first]))
            next++;
        for (int64_t k = 0; k < columns->cells; k++) {
            const int64_t left = columns->first[k];
            trust(upper.values, lower.values, classes, stride, columns->low[k], high(columns, k), rows->weight + first,
                  columns->weight + left, next - first, length(columns, k), chances + first * width + left, width);
        }
    }
}

/* Fill the rows of cells from `start` up to `stop`: the labels, or if those are NULL, the chances.
 *
 * `memory` holds one value for each column, and two rows of the logits; row y is at index y modulo 2 of `taken`: a cell has two
 * rows, one below the other.
 */
INLINED int fill(const float *logits, int64_t classes, int64_t height, int64_t width, const struct axis *rows,
                 const struct axis *columns, int64_t start, int64_t stop, float *memory, const struct row *taken,
                 uint8_t *labels, float *chances)
{
    const int64_t pixels = columns->first[columns->cells];
    int broken = 0;
    /* If the result is smaller than the logits, rows that no cell uses are still searched for NaN: by the next strip, or at the
     * end by the last strip. */
    int64_t next = start == 0 ? 0 : high(rows, start - 1) + 1;
    if (next > rows->low[start])
        next = rows->low[start];
    for (int64_t row = start; row <= stop; row++) {
        const int64_t until = row < stop ? high(rows, row) : stop == rows->cells ? height - 1 : -1;
        for (; next <= until; next++)
            broken |= take(logits + next * width, height * width, classes, width, memory, taken[next & 1].values,
                           taken[next & 1].winner);
        if (broken)
            return FASTSCNN_NOT_FINITE;
        if (row == stop)
            break;
        const struct row upper = taken[rows->low[row] & 1], lower = taken[high(rows, row) & 1];
        if (labels)
            label(upper, lower, classes, width + GAP, rows, columns, row, pixels, labels);
        else
            weigh(upper, lower, classes, width + GAP, rows, columns, row, pixels, chances);
    }
    return FASTSCNN_OK;
}

/* Whether each number is in its range, and no array is larger than memory can be. */
static int valid(int64_t classes, int64_t height, int64_t width, int64_t out_height, int64_t out_width, int64_t part,
                 int64_t parts)
{
    const int64_t sides[] = {height, width, out_height, out_width, parts}, most = PTRDIFF_MAX / (int64_t)sizeof(float);
    for (size_t k = 0; k < sizeof sides / sizeof *sides; k++)
        if (sides[k] < 1 || sides[k] > INT32_MAX)
            return 0;
    return classes >= 1 && classes <= MOST_CLASSES && height <= most / classes / width && out_height <= most / out_width
           && part >= 0 && part < parts;
}

/* Check the arguments, divide the pixels among cells, and fill a strip of them. */
INLINED int run(const float *logits, int64_t classes, int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                int64_t part, int64_t parts, uint8_t *labels, float *chances)
{
    if (!logits || !(labels || chances) || !valid(classes, height, width, out_height, out_width, part, parts))
        return FASTSCNN_WRONG_ARGUMENT;
    const int64_t stride = width + GAP;
    struct axis rows, columns;
    float *const memory = reserve((2 * classes + 1) * stride, sizeof(float));
    int32_t *const winners = reserve(2 * width, sizeof(int32_t));
    int status = divide(&rows, height, out_height) & divide(&columns, width, out_width) ? FASTSCNN_OK : FASTSCNN_NO_MEMORY;
    if (!memory || !winners)
        status = FASTSCNN_NO_MEMORY;
    const int64_t start = rows.cells * part / parts, stop = rows.cells * (part + 1) / parts;
    if (status == FASTSCNN_OK && start < stop) {
        const struct row taken[2] = {{memory + stride, winners}, {memory + (1 + classes) * stride, winners + width}};
        status = fill(logits, classes, height, width, &rows, &columns, start, stop, memory, taken, labels, chances);
    }
    release(&rows);
    release(&columns);
    free(memory);
    free(winners);
    return status;
}

EVERY_X86 int fastscnn_labels(const float *logits, int64_t classes, int64_t height, int64_t width, int64_t out_height,
                              int64_t out_width, int64_t part, int64_t parts, uint8_t *labels)
{
    return run(logits, classes, height, width, out_height, out_width, part, parts, labels, NULL);
}

EVERY_X86 int fastscnn_confidence(const float *logits, int64_t classes, int64_t height, int64_t width, int64_t out_height,
                                  int64_t out_width, int64_t part, int64_t parts, float *confidence)
{
    return run(logits, classes, height, width, out_height, out_width, part, parts, NULL, confidence);
}
