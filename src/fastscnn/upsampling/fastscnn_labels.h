/* Full-size labels from the logits of a segmentation network: the equal of bilinear interpolation and argmax, without the
 * full-size logits. C99 and later, C++; no dependency but the C library. docs/deploy.md shows how to compile and call it.
 *
 * Both functions read
 *
 *     logits   float32 [classes, height, width], rows of values without gaps: for fastscnn's networks, the output `logits` of
 *              one image, at 1/8 of the network's input. They are not changed.
 *     classes  1 to 255.
 *     height, width          of the logits, at least 1.
 *     out_height, out_width  of the result, at least 1: any size, usually that of the image.
 *     part, parts            The result is divided into `parts` strips of rows, and `part`, from 0 to parts - 1, is written.
 *              0, 1 writes the whole result. To use several threads, call each part once, in any order, at the same time.
 *
 * and return a status. The functions keep no state, are thread-safe, and use two rows of the logits as memory. Interpolation
 * places the centres of pixels as align_corners=False of PyTorch and `half_pixel` of ONNX do.
 *
 * These arguments never change: a function with other arguments gets another name.
 */
#ifndef FASTSCNN_LABELS_H
#define FASTSCNN_LABELS_H

#include <stdint.h>

/* What stands before the functions: a library for Windows defines it as __declspec(dllexport). */
#ifndef FASTSCNN_API
#define FASTSCNN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum fastscnn_status {
    FASTSCNN_OK = 0,
    FASTSCNN_NOT_FINITE = 1,    /* a logit is NaN or infinite: the result is incomplete. Each part searches logits of its own */
    FASTSCNN_NO_MEMORY = 2,     /* the result is incomplete */
    FASTSCNN_WRONG_ARGUMENT = 3 /* a NULL pointer, or a number out of its range: nothing is written */
};

/* Write the class of each pixel: labels uint8 [out_height, out_width].
 *
 * Every label is that of interpolation and argmax in float32, except where rounding decides between classes that tie. Equal
 * logits give equal labels on every processor, and those of fastscnn in Python.
 */
FASTSCNN_API int fastscnn_labels(const float *logits, int64_t classes, int64_t height, int64_t width, int64_t out_height,
                                 int64_t out_width, int64_t part, int64_t parts, uint8_t *labels);

/* Write the probability of each label: confidence float32 [out_height, out_width], the largest softmax of the interpolated
 * logits, in (0, 1].
 *
 * Divide the logits by the temperature of the model card first for calibrated probabilities. Classes far from the best one
 * are left out, which adds at most 3e-4 for each of them.
 */
FASTSCNN_API int fastscnn_confidence(const float *logits, int64_t classes, int64_t height, int64_t width, int64_t out_height,
                                     int64_t out_width, int64_t part, int64_t parts, float *confidence);

#ifdef __cplusplus
}
#endif

#endif
