/* Write the results of every compiled kernel to standard output, for made-up input: .ci/aarch64 and .ci/wheels compare those of
 * several processors and systems.
 *
 * All input is computed in whole numbers, so that it is the same everywhere. The kernels are compiled into this program; with
 * LOADED defined, it loads them instead from the libraries that its arguments name: paint, shrink and lazy, in this order.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <windows.h>
#elif defined(LOADED)
#include <dlfcn.h>
#endif

#include "../src/fastscnn/upsampling/fastscnn_labels.h"

/* The interfaces of paint.c and shrink.c. */
struct windows {
    int64_t pixels, least, most;
    const int64_t *first, *count;
    const uint32_t *weight;
};
void fastscnn_count_1(const uint8_t *labels, int64_t pixels, int64_t *counts);
void fastscnn_blend_1(const uint8_t *image, const uint8_t *labels, const uint8_t *colours, float opacity, int64_t pixels,
                      uint8_t *result);
int fastscnn_shrink_1(const uint8_t *image, int64_t width, int64_t channels, const struct windows *rows,
                      const struct windows *columns, uint8_t *result);

#ifdef LOADED
static void *function(const char *library, const char *name)
{
#ifdef _WIN32
    const HMODULE opened = LoadLibraryA(library);
    void *const found = opened ? (void *)GetProcAddress(opened, name) : NULL;
#else
    void *const opened = dlopen(library, RTLD_NOW), *const found = opened ? dlsym(opened, name) : NULL;
#endif
    if (!found) {
        fprintf(stderr, "%s: %s is not found in it\n", library, name);
        exit(6);
    }
    return found;
}

/* Of each function a pointer in place of its name. */
#define POINTER(name) static __typeof__(name) *loaded_##name;
POINTER(fastscnn_count_1)
POINTER(fastscnn_blend_1)
POINTER(fastscnn_shrink_1)
POINTER(fastscnn_labels)
POINTER(fastscnn_confidence)
#define LOAD(library, name) loaded_##name = (__typeof__(loaded_##name))function(library, #name)
#define fastscnn_count_1 loaded_fastscnn_count_1
#define fastscnn_blend_1 loaded_fastscnn_blend_1
#define fastscnn_shrink_1 loaded_fastscnn_shrink_1
#define fastscnn_labels loaded_fastscnn_labels
#define fastscnn_confidence loaded_fastscnn_confidence
#endif

enum kind { RANDOM, TIED, NEARLY_TIED, SMOOTH, FAR_APART, KINDS };

static uint32_t state = 1;

/* Return a random number from 0 to limit - 1. */
static uint32_t below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

static void *memory(size_t bytes)
{
    void *const result = malloc(bytes);
    if (!result)
        exit(2);
    return result;
}

static void write_all(const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, stdout) != bytes)
        exit(3);
}

/* Of a triangular wave along the rows and columns, like the logits of a network: few borders between classes. */
static float wave(int64_t class_, int64_t y, int64_t x)
{
    const int64_t period = 16 + 7 * class_, phase = (y * (3 + class_ % 5) + x * (2 + class_ % 3)) % (2 * period);
    return (float)(phase < period ? phase : 2 * period - phase) * 3 / 64;
}

static void fill_logits(enum kind kind, float *logits, int64_t classes, int64_t height, int64_t width)
{
    const int64_t plane = height * width;
    for (int64_t k = 0; k < classes; k++)
        for (int64_t i = 0; i < plane; i++) {
            float *const value = logits + k * plane + i;
            if (kind == NEARLY_TIED && k > 0) { /* a few units in the last place above or below the first class */
                uint32_t bits;
                memcpy(&bits, logits + i, sizeof bits);
                bits += below(7) - 3;
                memcpy(value, &bits, sizeof bits);
            } else {
                *value = kind == SMOOTH ? wave(k, i / width, i % width)
                         : kind == TIED ? (float)below(3)
                                        : (float)((int32_t)below(1 << 20) - (1 << 19)) * (kind == FAR_APART ? 1e-3f : 1e-5f);
            }
        }
}

