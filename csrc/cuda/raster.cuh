// Forward and backward of both blends (spec §7). A warp draws a 16×16 tile, eight pixels per lane.
//
// Why a warp: what backward spends is the sum of eight or more values over a tile for each of its Gaussians. Eight pixels
// are summed in a lane's registers first, so that one exchange of the warp's lanes serves 256 pixels, no block has to
// wait for itself, and the order of the sum is fixed. Candidates lie in shared memory, 32 at a time: three 16-byte
// reads that all lanes share serve 8 pixels, some 60 operations. No index is stored: who counts is a threshold on d², found
// anew by backward from two numbers per pixel.
// Cost at 2048², 10K Gaussians, 25 candidates per tile: forward three passes of 10 operations (3 G in all), backward 30
// (3 G); at the half of an H200's 30 T operations/s that such code may reach, 0.4 ms. Bytes: picture, limits and gradient, 0.25
// GB or 0.06 ms. So arithmetic limits, and what matters is that nothing is evaluated twice and no register spills.
#pragma once
#include "device.h"

namespace igs {

enum Mode { kForward, kBackward, kFused };

constexpr int kWarps = 4;   // tiles per block, which have nothing to do with one another
constexpr int kPixels = 8;  // per lane: column lane % 16, rows lane / 16, 2 + lane / 16, …

struct alignas(16) Four {
    float x, y, z, w;
};

struct Shared {
    Four shape[32];   // p, q, r, mean x
    Four color[32];   // mean y, three channels
    Four extra[32];   // fourth channel, a, b·r, slot as bits
    float select[kPixels][32];
};

template <int CT, bool GRADIENT>
struct Tile {
    const Frame& f;
    Shared& s;
    int picture, x0, y0, lane, begin, n, staged;
    float x;

    __device__ __forceinline__ Tile(const Frame& frame, Shared& shared, int tile) : f(frame), s(shared), picture(tile / tiles_each(frame)) {
        lane = threadIdx.x & 31;
        x0 = tile % f.tiles_x * kTileSide, y0 = tile % tiles_each(f) / f.tiles_x * kTileSide;
        begin = f.tile_offset[tile], n = f.tile_offset[tile + 1] - begin;
        staged = -1;
        x = float(x0 + (lane & 15)) + 0.5f;
    }
    __device__ __forceinline__ float y_of(int j) const { return float(y0 + 2 * j + (lane >> 4)) + 0.5f; }
    __device__ __forceinline__ bool inside(int j) const { return x0 + (lane & 15) < f.width && y0 + 2 * j + (lane >> 4) < f.height; }
    __device__ __forceinline__ size_t plane() const { return size_t(f.width) * f.height; }
    __device__ __forceinline__ size_t pixel(int j) const { return size_t(y0 + 2 * j + (lane >> 4)) * f.width + x0 + (lane & 15); }
    // Where a channel of this pass, or one of the limits, has a pixel.
    __device__ __forceinline__ size_t value_at(int c, int j) const { return (size_t(picture) * f.channels + f.first_channel + c) * plane() + pixel(j); }
    __device__ __forceinline__ float weight(int j) const { return f.weight ? f.weight[size_t(picture) * plane() + pixel(j)] : 1.f; }
    __device__ __forceinline__ size_t limit_at(int k, int j) const { return (size_t(k) * f.pictures + picture) * plane() + pixel(j); }

    // Brings candidates base … base + 31 into shared memory, unless they are there.
    __device__ __forceinline__ int stage(int base) {
        const int count = n - base < 32 ? n - base : 32;
        if (staged == base) return count;
        __syncwarp();
        if (lane < count) {
            const int at = 2 * (begin + base + lane), g = f.list[at];
            const float* c = f.features + size_t(g) * f.columns + f.first_channel;
            float v[4] = {0, 0, 0, 0};
#pragma unroll
            for (int k = 0; k < CT; k++)
                if (CT < 4 || k < f.active) v[k] = c[k];
            const float r = f.factors[3 * g + 2];
            float a = 0, br = 0;
            if (GRADIENT) a = f.features[size_t(g) * f.columns + f.channels], br = f.features[size_t(g) * f.columns + f.channels + 1] * r;
            s.shape[lane] = {f.factors[3 * g], f.factors[3 * g + 1], r, f.means[2 * g]};
            s.color[lane] = {f.means[2 * g + 1], v[0], v[1], v[2]};
            s.extra[lane] = {v[3], a, br, __int_as_float(f.atomic ? g : f.list[at + 1])};
        }
        __syncwarp();
        staged = base;
        return count;
    }

