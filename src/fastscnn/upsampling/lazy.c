/* Full-size labels, and the probability of each, from logits at 1/8. upsample.py explains the method, and its NumPy forms are
 * the oracles. All sums and products of the labels are NumPy's, in its order and in float32: compile with -ffp-contract=off.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../base/kernel.h"

enum {
    CHUNK = 8,         /* pixels processed at a time: one AVX register of floats */
    MOST_CLASSES = 255,
    REACH = 8,         /* a logit this far below the best adds at most 3e-4 to the softmax's sum, and is skipped */
    GAP = 16           /* floats between the classes of a copied row: without them, powers of two share a cache set */
};

/* native.Axis: cell k lies between inputs low[k] and high[k] and covers pixels first[k] to last[k]. */
struct axis {
    int64_t cells;
    const int64_t *low, *high, *first, *last;
    const float *weight; /* of each pixel the share of the high input; CHUNK - 1 more values may be read */
};

/* One row of the logits, with all classes close together in memory, unlike in the planes. */
struct row {
    float *values;   /* [classes, stride] */
    int32_t *winner; /* [width] */
};

INLINED float least(float a, float b) { return a < b ? a : b; }
INLINED float most(float a, float b) { return a > b ? a : b; }

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

/* exp(x) for x <= 0, with a relative error of 3e-7: 2^n times a polynomial, which vectorises, unlike expf. */
INLINED float power(float x)
{
    int32_t whole = (int32_t)(x * 1.44269504f - 0.5f); /* rounded: the conversion truncates towards zero */
    whole = whole > -126 ? whole : -126;
    const float n = (float)whole, r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts: n * the first is exact */
    const float series = ((((1.3981999507e-3f * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r
                          + 5.0000001201e-1f) * r * r + r + 1;
    union { int32_t bits; float value; } scale = {(whole + 127) * (1 << 23)};
    return series * scale.value;
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
    float top = -INFINITY; /* the best logit lies between `bound` and this everywhere in the cell */
    int64_t count = 0;
    for (int64_t k = 0; k < classes; k++) { /* without a branch, which would be mispredicted */
        a[count] = a[k];
        b[count] = b[k];
        c[count] = c[k];
        d[count] = d[k];
        count += largest[k] >= bound - REACH;
        top = most(top, largest[k]);
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

/* Label the rows of cells from `start` up to `stop`, so that threads can share an image.
 *
 * logits [classes, height, width], labels [pixels of rows, pixels of columns]. Return 0; 1 if a value is NaN or infinite
 * in the rows of the logits that belong to this range; 2 if memory is short.
 *
 * The number in the name is the version of the interface: increase it with every change of the arguments, so that an old
 * library of an editable install is not called.
 */
EVERY_X86 int fastscnn_labels_1(const float *logits, int64_t classes, int64_t height, int64_t width,
                                const struct axis *rows, const struct axis *columns, int64_t start, int64_t stop,
                                uint8_t *labels)
{
    const int64_t stride = width + GAP, pixels = columns->last[columns->cells - 1] + 1;
    float *const memory = malloc((size_t)((2 * classes + 1) * stride) * sizeof(float));
    int32_t *const winners = malloc((size_t)(2 * width) * sizeof(int32_t));
    int broken = memory && winners ? 0 : 2;
    struct row taken[2]; /* row y of the logits is at index y modulo 2: a cell has two rows, one below the other */
    for (int place = 0; place < 2 && !broken; place++) {
        taken[place].values = memory + (1 + place * classes) * stride;
        taken[place].winner = winners + place * width;
    }
    /* If the labels are smaller than the logits, rows that no cell uses are still searched for NaN: by the next range, or
     * at the end by the last range. */
    int64_t next = start == 0 ? 0 : rows->high[start - 1] + 1;
    if (next > rows->low[start])
        next = rows->low[start];
    for (int64_t row = start; row <= stop && !broken; row++) {
        const int64_t until = row < stop ? rows->high[row] : stop == rows->cells ? height - 1 : -1;
        for (; next <= until; next++)
            broken |= take(logits + next * width, height * width, classes, width, memory, taken[next & 1].values,
                           taken[next & 1].winner);
        if (row == stop || broken)
            break;
        const struct row upper = taken[rows->low[row] & 1], lower = taken[rows->high[row] & 1];
        const int64_t first = rows->first[row], tall = rows->last[row] - first + 1;
        uint8_t *const line = labels + first * pixels;
        for (int64_t k = 0; k < columns->cells; k++)
            memset(line + columns->first[k], upper.winner[columns->low[k]],
                   (size_t)(columns->last[k] - columns->first[k] + 1));
        for (int64_t y = 1; y < tall; y++)
            memcpy(line + y * pixels, line, (size_t)pixels);
        for (int64_t k = 0; k < columns->cells; k++) {
            const int64_t low = columns->low[k], high = columns->high[k], left = columns->first[k];
            const int32_t class_ = upper.winner[low];
            if (class_ != upper.winner[high] || class_ != lower.winner[low] || class_ != lower.winner[high])
                settle(upper.values, lower.values, classes, stride, low, high, rows->weight + first,
                       columns->weight + left, tall, columns->last[k] - left + 1, line + left, pixels);
        }
    }
    free(memory);
    free(winners);
    return broken;
}

/* Like fastscnn_labels_1, for the probability of each label: chances float [pixels of rows, pixels of columns]. The logits
 * must be finite and within 60 of each other, so that their powers fit in float32. Return 0; 2 if memory is short.
 */
EVERY_X86 int fastscnn_confidence_1(const float *logits, int64_t classes, int64_t height, int64_t width,
                                    const struct axis *rows, const struct axis *columns, int64_t start, int64_t stop,
                                    float *chances)
{
    const int64_t stride = width + GAP, pixels = columns->last[columns->cells - 1] + 1;
    float *const memory = malloc((size_t)(2 * classes * stride) * sizeof(float));
    if (!memory)
        return 2;
    for (int64_t row = start; row < stop; row++) {
        for (int64_t k = 0; k < classes; k++) {
            memcpy(memory + k * stride, logits + (k * height + rows->low[row]) * width, (size_t)width * sizeof(float));
            memcpy(memory + (classes + k) * stride, logits + (k * height + rows->high[row]) * width, (size_t)width * sizeof(float));
        }
        /* The pixels above the centre of the first logits all have their value: a run of rows with its own step. */
        for (int64_t first = rows->first[row], next; first <= rows->last[row]; first = next) {
            next = first;
            while (next <= rows->last[row] && (row > 0 || !rows->weight[next] == !rows->weight[first]))
                next++;
            for (int64_t k = 0; k < columns->cells; k++) {
                const int64_t left = columns->first[k];
                trust(memory, memory + classes * stride, classes, stride, columns->low[k], columns->high[k],
                      rows->weight + first, columns->weight + left, next - first, columns->last[k] - left + 1,
                      chances + first * pixels + left, pixels);
            }
        }
    }
    free(memory);
    return 0;
}
