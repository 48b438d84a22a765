/* Count the labels of an image, and blend it with their colours. label_maps.py has both in NumPy and Pillow, the oracles. Values
 * are blended in float32, in Pillow's order, and truncated.
 *
 * Neighbours mostly have one label, so both work on runs of equal labels. The number in a name is the version of the interface:
 * increase it with every change of the arguments, so that an old library of an editable install is not called.
 */
#include <stdint.h>
#include <string.h>

#include "../base/kernel.h"

enum {
    STEP = 16, /* pixels blended at a time: three AVX-512 registers of floats, or six AVX ones */
    CHANNELS = 3
};

/* Return the first pixel after `start` whose label differs. */
static int64_t run_end(const uint8_t *labels, int64_t start, int64_t pixels)
{
    const uint64_t wanted = labels[start] * UINT64_C(0x0101010101010101);
    int64_t end = start + 1;
    for (uint64_t eight; end + 8 <= pixels; end += 8) {
        memcpy(&eight, labels + end, 8);
        if (eight != wanted)
            break;
    }
    while (end < pixels && labels[end] == labels[start])
        end++;
    return end;
}

/* Count the pixels of each label: labels [pixels], counts [256]. */
EXPORTED void fastscnn_count_1(const uint8_t *labels, int64_t pixels, int64_t *counts)
{
    memset(counts, 0, 256 * sizeof *counts);
    for (int64_t start = 0, end; start < pixels; start = end) {
        end = run_end(labels, start, pixels);
        counts[labels[start]] += end - start;
    }
}

/* Blend an image: image and result [pixels, 3], labels [pixels], colours [256, 3], opacity from 0 to 1. */
EXPORTED EVERY_X86 void fastscnn_blend_1(const uint8_t *restrict image, const uint8_t *restrict labels,
                                         const uint8_t *restrict colours, float opacity, int64_t pixels,
                                         uint8_t *restrict result)
{
    for (int64_t start = 0, end; start < pixels; start = end) {
        end = run_end(labels, start, pixels);
        const uint8_t *const colour = colours + CHANNELS * labels[start];
        int32_t pattern[CHANNELS * STEP];
        int64_t pixel = start;
        if (end - start >= STEP)
            for (int i = 0; i < CHANNELS * STEP; i++)
                pattern[i] = colour[i % CHANNELS];
        for (; pixel + STEP <= end; pixel += STEP) {
            const uint8_t *restrict from = image + CHANNELS * pixel;
            uint8_t *restrict to = result + CHANNELS * pixel;
            for (int i = 0; i < CHANNELS * STEP; i++)
                to[i] = (uint8_t)(int32_t)((float)from[i] + opacity * (float)(pattern[i] - from[i]));
        }
        for (int64_t i = CHANNELS * pixel; i < CHANNELS * end; i++)
            result[i] = (uint8_t)(int32_t)((float)image[i] + opacity * (float)(colour[i % CHANNELS] - image[i]));
    }
}
