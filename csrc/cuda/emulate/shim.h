// Enough of CUDA for a host C++ compiler to run the kernels of this folder, for tests on machines without a GPU.
//
// The threads of a block are fibers, resumed in an order shuffled by a seed, and switched only where they wait for one another:
// at barriers, warp barriers, votes and exchanges. Blocks run one after the other, in shuffled order too.
// What this shows: every access (with a sanitizer), results, barriers that some threads of a block or lanes of a warp don't
// reach, and reads of shared memory that nothing wrote (it starts as NaNs). What it doesn't: races between two barriers show
// only if some order of whole stretches exposes them; nothing runs truly at once, memory is never stale, and
// the special functions are the host's.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct Dim3 {
    unsigned x, y, z;
};

namespace emulate {

struct Thread {  // what a kernel's code may ask of the fiber it runs in
    Dim3 thread, block, block_dim, grid_dim;
};
extern Thread* current;

void* shared_array(const void* key, size_t bytes);  // the block's array of a declaration
void block_barrier();
uint32_t exchange(uint32_t value, int from);        // the value that lane `from` of the warp brings
uint32_t ballot(bool predicate);
void warp_barrier();

template <class T>
T move(T value, int from) {
    uint32_t words[(sizeof(T) + 3) / 4] = {}, got[(sizeof(T) + 3) / 4];
    memcpy(words, &value, sizeof(T));
    for (size_t k = 0; k < sizeof words / 4; k++) got[k] = exchange(words[k], from);
    memcpy(&value, got, sizeof(T));
    return value;
}
inline int lane() { return int(current->thread.x & 31); }

template <class To, class From>
To bits(From value) {
    To to;
    static_assert(sizeof to == sizeof value, "");
    memcpy(&to, &value, sizeof to);
    return to;
}

}  // namespace emulate

#define __device__
#define __host__
#define __forceinline__ inline
#define threadIdx (emulate::current->thread)
#define blockIdx (emulate::current->block)
#define blockDim (emulate::current->block_dim)
#define gridDim (emulate::current->grid_dim)
#define IGS_KERNEL(...) static void
#define IGS_SHARED(type, name, count)  \
    static const char name##_key = 0; \
    type* name = static_cast<type*>(emulate::shared_array(&name##_key, sizeof(type) * (count)))

inline void __syncthreads() { emulate::block_barrier(); }
inline void __syncwarp() { emulate::warp_barrier(); }
template <class T>
T __shfl_sync(unsigned, T value, int from) {
    return emulate::move(value, from & 31);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulate::move(value, emulate::lane() ^ mask);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int delta) {
    const int from = emulate::lane() - delta;
    return emulate::move(value, from < 0 ? emulate::lane() : from);
}
inline unsigned __ballot_sync(unsigned, bool predicate) { return emulate::ballot(predicate); }
inline int __any_sync(unsigned, bool predicate) { return emulate::ballot(predicate) != 0; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline float __uint_as_float(unsigned v) { return emulate::bits<float>(v); }
inline float __int_as_float(int v) { return emulate::bits<float>(v); }
inline unsigned __float_as_uint(float v) { return emulate::bits<unsigned>(v); }
inline int __float_as_int(float v) { return emulate::bits<int>(v); }
// One fiber runs at a time: plain operations are atomic.
template <class T>
T atomicAdd(T* at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
template <class T>
T atomicMin(T* at, T value) {
    const T old = *at;
    if (value < old) *at = value;
    return old;
}
inline void sincospif(float x, float* sine, float* cosine) {
    const double turn = 3.14159265358979323846 * double(x);
    *sine = float(sin(turn));
    *cosine = float(cos(turn));
}
