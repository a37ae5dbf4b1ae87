// Softmax of rows of logits, draws, logprobs and entropies, and the gradient by the logits.
//
// Shape legend: v vocabulary.

#pragma once

#include <limits>

#include "lanes.h"

namespace {

// The largest of a row, scaled; exponentials of the distances to it go to `powers`. Returns the largest and the sum.
INLINE void softmax_row(
    const float* logits, int64_t v, float inverse, float* powers, float* most, double* total) {
  const float least = -std::numeric_limits<float>::infinity();
  Lanes largest = Lanes{} + least, strange = {};
  each(v, [&](int64_t at, int64_t count) __attribute__((always_inline)) {
    const Lanes value = load_some(logits + at, count, least);
    largest = larger(value, largest);
    strange = value == value ? strange : Lanes{} + 1.0f;
  });
  const bool sound = sum_of(strange) == 0;
  const float top = sound ? largest_of(largest) * inverse : std::numeric_limits<float>::quiet_NaN();
  double sum = 0;
  for (int64_t block = 0; block < v; block += 256) {
    Lanes part = {};
    each(std::min<int64_t>(256, v - block), [&](int64_t at, int64_t count) __attribute__((always_inline)) {
      const Lanes power = exp_of(load_some(logits + block + at, count, least) * inverse - top);
      store_some(powers + block + at, count, power);
      part += power;
    });
    sum += sum_of(part);
  }
  *most = top;
  *total = sound ? sum : std::numeric_limits<double>::quiet_NaN();
}

// A token of each row by the inverse of the cumulative distribution at its uniform, and the logprob of it.
[[maybe_unused]] WIDEST void draw_rows(
    int64_t from, int64_t to, int64_t v, float inverse, const float* logits, const double* uniforms, float* powers,
    int64_t* tokens, float* logprobs) {
  for (int64_t row = from; row < to; ++row) {
    const float* line = logits + row * v;
    float most;
    double total;
    softmax_row(line, v, inverse, powers, &most, &total);
    const double target = total * uniforms[row];
    double sum = 0;
    int64_t chosen = -1, last = 0;
    for (int64_t at = 0; at < v; ++at) {
      last = powers[at] > 0 ? at : last;
      sum += powers[at];
      if (sum > target) {
        chosen = at;
        break;
      }
    }
    // Rounding may leave the walk short of the target: the last token with a probability is meant then.
    chosen = chosen < 0 ? last : chosen;
    tokens[row] = chosen;
    logprobs[row] = static_cast<float>(line[chosen] * inverse - most - std::log(total));
  }
}

// Logprob of the target and entropy of each row; with `gradient`, the logits become the gradient of sum(gradient * logprob).
[[maybe_unused]] WIDEST void target_rows(
    int64_t from, int64_t to, int64_t v, float inverse, float* logits, const int64_t* targets, const float* gradient,
    float* powers, float* logprobs, float* entropies) {
  for (int64_t row = from; row < to; ++row) {
    float* __restrict line = logits + row * v;
    float most;
    double total;
    softmax_row(line, v, inverse, powers, &most, &total);
    const float log_total = static_cast<float>(std::log(total));
    logprobs[row] = line[targets[row]] * inverse - most - log_total;
    double mean = 0;
    for (int64_t block = 0; block < v; block += 256) {
      Lanes part = {};
      each(std::min<int64_t>(256, v - block), [&](int64_t at, int64_t count) __attribute__((always_inline)) {
        const Lanes power = load_some(powers + block + at, count, 0);
        // A token without probability adds nothing, whatever its logit.
        part += power > 0.0f ? power * (load_some(line + block + at, count, 0) * inverse - most) : Lanes{};
      });
      mean += sum_of(part);
    }
    entropies[row] = log_total - static_cast<float>(mean / total);
    if (gradient != nullptr) {
      const float slope = gradient[row] * inverse, share = static_cast<float>(1.0 / total);
      for (int64_t at = 0; at < v; ++at) {
        line[at] = -slope * powers[at] * share;
      }
      line[targets[row]] += slope;
    }
  }
}

}  // namespace
