// Per-Gaussian steps around the rasteriser: parameters to factors and back, gradients gathered from tiles, Adam.
#include "device.h"

using namespace igs;

// factors [n, 3] of scales [n, 2] (a map of the deviations, IGS_SCALE_*) and rotations [n] in half-turns.
IGS_KERNEL(256) igs_factors_forward(int n, int map, float lo, float hi, float lowpass, const float* scales, const float* rotations, float* factors) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    float slope;
    const float s1 = sigma_of(map, scales[2 * i], lo, hi, &slope), s2 = sigma_of(map, scales[2 * i + 1], lo, hi, &slope);
    float sine, cosine;
    sincospif(rotations[i], &sine, &cosine);
    factor_forward(s1 * s1 + lowpass, s2 * s2 + lowpass, cosine, sine, factors + 3 * i);
}

IGS_KERNEL(256) igs_factors_backward(int n, int map, float lo, float hi, float lowpass, const float* scales, const float* rotations,
                                     const float* grad_factors, float* grad_scales, float* grad_rotations) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    float k1, k2, by_a, by_b, by_turn;
    const float s1 = sigma_of(map, scales[2 * i], lo, hi, &k1), s2 = sigma_of(map, scales[2 * i + 1], lo, hi, &k2);
    float sine, cosine;
    sincospif(rotations[i], &sine, &cosine);
    factor_backward(s1 * s1 + lowpass, s2 * s2 + lowpass, cosine, sine, grad_factors + 3 * i, &by_a, &by_b, &by_turn);
    grad_scales[2 * i] = 2 * s1 * by_a * k1;
    grad_scales[2 * i + 1] = 2 * s2 * by_b * k2;
    grad_rotations[i] = kPi * by_turn;
}

namespace igs {

// A warp per Gaussian: its entries' sums lie side by side, 32 / WIDTH entries are read at a time and added in that order.
// What each entry's sums have as a common factor, the Gaussian's own p, q, r, is multiplied here, once.
template <int WIDTH>
IGS_DEVICE void gather(const Frame& f) {
    const int i = int((blockIdx.x * blockDim.x + threadIdx.x) >> 5), lane = threadIdx.x & 31;
    if (i >= f.num_gaussians) return;
    const bool nothing = f.state[kOverflow] || f.done[i / gaussians_each(f)];
    const int from = f.atomic ? i : f.first[i], to = f.atomic ? i + 1 : f.first[i + 1];
    float sum = 0;
    for (int s = from + lane / WIDTH; s < to; s += 32 / WIDTH) sum += f.partial[size_t(s) * WIDTH + lane % WIDTH];
    for (int k = WIDTH; k < 32; k <<= 1) sum += __shfl_xor_sync(kAll, sum, k);
    if (nothing) sum = 0;
    float v[WIDTH];
#pragma unroll
    for (int k = 0; k < WIDTH; k++) v[k] = __shfl_sync(kAll, sum, k);
    if (lane) return;
    const bool slopes = f.columns > f.channels;  // a luma gradient's
    const float p = f.factors[3 * i], q = f.factors[3 * i + 1], r = f.factors[3 * i + 2];
    float geometry[5] = {-2 * p * v[0], -2 * q * v[0] - 2 * r * r * v[3], 2 * v[1], 2 * v[2], 2 * r * v[4]};
    float* features = f.grad_features + size_t(i) * f.columns;
    const bool more = f.first_channel > 0;  // the gradients are linear in the channels: what others gave is added to
    if (slopes) {
        const float a_b = f.features[size_t(i) * f.columns + f.channels + 1];
        const int at = 5 + channels_in_registers(f);
        geometry[1] -= a_b * r * v[at];
        geometry[4] += a_b * v[at + 2];
        features[f.channels] = v[at + 1] + (more ? features[f.channels] : 0.f);
        features[f.channels + 1] = r * v[at + 2] + (more ? features[f.channels + 1] : 0.f);
    }
#pragma unroll
    for (int c = 0; c < 4; c++)
        if (c < f.active) features[f.first_channel + c] = v[5 + c];
    for (int k = 0; k < 2; k++) f.grad_means[2 * i + k] = geometry[k] + (more ? f.grad_means[2 * i + k] : 0.f);
    for (int k = 0; k < 3; k++) f.grad_factors[3 * i + k] = geometry[2 + k] + (more ? f.grad_factors[3 * i + k] : 0.f);
}

}  // namespace igs

