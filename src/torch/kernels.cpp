// Operators of a decoder on the CPU in float32, fused so that a small model is not spent on overhead and passes over
// memory: norms, SwiGLU, rotary positions, attention over packed sequences and over a cache, sampling, the gradient of
// log-softmax. Products of matrices are left to libtorch.
//
// Tensors are contiguous; tokens of all sequences stand in one list, so nothing is padding. Every sum is taken in an order
// that does not depend on the number of threads.
//
// Shape legend: n tokens, h hidden, i inner, d head width, v vocabulary.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

// The loader picks the widest variant that the processor has.
#if defined(__x86_64__) && defined(__GNUC__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

// A vector register of most processors: a wider type would live in memory where there is no such register.
constexpr int LANES = 8;
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE Lanes load(const float* at) {
  return *reinterpret_cast<const Lanes*>(at);
}

INLINE void store(float* at, Lanes value) {
  *reinterpret_cast<Lanes*>(at) = value;
}

INLINE float sum_of(Lanes lanes) {
  float total = 0;
  for (int lane = 0; lane < LANES; ++lane) {
    total += lanes[lane];
  }
  return total;
}

INLINE float dot(const float* a, const float* b, int64_t count) {
  Lanes sums = {};
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES) {
    sums += load(a + at) * load(b + at);
  }
  float total = sum_of(sums);
  for (; at < count; ++at) {
    total += a[at] * b[at];
  }
  return total;
}

// e^x to about one unit in the last place (Cephes' expf); 0 below -87, and as at 88 above that.
INLINE float exp_of(float x) {
  const float limited = x > 88.0f ? 88.0f : x;
  const float bounded = limited < -87.0f ? -87.0f : limited;
  const float rounded = __builtin_floorf(bounded * 1.44269504088896341f + 0.5f);
  const float rest = (bounded - rounded * 0.693359375f) + rounded * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  const float series = sum * rest * rest + rest + 1.0f;
  const int32_t bits = (static_cast<int32_t>(rounded) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < -87.0f ? 0.0f : series * power;
}

// --- Small products ------------------------------------------------------------------------------------------------

// Columns that a product takes together; rows of its operands are padded to such a width.
constexpr int TILE = 2 * LANES;

// C (m x n, rows of length ldc) = or += A B, where A's element (row, k) is at row * row_step + k * k_step, and B is k x n in
// rows of length ldb. n is a multiple of TILE.
template <int ROWS, bool ADD>
INLINE void strip(
    int64_t n, int64_t depth, const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t ldb, float* c,
    int64_t ldc) {
  for (int64_t column = 0; column < n; column += TILE) {
    Lanes low[ROWS], high[ROWS];
    for (int row = 0; row < ROWS; ++row) {
      low[row] = ADD ? load(c + row * ldc + column) : Lanes{};
      high[row] = ADD ? load(c + row * ldc + column + LANES) : Lanes{};
    }
    for (int64_t k = 0; k < depth; ++k) {
      const Lanes left = load(b + k * ldb + column), right = load(b + k * ldb + column + LANES);
      for (int row = 0; row < ROWS; ++row) {
        const float factor = a[row * row_step + k * k_step];
        low[row] += factor * left;
        high[row] += factor * right;
      }
    }
    for (int row = 0; row < ROWS; ++row) {
      store(c + row * ldc + column, low[row]);
      store(c + row * ldc + column + LANES, high[row]);
    }
  }
}

template <bool ADD>
INLINE void product(
    int64_t m, int64_t n, int64_t depth, const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t ldb,
    float* c, int64_t ldc) {
  int64_t row = 0;
  for (; row + 4 <= m; row += 4) {
    strip<4, ADD>(n, depth, a + row * row_step, row_step, k_step, b, ldb, c + row * ldc, ldc);
  }
  for (; row + 2 <= m; row += 2) {
    strip<2, ADD>(n, depth, a + row * row_step, row_step, k_step, b, ldb, c + row * ldc, ldc);
  }
  for (; row < m; ++row) {
    strip<1, ADD>(n, depth, a + row * row_step, row_step, k_step, b, ldb, c + row * ldc, ldc);
  }
}

INLINE int64_t rounded_up(int64_t count) {
  return (count + TILE - 1) / TILE * TILE;
}

// --- Rows ----------------------------------------------------------------------------------------------------------

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
    int64_t from, int64_t to, const float* __restrict gate, const float* __restrict up, float* __restrict out) {
  for (int64_t at = from; at < to; ++at) {
    out[at] = gate[at] / (1.0f + exp_of(-gate[at])) * up[at];
  }
}

