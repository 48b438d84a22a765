/* Reduce an image by averages of its pixels, as Pillow's filter BOX does: shrinking.py has it in Pillow, which is the oracle.
 *
 * A pixel of the result is the mean of a window of columns, rounded, and then of a window of rows. All pixels of a window weigh
 * the same, so that sums of neighbours are enough: those of a whole row are computed at once, as vectors.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../base/kernel.h"

enum {
    PRECISION = 22, /* bits of a weight, as in Pillow */
    SLACK = 4       /* sums that are copied at a time: a few after the last one may be read and written */
};

/* shrinking.Windows: the result's pixel k along an axis is the mean of `count[k]` pixels, 1 to 257, from `first[k]` on. */
struct windows {
    int64_t pixels, least, most; /* pixels of the result; the smallest and the largest count */
    const int64_t *first, *count;
    const uint32_t *weight; /* of each window: 2 to the power of PRECISION over its count, rounded */
};

INLINED void scaled(const uint16_t *restrict sums, const uint32_t *restrict weights, int64_t values, uint8_t *restrict means)
{
    for (int64_t i = 0; i < values; i++)
        means[i] = (uint8_t)((sums[i] * weights[i] + (UINT32_C(1) << (PRECISION - 1))) >> PRECISION);
}

/* Average the windows of columns of a row: line [columns * channels], means [columns->pixels * channels].
 *
 * weights: those of `columns`, repeated for each channel. sums: of every window of each count, one count after another; that of
 * the result's pixel k is at places[k].
 */
INLINED void row(const uint8_t *restrict line, int64_t length, int64_t channels, const struct windows *columns,
                 const uint32_t *restrict weights, const int64_t *restrict places, uint16_t *restrict sums,
                 uint16_t *restrict taken, uint8_t *restrict means)
{
    for (int64_t i = 0; i < length; i++)
        sums[i] = line[i];
    for (int64_t count = 1; count < columns->least; count++)
        for (int64_t i = 0; i < length - count * channels; i++)
            sums[i] = (uint16_t)(sums[i] + line[i + count * channels]);
    for (int64_t count = columns->least; count < columns->most; count++) {
        const uint16_t *restrict smaller = sums + (count - columns->least) * length;
        uint16_t *restrict larger = sums + (count - columns->least + 1) * length;
        for (int64_t i = 0; i < length - count * channels; i++)
            larger[i] = (uint16_t)(smaller[i] + line[i + count * channels]);
    }
    /* Words of SLACK sums are copied: the next pixel overwrites what was too much. */
    if (channels <= SLACK)
        for (int64_t k = 0; k < columns->pixels; k++)
            memcpy(taken + k * channels, sums + places[k], SLACK * sizeof(uint16_t));
    else
        for (int64_t k = 0; k < columns->pixels; k++)
            memcpy(taken + k * channels, sums + places[k], (size_t)channels * sizeof(uint16_t));
    scaled(taken, weights, columns->pixels * channels, means);
}

/* Reduce an image [.., width, channels] to [rows->pixels, columns->pixels, channels]. Return 0; 2 if memory is short.
 *
 * The number in the name is the version of the interface: increase it with every change of the arguments, so that an old
 * library of an editable install is not called.
 */
EXPORTED EVERY_X86 int fastscnn_shrink_1(const uint8_t *image, int64_t width, int64_t channels, const struct windows *rows,
                                         const struct windows *columns, uint8_t *result)
{
    const int64_t length = width * channels, wide = columns->pixels * channels;
    const int64_t kinds = columns->most - columns->least + 1;
    uint16_t *const sums = malloc((size_t)(kinds * length + 2 * wide + 2 * SLACK) * sizeof(uint16_t));
    uint32_t *const weights = malloc((size_t)(2 * wide) * sizeof(uint32_t));
    int64_t *const places = malloc((size_t)columns->pixels * sizeof(int64_t));
    uint8_t *const means = malloc((size_t)wide);
    const int whole = sums && weights && places && means;
    if (whole) {
        uint16_t *const taken = sums + kinds * length + SLACK, *const total = taken + wide + SLACK;
        uint32_t *const weight = weights + wide; /* of a row, the same for all its values */
        for (int64_t i = 0; i < wide; i++)
            weights[i] = columns->weight[i / channels];
        for (int64_t k = 0; k < columns->pixels; k++)
            places[k] = (columns->count[k] - columns->least) * length + columns->first[k] * channels;
        for (int64_t y = 0; y < rows->pixels; y++) {
            memset(total, 0, (size_t)wide * sizeof(uint16_t));
            for (int64_t line = rows->first[y]; line < rows->first[y] + rows->count[y]; line++) {
                row(image + line * length, length, channels, columns, weights, places, sums, taken, means);
                for (int64_t i = 0; i < wide; i++)
                    total[i] = (uint16_t)(total[i] + means[i]);
            }
            for (int64_t i = 0; i < wide; i++)
                weight[i] = rows->weight[y];
            scaled(total, weight, wide, result + y * wide);
        }
    }
    free(sums);
    free(weights);
    free(places);
    free(means);
    return whole ? 0 : 2;
}
