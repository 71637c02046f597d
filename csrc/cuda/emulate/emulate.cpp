// Runs the kernels on the host: a scheduler of fibers, and a table of kernels by name. For tests; see shim.h.
// Build: c++ -std=c++17 -O1 -ffp-contract=off -shared -fPIC -DIGS_EMULATE -Icsrc/cuda -o … csrc/cuda/emulate/emulate.cpp
#include "shim.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "../bin.cu"
#include "../loss.cu"
#include "../optimize.cu"
#include "../scales.cu"

#define IGS_VARIANT_2(name, c, g) name##_##c##_##g
#define IGS_VARIANT(name, c, g) IGS_VARIANT_2(name, c, g)
#define IGS_NAME(name) IGS_VARIANT(name, IGS_CHANNELS, IGS_GRADIENT)
#define IGS_CHANNELS 1
#define IGS_GRADIENT 0
#include "../raster.cu"
#undef IGS_GRADIENT
#define IGS_GRADIENT 1
#include "../raster.cu"
#undef IGS_CHANNELS
#define IGS_CHANNELS 3
#include "../raster.cu"
#undef IGS_GRADIENT
#define IGS_GRADIENT 0
#include "../raster.cu"
#undef IGS_CHANNELS
#define IGS_CHANNELS 4
#include "../raster.cu"
#undef IGS_GRADIENT
#define IGS_GRADIENT 1
#include "../raster.cu"

#ifndef IGS_STACK
#define IGS_STACK 65536
#endif

namespace emulate {

Thread* current = nullptr;

namespace {

struct Fiber : Thread {
    ucontext_t context;  // where it starts
    jmp_buf jump;        // where it goes on: swapcontext would ask the system for its signal mask each time
    bool started;
    const unsigned* watched;  // a count of meetings: there is no use in going on before it changes from …
    unsigned seen;            // … this
    std::unique_ptr<char[]> stack{new char[IGS_STACK]};
    bool done;
};

// Where a warp's lanes meet: values of two meetings, since the first to leave one may come to the next before the last left.
struct Warp {
    int lanes, arrived;
    unsigned meeting;
    uint32_t values[2][32];
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Warp> warps;
std::map<const void*, std::unique_ptr<char[]>> arrays;
ucontext_t scheduler;
jmp_buf back;
int threads, arrived, running;
unsigned meeting;
size_t shared_bytes;
const char* kernel_name;
void (*body)(void**);
void** arguments;

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "emulator: %s: %s\n", kernel_name, what);
    abort();
}

Fiber* self() { return static_cast<Fiber*>(current); }

void wait_for(const unsigned& count, unsigned seen) {
    Fiber* me = self();
    me->watched = &count, me->seen = seen;
    while (count == seen)
        if (!_setjmp(me->jump)) _longjmp(back, 1);
    me->watched = nullptr;
}

__attribute__((noinline)) void resume(Fiber* f) {
    current = f;
    if (_setjmp(back)) return;
    if (f->started) _longjmp(f->jump, 1);
    f->started = true;
    swapcontext(&scheduler, &f->context);
}

void start() {
    body(arguments);
    Fiber* me = self();
    me->done = true;
    if (warps[me->thread.x / 32].arrived) fail("a lane ends while others of its warp wait for it");
    warps[me->thread.x / 32].lanes--;
    running--;
    if (arrived) fail("a thread ends while others of its block wait at a barrier");
    _longjmp(back, 1);
}

// All lanes bring a value; returns which meeting it was.
unsigned meet(uint32_t value) {
    Warp& warp = warps[current->thread.x / 32];
    const unsigned mine = warp.meeting;
    warp.values[mine & 1][lane()] = value;
    if (++warp.arrived == warp.lanes) {
        warp.arrived = 0;
        warp.meeting++;
    } else {
        wait_for(warp.meeting, mine);
    }
    return mine;
}

void run_block(Dim3 block, Dim3 block_dim, Dim3 grid_dim, std::mt19937& order) {
    arrays.clear();
    shared_bytes = 0;
    threads = running = int(block_dim.x);
    arrived = 0;
    warps.assign(size_t(threads + 31) / 32, Warp{});
    while (int(fibers.size()) < threads) fibers.emplace_back(new Fiber);
    std::vector<int> alive;
    for (int t = 0; t < threads; t++) {
        Fiber& f = *fibers[size_t(t)];
        f.thread = {unsigned(t), 0, 0}, f.block = block, f.block_dim = block_dim, f.grid_dim = grid_dim;
        f.done = f.started = false, f.watched = nullptr;
        warps[size_t(t) / 32].lanes++;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = IGS_STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, start, 0);
        alive.push_back(t);
    }
    while (!alive.empty()) {
        bool moved = false;
        std::shuffle(alive.begin(), alive.end(), order);
        for (int t : alive) {
            Fiber* f = fibers[size_t(t)].get();
            if (f->watched && *f->watched == f->seen) continue;
            resume(f);
            moved = true;
        }
        if (!moved) fail("threads wait for one another for ever");
        alive.erase(std::remove_if(alive.begin(), alive.end(), [](int t) { return fibers[size_t(t)]->done; }), alive.end());
    }
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** a, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<std::remove_reference_t<A>>*>(a[I])...);
}
template <auto kernel>
struct Caller;
template <class... A, void (*kernel)(A...)>
struct Caller<kernel> {
    static void run(void** a) { call(kernel, a, std::index_sequence_for<A...>{}); }
};