WIDEST void swiglu_range_back(
    int64_t from, int64_t to, const float* __restrict dout, const float* __restrict gate, const float* __restrict up,
    float* __restrict out, float* __restrict dgate, float* __restrict dup) {
  for (int64_t at = from; at < to; ++at) {
    const float g = gate[at], u = up[at], grad = dout[at];
    const float share = 1.0f / (1.0f + exp_of(-g));
    const float silu = g * share;
    out[at] = silu * u;
    dup[at] = grad * silu;
    dgate[at] = grad * u * (share + silu * (1.0f - share));
  }
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

// --- Attention -----------------------------------------------------------------------------------------------------

// Scores of a query to shares of their sum, in place: `count` of them are scaled, those up to `padded` become 0. Returns the log
// of the sum.
INLINE float softmax_scores(float* __restrict scores, int64_t count, int64_t padded, float scale) {
  float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
  for (int64_t at = 0; at < count; ++at) {
    scores[at] *= scale;
    most = scores[at] > most ? scores[at] : most;
  }
  for (int64_t at = count; at < padded; ++at) {
    scores[at] = 0;
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t at = 0; at < count; ++at) {
    scores[at] = exp_of(scores[at] - most);
    total += scores[at];
  }
  const float inverse = 1.0f / total;
  for (int64_t at = 0; at < count; ++at) {
    scores[at] *= inverse;
  }
  return most + std::log(total);
}

// A row's new tokens: their keys and values go to the cache, then each attends to all up to itself. The queries that share a
// key head are taken together, so that the cache is read once for them.
WIDEST void attend_cached_row(
    int64_t first, int64_t count, int64_t before, int64_t heads, int64_t kv_heads, int64_t kv, int64_t d,
    int64_t capacity, float scale, const float* q, const float* k, const float* v, float* keys, float* values,
    float* scores, float* out, float* lse) {
  const int64_t group = heads / kv_heads;
  for (int64_t token = first; token < first + count; ++token) {
    const int64_t at = before + token - first, seen = at + 1, padded = rounded_up(seen);
    const float* key = k + (token * kv_heads + kv) * d;
    float* tile = keys + at / TILE * TILE * d + at % TILE;
    for (int64_t feature = 0; feature < d; ++feature) {
      tile[feature * TILE] = key[feature];
    }
    std::memcpy(values + at * d, v + (token * kv_heads + kv) * d, d * sizeof(float));
    const int64_t place = token * heads + kv * group;
    for (int64_t from = 0; from < padded; from += TILE) {
      product<false>(group, TILE, d, q + place * d, d, 1, keys + from * d, TILE, scores + from, capacity);
    }
    for (int64_t head = 0; head < group; ++head) {
      lse[place + head] = softmax_scores(scores + head * capacity, seen, padded, scale);
    }
    if (d % TILE == 0) {
      product<false>(group, d, seen, scores, capacity, 1, values, d, out + place * d, d);
      continue;
    }
    for (int64_t head = 0; head < group; ++head) {
      float* to = out + (place + head) * d;
      std::fill(to, to + d, 0.0f);
      for (int64_t other = 0; other < seen; ++other) {
        for (int64_t feature = 0; feature < d; ++feature) {
          to[feature] += scores[head * capacity + other] * values[other * d + feature];
        }
      }
    }
  }
}

// The tokens of a group of sequences that begin alike: `shared` of them, then each sequence's own.
struct Group {
  const int32_t* shared;
  int64_t shared_count;
  const int32_t* own;
  const int32_t* own_start;
  int64_t sequences;
};

// Places for one key head of one sequence.
struct Scratch {
  std::vector<float> keys_td, keys, values_td, values, queries, dout, scores, dscores, dkeys, dvalues, dqueries;
};

// Rows of d elements to rows of `width`; what is beyond d stays as it is.
INLINE void gather(
    const int32_t* tokens, int64_t count, int64_t row_width, int64_t offset, int64_t d, const float* from, float* to,
    int64_t width) {
  for (int64_t at = 0; at < count; ++at) {
    std::memcpy(to + at * width, from + tokens[at] * row_width + offset, d * sizeof(float));
  }
}

INLINE void transpose(const float* from, int64_t rows, int64_t d, int64_t width, float* to, int64_t ld) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t at = 0; at < d; ++at) {
      to[at * ld + row] = from[row * width + at];
    }
  }
}

