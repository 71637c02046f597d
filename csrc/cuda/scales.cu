// A picture reduced by 2, 4, 8 and 16 in one pass, and gradients by these added to that by the picture: what the multiscale
// term of the loss is made of (encoder/raster/multiscale.py).
//
// A reduction is of the means of 2×2 values of the one before; an odd last row or column is left out. All lie one after the
// other in one array: [P, H/2, W/2], [P, H/4, W/4], … of P planes, which are the third side of the grid.
// Bytes are the limit: 4/3 of a picture are read or written, and for the gradient the picture's own are read besides.
#include "device.h"

namespace igs {

constexpr int kMostScales = 4, kReducedSide = 16;  // a block makes 16×16 values of the first reduction, and what is theirs

IGS_DEVICE size_t scale_size(int width, int height, int k) { return size_t(width >> k) * size_t(height >> k) * gridDim.z; }

}  // namespace igs

using namespace igs;

IGS_KERNEL(256) igs_reduce(const float* picture, float* reduced, int width, int height, int scales) {
    constexpr int kStride = kReducedSide + 1;
    IGS_SHARED(float, even, kReducedSide* kStride);
    IGS_SHARED(float, odd, kReducedSide* kStride);
    const int t = int(threadIdx.x);
    size_t base = 0;
    for (int k = 1; k <= scales; k++) {
        const int side = 2 * kReducedSide >> k, row = t / side, column = t % side;
        const int y = int(blockIdx.y) * side + row, x = int(blockIdx.x) * side + column;
        float *from = k % 2 ? even : odd, *to = k % 2 ? odd : even;
        if (row < side) {
            float mean = 0;
            if (x < width >> k && y < height >> k) {
                if (k == 1) {
                    const float* at = picture + (size_t(blockIdx.z) * height + 2 * y) * width + 2 * x;
                    mean = 0.25f * ((at[0] + at[1]) + (at[width] + at[width + 1]));
                } else {
                    const float* at = from + 2 * row * kStride + 2 * column;
                    mean = 0.25f * ((at[0] + at[1]) + (at[kStride] + at[kStride + 1]));
                }
                reduced[base + (size_t(blockIdx.z) * (height >> k) + y) * (width >> k) + x] = mean;
            }
            to[row * kStride + column] = mean;
        }
        base += scale_size(width, height, k);
        __syncthreads();
    }
}

// gradient ← gradient + Σ factor_k · (of the k-th reduction's value that a pixel is in). A thread per pixel, 32×8 a block.
IGS_KERNEL(256) igs_add_reduced(float* gradient, const float* reduced, int width, int height, int scales, float factor1, float factor2,
                                float factor3, float factor4) {
    const int x = int(blockIdx.x) * 32 + int(threadIdx.x) % 32, y = int(blockIdx.y) * 8 + int(threadIdx.x) / 32;
    if (x >= width || y >= height) return;
    size_t base = 0;
    float sum = 0;
#pragma unroll
    for (int k = 1; k <= kMostScales; k++) {
        const int w = width >> k, h = height >> k;
        if (k > scales || x >> k >= w || y >> k >= h) break;  // what one leaves out smaller ones do
        const float factor = k == 1 ? factor1 : k == 2 ? factor2 : k == 3 ? factor3 : factor4;
        sum = fmaf(factor, reduced[base + (size_t(blockIdx.z) * h + (y >> k)) * w + (x >> k)], sum);
        base += scale_size(width, height, k);
    }
    gradient[(size_t(blockIdx.z) * height + y) * width + x] += sum;
}