#define IGS_ENTRY(name) {#name, Caller<&name>::run}
#define IGS_ENTRIES(name) \
    IGS_ENTRY(name##_1_0), IGS_ENTRY(name##_1_1), IGS_ENTRY(name##_3_0), IGS_ENTRY(name##_3_1), IGS_ENTRY(name##_4_0), IGS_ENTRY(name##_4_1)

const struct {
    const char* name;
    void (*run)(void**);
} kernels[] = {
    IGS_ENTRY(igs_clear), IGS_ENTRY(igs_cover), IGS_ENTRY(igs_bounds), IGS_ENTRY(igs_nearest), IGS_ENTRY(igs_count),
    IGS_ENTRY(igs_scan), IGS_ENTRY(igs_fill), IGS_ENTRY(igs_order), IGS_ENTRY(igs_loss), IGS_ENTRY(igs_totals),
    IGS_ENTRY(igs_factors_forward), IGS_ENTRY(igs_factors_backward), IGS_ENTRY(igs_gather_8), IGS_ENTRY(igs_gather_16),
    IGS_ENTRY(igs_gather_costs), IGS_ENTRY(igs_add_noise), IGS_ENTRY(igs_adam),
    IGS_ENTRY(igs_reduce), IGS_ENTRY(igs_add_reduced),
    IGS_ENTRIES(igs_forward), IGS_ENTRIES(igs_backward), IGS_ENTRIES(igs_fused), IGS_ENTRIES(igs_removal),
};

}  // namespace

void* shared_array(const void* key, size_t bytes) {
    auto& array = arrays[key];
    if (!array) {
        array.reset(new char[bytes]);
        if ((shared_bytes += bytes) > 48 << 10) fail("more than the 48 KB of shared memory that a kernel may declare");
        memset(array.get(), 0xff, bytes);  // NaNs
    }
    return array.get();
}

void block_barrier() {
    const unsigned mine = meeting;
    if (running < threads) fail("a barrier that a thread which has ended never reaches");
    if (++arrived == running) {
        arrived = 0;
        meeting++;
    } else {
        wait_for(meeting, mine);
    }
}

uint32_t exchange(uint32_t value, int from) {
    Warp& warp = warps[current->thread.x / 32];
    if (from >= warp.lanes) fail("an exchange with a lane that has ended");
    return warp.values[meet(value) & 1][from];
}

uint32_t ballot(bool predicate) {
    Warp& warp = warps[current->thread.x / 32];
    const unsigned mine = meet(predicate);
    uint32_t all = 0;
    for (int k = 0; k < 32; k++) all |= (warp.values[mine & 1][k] & 1u) << k;
    return all;
}

void warp_barrier() { meet(0); }

}  // namespace emulate

// Runs a kernel over a grid; arguments as cuLaunchKernel takes them. Returns 0, or -1 for a name that is none.
extern "C" int igs_emulate(const char* name, unsigned gx, unsigned gy, unsigned gz, unsigned threads, void** arguments, unsigned seed) {
    using namespace emulate;
    for (const auto& k : kernels)
        if (!strcmp(k.name, name)) {
            kernel_name = k.name;
            if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || gx > 0x7fffffff || !threads || threads > 1024) fail("a launch that no GPU takes");
            shared_bytes = 0;
             body = k.run, emulate::arguments = arguments;
            std::mt19937 order(seed);
            std::vector<unsigned> blocks(size_t(gx) * gy * gz);
            for (unsigned i = 0; i < blocks.size(); i++) blocks[i] = i;
            std::shuffle(blocks.begin(), blocks.end(), order);
            for (unsigned i : blocks) run_block({i % gx, i / gx % gy, i / gx / gy}, {threads, 1, 1}, {gx, gy, gz}, order);
            return 0;
        }
    return -1;
}

