// Attention of queries over a cache and among packed sequences, and its way back. Scores exist for a block of queries of one head.
//
// Every sum is taken in an order that does not depend on the number of threads.

#include <vector>

#include "cached.h"
#include "parts.h"

namespace {

// Places for one key head of one sequence.
struct Scratch {
  std::vector<float> keys_td, keys, values_td, values, queries, dout, scores, dscores, dkeys, dvalues, dqueries;
  std::vector<int32_t> tokens;
};

// A head's numbers: so few that a call would take longer.
INLINE void copy_head(const float* from, int64_t d, float* to) {
  int64_t at = 0;
  for (; at + LANES <= d; at += LANES) {
    store(to + at, load(from + at));
  }
  for (; at < d; ++at) {
    to[at] = from[at];
  }
}

// Rows of d elements to rows of `width`; what is beyond d stays as it is.
INLINE void gather(
    const int32_t* tokens, int64_t count, int64_t row_width, int64_t offset, int64_t d, const float* from, float* to,
    int64_t width) {
  for (int64_t at = 0; at < count; ++at) {
    copy_head(from + tokens[at] * row_width + offset, d, to + at * width);
  }
}

INLINE void transpose(const float* from, int64_t rows, int64_t d, int64_t width, float* to, int64_t ld) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t at = 0; at < d; ++at) {
      to[at * ld + row] = from[row * width + at];
    }
  }
}

// Queries of a head that are taken together: more would compare more of them with keys that come after them, fewer would take the sums of
// keys and values through memory more often.
constexpr int64_t BLOCK = 24;

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
        copy_head(
            s.dout.data() + row * width, d, out + (static_cast<int64_t>(tokens[block + row]) * heads + head) * d);
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
        float* line = s.scores.data() + row * ld;
        float* grad = s.dscores.data() + row * ld;
        const int64_t token = tokens[block + row], count = block + row + 1;
        const float log_sum = lse[token * heads + head];
        const float shared = dot(out + (token * heads + head) * d, s.dout.data() + row * width, d);
        for (int64_t at = 0; at < padded; at += LANES) {
          const Lanes weight = exp_of(load(line + at) * scale - log_sum);
          store(line + at, weight);
          store(grad + at, weight * (load(grad + at) - shared) * scale);
        }
        std::fill(line + count, line + padded, 0.0f);
        std::fill(grad + count, grad + padded, 0.0f);
      }
      product<true>(keys, width, rows, s.scores.data(), 1, ld, s.dout.data(), width, s.dvalues.data(), width);
      product<true>(keys, width, rows, s.dscores.data(), 1, ld, s.queries.data(), width, s.dkeys.data(), width);
      product<false>(rows, width, keys, s.dscores.data(), ld, 1, s.keys.data(), width, s.dqueries.data(), width);
      for (int64_t row = 0; row < rows; ++row) {
        copy_head(
            s.dqueries.data() + row * width, d, dq + (static_cast<int64_t>(tokens[block + row]) * heads + head) * d);
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

WIDEST void attend_cached_rows(
    int64_t first, int64_t count, int64_t before, int64_t heads, int64_t kv_heads, int64_t kv, int64_t d,
    int64_t capacity, float scale, const float* q, const float* k, const float* v, float* keys, float* values,
    float* scores, float* out, float* lse) {
  attend_cached_row(
      first, count, before, heads, kv_heads, kv, d, capacity, scale, q, k, v, keys, values, keys, scores, out, lse);
}

// Groups of packed sequences, see tickets_attend. A part is a key head of one of them.
struct Groups {
  int64_t kv_heads;
  const int32_t *shared, *shared_start, *sequence_start, *own, *own_start;

  // Calls body(tokens, length, first query, key head) for a part's shared beginning and for every sequence of it, in order.
  template <typename Body>
  void each_sequence(int64_t part, Scratch& scratch, const Body& body) const {
    const int64_t group = part / kv_heads, kv = part % kv_heads;
    const int32_t *begin = shared + shared_start[group], *end = shared + shared_start[group + 1];
    std::vector<int32_t>& tokens = scratch.tokens;
    tokens.assign(begin, end);
    const int64_t before = end - begin;
    if (before > 0) {
      body(tokens.data(), before, 0, kv);
    }
    for (int32_t sequence = sequence_start[group]; sequence < sequence_start[group + 1]; ++sequence) {
      const int32_t *from = own + own_start[sequence], *to = own + own_start[sequence + 1];
      if (to > from) {
        tokens.resize(before);
        tokens.insert(tokens.end(), from, to);
        body(tokens.data(), static_cast<int64_t>(tokens.size()), before, kv);
      }
    }
  }
};

}  // namespace

