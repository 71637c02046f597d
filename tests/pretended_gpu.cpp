// Tells a CPU build of PyTorch that there is a CUDA device 0, so that tensors may say that they are on it.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace c10::impl {

struct Pretended final : NoOpDeviceGuardImpl<DeviceType::CUDA> {
    DeviceIndex deviceCount() const noexcept override { return 1; }
    Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
    Device exchangeDevice(Device) const override { return Device(DeviceType::CUDA, 0); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Pretended);

}  // namespace c10::impl