constexpr int64_t BLOCK = 32;

// One key head of one sequence, forward: queries of the tokens from `first` on.
WIDEST void attend_sequence(
    const int32_t* tokens, int64_t length, int64_t first, int64_t heads, int64_t kv_heads, int64_t kv, int64_t d,
    float scale, const float* q, const float* k, const float* v, float* out, float* lse, Scratch& s) {
  const int64_t group = heads / kv_heads, ld = rounded_up(length), width = rounded_up(d);
  s.keys.assign(ld * width, 0.0f);
  s.values.assign(ld * width, 0.0f);
  s.keys_td.assign(ld * d, 0.0f);
  s.scores.resize(BLOCK * ld);
  s.queries.assign(BLOCK * width, 0.0f);
  s.dout.assign(BLOCK * width, 0.0f);
  gather(tokens, length, kv_heads * d, kv * d, d, k, s.keys.data(), width);
  gather(tokens, length, kv_heads * d, kv * d, d, v, s.values.data(), width);
  transpose(s.keys.data(), length, d, width, s.keys_td.data(), ld);
  for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
    for (int64_t block = first; block < length; block += BLOCK) {
      const int64_t rows = std::min(BLOCK, length - block), keys = block + rows, padded = rounded_up(keys);
      gather(tokens + block, rows, heads * d, head * d, d, q, s.queries.data(), width);
      product<false>(rows, padded, d, s.queries.data(), width, 1, s.keys_td.data(), ld, s.scores.data(), ld);
      for (int64_t row = 0; row < rows; ++row) {
        float* line = s.scores.data() + row * ld;
        const int64_t count = block + row + 1;
        lse[static_cast<int64_t>(tokens[block + row]) * heads + head] = softmax_scores(line, count, padded, scale);
      }
      product<false>(rows, width, keys, s.scores.data(), ld, 1, s.values.data(), width, s.dout.data(), width);
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(
            out + (static_cast<int64_t>(tokens[block + row]) * heads + head) * d, s.dout.data() + row * width,
            d * sizeof(float));
      }
    }
  }
}

// The same backward; gradients of keys and values are added, those of queries are written.
WIDEST void attend_sequence_back(
    const int32_t* tokens, int64_t length, int64_t first, int64_t heads, int64_t kv_heads, int64_t kv, int64_t d,
    float scale, const float* q, const float* k, const float* v, const float* out, const float* lse, const float* dout,
    float* dq, float* dk, float* dv, Scratch& s) {
  const int64_t group = heads / kv_heads, ld = rounded_up(length), width = rounded_up(d);
  s.keys.assign(ld * width, 0.0f);
  s.values.assign(ld * width, 0.0f);
  s.keys_td.assign(ld * d, 0.0f);
  s.values_td.assign(ld * d, 0.0f);
  s.scores.resize(BLOCK * ld);
  s.dscores.resize(BLOCK * ld);
  s.queries.assign(BLOCK * width, 0.0f);
  s.dout.assign(BLOCK * width, 0.0f);
  s.dqueries.assign(BLOCK * width, 0.0f);
  s.dkeys.assign(ld * width, 0.0f);
  s.dvalues.assign(ld * width, 0.0f);
  gather(tokens, length, kv_heads * d, kv * d, d, k, s.keys.data(), width);
  gather(tokens, length, kv_heads * d, kv * d, d, v, s.values.data(), width);
  transpose(s.keys.data(), length, d, width, s.keys_td.data(), ld);
  transpose(s.values.data(), length, d, width, s.values_td.data(), ld);
  for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
    for (int64_t block = first; block < length; block += BLOCK) {
      const int64_t rows = std::min(BLOCK, length - block), keys = block + rows, padded = rounded_up(keys);
      gather(tokens + block, rows, heads * d, head * d, d, q, s.queries.data(), width);
      gather(tokens + block, rows, heads * d, head * d, d, dout, s.dout.data(), width);
      product<false>(rows, padded, d, s.queries.data(), width, 1, s.keys_td.data(), ld, s.scores.data(), ld);
      product<false>(rows, padded, d, s.dout.data(), width, 1, s.values_td.data(), ld, s.dscores.data(), ld);
      for (int64_t row = 0; row < rows; ++row) {
        float* __restrict line = s.scores.data() + row * ld;
        float* __restrict grad = s.dscores.data() + row * ld;
        const int64_t token = tokens[block + row], count = block + row + 1;
        const float log_sum = lse[token * heads + head];
        const float shared = dot(out + (token * heads + head) * d, s.dout.data() + row * width, d);
        for (int64_t at = 0; at < count; ++at) {
          const float weight = exp_of(line[at] * scale - log_sum);
          line[at] = weight;
          grad[at] = weight * (grad[at] - shared) * scale;
        }
        for (int64_t at = count; at < padded; ++at) {
          line[at] = 0;
          grad[at] = 0;
        }
      }
      product<true>(keys, width, rows, s.scores.data(), 1, ld, s.dout.data(), width, s.dvalues.data(), width);
      product<true>(keys, width, rows, s.dscores.data(), 1, ld, s.queries.data(), width, s.dkeys.data(), width);
      product<false>(rows, width, keys, s.dscores.data(), ld, 1, s.keys.data(), width, s.dqueries.data(), width);
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(
            dq + (static_cast<int64_t>(tokens[block + row]) * heads + head) * d, s.dqueries.data() + row * width,
            d * sizeof(float));
      }
    }
  }
  for (int64_t at = 0; at < length; ++at) {
    float* to_key = dk + (static_cast<int64_t>(tokens[at]) * kv_heads + kv) * d;
    float* to_value = dv + (static_cast<int64_t>(tokens[at]) * kv_heads + kv) * d;
    for (int64_t feature = 0; feature < d; ++feature) {
      to_key[feature] += s.dkeys[at * width + feature];
      to_value[feature] += s.dvalues[at * width + feature];
    }
  }
}

