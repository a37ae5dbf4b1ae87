// What the ways back have in common: tokens shared between threads, numbers of all tokens laid down for the gradients of matrices, and
// these gradients, of which threads share the rows.
//
// Shape legend: n tokens; a matrix [b, a] has b outputs and a inputs.

#pragma once

#include <array>

#include "parts.h"
#include "tiles.h"

namespace {

// Tokens of columns that are summed before they are added to a matrix.
constexpr int64_t SUMMED = 256;

// Features in columns, token by token: [features / 16, n, 16], the last one filled up with zeros.
struct Columns {
  float* at;
  int64_t n, features;

  float* of(int64_t column) const {
    return at + column * n * TILE;
  }
  int64_t width(int64_t column) const {
    return std::min<int64_t>(TILE, features - column * TILE);
  }
  int64_t count() const {
    return tiles_of(features);
  }
};

// All tokens in tiles, feature by feature: [n / 16, features, 16].
struct Tiles {
  float* at;
  int64_t features;

  float* from(int64_t token) const {
    return at + token * features;
  }
};

// Hands out parts of the room for all tokens.
class AllTokens {
 public:
  AllTokens(float* at, int64_t n) : at_(at), n_(n) {}
  Columns columns(int64_t features) {
    return {take(tiles_of(features) * TILE), n_, features};
  }
  Tiles tiles(int64_t features) {
    return {take(tiles_of(features) * TILE), features};
  }
  // A row of so many sums for each tile.
  float* sums(int64_t features) {
    return take(tiles_of(features));
  }
  // What is left.
  float* rest() const {
    return at_;
  }

 private:
  float* take(int64_t features) {
    float* taken = at_;
    at_ += features * tiles_of(n_) * TILE;
    return taken;
  }

