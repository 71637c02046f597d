// L1, L2 and SSIM with the analytic gradient in one pass, block by block, as csrc/loss.inc has it.
//
// A block makes 32×32 values of one channel. It needs the pictures 10 pixels further on each side (the window, and the window
// of the windows that see a pixel), so it blurs 1.7 times as many values as it is about, but the three maps of
// derivatives, which would be three pictures to write and to read, never leave the chip. Blurs are separable; a thread makes
// 4 or 6 neighbouring values from registers, so that 11 multiply-adds take 2 to 3 reads of shared memory.
// Cost at 2048²×3: 3.6 G multiply-adds and 0.9 G reads of shared memory, about 0.2 ms on an H200; bytes 0.15 GB, 0.04 ms.
#include "device.h"

namespace igs {

constexpr int kHalo = 5, kOut = 32, kMap = kOut + 2 * kHalo, kIn = kMap + 2 * kHalo;
constexpr int kLossThreads = 384;                                          // ≥ 52·7 rows of six, 42·7 columns of six
constexpr int kInStride = kIn + 1, kMapStride = kMap + 1, kOutStride = kOut + 1;  // odd: no two lanes in one bank
constexpr int kSix = 6, kFour = 4;

// exp(−k²/(2·1.5²)), normalised to sum 1 over −5 … 5.
IGS_DEVICE float window(int k) {
    return k == 0 ? 0.26601172f : k == 1 ? 0.21300554f : k == 2 ? 0.10936069f : k == 3 ? 0.03600077f : k == 4 ? 0.00759876f : 0.00102838f;
}

// out[i] = Σ window·in[i … i + 10] of in(k), k = 0 … n + 9.
template <int N, class Load>
IGS_DEVICE void blur(float (&out)[N], Load in) {
    float v[N + 10];
#pragma unroll
    for (int k = 0; k < N + 10; k++) v[k] = in(k);
#pragma unroll
    for (int i = 0; i < N; i++) {
        out[i] = window(0) * v[i + 5];
#pragma unroll
        for (int k = 1; k <= 5; k++) out[i] = fmaf(window(k), v[i + 5 - k] + v[i + 5 + k], out[i]);
    }
}

}  // namespace igs

using namespace igs;

