// What libtorch's operators do to memory and to the clock: bytes in CPU tensors, and a table of operators by their own
// time. Both are off until they are asked for. Only symbols of libtorch_cpu and libc10.
//
// Every function returns null, or a message that the caller frees with tickets_free. No exception leaves this file.

#include "guarded.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

using tickets::guarded;

namespace {

// --- Bytes in CPU tensors ------------------------------------------------------------------------------------------

std::atomic<int64_t> current{0};
std::atomic<int64_t> peak{0};

struct Reporter : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device device) override {
    if (!device.is_cpu()) {
      return;
    }
    const int64_t now = current.fetch_add(bytes) + bytes;
    int64_t before = peak.load();
    while (before < now && !peak.compare_exchange_weak(before, now)) {
    }
  }
  bool memoryProfilingEnabled() const override {
    return true;
  }
};

// --- Operators by their own time -----------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;

struct Total {
  uint64_t calls = 0;
  double seconds = 0;
};

struct Open {
  Clock::time_point start;
  double inside = 0;
};

std::mutex totals_lock;
std::map<std::string, Total> totals;
thread_local std::vector<Open> open_calls;
at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;

std::unique_ptr<at::ObserverContext> begun(const at::RecordFunction&) {
  open_calls.push_back({Clock::now()});
  return nullptr;
}

void ended(const at::RecordFunction& call, at::ObserverContext*) {
  if (open_calls.empty()) {
    return;
  }
  const Open own = open_calls.back();
  open_calls.pop_back();
  const double seconds = std::chrono::duration<double>(Clock::now() - own.start).count();
  if (!open_calls.empty()) {
    open_calls.back().inside += seconds;
  }
  const std::lock_guard<std::mutex> guard(totals_lock);
  Total& total = totals[call.name()];
  total.calls += 1;
  total.seconds += seconds - own.inside;
}

}  // namespace

extern "C" {

// From now on the bytes of CPU tensors that this thread makes and drops are counted.
char* tickets_count_cpu_bytes() noexcept {
  return guarded([] {
    if (c10::ThreadLocalDebugInfo::get(c10::DebugInfoKind::PROFILER_STATE) == nullptr) {
      c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, std::make_shared<Reporter>());
    }
  });
}

// Bytes in counted tensors now, and the most since the last reset.
void tickets_cpu_bytes(int64_t* now, int64_t* most) noexcept {
  *now = current.load();
  *most = peak.load();
}

void tickets_reset_cpu_peak() noexcept {
  peak.store(current.load());
}

// Operators are timed from now on; what was timed before is forgotten.
char* tickets_profile_start() noexcept {
  return guarded([] {
    const std::lock_guard<std::mutex> guard(totals_lock);
    totals.clear();
    if (handle == at::INVALID_CALLBACK_HANDLE) {
      auto callback = at::RecordFunctionCallback(begun, ended);
      callback.scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
      handle = at::addGlobalCallback(callback);
    }
  });
}

// Lines of `seconds calls name`, the longest first, and an end of the timing. Null when there is no memory; freed by the caller.
char* tickets_profile_stop() noexcept {
  try {
    if (handle != at::INVALID_CALLBACK_HANDLE) {
      at::removeCallback(handle);
      handle = at::INVALID_CALLBACK_HANDLE;
    }
    const std::lock_guard<std::mutex> guard(totals_lock);
    std::vector<std::pair<std::string, Total>> rows(totals.begin(), totals.end());
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
      return a.second.seconds > b.second.seconds;
    });
    std::string text;
    for (const auto& [name, total] : rows) {
      text += std::to_string(total.seconds) + " " + std::to_string(total.calls) + " " + name + "\n";
    }
    return strdup(text.c_str());
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