// As much of the driver's interface as csrc/cuda_driver.py calls, so that its calls can be tested too. A module's "code" is
// what is to be appended to its kernels' names; capability 9.0.
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal ? 101 : 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &emulate::scheduler, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 9 : 0, 0; }
// The context of this thread: none until one is pushed.
static void* context_now = nullptr;
int cuCtxGetCurrent(void** context) { return *context = context_now, 0; }
int cuCtxPushCurrent_v2(void* context) { return context == &emulate::scheduler ? (context_now = context, 0) : 201; }
int cuCtxPopCurrent_v2(void** context) { return *context = context_now, context_now = nullptr, 0; }
int cuGetErrorString(int code, const char** text) { return *text = code == 101 ? "invalid device ordinal" : "some error", 0; }
int cuModuleLoadData(void** module, const char* code) { return *module = strdup(code), 0; }
int cuModuleGetFunction(void** function, const char* module, const char* name) {
    const size_t bytes = strlen(module) + strlen(name) + 1;
    snprintf(static_cast<char*>(*function = malloc(bytes)), bytes, "%s%s", name, module);
    return 0;
}
int cuLaunchKernel(const char* function, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z, unsigned shared,
                   void* stream, void** arguments, void** extra) {
    if (y != 1 || z != 1 || shared || stream || extra) return 1;
    return igs_emulate(function, gx, gy, gz, x, arguments, 1) ? 500 : 0;
}
}

// Where a field lies; the struct's size for the empty name, −1 for one that is none.
#define IGS_FIELD(name) \
    if (!strcmp(field, #name)) return int(offsetof(Struct, name))
extern "C" int igs_frame_layout(const char* field) {
    using Struct = igs::Frame;
    IGS_FIELD(means); IGS_FIELD(factors); IGS_FIELD(features); IGS_FIELD(background); IGS_FIELD(lit); IGS_FIELD(target);
    IGS_FIELD(weight); IGS_FIELD(image); IGS_FIELD(grad_image); IGS_FIELD(limits); IGS_FIELD(bound); IGS_FIELD(bare);
    IGS_FIELD(tile_count); IGS_FIELD(tile_offset); IGS_FIELD(hits); IGS_FIELD(first); IGS_FIELD(pairs); IGS_FIELD(list);
    IGS_FIELD(partial); IGS_FIELD(grad_means); IGS_FIELD(grad_factors); IGS_FIELD(grad_features); IGS_FIELD(sums); IGS_FIELD(totals);
    IGS_FIELD(state); IGS_FIELD(done); IGS_FIELD(width); IGS_FIELD(height); IGS_FIELD(channels); IGS_FIELD(columns);
    IGS_FIELD(pictures); IGS_FIELD(num_gaussians); IGS_FIELD(tiles_x); IGS_FIELD(tiles_y); IGS_FIELD(capacity); IGS_FIELD(blend);
    IGS_FIELD(top_k); IGS_FIELD(first_channel); IGS_FIELD(active); IGS_FIELD(atomic); IGS_FIELD(blocks); IGS_FIELD(reach2);
    IGS_FIELD(relative_reach2); IGS_FIELD(pull); IGS_FIELD(pull_reach2); IGS_FIELD(list_reach2); IGS_FIELD(l1); IGS_FIELD(l2);
    IGS_FIELD(ssim); IGS_FIELD(perfect);
    return *field ? -1 : int(sizeof(Struct));
}
#define IGS_BETA(name) \
    if (!strcmp(field, #name)) return int(offsetof(Struct, betas) + offsetof(igs::Betas, name))
extern "C" int igs_adam_layout(const char* field) {
    using Struct = igs::Adam;
    IGS_FIELD(values); IGS_FIELD(grads); IGS_FIELD(m); IGS_FIELD(v); IGS_FIELD(age); IGS_FIELD(scales); IGS_FIELD(rotations);
    IGS_FIELD(n); IGS_FIELD(columns); IGS_FIELD(colours); IGS_FIELD(map); IGS_FIELD(along_axes); IGS_FIELD(lo); IGS_FIELD(hi);
    IGS_FIELD(rates); IGS_FIELD(slope_rate); IGS_FIELD(unit); IGS_BETA(beta1); IGS_BETA(beta2); IGS_BETA(rest1);
    IGS_BETA(rest2); IGS_BETA(epsilon); IGS_FIELD(log1); IGS_FIELD(log2); IGS_FIELD(least); IGS_FIELD(most);
    IGS_FIELD(least_scale); IGS_FIELD(most_scale);
    return *field ? -1 : int(sizeof(Struct));
}
#undef IGS_FIELD
#undef IGS_BETA
