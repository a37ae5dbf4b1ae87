// Attention of a row's new tokens over its cache.

#pragma once

#include <limits>

#include "lanes.h"

namespace {

// Scores of a query to shares of their sum, in place: `count` of them are scaled, those up to `padded` become 0. Returns the log
// of the sum.
INLINE float softmax_scores(float* scores, int64_t count, int64_t padded, float scale) {
  std::fill(scores + count, scores + padded, -std::numeric_limits<float>::infinity());
  Lanes largest = load(scores);
  for (int64_t at = LANES; at < padded; at += LANES) {
    largest = larger(largest, load(scores + at));
  }
  const float most = largest_of(largest) * scale;
  Lanes sums = {};
  for (int64_t at = 0; at < padded; at += LANES) {
    const Lanes power = exp_of(load(scores + at) * scale - most);
    sums += power;
    store(scores + at, power);
  }
  const float total = sum_of(sums), inverse = 1.0f / total;
  for (int64_t at = 0; at < padded; at += LANES) {
    store(scores + at, load(scores + at) * inverse);
  }
  return most + std::log(total);
}

// A tile's columns of C (ROWS x 16) = or += A B. For each row of B a line of `next` is fetched: not in one go, since lines that are
// asked for faster than they come are not fetched at all.
template <int ROWS>
INLINE void fetching_strip(
    int64_t depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
    bool add, const float* next) {
  Lanes low[ROWS], high[ROWS];
  for (int row = 0; row < ROWS; ++row) {
    low[row] = add ? load(c + row * ldc) : Lanes{};
    high[row] = add ? load(c + row * ldc + LANES) : Lanes{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    __builtin_prefetch(next + k * TILE);
    const Lanes left = load(b + k * ldb), right = load(b + k * ldb + LANES);
    for (int row = 0; row < ROWS; ++row) {
      const float factor = a[row * lda + k];
      low[row] += factor * left;
      high[row] += factor * right;
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    store(c + row * ldc, low[row]);
    store(c + row * ldc + LANES, high[row]);
  }
}

INLINE void fetching_product(
    int64_t m, int64_t depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
    int64_t ldc, bool add, const float* next) {
  int64_t row = 0;
  for (; row + 6 <= m; row += 6) {
    fetching_strip<6>(depth, a + row * lda, lda, b, ldb, c + row * ldc, ldc, add, next);
  }
  for (; row + 2 <= m; row += 2) {
    fetching_strip<2>(depth, a + row * lda, lda, b, ldb, c + row * ldc, ldc, add, next);
  }
  for (; row < m; ++row) {
    fetching_strip<1>(depth, a + row * lda, lda, b, ldb, c + row * ldc, ldc, add, next);
  }
}

// A row's new tokens: their keys and values go to the cache, then each attends to all up to itself. The queries that share a
// key head are taken together, so that the cache is read once for them.
INLINE void attend_cached_row(
    int64_t first, int64_t count, int64_t before, int64_t heads, int64_t kv_heads, int64_t kv, int64_t d,
    int64_t capacity, float scale, const float* q, const float* k, const float* v, float* keys, float* values,
    const float* next_keys, float* scores, float* out, float* lse) {
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
    // While the keys are multiplied their values are fetched, and while the values are, the next row's keys.
    for (int64_t from = 0; from < padded; from += TILE) {
      fetching_product(
          group, d, q + place * d, d, keys + from * d, TILE, scores + from, capacity, false, values + from * d);
    }
    for (int64_t head = 0; head < group; ++head) {
      lse[place + head] = softmax_scores(scores + head * capacity, seen, padded, scale);
    }
    if (d % TILE == 0) {
      for (int64_t from = 0; from < padded; from += TILE) {
        const int64_t rows = std::min<int64_t>(TILE, seen - from);
        for (int64_t column = 0; column < d; column += TILE) {
          fetching_product(
              group, rows, scores + from, capacity, values + from * d + column, d, out + place * d + column, d, from > 0,
              next_keys + from * d + column * TILE);
        }
      }
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

}  // namespace