  float* at_;
  int64_t n_;
};

WIDEST void tiles_to_columns(const float* tiles, int64_t first, int64_t count, Columns to) {
  for (int64_t from = 0; from < count; from += TILE, tiles += to.features * TILE) {
    const int64_t tokens = std::min<int64_t>(TILE, count - from);
    for (int64_t column = 0; column < to.count(); ++column) {
      float* at = to.of(column) + (first + from) * TILE;
      if (to.width(column) < TILE) {
        std::fill(at, at + tokens * TILE, 0.0f);
      }
      to_rows(tiles + column * TILE * TILE, tokens, to.width(column), at, TILE);
    }
  }
}

// The gradient by x is added to dx; that by the weight, of the tokens of each tile, is written to a row of `dweight` [tiles, features].
WIDEST void norm_tiles_back(
    int64_t tiles, int64_t features, float eps, const float* dy, const float* x, const float* weight, float* dx,
    float* dweight) {
  for (int64_t tile = 0; tile < tiles; ++tile, dweight += features) {
    for (int side = 0; side < 2; ++side) {
      const int64_t place = tile * features * TILE + side * LANES;
      Lanes square = {}, total = {};
      for (int64_t at = 0; at < features; ++at) {
        const Lanes value = load(x + place + at * TILE);
        square += value * value;
        total += load(dy + place + at * TILE) * weight[at] * value;
      }
      Lanes scale, shared;
      for (int lane = 0; lane < LANES; ++lane) {
        scale[lane] = 1.0f / std::sqrt(square[lane] / features + eps);
        shared[lane] = total[lane] * scale[lane] * scale[lane] * scale[lane] / features;
      }
      for (int64_t at = 0; at < features; ++at) {
        const Lanes value = load(x + place + at * TILE), grad = load(dy + place + at * TILE);
        float* to = dx + place + at * TILE;
        store(to, load(to) + (grad * weight[at] * scale - value * shared));
        const float sum = sum_of(grad * value * scale);
        dweight[at] = side == 0 ? sum : dweight[at] + sum;
      }
    }
  }
}

// ROWS features, `step` apart, with a column, over some tokens: added to a part of a matrix.
template <int ROWS>
INLINE void outer_rows(
    int64_t count, const float* left, int64_t step, const float* right, int64_t width, float* sum, int64_t ld) {
  Lanes low[ROWS], high[ROWS];
  for (int row = 0; row < ROWS; ++row) {
    low[row] = high[row] = Lanes{};
  }
  for (int64_t token = 0; token < count; ++token) {
    const Lanes first = load(right + token * TILE), second = load(right + token * TILE + LANES);
    for (int row = 0; row < ROWS; ++row) {
      const float factor = left[row * step + token];
      low[row] += factor * first;
      high[row] += factor * second;
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    float* to = sum + row * ld;
    if (width == TILE) {
      store(to, load(to) + low[row]);
      store(to + LANES, load(to + LANES) + high[row]);
    } else {
      for (int64_t at = 0; at < width; ++at) {
        to[at] += at < LANES ? low[row][at] : high[row][at - LANES];
      }
    }
  }
}

// Rows of a matrix that are taken together: their tokens and those of a column stay in the processor's nearest cache.
constexpr int64_t ROWS = 24;

// The rows `row` up to `to` of sum [b, a] += left^T right, for some tokens, SUMMED at most. They are taken out of their tiles first.
WIDEST void outer_some(
    const Tiles& left, int64_t row, int64_t to, const Columns& right, int64_t from, int64_t count, float* sum) {
  constexpr int64_t STEP = SUMMED + TILE;
  float out_of_tiles[ROWS * STEP];
  for (int64_t token = 0; token < count; token += TILE) {
    const float* tile = left.from(from + token) + row * TILE;
    for (int64_t at = 0; at < to - row; ++at) {
      std::memcpy(out_of_tiles + at * STEP + token, tile + at * TILE, TILE * sizeof(float));
    }
  }
  const int64_t ld = right.features;
  for (int64_t column = 0; column < right.count(); ++column) {
    const float* their = right.of(column) + from * TILE;
    const int64_t width = right.width(column);
    const auto rows = [&](auto several, int64_t at) __attribute__((always_inline)) {
      outer_rows<decltype(several)::value>(
          count, out_of_tiles + at * STEP, STEP, their, width, sum + (row + at) * ld + column * TILE, ld);
    };
    int64_t at = 0;
    for (; row + at + 6 <= to; at += 6) {
      rows(std::integral_constant<int, 6>(), at);
    }
    for (; row + at + 2 <= to; at += 2) {
      rows(std::integral_constant<int, 2>(), at);
    }
    for (; row + at < to; ++at) {
      rows(std::integral_constant<int, 1>(), at);
    }
  }
}

struct Outer {
  Tiles left;
  Columns right;
  float* sum;
};

// Every matrix's gradient. Threads share rows of all of them, each about as many entries.
template <size_t COUNT>
void outers(int64_t n, const std::array<Outer, COUNT>& products) {
  const auto parts_of = [](const Outer& product) { return (product.left.features + ROWS - 1) / ROWS; };
  const auto entries_of = [](const Outer& product) { return ROWS * product.right.features; };
  int64_t entries = 0;
  for (const Outer& product : products) {
    entries += parts_of(product) * entries_of(product);
  }
  // The first part that begins at a share of all entries or behind it.
  const auto first_of = [&](int64_t thread, int64_t threads) {
    int64_t wanted = entries * thread / threads, part = 0;
    for (const Outer& product : products) {
      const int64_t some = std::min(parts_of(product), (wanted + entries_of(product) - 1) / entries_of(product));
      part += some;
      wanted = std::max<int64_t>(0, wanted - some * entries_of(product));
    }
    return part;
  };
  struct Nothing {};
  share_parts_from<Nothing>(first_of, [&](Nothing&, int64_t part) {
    for (const Outer& product : products) {
      if (part < parts_of(product)) {
        const int64_t row = part * ROWS, to = std::min(row + ROWS, product.left.features);
        for (int64_t token = 0; token < n; token += SUMMED) {
          outer_some(product.left, row, to, product.right, token, std::min(SUMMED, n - token), product.sum);
        }
        return;
      }
      part -= parts_of(product);
    }
  });
}

// Calls body(room, share, first, count) for parts of all tokens: `count` of them from `first` on, with room of its thread for tiles of
// `features` of `share` tokens.
template <typename Body>
void by_tokens(int64_t n, int64_t features, float* room, const Body& body) {
  const int64_t share = share_of(n);
  struct Number {
    int64_t of = at::get_thread_num();
  };
  share_parts<Number>((n + share - 1) / share, [&](const Number& thread, int64_t part) {
    body(room + thread.of * features * TOGETHER, share, part * share, std::min(share, n - part * share));
  });
}

// sum += the rows, in their order.
void add_rows(const float* rows, int64_t count, int64_t width, float* sum) {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t at = 0; at < width; ++at) {
      sum[at] += rows[row * width + at];
    }
  }
}

}  // namespace
