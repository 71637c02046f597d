// One copy of the kernels, as dispatch.cpp sees it.
#pragma once
#include "igs_kernels.h"

namespace igs {
struct Table {
    const char* name;
    int64_t (*bin)(igs_bins*, const igs_raster*, const float*, const float*);
    int (*rasterize_forward)(igs_bins*, const igs_raster*, const float*, const float*, const float*, float*);
    int (*rasterize_backward)(igs_bins*, const igs_raster*, const float*, const float*, const float*, const float*, float*,
                              float*, float*);
    int (*rasterize_fused)(igs_bins*, const igs_raster*, const float*, const float*, const float*, const float*, const float*,
                           float, float, float*, double*, float*, float*, float*);
    int (*removal_costs)(igs_bins*, const igs_raster*, const float*, const float*, const float*, const float*, const float*, float*);
    int (*loss)(int32_t, int32_t, int32_t, const float*, const float*, const float*, float, float, float, double*, float*);
    void (*halve)(int32_t, int32_t, int32_t, const float*, float*);
    void (*add_spread)(int32_t, int32_t, int32_t, const float*, float, float*);
    void (*factors_forward)(int64_t, int32_t, float, float, float, const float*, const float*, float*);
    void (*factors_backward)(int64_t, int32_t, float, float, float, const float*, const float*, const float*, float*, float*);
    void (*add_noise)(int64_t, int32_t, float, float, int32_t, const float*, const float*, const float*, int32_t, const float*,
                      const float*, const float*, const float*, const float*, float*, float*, float*, float*);
    void (*adam)(const Adam*);
    void (*fma_chain)(int64_t, void*);
    double fma_per_task;
};
}  // namespace igs
