// What every function does that Rust calls: no exception leaves it.

#pragma once

#include <cstring>
#include <exception>

namespace tickets {

// Null, or a message that the caller frees with free().
template <typename Body>
char* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

}  // namespace tickets
