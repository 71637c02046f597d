// L1, L2 and SSIM with the analytic gradient in one pass, block by block, as csrc/loss.inc has it.
//
// A block makes 32×32 values of one channel. It needs the pictures 10 pixels further on each side (the window, and the window
// of the windows that see a pixel), so it blurs 1.7 times as many values as it is about, but the three maps of
// derivatives, which would be three pictures to write and to read, never leave the chip. Blurs are separable; a thread makes
// 4 or 6 neighbouring values from registers, so that 11 multiply-adds take 2 to 3 reads of shared memory. Two products are
// blurred at a time, and all three maps: what both have read from one place is read once, and the block waits seven times.
// Cost at 2048²×3: 12 288 blocks of some 21 000 warp instructions (counted in what the assembler makes for sm_90), 0.28 ms
// if each of an H200's 528 schedulers issued one at every cycle; bytes 0.15 GB, 0.04 ms.
#include "device.h"

namespace igs {

constexpr int kHalo = 5, kOut = 32, kMap = kOut + 2 * kHalo, kIn = kMap + 2 * kHalo;
constexpr int kLossThreads = 384;                                          // ≥ 52·7 rows of six, 42·7 columns of six
constexpr int kInStride = kIn + 1, kMapStride = kMap + 1, kOutStride = kOut + 1;  // odd: no two lanes in one bank
constexpr int kSix = 6, kFour = 4;

// Of constants, since there are no arrays of them on the device.
IGS_DEVICE float window(int k) { return k == 0 ? kWindow0 : k == 1 ? kWindow1 : k == 2 ? kWindow2 : k == 3 ? kWindow3 : k == 4 ? kWindow4 : kWindow5; }

// store(i, Σ window·in[i … i + 10]) for i = 0 … N − 1.
template <int N, class Store>
IGS_DEVICE void blur(const float (&in)[N + 10], Store store) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        float sum = window(0) * in[i + 5];
#pragma unroll
        for (int k = 1; k <= 5; k++) sum = fmaf(window(k), in[i + 5 - k] + in[i + 5 + k], sum);
        store(i, sum);
    }
}

}  // namespace igs

using namespace igs;

