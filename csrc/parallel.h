// What the kernels need of the host program: threads, and memory that is kept between calls. Implemented in dispatch.cpp,
// which is compiled for the baseline target: no template of the standard library may be instantiated in kernels.cpp, or
// the linker could hand its AVX-512 copy to everyone.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace igs {

// Calls task(i, context) for i = 0 … count − 1, each once, on all threads; returns when all are done.
void parallel_for(int64_t count, void (*task)(int64_t i, void* context), void* context);

struct Buffer {
    void* data = nullptr;
    size_t capacity = 0;
};
// Makes room for at least `bytes`, 64-byte aligned; the content is lost on growth. nullptr: no memory.
void* reserve(Buffer*, size_t bytes);
// The same, but keeps the content.
void* extend(Buffer*, size_t bytes);
void release(Buffer*);
// One that goes with its scope, or with its thread.
struct Scratch : Buffer {
    ~Scratch();
};

constexpr int kTile = 16;
constexpr int kMaxBands = 256;

// One (tile, Gaussian) pair that the exact test could not rule out.
struct Hit {
    int32_t tile, gaussian;
    float lo;
};
}  // namespace igs

struct igs_bins {
    int32_t tiles_x = 0, tiles_y = 0, bands = 0;
    int64_t entries = 0;
    igs::Buffer hits[igs::kMaxBands];  // Hit, by band of tile rows
    int64_t num_hits[igs::kMaxBands] = {0};
    igs::Buffer bound;    // float [tiles]: what a candidate's smallest d² must not exceed
    igs::Buffer offsets;  // int64 [tiles + 1]
    igs::Buffer list;     // int32 [entries]: Gaussian, ascending inside a tile
    igs::Buffer slot;     // int32 [entries]: where the entry's partial gradients go (by Gaussian)
    igs::Buffer first;    // int64 [N + 1]: first slot of a Gaussian
    igs::Buffer partial;  // float [entries, 5 + C]
    igs::Buffer sums;     // double [tiles, 2]
    igs::Buffer work;     // int64 [tiles, 2]: rows of candidates evaluated, and of those through the K-th smallest
    igs::Buffer cursor;   // int64 scratch
    igs::Buffer limits;   // float [tiles, 16 rows, 2, 16]: smallest d² and the limit of who counts, left by forward …
    bool has_limits = false;  // … for a backward of the same Gaussians
};
