// The way back through a decoder's layer on the CPU in float32, but for attention: gradients by what came in, and by the matrices.
//
// Threads share tokens first: gradients by inputs, 64 tokens at a time, whose numbers stay in the processor's cache. What the gradients
// of matrices need of them is written down. Then threads share rows of the matrices, each entry the sum over all tokens in their order.
// So no sum depends on how many threads there are.
//
// Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width; a matrix [b, a] has b outputs and a
// inputs, and its transpose is given beside it where the way back multiplies by that.

#include <array>
#include <memory>
#include <vector>

#include "tiles.h"

extern "C" {

struct TicketsMlpBack {
  int64_t n, h, i, q;
  float eps;
  // Rows that were kept.
  const float *middle, *gate, *up, *attended;
  // Weights: the norm, transposes of matrices, [h, i] twice, [i, h], [q, h].
  const float *norm, *gate_t, *up_t, *down_t, *output_t;
  // The gradient by the layer's output becomes that by `middle`; that by what attention gave is written.
  float *dx, *dattended;
  // Added to.
  float *sum_norm, *sum_gate, *sum_up, *sum_down, *sum_output;
  // Room for 3 h + 3 i + q features of all tokens, see AllTokens.
  float* room;
};

struct TicketsInputBack {
  int64_t n, h, q, k;
  float eps;
  const float *x, *dq, *dk, *dv;
  const float *norm, *query_t, *key_t, *value_t;
  // The gradient by `middle` becomes that by `x`.
  float* dx;
  float *sum_norm, *sum_query, *sum_key, *sum_value;
  // Room for h + q + 2 k features of all tokens.
  float* room;
};

}  // extern "C"