    // Calls use(candidate, p·dx, mean y) for all candidates; `candidate` is its place in shared memory.
    template <class Use>
    __device__ __forceinline__ void each(Use use) {
        for (int base = 0; base < n; base += 32) {
            const int count = stage(base);
            for (int k = 0; k < count; k++) {
                const Four a = s.shape[k];
                use(k, a, IGS_MUL(a.x, IGS_SUB(x, a.w)), s.color[k].x);
            }
        }
    }

    // limit[j] ← min(limit[j], K-th smallest d²) in columns j that `select` marks by their limit. A network of min and max
    // keeps the NETWORK smallest in registers; what K is below that, it starts with so many that nothing undercuts.
    template <int NETWORK>
    __device__ __forceinline__ void select_smallest() {
#pragma unroll 1
        for (int j = 0; j < kPixels; j++) {
            const float limit = s.select[j][lane];
            if (!__any_sync(kAll, limit >= 0)) continue;
            float best[NETWORK];
#pragma unroll
            for (int k = 0; k < NETWORK; k++) best[k] = k < NETWORK - f.top_k ? -1.f : 1e30f;
            const float y = y_of(j);
            each([&](int, const Four& a, float pdx, float my) {
                float u, v, d2 = whitened_d2(pdx, a.y, a.z, IGS_SUB(y, my), &u, &v);
                if (!__any_sync(kAll, d2 <= limit)) return;
#pragma unroll
                for (int k = 0; k < NETWORK; k++) {
                    const float low = fminf(best[k], d2);
                    d2 = fmaxf(best[k], d2);
                    best[k] = low;
                }
            });
            if (limit >= 0) s.select[j][lane] = fminf(limit, best[NETWORK - 1]);
        }
    }

    // Who counts: limit ← the largest d² that does (−1 outside the picture), shift ← the smallest, pulled ← pull if empty.
    __device__ __forceinline__ void find_limits(float (&limit)[kPixels], float (&shift)[kPixels], float (&pulled)[kPixels]) {
        if (f.blend != IGS_BLEND_TOPK) {
#pragma unroll
            for (int j = 0; j < kPixels; j++) limit[j] = inside(j) ? f.reach2 : -1.f, shift[j] = pulled[j] = 0;
            return;
        }
#pragma unroll
        for (int j = 0; j < kPixels; j++) shift[j] = 1e30f;
        each([&](int, const Four& a, float pdx, float my) {
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                float u, v;
                shift[j] = fminf(shift[j], whitened_d2(pdx, a.y, a.z, IGS_SUB(y_of(j), my), &u, &v));
            }
        });
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            limit[j] = fminf(f.reach2, IGS_ADD(shift[j], f.relative_reach2));
            pulled[j] = 0;
            if (f.pull > 0) {
                limit[j] = fmaxf(limit[j], shift[j]);
                if (shift[j] > f.pull_reach2) pulled[j] = f.pull;
            }
            if (!inside(j)) limit[j] = -1.f, pulled[j] = 0;
        }
        if (n <= f.top_k) return;
        int count[kPixels];
#pragma unroll
        for (int j = 0; j < kPixels; j++) count[j] = 0;
        each([&](int, const Four& a, float pdx, float my) {
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                float u, v;
                count[j] += whitened_d2(pdx, a.y, a.z, IGS_SUB(y_of(j), my), &u, &v) <= limit[j];
            }
        });
        bool many = false;
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            many |= count[j] > f.top_k;
            s.select[j][lane] = count[j] > f.top_k ? limit[j] : -1.f;
        }
        if (!__any_sync(kAll, many)) return;
        if (f.top_k <= 10)
            select_smallest<10>();
        else
            select_smallest<32>();
