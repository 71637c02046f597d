// The kernels, compiled once per instruction set with IGS_TARGET naming the copy. The interface is in igs_kernels.h.
#include "igs_kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "gaussian.h"
#include "parallel.h"
#include "table.h"
#include "vec.h"

#include "binning.inc"
#include "rasterize.inc"
#include "loss.inc"
#include "optimize.inc"
#include "fma_peak.inc"

#define IGS_JOIN2(a, b) a##b
#define IGS_JOIN(a, b) IGS_JOIN2(a, b)
#define IGS_STRING2(a) #a
#define IGS_STRING(a) IGS_STRING2(a)

extern "C" const igs::Table IGS_JOIN(igs_table_, IGS_TARGET) = {
    IGS_STRING(IGS_TARGET), bin,  rasterize_forward, rasterize_backward, rasterize_fused, removal_costs,
    loss, halve, add_spread, factors_forward, factors_backward, add_noise, adam, fma_chain, kFmaPerTask,
};
