// What the kernels need of CUDA, and what the emulator (emulate/shim.h) provides in its stead.
#pragma once

#ifdef IGS_EMULATE
#include "emulate/shim.h"
#else
// An array that the threads of a block share.
#define IGS_SHARED(type, name, count) __shared__ type name[count]
// Threads of a block, and perhaps how many blocks a multiprocessor shall hold at least.
#define IGS_KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#endif

#include "../gaussian.h"
#include "frame.h"

namespace igs {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kTileSide = 16;

#define IGS_DEVICE static __device__ __forceinline__

IGS_DEVICE int tiles_each(const Frame& f) { return f.tiles_x * f.tiles_y; }
IGS_DEVICE int tiles_all(const Frame& f) { return f.tiles_x * f.tiles_y * f.pictures; }
IGS_DEVICE int gaussians_each(const Frame& f) { return f.num_gaussians / f.pictures; }

// IGS_CHANNELS of the rasteriser that draws a picture: channels of one pass.
IGS_DEVICE int channels_in_registers(const Frame& f) { return f.channels == 1 || f.channels == 3 ? f.channels : 4; }

// 2^x for x ≤ 0. Relative error 2^-22: the special-function unit's.
IGS_DEVICE float exp2_neg(float x) {
#ifdef IGS_EMULATE
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// 1/x of a normal number, within 2^-23 of it.
IGS_DEVICE float reciprocal(float x) {
#ifdef IGS_EMULATE
    return 1.f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Sum over the lanes of a warp, in all of them; a fixed tree.
IGS_DEVICE float warp_sum(float v) {
    for (int k = 16; k; k >>= 1) v += __shfl_xor_sync(kAll, v, k);
    return v;
}
IGS_DEVICE double warp_sum(double v) {
    for (int k = 16; k; k >>= 1) v += __shfl_xor_sync(kAll, v, k);
    return v;
}

// Sums of W values over the lanes of a warp: lane l is left with that of value l / (32 / W). One value at a time would
// take 5·W exchanges; halving what is left to send at each step takes W + log2(32 / W).
template <int W>
IGS_DEVICE float warp_sums(float (&v)[W]) {
    const int lane = threadIdx.x & 31;
    int offset = 16;
#pragma unroll
    for (int half = W / 2; half; half /= 2, offset /= 2) {
        const bool upper = lane & offset;
#pragma unroll
        for (int i = 0; i < W / 2; i++)
            if (i < half) {
                const float send = upper ? v[i] : v[i + half], keep = upper ? v[i + half] : v[i];
                v[i] = keep + __shfl_xor_sync(kAll, send, offset);
            }
    }
    for (; offset; offset /= 2) v[0] += __shfl_xor_sync(kAll, v[0], offset);
    return v[0];
}

}  // namespace igs
