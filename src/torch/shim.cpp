// What the program needs of libtorch's global settings and tch does not offer. Only symbols of libtorch_cpu and
// libc10: what needs libtorch_cuda is in cuda_memory.cpp, a library of its own, so that one binary serves both.
//
// Every function returns null, or a message that the caller frees with tickets_free. No exception leaves this file.

#include "guarded.h"

#include <ATen/Context.h>
#include <ATen/Version.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdlib>
#include <cstring>
#include <stdexcept>

using tickets::guarded;

extern "C" {

void tickets_free(char* message) noexcept {
  std::free(message);
}

// Algorithms that give the same bits each time, or an error where there is none. It matters on the CPU too: there
// an accumulating index_put adds atomically, in any order, unless this is on.
char* tickets_set_deterministic(int on) noexcept {
  return guarded([on] {
    auto& context = at::globalContext();
    const bool strict = on != 0;
    context.setDeterministicAlgorithms(strict, /*warn_only=*/false);
    // The switch above would fill every uninitialised tensor with NaN, which costs a pass over memory and changes
    // nothing for code that writes before it reads.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(strict);
    context.setDeterministicMkldnn(strict);
    // The benchmark picks kernels by the clock.
    context.setBenchmarkCuDNN(!strict);
  });
}

// Pages of what a step frees stay for the next one: blocks of up to `block` bytes come from the heap, whose end is given back when more
// than `slack` bytes of it are free. Elsewhere than with glibc nothing changes.
void tickets_keep_pages(int block, int slack) noexcept {
#ifdef __GLIBC__
  // Before glibc 2.35 no more than 32 MiB are taken.
  if (mallopt(M_MMAP_THRESHOLD, block) == 0) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
  }
  mallopt(M_TRIM_THRESHOLD, slack);
#else
  (void)block;
  (void)slack;
#endif
}

// Full float32 products, and sums in float32 where the operands are half precision.
char* tickets_set_full_precision() noexcept {
  return guarded([] {
    auto& context = at::globalContext();
    context.setFloat32MatmulPrecision("highest");
    context.setAllowTF32CuBLAS(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowFP16ReductionCuBLAS(false);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setAllowFP16AccumulationCuBLAS(false);
    if (context.allowTF32CuBLAS() || context.allowTF32CuDNN()) {
      throw std::runtime_error("TF32 is still on after it was switched off");
    }
  });
}

// Bit 0: deterministic algorithms, bit 1: TF32 allowed in matrix products, bit 2: TF32 allowed in cuDNN,
// bit 3: the cuDNN benchmark. For the tests and for `doctor`.
char* tickets_settings(int* bits) noexcept {
  return guarded([bits] {
    const auto& context = at::globalContext();
    *bits = (context.deterministicAlgorithms() ? 1 : 0) | (context.allowTF32CuBLAS() ? 2 : 0) |
        (context.allowTF32CuDNN() ? 4 : 0) | (context.benchmarkCuDNN() ? 8 : 0);
  });
}

// How the loaded libtorch was built, and which vector instructions it uses here, as text. The caller frees it.
char* tickets_build_text() noexcept {
  try {
    return strdup((at::show_config() + "\nCPU capability: " + at::get_cpu_capability() + "\n").c_str());
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
