// The C interface of the igs CPU kernels: plain pointers and sizes, no torch, no Python.
//
// All arrays are dense, row-major float32 unless said otherwise; lengths are pixels. Images are planar: [C, H, W].
// A Gaussian's `factor` (p, q, r) is the upper triangular U = [[p, q], [0, r]] with inverse covariance UᵀU (spec §6.2), so
// that d² = (p·dx + q·dy)² + (r·dy)². Results do not depend on the number of threads.
#pragma once
#include <stdint.h>

#include "gaussian.h"

extern "C" {

typedef struct {
    int32_t width, height, channels, num_gaussians;
    int32_t blend, top_k;   // blend: IGS_BLEND_*
    float reach2;           // R²
    float relative_reach2;  // Q²; 1e30 or more: none
    float pull;             // > 0: at a pixel beyond every reach the nearest Gaussian counts; where the smallest d² is
    float pull_reach2;      //      above pull_reach2 (≤ R²), dL/dd² of those that count gets pull·exp(−(d² − d²min)/2)
    const float* background;  // [C]
    const float* lit;         // null: a Gaussian has features c[C]. Otherwise [C] of 0 or 1: it has c[C], a, b, and its
                              //      colour at a point is c + lit·(a·u + b·v) with u = p·dx + q·dy, v = r·dy (spec §7)
} igs_raster;

// Tile lists, reused from step to step. Opaque to the caller.
typedef struct igs_bins igs_bins;
igs_bins* igs_bins_create(void);
void igs_bins_destroy(igs_bins*);

// Rebuilds the lists for means [N, 2] and factors [N, 3]. Returns the number of (tile, Gaussian) entries, < 0: no memory.
int64_t igs_bin(igs_bins*, const igs_raster*, const float* means, const float* factors);

// What the last rasterisation did: out[0] candidates times rows of 16 pixels evaluated, out[1] of these in rows that
// needed the K-th smallest d². For benchmarks.
void igs_bins_work(const igs_bins*, int64_t* out);

// image [C, H, W] ← the rendered picture. Returns 0, or -1 without memory (so do the functions below).
int igs_rasterize_forward(igs_bins*, const igs_raster*, const float* means, const float* factors, const float* features,
                          float* image);

// Gradients of a loss given grad_image = dL/dimage [C, H, W]: [N, 2], [N, 3], [N, F]; overwritten, not added to.
// F, the features of a Gaussian, is C, or C + 2 with `lit`.
int igs_rasterize_backward(igs_bins*, const igs_raster*, const float* means, const float* factors, const float* features,
                           const float* grad_image, float* grad_means, float* grad_factors, float* grad_features);

// Forward, loss and backward in one pass over the tiles. L = l1·mean w|e| + l2·mean w·e², means over all C·H·W values.
// weight: w ≥ 0 of each pixel, the same for all channels, [H, W]; null: 1. image may be null. sums[0] = Σw|e|, sums[1] = Σw·e².
int igs_rasterize_fused(igs_bins*, const igs_raster*, const float* means, const float* factors, const float* features,
                        const float* target, const float* weight, float l1, float l2, float* image, double* sums,
                        float* grad_means, float* grad_factors, float* grad_features);

// costs [N]: by how much Σw·e² of the picture would rise without each Gaussian. The others that count at a pixel stay as they
// are; where there is none, the background is seen. weight: as above.
int igs_removal_costs(igs_bins*, const igs_raster*, const float* means, const float* factors, const float* features,
                      const float* target, const float* weight, float* costs);

// L1, L2 and SSIM of image against target, and the gradient of L = l1·mean w|e| + l2·mean w·e² + ssim·(1 − mean w·SSIM).
// SSIM: 11×11 Gaussian window, deviation 1.5, zero padding, C1 = 0.01², C2 = 0.03². weight: as above. grad may be null.
// sums: Σw|e|, Σw·e², Σw·SSIM over all C·H·W values.
int igs_loss(int32_t width, int32_t height, int32_t channels, const float* image, const float* target, const float* weight,
             float l1, float l2, float ssim, double* sums, float* grad);

// half [C, H/2, W/2] ← the means of 2 × 2 values of image [C, H, W]; an odd last row or column is left out.
void igs_halve(int32_t channels, int32_t height, int32_t width, const float* image, float* half);
// Its adjoint: by_image [C, H, W] += factor · the gradient by image that by_half [C, H/2, W/2] gives.
void igs_add_spread(int32_t channels, int32_t height, int32_t width, const float* by_half, float factor, float* by_image);

// factors [N, 3] of scales [N, 2] (a map of the standard deviations, IGS_SCALE_*) and rotations [N] in half-turns.
// The standard deviations are clamped to [sigma_min, sigma_max]; lowpass is added to both variances.
void igs_factors_forward(int64_t n, int32_t scale_map, float sigma_min, float sigma_max, float lowpass,
                         const float* scales, const float* rotations, float* factors);
void igs_factors_backward(int64_t n, int32_t scale_map, float sigma_min, float sigma_max, float lowpass,
                          const float* scales, const float* rotations, const float* grad_factors, float* grad_scales,
                          float* grad_rotations);

// Gaussians with noise of one lattice step on all they have (spec §6.4). At a coarseness of 1 and σ = 1: steps[4] of the mean in
// deviations, of ln σ₂, of ln(σ₁/σ₂), of the apparent turn in radians; mixed [F, F], F columns: how feature j's step moves
// feature k. coarseness: one for all, or [n] with `each`. u [n, 5 + F]: numbers in −½ … ½. scales, rotations: as above.
void igs_add_noise(int64_t n, int32_t scale_map, float sigma_min, float sigma_max, int32_t columns, const float* steps,
                   const float* mixed, const float* coarseness, int32_t each, const float* u, const float* means, const float* scales,
                   const float* rotations, const float* features, float* noisy_means, float* noisy_scales, float* noisy_rotations,
                   float* noisy_features);

// One step of Adam (Kingma and Ba 2015) on all that Gaussians have, in place, and each a step older; then positions and scales
// are brought back within their bounds. Features have IGS_MOST_COLUMNS columns at most.
void igs_adam(const igs::Adam*);

void igs_set_num_threads(int32_t);
const char* igs_target(void);            // "baseline", "avx2", "avx512": the copy in use
int igs_set_target(const char*);         // for tests and benchmarks; -1 if the processor or the build lacks it
double igs_fma_peak(double seconds);     // measured multiply-adds per second, all threads

}
