// Chooses the copy of the kernels that this processor can run, and owns threads and memory. Baseline instructions only.
#ifdef _WIN32
#include <malloc.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "igs_kernels.h"
#include "parallel.h"
#include "table.h"

#define IGS_EXPORT extern "C" __attribute__((visibility("default")))

extern "C" {
extern const igs::Table igs_table_baseline;
#ifdef IGS_X86
extern const igs::Table igs_table_avx2;
extern const igs::Table igs_table_avx512;
#endif
}

namespace {

const igs::Table* find(const char* name) {
#ifdef IGS_X86
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd");
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx512 && (!name || !strcmp(name, "avx512"))) return &igs_table_avx512;
    if (avx2 && (!name || !strcmp(name, "avx2"))) return &igs_table_avx2;
#endif
    return !name || !strcmp(name, "baseline") ? &igs_table_baseline : nullptr;
}

std::atomic<const igs::Table*> current{nullptr};

const igs::Table* table() {
    const igs::Table* t = current.load();
    if (!t) {
        const char* wish = getenv("IGS_TARGET");
        t = wish ? find(wish) : nullptr;
        if (!t) t = find(nullptr);
        current.store(t);
    }
    return t;
}

// Threads that sleep between calls.
class Pool {
public:
    explicit Pool(int wanted) : wanted_(wanted < 1 ? 1 : wanted) {}
    void run(int64_t count, void (*task)(int64_t, void*), void* context) {
        if (count <= 0) return;
        std::unique_lock<std::mutex> one_at_a_time(caller_);
        if (wanted_ <= 1 || count == 1) {
            one_at_a_time.unlock();
            for (int64_t i = 0; i < count; i++) task(i, context);
            return;
        }
        start();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            count_ = count;
            task_ = task;
            context_ = context;
            next_.store(0);
            busy_ = int(threads_.size());
            round_++;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
    }
    void set(int n) {
        std::lock_guard<std::mutex> lock(caller_);
        wanted_ = n < 1 ? 1 : n;
    }
    int size() const { return wanted_; }
    bool is_of(pid_t process) const { return pid_ == process; }

private:
    void work() {
        for (int64_t i; (i = next_.fetch_add(1)) < count_;) task_(i, context_);
    }
    void start() {
        if (int(threads_.size()) == wanted_ - 1) return;
        stop();
        quit_ = false;
        const int64_t round = round_;
        try {
            for (int i = 1; i < wanted_; i++) threads_.emplace_back([this, round] { loop(round); });
        } catch (const std::system_error&) {  // no more are to be had: those there are will do
            wanted_ = int(threads_.size()) + 1;
        }
    }
    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            quit_ = true;
        }
        wake_.notify_all();
        for (auto& t : threads_) t.join();
        threads_.clear();
    }
    void loop(int64_t seen) {
        for (;;) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return quit_ || round_ != seen; });
                if (quit_) return;
                seen = round_;
            }
            work();
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) done_.notify_one();
        }
    }
    std::mutex caller_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> threads_;
    std::atomic<int64_t> next_{0};
    int64_t count_ = 0, round_ = 0;
    void (*task_)(int64_t, void*) = nullptr;
    void* context_ = nullptr;
    int busy_ = 0, wanted_;
    const pid_t pid_ = getpid();
    bool quit_ = false;
};

// Never destroyed: its threads may outlive static destructors. Nor is that of a parent process in a child after fork():
// its threads do not exist there, and whoever waits for its locks and conditions waits for them.
Pool& pool() {
    static std::atomic<Pool*> current{new Pool(int(std::thread::hardware_concurrency()))};
    Pool* known = current.load();
    if (!known->is_of(getpid())) {
        Pool* own = new Pool(known->size());
        if (current.compare_exchange_strong(known, own)) return *own;
        delete own;  // another thread was first
    }
    return *known;
}

// Memory at multiples of 64 bytes: a cache line, and the widest vector.
void* allocate(size_t bytes) {
#ifdef _WIN32
    return _aligned_malloc(bytes, 64);
#else
    void* p = nullptr;
    return posix_memalign(&p, 64, bytes) ? nullptr : p;
#endif
}

void deallocate(void* p) {
#ifdef _WIN32
    _aligned_free(p);
#else
    free(p);
#endif
}

}  // namespace

namespace igs {

void parallel_for(int64_t count, void (*task)(int64_t, void*), void* context) { pool().run(count, task, context); }

void* extend(Buffer* b, size_t bytes) {
    if (b->capacity >= bytes && b->data) return b->data;
    size_t capacity = (bytes + bytes / 4 + 127) & ~size_t(63);
    void* p = allocate(capacity);
    if (!p) return nullptr;
    if (b->data) memcpy(p, b->data, b->capacity);
    deallocate(b->data);
    b->data = p;
    b->capacity = capacity;
    return p;
}

void* reserve(Buffer* b, size_t bytes) {
    if (b->capacity >= bytes && b->data) return b->data;
    release(b);
    return extend(b, bytes);
}

void release(Buffer* b) {
    deallocate(b->data);
    b->data = nullptr;
    b->capacity = 0;
}

Scratch::~Scratch() { release(this); }

}  // namespace igs

