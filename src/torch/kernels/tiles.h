// Numbers of tokens in tiles: those of 16 tokens stand side by side, feature by feature, `[tiles, features, 16]`. A row's sum is
// then one lane's, whatever the other lanes hold, and matrices of the model are multiplied as they lie, without packing.
//
// Shape legend: b outputs and a inputs of a matrix `[b, a]`.

#pragma once

#include "lanes.h"

namespace {

INLINE int64_t tiles_of(int64_t tokens) {
  return (tokens + TILE - 1) / TILE;
}

// Tokens that a thread takes together: their numbers stay in its processor's cache.
constexpr int64_t TOGETHER = 64;

// Of n tokens, how many a thread takes together so that all threads have equally many such parts.
inline int64_t share_of(int64_t n) {
  const int64_t threads = at::get_num_threads(), rounds = (n + threads * TOGETHER - 1) / (threads * TOGETHER);
  const int64_t parts = std::max<int64_t>(1, threads * rounds);
  return std::max<int64_t>(1, tiles_of((n + parts - 1) / parts)) * TILE;
}

// Eight rows of eight floats to columns.
INLINE void transpose_block(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TICKETS_SHUFFLES
#endif
#endif
#ifdef TICKETS_SHUFFLES
  // Halves of rows four apart in one vector, so that nothing crosses the halves again, which is slow on some processors.
  typedef float Half __attribute__((vector_size(16), aligned(4), may_alias));
  for (int column = 0; column < 8; column += 4) {
    Lanes row[4];
    for (int at = 0; at < 4; ++at) {
      const Half low = *reinterpret_cast<const Half*>(from + at * ld_from + column);
      const Half high = *reinterpret_cast<const Half*>(from + (at + 4) * ld_from + column);
      row[at] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
    }
    const Lanes a = __builtin_shufflevector(row[0], row[1], 0, 8, 1, 9, 4, 12, 5, 13);
    const Lanes b = __builtin_shufflevector(row[0], row[1], 2, 10, 3, 11, 6, 14, 7, 15);
    const Lanes c = __builtin_shufflevector(row[2], row[3], 0, 8, 1, 9, 4, 12, 5, 13);
    const Lanes d = __builtin_shufflevector(row[2], row[3], 2, 10, 3, 11, 6, 14, 7, 15);
    float* out = to + column * ld_to;
    store(out, __builtin_shufflevector(a, c, 0, 1, 8, 9, 4, 5, 12, 13));
    store(out + ld_to, __builtin_shufflevector(a, c, 2, 3, 10, 11, 6, 7, 14, 15));
    store(out + 2 * ld_to, __builtin_shufflevector(b, d, 0, 1, 8, 9, 4, 5, 12, 13));
    store(out + 3 * ld_to, __builtin_shufflevector(b, d, 2, 3, 10, 11, 6, 7, 14, 15));
  }
#else
  for (int row = 0; row < 8; ++row) {
    for (int at = 0; at < 8; ++at) {
      to[at * ld_to + row] = from[row * ld_from + at];
    }
  }
#endif
}

// Rows, `ld` apart, to tiles; lanes without a token are 0.
WIDEST void to_tiles(const float* rows, int64_t ld, int64_t tokens, int64_t features, float* tiles) {
  for (int64_t from = 0; from < tokens; from += TILE, tiles += features * TILE) {
    const int64_t count = std::min<int64_t>(TILE, tokens - from), whole = count / LANES * LANES;
    const float* at = rows + from * ld;
    int64_t feature = 0;
    for (; feature + LANES <= features; feature += LANES) {
      for (int64_t token = 0; token < whole; token += LANES) {
        transpose_block(at + token * ld + feature, ld, tiles + feature * TILE + token, TILE);
      }
    }
    for (int64_t token = 0; token < count; ++token) {
      for (int64_t rest = token < whole ? feature : 0; rest < features; ++rest) {
        tiles[rest * TILE + token] = at[token * ld + rest];
      }
    }
    for (int64_t token = count; token < TILE; ++token) {
      for (int64_t rest = 0; rest < features; ++rest) {
        tiles[rest * TILE + token] = 0;
      }
    }
  }
}

// The way back.
WIDEST void to_rows(const float* tiles, int64_t tokens, int64_t features, float* rows, int64_t ld) {
  for (int64_t from = 0; from < tokens; from += TILE, tiles += features * TILE) {
    const int64_t count = std::min<int64_t>(TILE, tokens - from), whole = count / LANES * LANES;
    float* at = rows + from * ld;
    int64_t feature = 0;
    for (; feature + LANES <= features; feature += LANES) {
      for (int64_t token = 0; token < whole; token += LANES) {
        transpose_block(tiles + feature * TILE + token, TILE, at + token * ld + feature, ld);
      }
    }
    for (int64_t token = 0; token < count; ++token) {
      for (int64_t rest = token < whole ? feature : 0; rest < features; ++rest) {
        at[token * ld + rest] = tiles[rest * TILE + token];
      }
    }
  }
}

// Terms of a sum between two looks ahead.
constexpr int64_t STRETCH = 32;

// ROWS outputs of one tile. With more rows the sums of all would not fit the processor's registers. Before each stretch of the sums
// `lines` lines from `next` on are fetched.
template <int ROWS>
INLINE void outputs(
    int64_t depth, const float* matrix, const float* bias, const float* x, const float* onto, float* out,
    const float* next, int64_t lines) {
  Lanes low[ROWS], high[ROWS];
  for (int row = 0; row < ROWS; ++row) {
    low[row] = high[row] = Lanes{} + (bias == nullptr ? 0.0f : bias[row]);
  }
  for (int64_t from = 0; from < depth; from += STRETCH) {
    for (int64_t line = 0; line < lines; ++line, next += TILE) {
      __builtin_prefetch(next);
    }
    const int64_t to = std::min(depth, from + STRETCH);
    for (int64_t k = from; k < to; ++k) {
      const Lanes left = load(x + k * TILE), right = load(x + k * TILE + LANES);
      for (int row = 0; row < ROWS; ++row) {
        const float factor = matrix[row * depth + k];
        low[row] += factor * left;
        high[row] += factor * right;
      }
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    if (onto != nullptr) {
      low[row] += load(onto + row * TILE);
      high[row] += load(onto + row * TILE + LANES);
    }
    store(out + row * TILE, low[row]);
    store(out + row * TILE + LANES, high[row]);
  }
}

// out [tiles, b, 16] = matrix x + bias + onto, of x [tiles, a, 16] and a matrix [b, a] as it lies. `onto` may be `out`. Some rows of the
// matrix are taken through all tiles, while the next rows are fetched: what was done since the last time has driven them out of the
// processor's cache.
WIDEST void multiply(
    int64_t tiles, int64_t b, int64_t a, const float* matrix, const float* bias, const float* x, const float* onto,
    float* out) {
  const auto some = [&](auto rows, int64_t row) __attribute__((always_inline)) {
    constexpr int ROWS = decltype(rows)::value;
    const int64_t stretches = tiles * ((a + STRETCH - 1) / STRETCH);
    const int64_t lines = (ROWS * a / TILE + stretches - 1) / stretches;
    const float* next = matrix + (row + ROWS) * a;
    for (int64_t tile = 0; tile < tiles; ++tile, next += stretches / tiles * lines * TILE) {
      const int64_t place = (tile * b + row) * TILE;
      outputs<ROWS>(
          a, matrix + row * a, bias == nullptr ? nullptr : bias + row, x + tile * a * TILE,
          onto == nullptr ? nullptr : onto + place, out + place, next, lines);
    }
  };
  int64_t row = 0;
  for (; row + 6 <= b; row += 6) {
    some(std::integral_constant<int, 6>(), row);
  }
  for (; row + 2 <= b; row += 2) {
    some(std::integral_constant<int, 2>(), row);
  }
  for (; row < b; ++row) {
    some(std::integral_constant<int, 1>(), row);
  }
}

// y = x / sqrt(mean(x^2) + eps) * weight, over `features` of each token; `count` such lists follow each other.
WIDEST void norm_tiles(int64_t count, int64_t features, float eps, const float* x, const float* weight, float* y) {
  for (int64_t list = 0; list < count; ++list, x += features * TILE, y += features * TILE) {
    Lanes low = {}, high = {};
    for (int64_t at = 0; at < features; ++at) {
      const Lanes left = load(x + at * TILE), right = load(x + at * TILE + LANES);
      low += left * left;
      high += right * right;
    }
    for (int lane = 0; lane < LANES; ++lane) {
      low[lane] = 1.0f / std::sqrt(low[lane] / features + eps);
      high[lane] = 1.0f / std::sqrt(high[lane] / features + eps);
    }
    for (int64_t at = 0; at < features; ++at) {
      store(y + at * TILE, load(x + at * TILE) * low * weight[at]);
      store(y + at * TILE + LANES, load(x + at * TILE + LANES) * high * weight[at]);
    }
  }
}

}  // namespace
