// Which Gaussians can count in which 16×16 tile, as csrc/binning.inc has it: count, scan, fill, order.
//
// Nothing here waits for the host: the lists have room for `capacity` entries, and where that is too little they come out
// empty and state says so. A Gaussian is a warp's work, whose lanes take 32 tiles of its box at a time: one thread would
// take long over a Gaussian that crosses the picture. Tiles are appended to by atomic counters and put in order after, so
// that lists, and all that follows from them, don't depend on which block ran first.
// Cost at 2048² and 10K Gaussians: 16 384 tiles, about 0.4 M entries, 3 passes of 60 operations over 0.2 M tests each; the
// launches, seven of some 3 µs (eight where empty pixels pull), outweigh the work.
#include "device.h"

namespace igs {

constexpr int kScanThreads = 1024, kScanItems = 8;
// Lists hold what the exact rule could let count: d² at a pixel and on the rectangle are rounded differently.
constexpr float kSlack = 1.0001f;

struct Box {
    int picture;
    float mx, my, p, q, r;
    int tx0, ty0, nx, tiles;  // tiles of the bounding box of the reach
};

IGS_DEVICE Box load_shape(const Frame& f, int i) {
    Box b;
    b.picture = i / gaussians_each(f);
    b.mx = f.means[2 * i], b.my = f.means[2 * i + 1];
    b.p = f.factors[3 * i], b.q = f.factors[3 * i + 1], b.r = f.factors[3 * i + 2];
    b.tx0 = b.ty0 = b.nx = b.tiles = 0;
    return b;
}

IGS_DEVICE Box load_box(const Frame& f, int i) {
    Box b = load_shape(f, i);
    const float limit = f.list_reach2 * kSlack;
    const float hy = sqrtf(limit) / b.r, hx = sqrtf(limit * (b.q * b.q + b.r * b.r)) / (b.p * b.r);
    // tiles whose first or last pixel centre lies inside it
    const float fy0 = (b.my - hy - 15.5f) * (1.f / 16), fy1 = (b.my + hy - 0.5f) * (1.f / 16);
    const float fx0 = (b.mx - hx - 15.5f) * (1.f / 16), fx1 = (b.mx + hx - 0.5f) * (1.f / 16);
    if (!(fy1 >= 0) || !(fy0 <= float(f.tiles_y - 1)) || !(fx1 >= 0) || !(fx0 <= float(f.tiles_x - 1))) return b;
    b.ty0 = fy0 > 0 ? int(ceilf(fy0)) : 0;
    b.tx0 = fx0 > 0 ? int(ceilf(fx0)) : 0;
    const int ty1 = fy1 < float(f.tiles_y - 1) ? int(floorf(fy1)) : f.tiles_y - 1;
    const int tx1 = fx1 < float(f.tiles_x - 1) ? int(floorf(fx1)) : f.tiles_x - 1;
    b.nx = tx1 - b.tx0 + 1;
    b.tiles = b.nx > 0 && ty1 >= b.ty0 ? b.nx * (ty1 - b.ty0 + 1) : 0;
    return b;
}

// Smallest and largest d² of the pixel centres' rectangle of a tile.
IGS_DEVICE void tile_d2(const Frame& f, const Box& b, int tile, float* lo, float* hi) {
    const int x = tile % f.tiles_x * 16, y = tile % tiles_each(f) / f.tiles_x * 16;
    const int x1 = x + 16 < f.width ? x + 16 : f.width, y1 = y + 16 < f.height ? y + 16 : f.height;
    rect_d2(b.p, b.q, b.r, float(x) + 0.5f - b.mx, float(y) + 0.5f - b.my, float(x1) - 0.5f - b.mx, float(y1) - 0.5f - b.my, lo, hi);
}

IGS_DEVICE int tile_of(const Frame& f, const Box& b, int k) {
    return b.picture * tiles_each(f) + (b.ty0 + k / b.nx) * f.tiles_x + b.tx0 + k % b.nx;
}

IGS_DEVICE int warp_index() { return int((blockIdx.x * blockDim.x + threadIdx.x) >> 5); }

// A bare tile lies beyond every list's reach somewhere: its candidates come from all Gaussians.
IGS_DEVICE bool is_bare(const Frame& f, float bound) { return f.list_reach2 > f.reach2 && bound > f.list_reach2; }

// Inclusive sum over a block of kScanThreads; *total is that of all. Of 64 bits: a million Gaussians in a quarter of a
// million tiles have more entries than an int counts.
IGS_DEVICE long long block_scan(long long v, long long* shared, long long* total) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int k = 1; k < 32; k <<= 1) {
        const long long other = __shfl_up_sync(kAll, v, k);
        if (lane >= k) v += other;
    }
    if (lane == 31) shared[warp] = v;
    __syncthreads();
    if (warp == 0) {
        long long w = shared[lane];
        for (int k = 1; k < 32; k <<= 1) {
            const long long other = __shfl_up_sync(kAll, w, k);
            if (lane >= k) w += other;
        }
        shared[lane] = w;
    }
    __syncthreads();
    *total = shared[31];
    v += warp ? shared[warp - 1] : 0;
    __syncthreads();
    return v;
}

