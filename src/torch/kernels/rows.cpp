// Operators on rows of numbers, fused so that a small model is not spent on overhead and passes over memory: norms, SwiGLU, rotary
// positions, sampling, the gradient of log-softmax.
//
// Tensors are contiguous; tokens of all sequences stand in one list, so nothing is padding. Every sum is taken in an order
// that does not depend on the number of threads.
//
// Shape legend: n tokens, h hidden, i inner, d head width, v vocabulary.

#include <limits>
#include <vector>

#include "logits.h"

namespace {

WIDEST void norm_rows(
    int64_t from, int64_t to, int64_t h, float eps, const float* x, const float* weight, float* y) {
  for (int64_t row = from; row < to; ++row) {
    const float* in = x + row * h;
    float* out = y + row * h;
    const float scale = 1.0f / std::sqrt(dot(in, in, h) / h + eps);
    for (int64_t at = 0; at < h; ++at) {
      out[at] = in[at] * scale * weight[at];
    }
  }
}

WIDEST void norm_rows_back(
    int64_t from, int64_t to, int64_t h, float eps, const float* dy, const float* x, const float* weight, float* dx,
    bool add, float* dweight) {
  for (int64_t row = from; row < to; ++row) {
    const float* in = x + row * h;
    const float* grad = dy + row * h;
    float* out = dx + row * h;
    const float scale = 1.0f / std::sqrt(dot(in, in, h) / h + eps);
    Lanes sums = {};
    int64_t at = 0;
    for (; at + LANES <= h; at += LANES) {
      sums += load(grad + at) * load(weight + at) * load(in + at);
    }
    float total = sum_of(sums);
    for (; at < h; ++at) {
      total += grad[at] * weight[at] * in[at];
    }
    const float shared = total * scale * scale * scale / h;
    for (at = 0; at < h; ++at) {
      const float value = grad[at] * weight[at] * scale - in[at] * shared;
      out[at] = add ? out[at] + value : value;
      dweight[at] += grad[at] * in[at] * scale;
    }
  }
}

WIDEST void swiglu_range(
    int64_t from, int64_t to, const float* gate, const float* up, float* out) {
  each(to - from, [&](int64_t at, int64_t count) __attribute__((always_inline)) {
    const Lanes g = load_some(gate + from + at, count, 0), u = load_some(up + from + at, count, 0);
    store_some(out + from + at, count, g / (1.0f + exp_of(-g)) * u);
  });
}

WIDEST void rotate_rows(
    int64_t from, int64_t to, int64_t heads, int64_t d, const int64_t* position, const float* cos, const float* sin,
    float sign, float* x) {
  const int64_t half = d / 2;
  for (int64_t row = from; row < to; ++row) {
    const float* c = cos + position[row] * d;
    // The second half of the table's sines has no sign.
    const float* s = sin + position[row] * d + half;
    for (int64_t head = 0; head < heads; ++head) {
      float* low = x + (row * heads + head) * d;
      float* high = low + half;
      for (int64_t at = 0; at < half; ++at) {
        const float a = low[at], b = high[at], turn = s[at] * sign;
        low[at] = a * c[at] - b * turn;
        high[at] = b * c[at] + a * turn;
      }
    }
  }
}

// Rows whose contributions to a weight are summed together, so that the order of sums is that of the rows.
constexpr int64_t TOGETHER = 256;

}  // namespace

extern "C" {

void tickets_rms_norm(int64_t n, int64_t h, float eps, const float* x, const float* weight, float* y) noexcept {
  rows_in_parallel(n, h, [=](int64_t from, int64_t to) { norm_rows(from, to, h, eps, x, weight, y); });
}

// dx is written, or added to; dweight is added to.
void tickets_rms_norm_back(
    int64_t n, int64_t h, float eps, const float* dy, const float* x, const float* weight, float* dx, int add,
    float* dweight) noexcept {
  const int64_t parts = (n + TOGETHER - 1) / TOGETHER;
  std::vector<float> sums(parts * h, 0.0f);
  at::parallel_for(0, parts, 1, [&](int64_t from, int64_t to) {
    for (int64_t part = from; part < to; ++part) {
      norm_rows_back(
          part * TOGETHER, std::min(n, (part + 1) * TOGETHER), h, eps, dy, x, weight, dx, add != 0,
          sums.data() + part * h);
    }
  });
  for (int64_t part = 0; part < parts; ++part) {
    for (int64_t at = 0; at < h; ++at) {
      dweight[at] += sums[part * h + at];
    }
  }
}

void tickets_swiglu(int64_t count, const float* gate, const float* up, float* out) noexcept {
  at::parallel_for(0, count, 8192, [=](int64_t from, int64_t to) { swiglu_range(from, to, gate, up, out); });
}

void tickets_rotate(
    int64_t n, int64_t heads, int64_t d, const int64_t* position, const float* cos, const float* sin, float sign,
    float* x) noexcept {
  rows_in_parallel(n, heads * d, [=](int64_t from, int64_t to) {
    rotate_rows(from, to, heads, d, position, cos, sin, sign, x);
  });
}

void tickets_draw(
    int64_t rows, int64_t v, float inverse, const float* logits, const double* uniforms, int64_t* tokens,
    float* logprobs) noexcept {
  rows_in_parallel(rows, v, [=](int64_t from, int64_t to) {
    std::vector<float> powers(v);
    draw_rows(from, to, v, inverse, logits, uniforms, powers.data(), tokens, logprobs);
  });
}

void tickets_targets(
    int64_t rows, int64_t v, float inverse, float* logits, const int64_t* targets, const float* gradient,
    float* logprobs, float* entropies) noexcept {
  rows_in_parallel(rows, v, [=](int64_t from, int64_t to) {
    std::vector<float> powers(v);
    target_rows(from, to, v, inverse, logits, targets, gradient, powers.data(), logprobs, entropies);
  });
}

// sums[ids[n]] += rows[n], in the order of n; threads share the columns.
void tickets_embedding_back(int64_t n, int64_t h, const int64_t* ids, const float* rows, float* sums) noexcept {
  at::parallel_for(0, h, 32, [=](int64_t from, int64_t to) {
    for (int64_t row = 0; row < n; ++row) {
      float* to_row = sums + ids[row] * h;
      const float* of_row = rows + row * h;
      for (int64_t at = from; at < to; ++at) {
        to_row[at] += of_row[at];
      }
    }
  });
}

}  // extern "C"
