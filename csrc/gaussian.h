// What host and device code share: the mathematics of one Gaussian, and the constants of a blend and of the losses.
#pragma once
#ifndef __CUDACC_RTC__  // which knows the functions, and no header
#include <math.h>
#endif

#ifdef __CUDACC__
#define IGS_HD __host__ __device__ __forceinline__
#else
#define IGS_HD static inline __attribute__((always_inline))
#endif

#ifdef __CUDA_ARCH__
#define IGS_MUL(a, b) __fmul_rn(a, b)
#define IGS_ADD(a, b) __fadd_rn(a, b)
#define IGS_SUB(a, b) __fsub_rn(a, b)
#else
#define IGS_MUL(a, b) ((a) * (b))
#define IGS_ADD(a, b) ((a) + (b))
#define IGS_SUB(a, b) ((a) - (b))
#endif

enum { IGS_BLEND_TOPK = 0, IGS_BLEND_SUM = 1 };
enum { IGS_SCALE_RAW = 0, IGS_SCALE_INVERSE = 1, IGS_SCALE_LOG = 2 };
enum { IGS_MOST_COLUMNS = 66 };  // of features: 64 channels and two slopes

namespace igs {

constexpr float kPi = 3.14159265358979f;
constexpr float kLog2e2 = -0.72134752f;  // exp(−d²/2) = 2^(kLog2e2·d²)
// SSIM's window exp(−k²/(2·1.5²)), normalised to sum 1 over −5 … 5, and its constants 0.01² and 0.03².
constexpr float kWindow0 = 0.26601172f, kWindow1 = 0.21300554f, kWindow2 = 0.10936069f, kWindow3 = 0.03600077f, kWindow4 = 0.00759876f,
                kWindow5 = 0.00102838f;
constexpr float kC1 = 0.0001f, kC2 = 0.0009f;

// u, v and d² of spec §7 from p·dx, q, r and dy: each operation rounded by itself, so that the same Gaussians count
// everywhere. (On the host that takes a compiler that was told not to contract.)
IGS_HD float whitened_d2(float pdx, float q, float r, float dy, float* u, float* v) {
    *u = IGS_ADD(pdx, IGS_MUL(q, dy));
    *v = IGS_MUL(r, dy);
    return IGS_ADD(IGS_MUL(*u, *u), IGS_MUL(*v, *v));
}

// Standard deviation of a scale value; *slope = dσ/dvalue (0 where the clamp holds and would be pushed further out is
// left to the optimiser: the slope is that of the unclamped map, so that a clamped value can come back).
IGS_HD float sigma_of(int map, float value, float lo, float hi, float* slope) {
    float s;
    if (map == IGS_SCALE_LOG) {
        float v = value < -20.f ? -20.f : (value > 20.f ? 20.f : value);
        s = expf(v);
        *slope = s;
    } else if (map == IGS_SCALE_INVERSE) {
        float v = value > 1e-6f ? value : 1e-6f;
        s = 1.f / v;
        *slope = -s * s;
    } else {
        s = value;
        *slope = 1.f;
    }
    if (s < lo) {
        s = lo;
        if (map == IGS_SCALE_LOG) *slope = s;
        if (map == IGS_SCALE_INVERSE) *slope = -s * s;
    } else if (s > hi) {
        s = hi;
        if (map == IGS_SCALE_LOG) *slope = s;
        if (map == IGS_SCALE_INVERSE) *slope = -s * s;
    }
    return s;
}

// A Gaussian with noise of one lattice step on its place and shape (spec §6.4): steps[4] of the mean in deviations, of ln σ₂, of
// ln(σ₁/σ₂) and of the apparent turn in radians, all of a Gaussian of σ = 1; u[5] numbers in −½ … ½; (c, s) = (cos θ, sin θ).
// Returns what the steps of its features are to be multiplied with.
IGS_HD float add_noise(const float* steps, int map, float lo, float hi, const float* u, const float* mean, const float* scale,
                       float rotation, float c, float s, float* noisy_mean, float* noisy_scale, float* noisy_rotation) {
    float slope;
    const float s1 = sigma_of(map, scale[0], lo, hi, &slope), s2 = sigma_of(map, scale[1], lo, hi, &slope);
    const float l1 = map == IGS_SCALE_LOG ? scale[0] : logf(s1), l2 = map == IGS_SCALE_LOG ? scale[1] : logf(s2);
    const bool turned = l2 > l1;  // the second axis is the major one
    const float major = turned ? l2 : l1, minor = turned ? l1 : l2;
    const float gain = expf(-(major + 3.f * minor) / 8.f), root = expf(-minor / 2.f);
    const float by_minor = u[0] * steps[1] * root, by_major = by_minor + u[1] * steps[2] * root;
    const float n1 = l1 + (turned ? by_minor : by_major), n2 = l2 + (turned ? by_major : by_minor);
    noisy_scale[0] = map == IGS_SCALE_LOG ? n1 : expf(map == IGS_SCALE_INVERSE ? -n1 : n1);
    noisy_scale[1] = map == IGS_SCALE_LOG ? n2 : expf(map == IGS_SCALE_INVERSE ? -n2 : n2);
    const float ratio = expf(major - minor), angles = ceilf((ratio - 1.f / ratio) * kPi / (steps[3] * gain));
    *noisy_rotation = rotation + (angles > 1.f ? u[2] / angles : 0.f);
    const float d1 = u[3] * steps[0] * gain * s1, d2 = u[4] * steps[0] * gain * s2;
    noisy_mean[0] = mean[0] + d1 * c - d2 * s;
    noisy_mean[1] = mean[1] + d1 * s + d2 * c;
    const float finer = expf(-(3.f * major + 4.f * minor) / 8.f);
    return finer > 0.015625f ? finer : 0.015625f;  // FEATURE_GAIN_MIN of format/lattice.py
}

// Feature k of `count` with the noise of all features' steps at once: mixed[j, k] is how feature j's step moves it, u is in −½ … ½.
IGS_HD float noisy_feature(int count, int k, float feature, float factor, const float* mixed, const float* u) {
    float sum = 0;
    for (int j = 0; j < count; j++) sum += u[j] * mixed[j * count + k];
    return feature + factor * sum;
}

struct Betas {
    float beta1, beta2, rest1, rest2, epsilon;  // rest: 1 − β
};

// What a step of Adam on all Gaussians is given. Laid out as Adam in encoder/raster/adam.py.
struct Adam {
    float* values[4];        // positions [n, 2], scales [n, 2], rotations [n], features [n, columns]; as are the next three
    const float* grads[4];   // null: these stay as they are
    float* m[4];
    float* v[4];
    int* age;                // [n]: steps that a Gaussian has taken, by which its moments are corrected
    const float* scales;     // [n, 2] and
    const float* rotations;  // [n]: the axes that positions move along, and the deviations there (a map of them, IGS_SCALE_*)
    int n, columns, colours, map, along_axes;  // columns behind the colours: slopes
    float lo, hi;                              // bounds of deviations along axes
    float rates[4], slope_rate;                // of positions: deviations if along axes, otherwise units
    float unit[2];                             // pixels of what Adam sees as a position's parameter, along x and y
    Betas betas;
    float log1, log2;               // ln β of the β above, so that 1 − β^age is exact for small ages as well
    float least[2], most[2];        // bounds of positions, pixels
    float least_scale, most_scale;  // of scales
};

// Adam's step of one value, by how much it falls; m and v learn of its gradient. c1, c2 correct their bias.
IGS_HD float adam_step(const Betas& a, float rate, float c1, float c2, float grad, float* m, float* v) {
    *m = a.beta1 * *m + a.rest1 * grad;
    *v = a.beta2 * *v + a.rest2 * grad * grad;
    return rate * (*m * c1) / (sqrtf(*v * c2) + a.epsilon);
}

// Adam's step of a mean along its Gaussian's own axes, turned by (c, s) = (cos θ, sin θ): rate is in the deviations s1 and s2
// there. m and v are of the gradient along the axes.
IGS_HD void adam_mean(const Betas& a, float rate, float s1, float s2, float c, float s, float c1, float c2, const float* grad,
                      float* m, float* v, float* mean) {
    const float by1 = adam_step(a, rate * s1, c1, c2, c * grad[0] + s * grad[1], m, v);
    const float by2 = adam_step(a, rate * s2, c1, c2, c * grad[1] - s * grad[0], m + 1, v + 1);
    mean[0] -= c * by1 - s * by2;
    mean[1] -= s * by1 + c * by2;
}

// By its bits: the host's compiler takes it that there are none.
IGS_HD bool is_nan(float value) {
#ifdef __CUDA_ARCH__
    const unsigned bits = __float_as_uint(value);
#else
    unsigned bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
#endif
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

// Within bounds; what is not a number stays that, and tells that a fit diverged.
IGS_HD float bounded(float value, float least, float most) {
    return is_nan(value) ? value : (value < least ? least : (value > most ? most : value));
}

// (p, q, r) of variances A, B along the axes turned by (c, s) = (cos θ, sin θ). Spec §6.2.
IGS_HD void factor_forward(float A, float B, float c, float s, float* f) {
    const float syy = A * s * s + B * c * c, sxy = (A - B) * s * c, D = sqrtf(A) * sqrtf(B), g = sqrtf(syy);
    f[0] = g / D;
    f[1] = -sxy / (D * g);
    f[2] = 1.f / g;
}

// dL/dA, dL/dB and dL/dθ (per radian) from dL/d(p, q, r).
IGS_HD void factor_backward(float A, float B, float c, float s, const float* grad_f, float* gA, float* gB, float* gT) {
    const float syy = A * s * s + B * c * c, sxy = (A - B) * s * c, D = sqrtf(A) * sqrtf(B), g = sqrtf(syy);
    const float p = g / D, q = -sxy / (D * g), r = 1.f / g;
    const float dg = grad_f[0] / D - grad_f[1] * q / g - grad_f[2] * r * r;
    const float dD = -(grad_f[0] * p + grad_f[1] * q) / D;
    const float dsxy = -grad_f[1] / (D * g), dsyy = dg / (2.f * g);
    *gA = dsyy * s * s + dsxy * s * c + dD * D / (2.f * A);
    *gB = dsyy * c * c - dsxy * s * c + dD * D / (2.f * B);
    *gT = (A - B) * (dsyy * 2.f * s * c + dsxy * (c * c - s * s));
}

// Smallest and largest d² of the points of a rectangle [x0, x1] × [y0, y1], given relative to the mean.
// d² is convex: the largest is at a corner; the smallest is 0 inside, else on the boundary.
IGS_HD void rect_d2(float p, float q, float r, float x0, float y0, float x1, float y1, float* lo, float* hi) {
    const float a00 = p * x0 + q * y0, a10 = p * x1 + q * y0, a01 = p * x0 + q * y1, a11 = p * x1 + q * y1;
    const float v0 = r * y0, v1 = r * y1, v00 = v0 * v0, v11 = v1 * v1;
    const float c00 = a00 * a00 + v00, c10 = a10 * a10 + v00, c01 = a01 * a01 + v11, c11 = a11 * a11 + v11;
    float h = c00 > c10 ? c00 : c10, h2 = c01 > c11 ? c01 : c11;
    *hi = h > h2 ? h : h2;
    if (x0 <= 0.f && x1 >= 0.f && y0 <= 0.f && y1 >= 0.f) {
        *lo = 0.f;
        return;
    }
    // horizontal edges: u runs linearly from a·0 to a·1, v is constant
    float e0 = (a00 <= 0.f) != (a10 <= 0.f) ? v00 : (c00 < c10 ? c00 : c10);
    float e1 = (a01 <= 0.f) != (a11 <= 0.f) ? v11 : (c01 < c11 ? c01 : c11);
    float m = e0 < e1 ? e0 : e1;
    // vertical edges: minimum of (p·x + q·y)² + (r·y)² over y at y* = −p·q·x / (q² + r²), clamped to the edge
    const float k = -p * q / (q * q + r * r);
    float ya = k * x0, yb = k * x1;
    ya = ya < y0 ? y0 : (ya > y1 ? y1 : ya);
    yb = yb < y0 ? y0 : (yb > y1 ? y1 : yb);
    const float ua = p * x0 + q * ya, va = r * ya, ub = p * x1 + q * yb, vb = r * yb;
    const float ma = ua * ua + va * va, mb = ub * ub + vb * vb;
    m = m < ma ? m : ma;
    *lo = m < mb ? m : mb;
}

}  // namespace igs