static void try_labels(enum kind kind, int64_t classes, int64_t height, int64_t width, int64_t out_height, int64_t out_width)
{
    const size_t pixels = (size_t)(out_height * out_width);
    float *const logits = memory((size_t)(classes * height * width) * sizeof(float));
    uint8_t *const labels = memory(pixels);
    float *const confidence = memory(pixels * sizeof(float));
    fill_logits(kind, logits, classes, height, width);
    for (int64_t part = 0; part < 2; part++)
        if (fastscnn_labels(logits, classes, height, width, out_height, out_width, part, 2, labels)
            || fastscnn_confidence(logits, classes, height, width, out_height, out_width, part, 2, confidence))
            exit(4);
    write_all(labels, pixels);
    write_all(confidence, pixels * sizeof(float));
    free(logits);
    free(labels);
    free(confidence);
}

static void try_paint(int64_t pixels, float opacity)
{
    uint8_t *const image = memory((size_t)pixels * 3), *const labels = memory((size_t)pixels), colours[256 * 3];
    uint8_t *const result = memory((size_t)pixels * 3);
    int64_t counts[256];
    for (int64_t i = 0; i < 3 * pixels; i++)
        image[i] = (uint8_t)below(256);
    for (int64_t i = 0; i < 256 * 3; i++)
        colours[i] = (uint8_t)below(256);
    for (int64_t i = 0, run = 0; i < pixels; i++, run--) {
        labels[i] = run > 0 ? labels[i - 1] : (uint8_t)below(256);
        run = run > 0 ? run : 1 + below(70);
    }
    fastscnn_count_1(labels, pixels, counts);
    fastscnn_blend_1(image, labels, colours, opacity, pixels, result);
    write_all(counts, sizeof counts);
    write_all(result, (size_t)pixels * 3);
    free(image);
    free(labels);
    free(result);
}

/* Fill windows that reduce `before` pixels to `after`. */
static struct windows windows(int64_t before, int64_t after, int64_t *first, int64_t *count, uint32_t *weight)
{
    struct windows result = {after, before, 0, first, count, weight};
    for (int64_t k = 0; k < after; k++) {
        first[k] = k * before / after;
        count[k] = (k + 1) * before / after - first[k];
        weight[k] = (uint32_t)(((1 << 23) / count[k] + 1) / 2);
        result.least = count[k] < result.least ? count[k] : result.least;
        result.most = count[k] > result.most ? count[k] : result.most;
    }
    return result;
}

static void try_shrink(int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width)
{
    int64_t first[2][512], count[2][512];
    uint32_t weight[2][512];
    const struct windows rows = windows(height, out_height, first[0], count[0], weight[0]);
    const struct windows columns = windows(width, out_width, first[1], count[1], weight[1]);
    const size_t bytes = (size_t)(out_height * out_width * channels);
    uint8_t *const image = memory((size_t)(height * width * channels)), *const result = memory(bytes);
    for (int64_t i = 0; i < height * width * channels; i++)
        image[i] = (uint8_t)below(256);
    if (fastscnn_shrink_1(image, width, channels, &rows, &columns, result))
        exit(5);
    write_all(result, bytes);
    free(image);
    free(result);
}

int main(int count, char **libraries)
{
#ifdef LOADED
    if (count != 4)
        return 7;
    LOAD(libraries[1], fastscnn_count_1);
    LOAD(libraries[1], fastscnn_blend_1);
    LOAD(libraries[2], fastscnn_shrink_1);
    LOAD(libraries[3], fastscnn_labels);
    LOAD(libraries[3], fastscnn_confidence);
#else
    (void)count, (void)libraries;
#endif
#ifdef _WIN32
    _setmode(_fileno(stdout), _O_BINARY); /* else each byte 10 is preceded by 13 */
#endif
    for (enum kind kind = 0; kind < KINDS; kind++) {
        try_labels(kind, 19, 45, 60, 360, 480);
        try_labels(kind, 11, 33, 47, 257, 371);
        try_labels(kind, 255, 6, 7, 48, 50);
        try_labels(kind, 3, 30, 41, 7, 5);
        try_labels(kind, 2, 60, 60, 480, 480);
        try_labels(kind, 1, 1, 1, 3, 2);
    }
    try_labels(SMOOTH, 19, 128, 256, 1024, 2048);
    for (int percent = 0; percent <= 100; percent += 20)
        try_paint(100003, (float)percent / 100);
    for (int64_t channels = 1; channels <= 5; channels++) {
        try_shrink(720, 960, channels, 360, 480);
        try_shrink(257, 371, channels, 100, 99);
    }
    return fflush(stdout) ? 3 : 0;
}
