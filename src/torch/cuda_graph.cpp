// Part of libtickets_cuda.so, see cuda_memory.cpp: operations that are recorded once and told to the GPU again at once.
//
// Every function returns null, or a message that the caller frees with free(). No exception leaves this file.

#include "guarded.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <memory>

using tickets::guarded;

namespace {

at::cuda::CUDAGraph* graph_of(void* graph) { return static_cast<at::cuda::CUDAGraph*>(graph); }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// This thread's work goes to a stream of its own from now on: the default one cannot be recorded. What was told before is waited for.
char* tickets_cuda_own_stream(int device) noexcept {
  return guarded([device] {
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(
        c10::cuda::getStreamFromPool(/*isHighPriority=*/false, static_cast<c10::DeviceIndex>(device)));
  });
}

// From now on this thread's operations are recorded and not done, until tickets_cuda_graph_end. While that lasts the allocator gives
// nothing back that it keeps, the pools of earlier graphs included: so it does that before.
char* tickets_cuda_graph_begin(void** graph) noexcept {
  return guarded([graph] {
    c10::cuda::CUDACachingAllocator::emptyCache();
    auto made = std::make_unique<at::cuda::CUDAGraph>();
    made->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    *graph = made.release();
  });
}

char* tickets_cuda_graph_end(void* graph) noexcept {
  return guarded([graph] { graph_of(graph)->capture_end(); });
}

char* tickets_cuda_graph_replay(void* graph) noexcept {
  return guarded([graph] { graph_of(graph)->replay(); });
}

void tickets_cuda_graph_drop(void* graph) noexcept {
  const std::unique_ptr<char, void (*)(char*)> message(
      guarded([graph] { delete graph_of(graph); }), [](char* text) { free(text); });
}

}  // extern "C"
#pragma GCC visibility pop
