// Parts of a work shared between threads, none of which is idle while another has parts left: on a machine with other work to do, equal
// shares are not done at the same time. What a part gives may not depend on who does it.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace {

// Calls body(mine, part) for every part, `mine` being the thread's own. A thread begins at the part first_of(thread, threads), goes on up
// to the next thread's first, then takes what others have not begun.
template <typename Mine, typename First, typename Body>
void share_parts_from(const First& first_of, const Body& body) {
  struct alignas(64) Next {
    std::atomic<int64_t> part;
  };
  const int64_t threads = at::get_num_threads();
  std::vector<Next> next(threads);
  for (int64_t thread = 0; thread < threads; ++thread) {
    next[thread].part.store(first_of(thread, threads), std::memory_order_relaxed);
  }
  at::parallel_for(0, threads, 1, [&](int64_t from, int64_t to) {
    Mine mine;
    for (int64_t step = from; step < from + threads; ++step) {
      const int64_t whose = step % threads, end = first_of(whose + 1, threads);
      int64_t part;
      while ((part = next[whose].part.fetch_add(1, std::memory_order_relaxed)) < end) {
        body(mine, part);
      }
    }
    static_cast<void>(to);
  });
}

// The same for equal parts.
template <typename Mine, typename Body>
void share_parts(int64_t parts, const Body& body) {
  share_parts_from<Mine>([parts](int64_t thread, int64_t threads) { return parts * thread / threads; }, body);
}

}  // namespace