IGS_KERNEL(256) igs_gather_8(const Frame f) { gather<8>(f); }
IGS_KERNEL(256) igs_gather_16(const Frame f) { gather<16>(f); }

// costs [N] ← sums over a Gaussian's entries of what removing it costs, added to those of the channels before.
IGS_KERNEL(256) igs_gather_costs(const Frame f, float* costs) {
    const int i = int((blockIdx.x * blockDim.x + threadIdx.x) >> 5), lane = threadIdx.x & 31;
    if (i >= f.num_gaussians) return;
    double sum = 0;
    for (int s = f.first[i] + lane; s < f.first[i + 1]; s += 32) sum += double(f.partial[s]);
    sum = warp_sum(sum);
    if (lane == 0) costs[i] = float(sum) + (f.first_channel ? costs[i] : 0.f);
}

// Gaussians with noise of one lattice step on all they have: steps [4] and mixed [columns, columns] as in gaussian.h, of a
// coarseness of 1; that of Gaussian i, or of all, stands in `coarseness`. u [n, 5 + columns] in −½ … ½.
IGS_KERNEL(256) igs_add_noise(int n, int map, float lo, float hi, int columns, const float* steps, const float* mixed, const float* coarseness,
                              int each, const float* u, const float* means, const float* scales, const float* rotations, const float* features,
                              float* noisy_means, float* noisy_scales, float* noisy_rotations, float* noisy_features) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    u += size_t(i) * (5 + columns);
    const float q = coarseness[each ? i : 0], own[4] = {q * steps[0], q * steps[1], q * steps[2], q * steps[3]};
    float sine, cosine;
    sincospif(rotations[i], &sine, &cosine);
    const float factor = q * add_noise(own, map, lo, hi, u, means + 2 * i, scales + 2 * i, rotations[i], cosine, sine,
                                       noisy_means + 2 * i, noisy_scales + 2 * i, noisy_rotations + i);
    features += size_t(i) * columns, noisy_features += size_t(i) * columns;
    for (int k = 0; k < columns; k++) noisy_features[k] = noisy_feature(columns, k, features[k], factor, mixed, u + 5);
}

// One step of Adam on all that a Gaussian has; bias is corrected by its age.
IGS_KERNEL(256) igs_adam(const Adam a) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.n) return;
    const int age = a.age[i] + 1;
    a.age[i] = age;
    const float t = float(age), c1 = -1.f / expm1f(t * a.log1), c2 = -1.f / expm1f(t * a.log2);
    float* mean = a.values[0] + 2 * i;
    if (a.grads[0] && a.along_axes) {  // first: along the axes that the gradient was taken with
        float slope, sine, cosine;
        const float s1 = sigma_of(a.map, a.scales[2 * i], a.lo, a.hi, &slope), s2 = sigma_of(a.map, a.scales[2 * i + 1], a.lo, a.hi, &slope);
        sincospif(a.rotations[i], &sine, &cosine);
        adam_mean(a.betas, a.rates[0], s1, s2, cosine, sine, c1, c2, a.grads[0] + 2 * i, a.m[0] + 2 * i, a.v[0] + 2 * i, mean);
    } else if (a.grads[0]) {
        for (int k = 0; k < 2; k++)
            mean[k] -= adam_step(a.betas, a.rates[0] * a.unit[k], c1, c2, a.grads[0][2 * i + k] * a.unit[k], a.m[0] + 2 * i + k, a.v[0] + 2 * i + k);
    }
#pragma unroll
    for (int which = 1; which < 4; which++) {
        const int columns = which == 3 ? a.columns : 3 - which;
        if (!a.grads[which]) continue;
        for (int c = 0; c < columns; c++) {
            const size_t k = size_t(i) * columns + c;
            const float rate = which == 3 && c >= a.colours ? a.slope_rate : a.rates[which];
            a.values[which][k] -= adam_step(a.betas, rate, c1, c2, a.grads[which][k], a.m[which] + k, a.v[which] + k);
        }
    }
    for (int k = 0; k < 2; k++) {
        mean[k] = bounded(mean[k], a.least[k], a.most[k]);
        a.values[1][2 * i + k] = bounded(a.values[1][2 * i + k], a.least_scale, a.most_scale);
    }
}