extern "C" {


// Rows of a cache: row r has slot[r], before[r] tokens in it, and the new tokens start[r] up to start[r + 1]. Keys lie
// in tiles of 16 tokens, [slots, kv_heads, capacity / 16, d, 16], values as [slots, kv_heads, capacity, d].
void tickets_attend_cached(
    int64_t rows, int64_t heads, int64_t kv_heads, int64_t d, int64_t capacity, float scale, const int64_t* slot,
    const int64_t* before, const int64_t* start, const float* q, const float* k, const float* v, float* keys,
    float* values, float* out, float* lse) noexcept {
  share_parts<Scratch>(rows * kv_heads, [=](Scratch& scratch, int64_t part) {
    const int64_t row = part / kv_heads, kv = part % kv_heads;
    const int64_t place = (slot[row] * kv_heads + kv) * d * capacity;
    scratch.scores.resize(heads / kv_heads * capacity);
    attend_cached_rows(
        start[row], start[row + 1] - start[row], before[row], heads, kv_heads, kv, d, capacity, scale, q, k, v,
        keys + place, values + place, scratch.scores.data(), out, lse);
  });
}

// Packed sequences: group g shares tokens shared[shared_start[g]] ... and has the sequences sequence_start[g] ...; sequence s has
// the own tokens own[own_start[s]] ...
void tickets_attend(
    int64_t groups, int64_t heads, int64_t kv_heads, int64_t d, float scale, const int32_t* shared,
    const int32_t* shared_start, const int32_t* sequence_start, const int32_t* own, const int32_t* own_start,
    const float* q, const float* k, const float* v, float* out, float* lse) noexcept {
  const Groups all = {kv_heads, shared, shared_start, sequence_start, own, own_start};
  share_parts<Scratch>(groups * kv_heads, [&](Scratch& scratch, int64_t part) {
    all.each_sequence(part, scratch, [&](const int32_t* list, int64_t length, int64_t first, int64_t kv) {
      attend_sequence(list, length, first, heads, kv_heads, kv, d, scale, q, k, v, out, lse, scratch);
    });
  });
}

// dk and dv are zero before; a group is one thread's, so that what its sequences add to shared tokens has an order.
void tickets_attend_back(
    int64_t groups, int64_t heads, int64_t kv_heads, int64_t d, float scale, const int32_t* shared,
    const int32_t* shared_start, const int32_t* sequence_start, const int32_t* own, const int32_t* own_start,
    const float* q, const float* k, const float* v, const float* out, const float* lse, const float* dout, float* dq,
    float* dk, float* dv) noexcept {
  const Groups all = {kv_heads, shared, shared_start, sequence_start, own, own_start};
  share_parts<Scratch>(groups * kv_heads, [&](Scratch& scratch, int64_t part) {
    all.each_sequence(part, scratch, [&](const int32_t* list, int64_t length, int64_t first, int64_t kv) {
      attend_sequence_back(
          list, length, first, heads, kv_heads, kv, d, scale, q, k, v, out, lse, dout, dq, dk, dv, scratch);
    });
  });
}

}  // extern "C"