// out[i] ← Σ in[0 … i − 1], out[n] ← Σ in, which is returned. One block: 8192 values at a time.
template <class Load>
IGS_DEVICE long long scan_all(int n, long long* shared, Load load, int* out) {
    long long carry = 0;
    for (int base = 0; base < n; base += kScanThreads * kScanItems) {
        const int at = base + int(threadIdx.x) * kScanItems;
        int v[kScanItems];
        long long sum = 0, total;
#pragma unroll
        for (int k = 0; k < kScanItems; k++) v[k] = at + k < n ? load(at + k) : 0, sum += v[k];
        long long before = carry + block_scan(sum, shared, &total) - sum;
#pragma unroll
        for (int k = 0; k < kScanItems; k++) {
            if (at + k < n) out[at + k] = int(before);
            before += v[k];
        }
        carry += total;
    }
    if (threadIdx.x == 0) out[n] = int(carry);
    return carry;
}

}  // namespace igs

using namespace igs;

// Every counter to its start.
IGS_KERNEL(256) igs_clear(const Frame f) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < tiles_all(f)) f.bound[i] = __float_as_uint(1e30f), f.tile_count[i] = 0;
    if (i < 2) f.state[i] = 0;
    if (i < f.pictures) f.done[i] = 0;
}

// bound ← the smallest "largest d²" of a tile. Floats of one sign order as their bits do.
IGS_KERNEL(256) igs_cover(const Frame f) {
    const int i = warp_index();
    if (i >= f.num_gaussians) return;
    const Box b = load_box(f, i);
    for (int k = threadIdx.x & 31; k < b.tiles; k += 32) {
        const int tile = tile_of(f, b, k);
        float lo, hi;
        tile_d2(f, b, tile, &lo, &hi);
        if (lo <= f.list_reach2 * kSlack) atomicMin(&f.bound[tile], __float_as_uint(hi));
    }
}

// From the smallest "largest d²" to what a candidate must not exceed, and the list of bare tiles. One block.
IGS_KERNEL(1024) igs_bounds(const Frame f) {
    IGS_SHARED(long long, shared, 32);
    const int tiles = tiles_all(f);
    int found = 0;
    for (int base = 0; base < tiles; base += kScanThreads * kScanItems) {
        const int first = base + int(threadIdx.x) * kScanItems;
        unsigned bare = 0;
        for (int k = 0; k < kScanItems && first + k < tiles; k++) {
            float bound = __uint_as_float(f.bound[first + k]);
            if (is_bare(f, bound)) {
                bare |= 1u << k;
                continue;
            }
            if (f.blend != IGS_BLEND_TOPK)
                bound = f.reach2;
            else if (bound <= f.reach2)  // wholly covered
                bound = bound + f.relative_reach2 < f.reach2 ? bound + f.relative_reach2 : f.reach2;
            else if (f.list_reach2 <= f.reach2)
                bound = f.reach2;
            f.bound[first + k] = __float_as_uint(bound);
        }
        long long total;
        int at = int(block_scan(__popc(bare), shared, &total)) - __popc(bare) + found;
        for (int k = 0; k < kScanItems; k++)
            if (bare >> k & 1) f.bare[1 + at++] = first + k;
        found += int(total);
    }
    if (threadIdx.x == 0) f.bare[0] = found;
}

// bound of a bare tile ← the smallest "largest d²" over all Gaussians, plus what marks it as bare still.
IGS_KERNEL(256) igs_nearest(const Frame f) {
    const int lane = threadIdx.x & 31, count = f.bare[0];
    for (int k = warp_index(); k < count; k += int(gridDim.x * blockDim.x) >> 5) {
        const int tile = f.bare[1 + k], from = tile / tiles_each(f) * gaussians_each(f);
        float nearest = 3e38f;
        for (int i = lane; i < gaussians_each(f); i += 32) {
            float lo, hi;
            tile_d2(f, load_shape(f, from + i), tile, &lo, &hi);
            nearest = hi < nearest ? hi : nearest;
        }
        for (int d = 16; d; d >>= 1) {
            const float other = __shfl_xor_sync(kAll, nearest, d);
            nearest = other < nearest ? other : nearest;
        }
        // At or above the lists' reach, as before: a Gaussian nearer than that over the whole tile would have covered it.
        if (lane == 0) f.bound[tile] = __float_as_uint(nearest > f.list_reach2 ? nearest : f.list_reach2 * kSlack);
    }
}