// grad_image may be null: then only the sums are made. Grid: blocks of x, of y, channels of all pictures.
IGS_KERNEL(384, 3) igs_loss(const Frame f) {
    IGS_SHARED(float, big, 2 * kIn * kInStride);    // both pictures; then the three maps of derivatives
    IGS_SHARED(float, rows, 2 * kIn * kMapStride);  // two products, then the three maps, blurred along their rows
    IGS_SHARED(float, parts, 3 * kLossThreads / 32);
    const int t = int(threadIdx.x), W = f.width, H = f.height;
    const int x0 = int(blockIdx.x) * kOut, y0 = int(blockIdx.y) * kOut;
    const size_t plane = size_t(W) * H * blockIdx.z;
    const float *A = f.image + plane, *B = f.target + plane;
    const float* weight = f.weight ? f.weight + size_t(W) * H * (blockIdx.z / f.channels) : nullptr;  // its picture's
    float e1 = 0, e2 = 0, similar = 0;
    float back[3][kFour] = {};

    if (f.ssim != 0) {
        float *a = big, *b = big + kIn * kInStride;
        // A warp reads a row, two values a lane.
        const int lane = t % 32, x = x0 - 2 * kHalo + lane, y = y0 - 2 * kHalo + t / 32;
        const long long at = (long long)(y)*W + x;
        const bool left = unsigned(x) < unsigned(W), more = lane < kIn - 32, right = more && x + 32 < W;
#pragma unroll 1
        for (int k = 0; k < kIn; k += kLossThreads / 32) {
            const int to = (t / 32 + k) * kInStride + lane;
            if (t / 32 + k >= kIn) break;
            const bool inside = unsigned(y + k) < unsigned(H);
            const float *pa = A + at + (long long)(k)*W, *pb = B + at + (long long)(k)*W;
            a[to] = inside && left ? pa[0] : 0.f;
            b[to] = inside && left ? pb[0] : 0.f;
            if (more) a[to + 32] = inside && right ? pa[32] : 0.f;
            if (more) b[to + 32] = inside && right ? pb[32] : 0.f;
        }
        __syncthreads();
        float m[4][kSix] = {};  // a, b, aa + bb, ab, blurred both ways
        const int column = t % kMap, first = t / kMap * kSix;  // this thread's part of the maps: six values of a column
        const bool maps = t < kMap * kMap / kSix;
#pragma unroll
        for (int squares = 0; squares < 2; squares++) {
            if (t < kIn * kMap / kSix) {
                const int row = t % kIn, from = t / kIn * kSix;
                float u[kSix + 10], v[kSix + 10];
#pragma unroll
                for (int k = 0; k < kSix + 10; k++) {
                    u[k] = a[row * kInStride + from + k], v[k] = b[row * kInStride + from + k];
                    if (squares) {
                        const float product = u[k] * v[k];
                        u[k] = fmaf(u[k], u[k], v[k] * v[k]);
                        v[k] = product;
                    }
                }
                float* out = rows + row * kMapStride + from;
                blur<kSix>(u, [&](int k, float x) { out[k] = x; });
                blur<kSix>(v, [&](int k, float x) { out[kIn * kMapStride + k] = x; });
            }
            __syncthreads();
            if (maps)
#pragma unroll
                for (int which = 0; which < 2; which++) {
                    const float* from = rows + (which * kIn + first) * kMapStride + column;
                    float v[kSix + 10];
#pragma unroll
                    for (int k = 0; k < kSix + 10; k++) v[k] = from[k * kMapStride];
                    blur<kSix>(v, [&](int k, float x) { m[2 * squares + which][k] = x; });
                }
            __syncthreads();
        }
        if (maps) {
            const int x = x0 + column - kHalo, y = y0 + first - kHalo;
            const bool inside = unsigned(x) < unsigned(W), own = unsigned(column - kHalo) < unsigned(kOut);
            float* out = big + first * kMapStride + column;
#pragma unroll
            for (int k = 0; k < kSix; k++) {
                const float ma = m[0][k], mb = m[1][k], ab = ma * mb, squares = fmaf(ma, ma, mb * mb);
                const float n1 = fmaf(2, ab, kC1), n2 = fmaf(2, m[3][k] - ab, kC2), d1 = squares + kC1, d2 = m[2][k] - squares + kC2;
                float w = inside && unsigned(y + k) < unsigned(H) ? 1.f : 0.f;  // there are no maps outside
                if (weight && w > 0) w = weight[size_t(y + k) * W + x];
                const float inverse = reciprocal(d1 * d2), S = n1 * inverse * n2, share = w * inverse, slope = S * share;
                out[k * kMapStride] = fmaf(ma * slope, d1 - d2, mb * share * (n2 - n1));
                out[(kMap + k) * kMapStride] = -slope * d1;
                out[(2 * kMap + k) * kMapStride] = share * n1;
                if (own && unsigned(first + k - kHalo) < unsigned(kOut)) similar = fmaf(w, S, similar);
            }
        }
        __syncthreads();
        if (f.grad_image) {
            if (t < kMap * kOut / kFour) {
                const int row = t % kMap, left = t / kMap * kFour;
#pragma unroll
                for (int map = 0; map < 3; map++) {
                    const float* from = big + (map * kMap + row) * kMapStride + left;
                    float* out = rows + (map * kMap + row) * kOutStride + left;
                    float v[kFour + 10];
#pragma unroll
                    for (int k = 0; k < kFour + 10; k++) v[k] = from[k];
                    blur<kFour>(v, [&](int k, float x) { out[k] = x; });
                }
            }
            __syncthreads();
            if (t < kOut * kOut / kFour) {
#pragma unroll
                for (int map = 0; map < 3; map++) {
                    const float* from = rows + (map * kMap + t / kOut * kFour) * kOutStride + t % kOut;
                    float v[kFour + 10];
#pragma unroll
                    for (int k = 0; k < kFour + 10; k++) v[k] = from[k * kOutStride];
                    blur<kFour>(v, [&](int k, float x) { back[map][k] = x; });
                }
            }
        }
    }
    if (t < kOut * kOut / kFour) {
        const int x = x0 + t % kOut, y = y0 + t / kOut * kFour;
        size_t at = size_t(y) * W + x;
#pragma unroll
        for (int k = 0; k < kFour; k++, at += W) {
            if (x >= W || y + k >= H) break;
            const float a = A[at], b = B[at], e = a - b, w = weight ? weight[at] : 1.f, we = w * e;
            e1 += fabsf(we);
            e2 = fmaf(we, e, e2);
            if (f.grad_image)
                f.grad_image[plane + at] = 2 * (f.l2 * we - f.ssim * fmaf(b, back[2][k], fmaf(a, back[1][k], back[0][k]))) + w * (e > 0 ? f.l1 : e < 0 ? -f.l1 : 0.f);
        }
    }
    e1 = warp_sum(e1), e2 = warp_sum(e2), similar = warp_sum(similar);
    if (t % 32 == 0) parts[t / 32 * 3] = e1, parts[t / 32 * 3 + 1] = e2, parts[t / 32 * 3 + 2] = similar;
    __syncthreads();
    if (t < 3) {
        double sum = 0;
        for (int k = 0; k < kLossThreads / 32; k++) sum += double(parts[3 * k + t]);
        f.sums[3 * (size_t(blockIdx.x) + size_t(gridDim.x) * (blockIdx.y + size_t(gridDim.y) * blockIdx.z)) + t] = sum;
    }
}

// totals ← the sums of a picture's blocks, in a fixed order, and whether there is anything left to learn. A block per picture.
IGS_KERNEL(256) igs_totals(const Frame f) {
    IGS_SHARED(double, parts, 3 * 8);
    const int t = int(threadIdx.x);
    double sum[3] = {};
    for (int k = t; k < f.blocks; k += 256)
        for (int i = 0; i < 3; i++) sum[i] += f.sums[3 * (size_t(blockIdx.x) * f.blocks + k) + i];
    for (int i = 0; i < 3; i++) {
        sum[i] = warp_sum(sum[i]);
        if (t % 32 == 0) parts[3 * (t / 32) + i] = sum[i];
    }
    __syncthreads();
    if (t) return;
    for (int i = 0; i < 3; i++) {
        sum[i] = 0;
        for (int k = 0; k < 8; k++) sum[i] += parts[3 * k + i];
        f.totals[3 * blockIdx.x + i] = sum[i];
    }
    const double values = double(f.width) * f.height * f.channels;
    f.done[blockIdx.x] = f.l1 * sum[0] + f.l2 * sum[1] + f.ssim * (values - sum[2]) < f.perfect;
}
