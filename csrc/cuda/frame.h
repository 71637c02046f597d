// What every CUDA kernel of a step is given: the pictures, the blend, and where their arrays lie. One struct by value, so that
// the host fills it once and launches a step without touching it. Plain pointers and sizes: no torch, no CUDA type.
//
// Several pictures of one size, with equally many Gaussians each, are fitted by the same launches: B `pictures`, the Gaussians
// of the first before those of the second. N and `tiles` below count those of all pictures, W·H and C one's.
//
// All arrays are dense, row-major and on the device; lengths are pixels, images planar [B, C, H, W]. The order of the fields is
// that of the ctypes twin in encoder/raster/cuda_kernels.py, which a test compares by offset.
#pragma once
#include "../gaussian.h"

namespace igs {

struct Frame {
    // arrays first, so that nothing is padded
    const float* means;       // [N, 2]
    const float* factors;     // [N, 3]
    const float* features;    // [N, F]; F = C, or C + 2 with a luma gradient
    const float* background;  // [C]
    const float* lit;         // [C] of 0 or 1: the channels that the luma gradient is added to
    const float* target;      // [B, C, H, W]
    const float* weight;      // [B, H, W]: what a pixel's error counts; null: 1
    float* image;             // [B, C, H, W]
    float* grad_image;        // [B, C, H, W]: dL/dimage
    float* limits;            // [3, B, H, W]: largest d² that counts, shift that normalises the weights, pull of an empty pixel
    unsigned* bound;          // [tiles], bits of a float: what a candidate's smallest d² must not exceed
    int* bare;                // [1 + tiles]: how many tiles look for their nearest Gaussian among all, and which
    int* tile_count;          // [tiles]: entries counted; then how many have been filled in
    int* tile_offset;         // [tiles + 1]
    int* hits;                // [N]: entries of a Gaussian
    int* first;               // [N + 1]: first slot of a Gaussian
    int* pairs;               // [capacity, 2]: (Gaussian, slot) by tile, in no order
    int* list;                // [capacity, 2]: the same, ascending Gaussian inside a tile
    float* partial;           // [capacity, width]: sums of one entry; with `atomic` [N, width]
    float* grad_means;        // [N, 2]
    float* grad_factors;      // [N, 3]
    float* grad_features;     // [N, F]
    double* sums;             // [max(tiles, loss blocks), 3]: Σw|e|, Σw·e², Σw·SSIM of one block
    double* totals;           // [B, 3]: of all of a picture
    int* state;               // [2]: entries needed, 1 if they don't fit
    int* done;                // [B]: 1 where the loss is perfect
    int width, height, channels, columns;  // columns: F
    int pictures, num_gaussians, tiles_x, tiles_y, capacity;  // tiles_x, tiles_y: of one picture
    int blend, top_k;           // IGS_BLEND_*
    int first_channel, active;  // this pass renders channels first_channel … first_channel + active − 1
    int atomic;                 // 1: gradients by atomic additions, in no fixed order
    int blocks;                 // entries of `sums` in use per picture
    float reach2, relative_reach2, pull, pull_reach2, list_reach2;  // the last: R², or more where empty pixels pull
    float l1, l2, ssim, perfect;  // weights divided by C·H·W; a loss below `perfect` gives gradients of 0
};

enum { kEntries = 0, kOverflow = 1 };

}  // namespace igs
