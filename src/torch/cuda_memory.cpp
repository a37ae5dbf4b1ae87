// libtickets_cuda.so: what needs symbols of libtorch_cuda and libc10_cuda. It names neither as a dependency: the
// program opens it after libtorch_cuda.so, whose symbols (and its dependencies') are global by then. So it is built
// from headers alone, without a GPU, without nvcc and without those libraries.
//
// Every function returns null, or a message that the caller frees with free(). No exception leaves this file.

#include "guarded.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <cstdint>
#include <cstring>

namespace at::cuda {
// As in ATen/cuda/CUDAContextLight.h, whose other includes want the headers of cuBLAS, cuSPARSE and cuSOLVER.
cudaDeviceProp* getDeviceProperties(c10::DeviceIndex device);
}  // namespace at::cuda

using tickets::guarded;

#pragma GCC visibility push(default)
extern "C" {

// src/torch/foreign.rs holds the same layouts.
struct TicketsCudaMemory {
  uint64_t allocated;
  uint64_t allocated_peak;
  uint64_t reserved;
  uint64_t reserved_peak;
};

struct TicketsCudaDevice {
  char name[256];
  uint64_t total_memory;
  int32_t capability_major;
  int32_t capability_minor;
  int32_t multiprocessors;
};

char* tickets_cuda_memory(int device, TicketsCudaMemory* out) noexcept {
  return guarded([device, out] {
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    // The allocator counts in signed numbers; none of these is ever below zero.
    out->allocated = static_cast<uint64_t>(stats.allocated_bytes[all].current);
    out->allocated_peak = static_cast<uint64_t>(stats.allocated_bytes[all].peak);
    out->reserved = static_cast<uint64_t>(stats.reserved_bytes[all].current);
    out->reserved_peak = static_cast<uint64_t>(stats.reserved_bytes[all].peak);
  });
}

char* tickets_cuda_reset_peak(int device) noexcept {
  return guarded([device] {
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}

char* tickets_cuda_device(int device, TicketsCudaDevice* out) noexcept {
  return guarded([device, out] {
    c10::cuda::device_count_ensure_non_zero();
    const cudaDeviceProp* found = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    std::memset(out, 0, sizeof(*out));
    std::strncpy(out->name, found->name, sizeof(out->name) - 1);
    out->total_memory = found->totalGlobalMem;
    out->capability_major = found->major;
    out->capability_minor = found->minor;
    out->multiprocessors = found->multiProcessorCount;
  });
}

}  // extern "C"
#pragma GCC visibility pop