// Calls body(tokens, length, first query) for the shared beginning and for every sequence of a group, in order.
template <typename Body>
void for_each_sequence(const Group& group, std::vector<int32_t>& tokens, const Body& body) {
  tokens.assign(group.shared, group.shared + group.shared_count);
  if (group.shared_count > 0) {
    body(tokens.data(), group.shared_count, 0);
  }
  for (int64_t sequence = 0; sequence < group.sequences; ++sequence) {
    const int32_t from = group.own_start[sequence], to = group.own_start[sequence + 1];
    if (to > from) {
      tokens.resize(group.shared_count);
      tokens.insert(tokens.end(), group.own + from, group.own + to);
      body(tokens.data(), static_cast<int64_t>(tokens.size()), group.shared_count);
    }
  }
}

// --- Logits --------------------------------------------------------------------------------------------------------

// The largest of a row, scaled; exponentials of the distances to it go to `powers`. Returns the largest and the sum.
INLINE void softmax_row(
    const float* __restrict logits, int64_t v, float inverse, float* __restrict powers, float* most, double* total) {
  float largest = -std::numeric_limits<float>::infinity();
  int strange = 0;
#pragma omp simd reduction(max : largest) reduction(| : strange)
  for (int64_t at = 0; at < v; ++at) {
    largest = logits[at] > largest ? logits[at] : largest;
    strange |= logits[at] != logits[at];
  }
  const float top = strange == 0 ? largest * inverse : std::numeric_limits<float>::quiet_NaN();
  double sum = 0;
  for (int64_t block = 0; block < v; block += 256) {
    const int64_t end = std::min(v, block + 256);
    float part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t at = block; at < end; ++at) {
      powers[at] = exp_of(logits[at] * inverse - top);
      part += powers[at];
    }
    sum += part;
  }
  *most = top;
  *total = strange == 0 ? sum : std::numeric_limits<double>::quiet_NaN();
}