// grad_image may be null: then only the sums are made. Grid: blocks of x, of y, channels of all pictures.
IGS_KERNEL(384) igs_loss(const Frame f) {
    IGS_SHARED(float, big, 2 * kIn * kInStride);       // both pictures; then the three maps of derivatives
    IGS_SHARED(float, rows, kIn * kMapStride);         // one of them blurred along its rows
    IGS_SHARED(float, parts, 3 * kLossThreads / 32);
    const int t = int(threadIdx.x), W = f.width, H = f.height;
    const int x0 = int(blockIdx.x) * kOut, y0 = int(blockIdx.y) * kOut;
    const size_t plane = size_t(W) * H * blockIdx.z;
    const float *A = f.image + plane, *B = f.target + plane;
    const float* weight = f.weight ? f.weight + size_t(W) * H * (blockIdx.z / f.channels) : nullptr;  // its picture's
    float e1 = 0, e2 = 0, similar = 0;
    float back[3][kFour] = {};

    if (f.ssim != 0) {
        float* a = big;
        float* b = big + kIn * kInStride;
        for (int k = t; k < kIn * kIn; k += kLossThreads) {
            const int row = k / kIn, column = k % kIn, x = x0 + column - 2 * kHalo, y = y0 + row - 2 * kHalo;
            const bool inside = x >= 0 && x < W && y >= 0 && y < H;
            a[row * kInStride + column] = inside ? A[size_t(y) * W + x] : 0.f;
            b[row * kInStride + column] = inside ? B[size_t(y) * W + x] : 0.f;
        }
        __syncthreads();
        float m[5][kSix] = {};  // a, b, aa, bb, ab, blurred both ways
        const int column = t % kMap, first = t / kMap * kSix;  // this thread's part of the maps: six values of a column
        const bool maps = t < kMap * kMap / kSix;
#pragma unroll
        for (int product = 0; product < 5; product++) {
            if (t < kIn * kMap / kSix) {
                const int row = t % kIn, from = t / kIn * kSix;
                const float *ra = a + row * kInStride + from, *rb = b + row * kInStride + from;
                float out[kSix];
                blur<kSix>(out, [&](int k) {
                    return product == 0 ? ra[k] : product == 1 ? rb[k] : product == 2 ? ra[k] * ra[k] : product == 3 ? rb[k] * rb[k] : ra[k] * rb[k];
                });
#pragma unroll
                for (int k = 0; k < kSix; k++) rows[row * kMapStride + from + k] = out[k];
            }
            __syncthreads();
            if (maps) blur<kSix>(m[product], [&](int k) { return rows[(first + k) * kMapStride + column]; });
            __syncthreads();
        }
        constexpr float C1 = 0.0001f, C2 = 0.0009f;
        if (maps) {
#pragma unroll
            for (int k = 0; k < kSix; k++) {
                const int row = first + k, x = x0 + column - kHalo, y = y0 + row - kHalo;
                const float ma = m[0][k], mb = m[1][k];
                const float saa = m[2][k] - ma * ma, sbb = m[3][k] - mb * mb, sab = m[4][k] - ma * mb;
                const float n1 = 2 * ma * mb + C1, n2 = 2 * sab + C2, d1 = ma * ma + mb * mb + C1, d2 = saa + sbb + C2;
                const float inverse = 1.f / (d1 * d2), S = n1 * n2 * inverse, sd2 = S * d1 * inverse;
                const bool inside = x >= 0 && x < W && y >= 0 && y < H;  // there are no maps outside
                const float w = inside ? weight ? weight[size_t(y) * W + x] : 1.f : 0.f;
                float* out = big + row * kMapStride + column;
                out[0] = inside ? w * 2 * (mb * (n2 - n1) * inverse + ma * (sd2 - S * d2 * inverse)) : 0.f;
                out[kMap * kMapStride] = inside ? -w * sd2 : 0.f;
                out[2 * kMap * kMapStride] = inside ? w * 2 * n1 * inverse : 0.f;
                if (inside && row >= kHalo && row < kHalo + kOut && column >= kHalo && column < kHalo + kOut) similar = fmaf(w, S, similar);
            }
        }
        __syncthreads();
        if (f.grad_image)
#pragma unroll
            for (int map = 0; map < 3; map++) {
                const float* from = big + map * kMap * kMapStride;
                if (t < kMap * kOut / kFour) {
                    const int row = t % kMap, left = t / kMap * kFour;
                    float out[kFour];
                    blur<kFour>(out, [&](int k) { return from[row * kMapStride + left + k]; });
#pragma unroll
                    for (int k = 0; k < kFour; k++) rows[row * kOutStride + left + k] = out[k];
                }
                __syncthreads();
                if (t < kOut * kOut / kFour) blur<kFour>(back[map], [&](int k) { return rows[(t / kOut * kFour + k) * kOutStride + t % kOut]; });
                __syncthreads();
            }
    }
    if (t < kOut * kOut / kFour) {
        const int x = x0 + t % kOut;
#pragma unroll
        for (int k = 0; k < kFour; k++) {
            const int y = y0 + t / kOut * kFour + k;
            if (x >= W || y >= H) continue;
            const size_t at = size_t(y) * W + x;
            const float a = A[at], b = B[at], e = a - b, w = weight ? weight[at] : 1.f, we = w * e;
            e1 += fabsf(we);
            e2 = fmaf(we, e, e2);
            if (f.grad_image)
                f.grad_image[plane + at] = 2 * f.l2 * we + w * (e > 0 ? f.l1 : e < 0 ? -f.l1 : 0.f) - f.ssim * (back[0][k] + 2 * a * back[1][k] + b * back[2][k]);
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