namespace igs {

// The first of the bare tiles, which ascend, that is `tile` or later.
IGS_DEVICE int first_bare(const Frame& f, int tile) {
    int from = 0, to = f.bare[0];
    while (from < to) {
        const int k = (from + to) / 2;
        if (f.bare[1 + k] < tile)
            from = k + 1;
        else
            to = k;
    }
    return from;
}

// Calls use(tile, hit) for the tiles that a Gaussian may count in, in a fixed order, all lanes together.
template <class Use>
IGS_DEVICE void each_tile(const Frame& f, int i, Use use) {
    const Box b = load_box(f, i);
    const int lane = threadIdx.x & 31;
    for (int base = 0; base < b.tiles; base += 32) {
        bool hit = false;
        int tile = 0;
        if (base + lane < b.tiles) {
            tile = tile_of(f, b, base + lane);
            const float bound = __uint_as_float(f.bound[tile]);
            float lo, hi;
            tile_d2(f, b, tile, &lo, &hi);
            hit = !is_bare(f, bound) && lo <= bound * kSlack;
        }
        use(tile, hit);
    }
    if (f.list_reach2 <= f.reach2 || !f.bare[0]) return;
    const int bare = first_bare(f, (b.picture + 1) * tiles_each(f));  // where this picture's end
    for (int base = first_bare(f, b.picture * tiles_each(f)); base < bare; base += 32) {
        bool hit = false;
        int tile = 0;
        if (base + lane < bare) {
            tile = f.bare[1 + base + lane];
            float lo, hi;
            tile_d2(f, b, tile, &lo, &hi);
            hit = lo <= __uint_as_float(f.bound[tile]) * kSlack;
        }
        use(tile, hit);
    }
}

}  // namespace igs

IGS_KERNEL(256) igs_count(const Frame f) {
    const int i = warp_index();
    if (i >= f.num_gaussians) return;
    int count = 0;
    each_tile(f, i, [&](int tile, bool hit) {
        if (hit) atomicAdd(&f.tile_count[tile], 1);
        count += __popc(__ballot_sync(kAll, hit));
    });
    if ((threadIdx.x & 31) == 0) f.hits[i] = count;
}

// Two blocks: offsets of the tiles, first slots of the Gaussians. Entries that don't fit are no entries at all.
IGS_KERNEL(1024) igs_scan(const Frame f) {
    IGS_SHARED(long long, shared, 32);
    const bool by_tile = blockIdx.x == 0;
    const int n = by_tile ? tiles_all(f) : f.num_gaussians;
    int* in = by_tile ? f.tile_count : f.hits;
    int* out = by_tile ? f.tile_offset : f.first;
    const long long total = scan_all(n, shared, [&](int k) { return in[k]; }, out);
    const bool overflow = total > f.capacity;
    __syncthreads();
    for (int k = threadIdx.x; k <= n; k += kScanThreads) {
        if (overflow) out[k] = 0;
        if (by_tile && k < n) f.tile_count[k] = 0;
    }
    if (by_tile && threadIdx.x == 0) f.state[kEntries] = total < 0x7fffffff ? int(total) : 0x7fffffff, f.state[kOverflow] = overflow;
}

IGS_KERNEL(256) igs_fill(const Frame f) {
    const int i = warp_index();
    if (i >= f.num_gaussians || f.state[kOverflow]) return;
    int slot = f.first[i];
    each_tile(f, i, [&](int tile, bool hit) {
        const unsigned all = __ballot_sync(kAll, hit);
        if (hit) {
            const int at = f.tile_offset[tile] + atomicAdd(&f.tile_count[tile], 1);
            f.pairs[2 * at] = i;
            f.pairs[2 * at + 1] = slot + __popc(all & ((1u << (threadIdx.x & 31)) - 1));
        }
        slot += __popc(all);
    });
}

// A warp per tile: an entry's place is the number of smaller ones. Lists are some tens long.
IGS_KERNEL(256) igs_order(const Frame f) {
    const int tile = warp_index(), lane = threadIdx.x & 31;
    if (tile >= tiles_all(f)) return;
    const int begin = f.tile_offset[tile], n = f.tile_offset[tile + 1] - begin;
    for (int base = 0; base < n; base += 32) {
        const bool mine = base + lane < n;
        const int key = mine ? f.pairs[2 * (begin + base + lane)] : 0x7fffffff;
        int place = 0;
        for (int from = 0; from < n; from += 32) {
            const int other = from + lane < n ? f.pairs[2 * (begin + from + lane)] : 0x7fffffff;
            const int count = n - from < 32 ? n - from : 32;
            for (int k = 0; k < count; k++) place += __shfl_sync(kAll, other, k) < key;
        }
        if (mine) {
            f.list[2 * (begin + place)] = key;
            f.list[2 * (begin + place) + 1] = f.pairs[2 * (begin + base + lane) + 1];
        }
    }
}
