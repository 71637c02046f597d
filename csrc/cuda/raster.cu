// The rasteriser's kernels for IGS_CHANNELS (1, 3 or up to 4 at a time) and IGS_GRADIENT; compiled once per pair in use.
#ifndef IGS_CHANNELS
#define IGS_CHANNELS 3
#endif
#ifndef IGS_GRADIENT
#define IGS_GRADIENT 0
#endif
#ifndef IGS_NAME  // the emulator has all variants in one library
#define IGS_NAME(name) name
#endif
#include "raster.cuh"

// Left to itself the compiler may aim at four blocks a multiprocessor and spill; three have 168 registers a thread.
#undef IGS_BLOCK
#if IGS_CHANNELS == 4
#define IGS_BLOCK 128, 3
#else
#define IGS_BLOCK 128
#endif

IGS_KERNEL(IGS_BLOCK) IGS_NAME(igs_forward)(const igs::Frame f) {
    IGS_SHARED(igs::Shared, shared, igs::kWarps);
    igs::raster<IGS_CHANNELS, IGS_GRADIENT, igs::kForward>(f, shared);
}
IGS_KERNEL(IGS_BLOCK) IGS_NAME(igs_backward)(const igs::Frame f) {
    IGS_SHARED(igs::Shared, shared, igs::kWarps);
    igs::raster<IGS_CHANNELS, IGS_GRADIENT, igs::kBackward>(f, shared);
}
IGS_KERNEL(IGS_BLOCK) IGS_NAME(igs_fused)(const igs::Frame f) {
    IGS_SHARED(igs::Shared, shared, igs::kWarps);
    igs::raster<IGS_CHANNELS, IGS_GRADIENT, igs::kFused>(f, shared);
}
IGS_KERNEL(128, 3) IGS_NAME(igs_removal)(const igs::Frame f) {
    IGS_SHARED(igs::Shared, shared, igs::kWarps);
    igs::removal<IGS_CHANNELS, IGS_GRADIENT>(f, shared);
}