IGS_EXPORT igs_bins* igs_bins_create(void) { return new (std::nothrow) igs_bins; }
IGS_EXPORT void igs_bins_destroy(igs_bins* b) {
    if (!b) return;
    for (auto& h : b->hits) igs::release(&h);
    for (igs::Buffer* x : {&b->bound, &b->offsets, &b->list, &b->slot, &b->first, &b->partial, &b->sums, &b->cursor, &b->work, &b->limits})
        igs::release(x);
    delete b;
}
IGS_EXPORT int64_t igs_bin(igs_bins* b, const igs_raster* r, const float* means, const float* factors) {
    return table()->bin(b, r, means, factors);
}
IGS_EXPORT void igs_bins_work(const igs_bins* b, int64_t* out) {
    auto* work = static_cast<const int64_t*>(b->work.data);
    out[0] = out[1] = 0;
    for (int64_t t = 0; t < int64_t(b->tiles_x) * b->tiles_y; t++) out[0] += work[2 * t], out[1] += work[2 * t + 1];
}
IGS_EXPORT int igs_rasterize_forward(igs_bins* b, const igs_raster* r, const float* means, const float* factors,
                                     const float* features, float* image) {
    return table()->rasterize_forward(b, r, means, factors, features, image);
}
IGS_EXPORT int igs_rasterize_backward(igs_bins* b, const igs_raster* r, const float* means, const float* factors,
                                      const float* features, const float* grad_image, float* grad_means, float* grad_factors,
                                      float* grad_features) {
    return table()->rasterize_backward(b, r, means, factors, features, grad_image, grad_means, grad_factors, grad_features);
}
IGS_EXPORT int igs_rasterize_fused(igs_bins* b, const igs_raster* r, const float* means, const float* factors,
                                   const float* features, const float* target, const float* weight, float l1, float l2,
                                   float* image, double* sums, float* grad_means, float* grad_factors, float* grad_features) {
    return table()->rasterize_fused(b, r, means, factors, features, target, weight, l1, l2, image, sums, grad_means,
                                    grad_factors, grad_features);
}
IGS_EXPORT int igs_removal_costs(igs_bins* b, const igs_raster* r, const float* means, const float* factors,
                                 const float* features, const float* target, const float* weight, float* costs) {
    return table()->removal_costs(b, r, means, factors, features, target, weight, costs);
}
IGS_EXPORT int igs_loss(int32_t width, int32_t height, int32_t channels, const float* image, const float* target,
                        const float* weight, float l1, float l2, float ssim, double* sums, float* grad) {
    return table()->loss(width, height, channels, image, target, weight, l1, l2, ssim, sums, grad);
}
IGS_EXPORT void igs_halve(int32_t channels, int32_t height, int32_t width, const float* image, float* half) {
    table()->halve(channels, height, width, image, half);
}
IGS_EXPORT void igs_add_spread(int32_t channels, int32_t height, int32_t width, const float* by_half, float factor,
                               float* by_image) {
    table()->add_spread(channels, height, width, by_half, factor, by_image);
}
IGS_EXPORT void igs_factors_forward(int64_t n, int32_t map, float lo, float hi, float lowpass, const float* scales,
                                    const float* rotations, float* factors) {
    table()->factors_forward(n, map, lo, hi, lowpass, scales, rotations, factors);
}
IGS_EXPORT void igs_factors_backward(int64_t n, int32_t map, float lo, float hi, float lowpass, const float* scales,
                                     const float* rotations, const float* grad_factors, float* grad_scales,
                                     float* grad_rotations) {
    table()->factors_backward(n, map, lo, hi, lowpass, scales, rotations, grad_factors, grad_scales, grad_rotations);
}
IGS_EXPORT void igs_add_noise(int64_t n, int32_t map, float lo, float hi, int32_t columns, const float* steps, const float* mixed,
                              const float* coarseness, int32_t each, const float* u, const float* means, const float* scales,
                              const float* rotations, const float* features, float* noisy_means, float* noisy_scales,
                              float* noisy_rotations, float* noisy_features) {
    table()->add_noise(n, map, lo, hi, columns, steps, mixed, coarseness, each, u, means, scales, rotations, features, noisy_means,
                       noisy_scales, noisy_rotations, noisy_features);
}
IGS_EXPORT void igs_adam(const igs::Adam* a) { table()->adam(a); }
IGS_EXPORT void igs_set_num_threads(int32_t n) { pool().set(n); }
IGS_EXPORT const char* igs_target(void) { return table()->name; }
IGS_EXPORT int igs_set_target(const char* name) {
    const igs::Table* t = find(name);
    if (!t) return -1;
    current.store(t);
    return 0;
}
IGS_EXPORT double igs_fma_peak(double seconds) {
    float out = 0;
    const auto start = std::chrono::steady_clock::now();
    double spent = 0, best = 0;
    while (spent < seconds || best == 0) {
        const auto t0 = std::chrono::steady_clock::now();
        igs::parallel_for(pool().size(), table()->fma_chain, &out);
        const auto t1 = std::chrono::steady_clock::now();
        const double s = std::chrono::duration<double>(t1 - t0).count();
        const double rate = table()->fma_per_task * pool().size() / s;
        best = rate > best ? rate : best;
        spent = std::chrono::duration<double>(t1 - start).count();
    }
    return best;
}