WIDEST void draw_rows(
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
WIDEST void target_rows(
    int64_t from, int64_t to, int64_t v, float inverse, float* logits, const int64_t* targets, const float* gradient,
    float* __restrict powers, float* logprobs, float* entropies) {
  for (int64_t row = from; row < to; ++row) {
    float* __restrict line = logits + row * v;
    float most;
    double total;
    softmax_row(line, v, inverse, powers, &most, &total);
    const float log_total = static_cast<float>(std::log(total));
    logprobs[row] = line[targets[row]] * inverse - most - log_total;
    double mean = 0;
    for (int64_t block = 0; block < v; block += 256) {
      const int64_t end = std::min(v, block + 256);
      float part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t at = block; at < end; ++at) {
        // A token without probability adds nothing, whatever its logit.
        part += powers[at] > 0 ? powers[at] * (line[at] * inverse - most) : 0.0f;
      }
      mean += part;
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

template <typename Body>
void rows_in_parallel(int64_t rows, int64_t elements, const Body& body) {
  // As libtorch: nothing below 32,768 elements is worth a second thread.
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements));
  at::parallel_for(0, rows, grain, body);
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

void tickets_swiglu_back(
    int64_t count, const float* dout, const float* gate, const float* up, float* out, float* dgate,
    float* dup) noexcept {
  at::parallel_for(0, count, 8192, [=](int64_t from, int64_t to) {
    swiglu_range_back(from, to, dout, gate, up, out, dgate, dup);
  });
}

void tickets_rotate(
    int64_t n, int64_t heads, int64_t d, const int64_t* position, const float* cos, const float* sin, float sign,
    float* x) noexcept {
  rows_in_parallel(n, heads * d, [=](int64_t from, int64_t to) {
    rotate_rows(from, to, heads, d, position, cos, sin, sign, x);
  });
}

// Rows of a cache: row r has slot[r], before[r] tokens in it, and the new tokens start[r] up to start[r + 1]. Keys lie
// in tiles of 16 tokens, [slots, kv_heads, capacity / 16, d, 16], values as [slots, kv_heads, capacity, d].
void tickets_attend_cached(
    int64_t rows, int64_t heads, int64_t kv_heads, int64_t d, int64_t capacity, float scale, const int64_t* slot,
    const int64_t* before, const int64_t* start, const float* q, const float* k, const float* v, float* keys,
    float* values, float* out, float* lse) noexcept {
  at::parallel_for(0, rows * kv_heads, 1, [=](int64_t from, int64_t to) {
    std::vector<float> scores(heads / kv_heads * capacity);
    for (int64_t task = from; task < to; ++task) {
      const int64_t row = task / kv_heads, kv = task % kv_heads;
      const int64_t place = (slot[row] * kv_heads + kv) * d * capacity;
      attend_cached_row(
          start[row], start[row + 1] - start[row], before[row], heads, kv_heads, kv, d, capacity, scale, q, k, v,
          keys + place, values + place, scores.data(), out, lse);
    }
  });
}

// Packed sequences: group g shares tokens shared[shared_start[g]] ... and has the sequences sequence_start[g] ...; sequence s has
// the own tokens own[own_start[s]] ...
void tickets_attend(
    int64_t groups, int64_t heads, int64_t kv_heads, int64_t d, float scale, const int32_t* shared,
    const int32_t* shared_start, const int32_t* sequence_start, const int32_t* own, const int32_t* own_start,
    const float* q, const float* k, const float* v, float* out, float* lse) noexcept {
  at::parallel_for(0, groups * kv_heads, 1, [=](int64_t from, int64_t to) {
    Scratch scratch;
    std::vector<int32_t> tokens;
    for (int64_t task = from; task < to; ++task) {
      const int64_t group = task / kv_heads, kv = task % kv_heads;
      const Group members = {
          shared + shared_start[group], shared_start[group + 1] - shared_start[group], own,
          own_start + sequence_start[group], sequence_start[group + 1] - sequence_start[group]};
      for_each_sequence(members, tokens, [&](const int32_t* list, int64_t length, int64_t first) {
        attend_sequence(list, length, first, heads, kv_heads, kv, d, scale, q, k, v, out, lse, scratch);
      });
    }
  });
}

// dk and dv are zero before; a group is one thread's, so that what its sequences add to shared tokens has an order.
void tickets_attend_back(
    int64_t groups, int64_t heads, int64_t kv_heads, int64_t d, float scale, const int32_t* shared,
    const int32_t* shared_start, const int32_t* sequence_start, const int32_t* own, const int32_t* own_start,
    const float* q, const float* k, const float* v, const float* out, const float* lse, const float* dout, float* dq,
    float* dk, float* dv) noexcept {
  at::parallel_for(0, groups * kv_heads, 1, [=](int64_t from, int64_t to) {
    Scratch scratch;
    std::vector<int32_t> tokens;
    for (int64_t task = from; task < to; ++task) {
      const int64_t group = task / kv_heads, kv = task % kv_heads;
      const Group members = {
          shared + shared_start[group], shared_start[group + 1] - shared_start[group], own,
          own_start + sequence_start[group], sequence_start[group + 1] - sequence_start[group]};
      for_each_sequence(members, tokens, [&](const int32_t* list, int64_t length, int64_t first) {
        attend_sequence_back(
            list, length, first, heads, kv_heads, kv, d, scale, q, k, v, out, lse, dout, dq, dk, dv, scratch);
      });
    }
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