#pragma unroll
        for (int j = 0; j < kPixels; j++)
            if (count[j] > f.top_k) limit[j] = s.select[j][lane];
    }

    __device__ __forceinline__ float channel(int k, int c) const {
        return c == 0 ? s.color[k].y : c == 1 ? s.color[k].z : c == 2 ? s.color[k].w : s.extra[k].x;
    }

    // Weights and sums; value ← the picture, shift ← what makes exp(−(d² − shift)/2) the share of the blend.
    __device__ __forceinline__ void blend(const float (&limit)[kPixels], float (&shift)[kPixels], float (&pulled)[kPixels], float (&value)[CT][kPixels]) {
        float total[kPixels], tilt[GRADIENT ? kPixels : 1];
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            total[j] = 0;
            if (GRADIENT) tilt[j] = 0;
#pragma unroll
            for (int c = 0; c < CT; c++) value[c][j] = 0;
        }
        each([&](int k, const Four& a, float pdx, float my) {
            float color[CT];
#pragma unroll
            for (int c = 0; c < CT; c++) color[c] = channel(k, c);
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                const float dy = IGS_SUB(y_of(j), my);
                float u, v;
                const float d2 = whitened_d2(pdx, a.y, a.z, dy, &u, &v);
                const float w = d2 <= limit[j] ? exp2_neg(kLog2e2 * (d2 - shift[j])) : 0.f;
                total[j] += w;
#pragma unroll
                for (int c = 0; c < CT; c++) value[c][j] = fmaf(w, color[c], value[c][j]);
                if (GRADIENT) tilt[j] = fmaf(w, fmaf(s.extra[k].y, u, s.extra[k].z * dy), tilt[j]);
            }
        });
        const bool topk = f.blend == IGS_BLEND_TOPK;
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            const bool some = total[j] > 0;
            const float inverse = topk && some ? 1.f / total[j] : 1.f;
#pragma unroll
            for (int c = 0; c < CT; c++) {
                const int at = f.first_channel + (CT < 4 || c < f.active ? c : 0);
                const float background = f.background[at];
                if (GRADIENT) value[c][j] = fmaf(f.lit[at], tilt[j], value[c][j]);
                value[c][j] = topk ? (some ? value[c][j] * inverse : background) : value[c][j] + background;
            }
            if (topk) {
                shift[j] = some ? shift[j] - 2.f * logf(total[j]) : 0.f;
                pulled[j] *= total[j];
            }
        }
    }

    // Sums of every candidate's gradients, from dL/dvalue [channel][pixel] and dot[j] = Σ over channels of value·dL/dvalue.
    __device__ __forceinline__ void gradients(const float (&limit)[kPixels], const float (&shift)[kPixels], const float (&pulled)[kPixels], const float (&g)[CT][kPixels], const float (&dot)[kPixels]) {
        constexpr int kUsed = 5 + CT + (GRADIENT ? 3 : 0), kWidth = kUsed <= 8 ? 8 : 16;
        float l[GRADIENT ? kPixels : 1];
        if (GRADIENT) {
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                l[j] = 0;
#pragma unroll
                for (int c = 0; c < CT; c++)
                    if (CT < 4 || c < f.active) l[j] = fmaf(f.lit[f.first_channel + c], g[c][j], l[j]);
            }
        }
        each([&](int k, const Four& a, float pdx, float my) {
            float color[CT], sums[kWidth];
#pragma unroll
            for (int c = 0; c < CT; c++) color[c] = channel(k, c);
#pragma unroll
            for (int i = 0; i < kWidth; i++) sums[i] = 0;
            bool some = false;
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                const float dy = IGS_SUB(y_of(j), my);
                float u, v;
                const float d2 = whitened_d2(pdx, a.y, a.z, dy, &u, &v);
                const bool counts = d2 <= limit[j];
                some |= counts;
                const float w = counts ? exp2_neg(kLog2e2 * (d2 - shift[j])) : 0.f;
                float d = -dot[j];
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    d = fmaf(color[c], g[c][j], d);
                    sums[5 + c] = fmaf(w, g[c][j], sums[5 + c]);
                }
                float wl = 0;
                if (GRADIENT) {
                    d = fmaf(l[j], fmaf(s.extra[k].y, u, s.extra[k].z * dy), d);
                    wl = w * l[j];
                    sums[5 + CT] += wl;
                    sums[6 + CT] = fmaf(wl, u, sums[6 + CT]);
                    sums[7 + CT] = fmaf(wl, dy, sums[7 + CT]);
                }
                const float h = w * fmaf(d, -0.5f, pulled[j]);
                float hu = h * u;
                if (GRADIENT) hu = fmaf(wl, 0.5f * s.extra[k].y, hu);  // a pulls on u as well: half of it, as d² does with u
                sums[0] += hu;
                sums[2] = fmaf(hu, dy, sums[2]);
                sums[3] = fmaf(h, dy, sums[3]);
                sums[4] = fmaf(h * dy, dy, sums[4]);
            }
            sums[1] = sums[0] * (x - a.w);
            const float sum = __any_sync(kAll, some) ? warp_sums<kWidth>(sums) : 0.f;
            if (lane % (32 / kWidth) == 0) {
                float* out = f.partial + size_t(__float_as_int(s.extra[k].w)) * kWidth + lane / (32 / kWidth);
                if (!f.atomic)
                    *out = sum;
                else if (sum != 0)
                    atomicAdd(out, sum);
            }
        });
    }
};