namespace {

// Tokens that a thread takes together, and tokens of columns that are summed before they are added to a matrix.
constexpr int64_t TOGETHER = 64;
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

void rows_to_columns(const float* rows, int64_t first, int64_t count, Columns to) {
  for (int64_t token = first; token < first + count; ++token) {
    for (int64_t column = 0; column < to.count(); ++column) {
      float* at = to.of(column) + token * TILE;
      const int64_t width = to.width(column);
      std::memcpy(at, rows + token * to.features + column * TILE, width * sizeof(float));
      std::fill(at + width, at + TILE, 0.0f);
    }
  }
}

// `dinner` to silu(gate) * up, `gate` and `up` to gradients by them.
WIDEST void swiglu_tiles_back(int64_t count, float* dinner, float* gate, float* up) {
  for (int64_t at = 0; at < count; at += LANES) {
    Lanes grad = load(dinner + at), g = load(gate + at), u = load(up + at);
    swiglu_back(grad, g, u);
    store(dinner + at, grad);
    store(gate + at, g);
    store(up + at, u);
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

// ROWS features in tiles with a column, over some tokens: added to a part of a matrix.
template <int ROWS>
INLINE void outer_rows(
    int64_t count, const float* left, int64_t tile_step, const float* right, int64_t width, float* sum, int64_t ld) {
  Lanes low[ROWS], high[ROWS];
  for (int row = 0; row < ROWS; ++row) {
    low[row] = high[row] = Lanes{};
  }
  const auto add = [&](int64_t tokens) __attribute__((always_inline)) {
    for (int64_t token = 0; token < tokens; ++token) {
      const Lanes first = load(right + token * TILE), second = load(right + token * TILE + LANES);
      for (int row = 0; row < ROWS; ++row) {
        const float factor = left[row * TILE + token];
        low[row] += factor * first;
        high[row] += factor * second;
      }
    }
  };
  for (; count >= TILE; count -= TILE, left += tile_step, right += TILE * TILE) {
    add(TILE);
  }
  add(count);
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

// The rows `row` up to `to` of sum [b, a] += left^T right, for some tokens.
WIDEST void outer_some(
    const Tiles& left, int64_t row, int64_t to, const Columns& right, int64_t from, int64_t count, float* sum) {
  const int64_t ld = right.features, step = left.features * TILE;
  for (int64_t column = 0; column < right.count(); ++column) {
    const float* their = right.of(column) + from * TILE;
    const int64_t width = right.width(column);
    const auto rows = [&](auto several, int64_t at) __attribute__((always_inline)) {
      outer_rows<decltype(several)::value>(
          count, left.from(from) + at * TILE, step, their, width, sum + at * ld + column * TILE, ld);
    };
    int64_t at = row;
    for (; at + 6 <= to; at += 6) {
      rows(std::integral_constant<int, 6>(), at);
    }
    for (; at + 2 <= to; at += 2) {
      rows(std::integral_constant<int, 2>(), at);
    }
    for (; at < to; ++at) {
      rows(std::integral_constant<int, 1>(), at);
    }
  }
}

struct Outer {
  Tiles left;
  Columns right;
  float* sum;
};

// Rows of a matrix that are taken together: their tokens and those of a column stay in the processor's nearest cache.
constexpr int64_t ROWS = 24;

// Every matrix's gradient. Threads share rows of all of them, each about as many entries.
template <size_t COUNT>
void outers(int64_t n, const std::array<Outer, COUNT>& products) {
  int64_t entries = 0;
  for (const Outer& product : products) {
    entries += product.left.features * product.right.features;
  }
  const int64_t threads = at::get_num_threads();
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    // The first row that begins at an entry or behind it, of which a few form a step of outer_some.
    const auto row_at = [](int64_t entry, const Outer& product) {
      const int64_t step = 6 * product.right.features, steps = entry <= 0 ? 0 : (entry + step - 1) / step;
      return std::min(6 * steps, product.left.features);
    };
    const int64_t from = entries * first / threads, to = entries * last / threads;
    for (int64_t token = 0; token < n; token += SUMMED) {
      int64_t before = 0;
      for (const Outer& product : products) {
        const int64_t end = row_at(to - before, product);
        for (int64_t row = row_at(from - before, product); row < end; row += ROWS) {
          outer_some(
              product.left, row, std::min(row + ROWS, end), product.right, token, std::min(SUMMED, n - token),
              product.sum);
        }
        before += product.left.features * product.right.features;
      }
    }
  });
}

// Calls body(first token, tokens, first tile) for parts of all tokens, each with room of its thread for tiles of `features`.
template <typename Body>
void by_tokens(int64_t n, int64_t features, const Body& body) {
  const int64_t threads = at::get_num_threads();
  const int64_t share = std::min(TOGETHER, tiles_of((n + threads - 1) / threads) * TILE);
  at::parallel_for(0, (n + share - 1) / share, 1, [&](int64_t from, int64_t to) {
    const std::unique_ptr<float[]> room(new float[share * features]);
    for (int64_t part = from; part < to; ++part) {
      body(room.get(), share, part * share, std::min(share, n - part * share));
    }
  });
}

// sum += the rows, in their order.
void add_rows(const std::vector<float>& rows, int64_t width, float* sum) {
  for (size_t from = 0; from < rows.size(); from += width) {
    for (int64_t at = 0; at < width; ++at) {
      sum[at] += rows[from + at];
    }
  }
}

}  // namespace

extern "C" {

// From behind a layer to what attention gave.
void tickets_mlp_back(const TicketsMlpBack* all) noexcept {
  const TicketsMlpBack& s = *all;
  const int64_t h = s.h, i = s.i, q = s.q;
  AllTokens room(s.room, s.n);
  const Tiles behind = room.tiles(h), between = room.tiles(h), dgate = room.tiles(i), dup = room.tiles(i);
  const Columns normed = room.columns(h), inner = room.columns(i), attended = room.columns(q);
  std::vector<float> of_norm(tiles_of(s.n) * h);
  by_tokens(s.n, 3 * h + i + q, [&](float* at, int64_t share, int64_t first, int64_t count) {
    float *x = at, *y = x + share * h, *dy = y + share * h, *d = dy + share * h, *mixed = d + share * i;
    float *dx = between.from(first), *gate = dgate.from(first), *up = dup.from(first);
    const int64_t tiles = tiles_of(count);
    to_tiles(s.dx + first * h, h, count, h, dx);
    std::memcpy(behind.from(first), dx, tiles * h * TILE * sizeof(float));
    multiply(tiles, i, h, s.down_t, nullptr, dx, nullptr, d);
    to_tiles(s.gate + first * i, i, count, i, gate);
    to_tiles(s.up + first * i, i, count, i, up);
    swiglu_tiles_back(tiles * i * TILE, d, gate, up);
    tiles_to_columns(d, first, count, inner);
    to_tiles(s.middle + first * h, h, count, h, x);
    norm_tiles(tiles, h, s.eps, x, s.norm, y);
    tiles_to_columns(y, first, count, normed);
    multiply(tiles, h, i, s.gate_t, nullptr, gate, nullptr, dy);
    multiply(tiles, h, i, s.up_t, nullptr, up, dy, dy);
    norm_tiles_back(tiles, h, s.eps, dy, x, s.norm, dx, of_norm.data() + first / TILE * h);
    to_rows(dx, count, h, s.dx + first * h, h);
    rows_to_columns(s.attended, first, count, attended);
    multiply(tiles, q, h, s.output_t, nullptr, dx, nullptr, mixed);
    to_rows(mixed, count, q, s.dattended + first * q, q);
  });
  add_rows(of_norm, h, s.sum_norm);
  outers<4>(
      s.n, {{{behind, inner, s.sum_down}, {dgate, normed, s.sum_gate}, {dup, normed, s.sum_up}, {between, attended, s.sum_output}}});
}

// From queries, keys and values, before they are turned, to the layer's input.
void tickets_input_back(const TicketsInputBack* all) noexcept {
  const TicketsInputBack& s = *all;
  const int64_t h = s.h, q = s.q, k = s.k;
  AllTokens room(s.room, s.n);
  const Tiles query = room.tiles(q), key = room.tiles(k), value = room.tiles(k);
  const Columns normed = room.columns(h);
  std::vector<float> of_norm(tiles_of(s.n) * h);
  by_tokens(s.n, 4 * h, [&](float* at, int64_t share, int64_t first, int64_t count) {
    float *dx = at, *x = dx + share * h, *y = x + share * h, *dy = y + share * h;
    const int64_t tiles = tiles_of(count);
    const auto through = [&](const float* rows, const Tiles& d, const float* transpose, const float* onto) {
      to_tiles(rows + first * d.features, d.features, count, d.features, d.from(first));
      multiply(tiles, h, d.features, transpose, nullptr, d.from(first), onto, dy);
    };
    through(s.dq, query, s.query_t, nullptr);
    through(s.dk, key, s.key_t, dy);
    through(s.dv, value, s.value_t, dy);
    to_tiles(s.dx + first * h, h, count, h, dx);
    to_tiles(s.x + first * h, h, count, h, x);
    norm_tiles(tiles, h, s.eps, x, s.norm, y);
    tiles_to_columns(y, first, count, normed);
    norm_tiles_back(tiles, h, s.eps, dy, x, s.norm, dx, of_norm.data() + first / TILE * h);
    to_rows(dx, count, h, s.dx + first * h, h);
  });
  add_rows(of_norm, h, s.sum_norm);
  outers<3>(s.n, {{{query, normed, s.sum_query}, {key, normed, s.sum_key}, {value, normed, s.sum_value}}});
}

}  // extern "C"
