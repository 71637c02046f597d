// Sixteen floats as one value: a row of a tile. One, two or four native vectors, whichever the target has.
#pragma once
#include <stdint.h>
#include <string.h>

#define IGS_INLINE static inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int VL = 16;
#elif defined(__AVX__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif
constexpr int NV = 16 / VL;
typedef float nf __attribute__((vector_size(VL * 4)));
typedef int32_t ni __attribute__((vector_size(VL * 4)));

struct vf {
    nf v[NV];
};

#define IGS_EACH for (int k = 0; k < NV; k++)

IGS_INLINE vf splat(float x) {
    vf r;
    IGS_EACH r.v[k] = nf{} + x;
    return r;
}
IGS_INLINE vf load(const float* p) {
    vf r;
    IGS_EACH memcpy(&r.v[k], p + k * VL, sizeof(nf));
    return r;
}
IGS_INLINE void store(float* p, vf a) { IGS_EACH memcpy(p + k * VL, &a.v[k], sizeof(nf)); }
// The first n values; the others 0 (a tile may stick out of the picture).
IGS_INLINE vf load_n(const float* p, int n) {
    if (n >= 16) return load(p);
    float t[16] = {0};
    for (int i = 0; i < n; i++) t[i] = p[i];
    return load(t);
}
IGS_INLINE void store_n(float* p, vf a, int n) {
    if (n >= 16) return store(p, a);
    float t[16];
    store(t, a);
    for (int i = 0; i < n; i++) p[i] = t[i];
}
IGS_INLINE vf lanes() {
    vf r;
    IGS_EACH for (int i = 0; i < VL; i++) r.v[k][i] = float(k * VL + i);
    return r;
}

#define IGS_OP(name, expr)                \
    IGS_INLINE vf name(vf a, vf b) {      \
        vf r;                             \
        IGS_EACH r.v[k] = (expr);         \
        return r;                         \
    }
IGS_OP(operator+, a.v[k] + b.v[k])
IGS_OP(operator-, a.v[k] - b.v[k])
IGS_OP(operator*, a.v[k] * b.v[k])
IGS_OP(operator/, a.v[k] / b.v[k])
IGS_OP(vmin, a.v[k] < b.v[k] ? a.v[k] : b.v[k])
IGS_OP(vmax, a.v[k] > b.v[k] ? a.v[k] : b.v[k])
#undef IGS_OP
IGS_INLINE vf fma(vf a, vf b, vf c) {
    vf r;
    IGS_EACH r.v[k] = a.v[k] * b.v[k] + c.v[k];
    return r;
}
// a ≤ b ? x : y
IGS_INLINE vf le(vf a, vf b, vf x, vf y) {
    vf r;
    IGS_EACH r.v[k] = a.v[k] <= b.v[k] ? x.v[k] : y.v[k];
    return r;
}
// ⌊a⌋ for 0 ≤ a < 2³¹
IGS_INLINE vf vfloor(vf a) {
    vf r;
    IGS_EACH r.v[k] = __builtin_convertvector(__builtin_convertvector(a.v[k], ni), nf);
    return r;
}
IGS_INLINE vf vabs(vf a) { return vmax(a, splat(0.f) - a); }

// 2^x for x ≤ 0, of no less than -125: what is smaller still is no normal number. Relative error 2.4e-7: degree 6 on [-½, ½].
IGS_INLINE vf exp2_neg(vf x) {
    vf r;
    IGS_EACH {
        const nf e = x.v[k] > -125.0f ? x.v[k] : nf{} - 125.0f;
        const ni n = __builtin_convertvector(e - 0.5f, ni);  // truncation: nearest for x ≤ 0
        const nf f = e - __builtin_convertvector(n, nf);
        nf y = 1.5403530e-4f * f + 1.3333558e-3f;
        y = y * f + 9.6181291e-3f;
        y = y * f + 5.5504109e-2f;
        y = y * f + 2.4022651e-1f;
        y = y * f + 6.9314718e-1f;
        y = y * f + 1.0f;
        const ni bits = (ni)y + (n << 23);
        r.v[k] = (nf)bits;
    }
    return r;
}

// A vector's lower and upper half, added. GCC has __builtin_shufflevector from version 12 on; by way of memory a step
// takes half as long again (2048², 10 000 Gaussians: 93 ms instead of 60).
template <typename Half, typename Whole>
IGS_INLINE Half fold(const Whole& a) {
#if defined(__clang__) || __GNUC__ >= 12
    if constexpr (sizeof(Half) == 32) {
        return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
    } else if constexpr (sizeof(Whole) == 32) {
        return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    } else {
        return a + __builtin_shufflevector(a, a, 2, 3, 0, 1);
    }
#else
    Half low, high;
    memcpy(&low, &a, sizeof low);
    memcpy(&high, (const char*)&a + sizeof(Whole) - sizeof high, sizeof high);
    if constexpr (sizeof(Half) == sizeof(Whole)) high = Half{a[2], a[3], a[0], a[1]};
    return low + high;
#endif
}
IGS_INLINE float hsum(vf a) {
    nf s = a.v[0];
    for (int k = 1; k < NV; k++) s = s + a.v[k];
    typedef float f4 __attribute__((vector_size(16)));
#if defined(__AVX512F__)
    typedef float f8 __attribute__((vector_size(32)));
    const f4 q = fold<f4>(fold<f8>(s));
#elif defined(__AVX__)
    const f4 q = fold<f4>(s);
#else
    const f4 q = s;
#endif
    const f4 h = fold<f4>(q);
    return h[0] + h[1];
}
IGS_INLINE float hmax(vf a) {
    float t[16], m;
    store(t, a);
    m = t[0];
    for (int i = 1; i < 16; i++) m = t[i] > m ? t[i] : m;
    return m;
}

}  // namespace