template <int CT, bool GRADIENT>
struct Removal : Tile<CT, GRADIENT> {
    using Base = Tile<CT, GRADIENT>;
    using Base::Base;

    // By how much Σw·e² over the tile would rise without each candidate: the others that count keep their weights; where there
    // is none, the background is seen. Sums of one value per candidate, as `partial` [entries].
    __device__ __forceinline__ void costs(const float (&limit)[kPixels], const float (&shift)[kPixels], const float (&value)[CT][kPixels], const float (&error)[CT][kPixels]) {
        const Frame& f = this->f;
        const bool topk = f.blend == IGS_BLEND_TOPK;
        this->each([&](int k, const Four& a, float pdx, float my) {
            float cost = 0;
#pragma unroll
            for (int j = 0; j < kPixels; j++) {
                const float dy = IGS_SUB(this->y_of(j), my);
                float u, v;
                const float d2 = whitened_d2(pdx, a.y, a.z, dy, &u, &v);
                if (!(d2 <= limit[j])) continue;
                const float w = exp2_neg(kLog2e2 * (d2 - shift[j])), rest = 1.f - w;
                const bool alone = rest <= 1e-5f;  // others that count weigh exp(−Q²/2) of the nearest or more; less is rounding
                const float share = alone ? 0.f : w / rest;
                float tilt = 0, rise = 0;
                if (GRADIENT) tilt = fmaf(this->s.extra[k].y, u, this->s.extra[k].z * dy);
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    if (CT == 4 && c >= f.active) continue;
                    float color = this->channel(k, c);
                    if (GRADIENT) color = fmaf(f.lit[f.first_channel + c], tilt, color);
                    float change = -w * color;  // of a sum
                    if (topk) change = alone ? f.background[f.first_channel + c] - value[c][j] : share * (value[c][j] - color);
                    rise = fmaf(change, fmaf(2.f, error[c][j], change), rise);
                }
                cost = fmaf(rise, this->weight(j), cost);
            }
            cost = warp_sum(cost);
            if (this->lane == 0) f.partial[__float_as_int(this->s.extra[k].w)] = cost;
        });
    }
};

// One tile's costs; gradients by atomic additions are not meant here, f.atomic is 0.
template <int CT, bool GRADIENT>
IGS_DEVICE void removal(const Frame& f, Shared* shared) {
    const int tile = int(blockIdx.x) * kWarps + int(threadIdx.x >> 5);
    if (tile >= tiles_all(f)) return;
    Removal<CT, GRADIENT> t(f, shared[threadIdx.x >> 5], tile);
    float limit[kPixels], shift[kPixels], pulled[kPixels], value[CT][kPixels], error[CT][kPixels];
    t.find_limits(limit, shift, pulled);
    t.blend(limit, shift, pulled, value);
#pragma unroll
    for (int j = 0; j < kPixels; j++)
#pragma unroll
        for (int c = 0; c < CT; c++) error[c][j] = t.inside(j) && (CT < 4 || c < f.active) ? value[c][j] - f.target[t.value_at(c, j)] : 0.f;
    t.costs(limit, shift, value, error);
}

template <int CT, bool GRADIENT, int MODE>
IGS_DEVICE void raster(const Frame& f, Shared* shared) {
    const int tile = int(blockIdx.x) * kWarps + int(threadIdx.x >> 5);
    if (tile >= tiles_all(f)) return;
    Tile<CT, GRADIENT> t(f, shared[threadIdx.x >> 5], tile);
    const bool topk = f.blend == IGS_BLEND_TOPK;
    float limit[kPixels], shift[kPixels], pulled[kPixels], g[CT][kPixels], dot[kPixels];
    if (MODE == kBackward && topk) {
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            limit[j] = -1, shift[j] = pulled[j] = 0;
            if (t.inside(j)) {
                limit[j] = f.limits[t.limit_at(0, j)];
                shift[j] = f.limits[t.limit_at(1, j)];
                if (f.pull > 0 && f.first_channel == 0) pulled[j] = f.limits[t.limit_at(2, j)];  // once, not per pass
            }
        }
    } else {
        t.find_limits(limit, shift, pulled);
    }
    if (MODE != kBackward) {
        t.blend(limit, shift, pulled, g);
        float e1 = 0, e2 = 0;
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            dot[j] = 0;
            if (!t.inside(j)) {
#pragma unroll
                for (int c = 0; c < CT; c++) g[c][j] = 0;
                continue;
            }
            if (MODE == kForward && topk) {
                f.limits[t.limit_at(0, j)] = limit[j], f.limits[t.limit_at(1, j)] = shift[j];
                if (f.pull > 0) f.limits[t.limit_at(2, j)] = pulled[j];
            }
            const float weight = MODE == kFused ? t.weight(j) : 1.f;
#pragma unroll
            for (int c = 0; c < CT; c++) {
                if (CT == 4 && c >= f.active) {
                    g[c][j] = 0;
                    continue;
                }
                const size_t where = t.value_at(c, j);
                const float value = g[c][j];
                if (MODE == kForward) {
                    f.image[where] = value;
                } else {
                    const float e = value - f.target[where], we = weight * e;
                    e1 += fabsf(we);
                    e2 = fmaf(we, e, e2);
                    g[c][j] = 2 * f.l2 * we + weight * (e > 0 ? f.l1 : e < 0 ? -f.l1 : 0.f);
                    if (topk) dot[j] = fmaf(g[c][j], value, dot[j]);
                }
            }
        }
        if (MODE == kForward) return;
        e1 = warp_sum(e1), e2 = warp_sum(e2);
        if (t.lane == 0) f.sums[3 * tile] = e1, f.sums[3 * tile + 1] = e2, f.sums[3 * tile + 2] = 0;
    } else {
#pragma unroll
        for (int j = 0; j < kPixels; j++) {
            dot[j] = 0;
#pragma unroll
            for (int c = 0; c < CT; c++) {
                g[c][j] = 0;
                if (!t.inside(j) || (CT == 4 && c >= f.active)) continue;
                const size_t where = t.value_at(c, j);
                g[c][j] = f.grad_image[where];
                if (topk) dot[j] = fmaf(g[c][j], f.image[where], dot[j]);
            }
        }
    }
    t.gradients(limit, shift, pulled, g, dot);
}

}  // namespace igs
