// The way back through a decoder's layer on the CPU in float32, but for attention: gradients by what came in, and by the matrices.
//
// Threads share tokens first: gradients by inputs, 64 tokens at a time, whose numbers stay in the processor's cache. What the gradients
// of matrices need of them is written down. Then threads share rows of the matrices, each entry the sum over all tokens in their order.
// So no sum depends on how many threads there are.
//
// Shape legend: n tokens, h hidden, i inner, q query heads * head width, k key heads * head width; a matrix [b, a] has b outputs and a
// inputs, and its transpose is given beside it where the way back multiplies by that.

#include "outer.h"

extern "C" {

struct TicketsMlpBack {
  // Of n tokens, `block` at a time.
  int64_t n, block, h, i, q;
  float eps;
  // Rows that were kept.
  const float *middle, *gate, *up, *attended;
  // Weights: the norm, transposes of matrices, [h, i] twice, [i, h], [q, h].
  const float *norm, *gate_t, *up_t, *down_t, *output_t;
  // The gradient by the layer's output, in tiles, becomes that by `middle`; that by what attention gave is written.
  float *dx, *dattended;
  // Added to.
  float *sum_norm, *sum_gate, *sum_up, *sum_down, *sum_output;
  // Room for 2 h + 3 i + q features and h sums of a block, see AllTokens, then for tiles of 3 h + i + q features of each thread.
  float* room;
};

struct TicketsInputBack {
  // Of n tokens, `block` at a time.
  int64_t n, block, h, q, k;
  float eps;
  const float *x, *dq, *dk, *dv;
  const float *norm, *query_t, *key_t, *value_t;
  // The gradient by `middle`, in tiles, becomes that by `x`.
  float* dx;
  float *sum_norm, *sum_query, *sum_key, *sum_value;
  // Room for h + q + 2 k features and h sums of a block, then for tiles of 3 h features of each thread.
  float* room;
};

}  // extern "C"

namespace {

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

// From behind a layer to what attention gave, for the tokens of a block.
void mlp_back(const TicketsMlpBack& s) {
  const int64_t h = s.h, i = s.i, q = s.q;
  AllTokens room(s.room, s.n);
  const Tiles between = {s.dx, h}, behind = room.tiles(h), dgate = room.tiles(i), dup = room.tiles(i);
  const Columns normed = room.columns(h), inner = room.columns(i), attended = room.columns(q);
  float* of_norm = room.sums(h);
  by_tokens(s.n, 3 * h + i + q, room.rest(), [&](float* at, int64_t share, int64_t first, int64_t count) {
    float *x = at, *y = x + share * h, *dy = y + share * h, *d = dy + share * h, *mixed = d + share * i;
    float *dx = between.from(first), *gate = dgate.from(first), *up = dup.from(first);
    const int64_t tiles = tiles_of(count);
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
    norm_tiles_back(tiles, h, s.eps, dy, x, s.norm, dx, of_norm + first / TILE * h);
    rows_to_columns(s.attended, first, count, attended);
    multiply(tiles, q, h, s.output_t, nullptr, dx, nullptr, mixed);
    to_rows(mixed, count, q, s.dattended + first * q, q);
  });
  add_rows(of_norm, tiles_of(s.n), h, s.sum_norm);
  outers<4>(
      s.n, {{{behind, inner, s.sum_down}, {dgate, normed, s.sum_gate}, {dup, normed, s.sum_up}, {between, attended, s.sum_output}}});
}

// From queries, keys and values, before they are turned, to the layer's input, for the tokens of a block.
void input_back(const TicketsInputBack& s) {
  const int64_t h = s.h, q = s.q, k = s.k;
  AllTokens room(s.room, s.n);
  const Tiles query = room.tiles(q), key = room.tiles(k), value = room.tiles(k);
  const Columns normed = room.columns(h);
  float* of_norm = room.sums(h);
  by_tokens(s.n, 3 * h, room.rest(), [&](float* at, int64_t share, int64_t first, int64_t count) {
    float *x = at, *y = x + share * h, *dy = y + share * h, *dx = s.dx + first * h;
    const int64_t tiles = tiles_of(count);
    const auto through = [&](const float* rows, const Tiles& d, const float* transpose, const float* onto) {
      to_tiles(rows + first * d.features, d.features, count, d.features, d.from(first));
      multiply(tiles, h, d.features, transpose, nullptr, d.from(first), onto, dy);
    };
    through(s.dq, query, s.query_t, nullptr);
    through(s.dk, key, s.key_t, dy);
    through(s.dv, value, s.value_t, dy);
    to_tiles(s.x + first * h, h, count, h, x);
    norm_tiles(tiles, h, s.eps, x, s.norm, y);
    tiles_to_columns(y, first, count, normed);
    norm_tiles_back(tiles, h, s.eps, dy, x, s.norm, dx, of_norm + first / TILE * h);
  });
  add_rows(of_norm, tiles_of(s.n), h, s.sum_norm);
  outers<3>(s.n, {{{query, normed, s.sum_query}, {key, normed, s.sum_key}, {value, normed, s.sum_value}}});
}

}  // namespace

extern "C" {

// rows [n, h] to tiles [n / 16, h, 16], or back. Lanes without a token are 0, and gradients leave them so.
void tickets_to_tiles(int64_t n, int64_t h, const float* rows, float* tiles) noexcept {
  at::parallel_for(0, tiles_of(n), 16, [=](int64_t from, int64_t to) {
    to_tiles(rows + from * TILE * h, h, std::min(n, to * TILE) - from * TILE, h, tiles + from * TILE * h);
  });
}

void tickets_to_rows(int64_t n, int64_t h, const float* tiles, float* rows) noexcept {
  at::parallel_for(0, tiles_of(n), 16, [=](int64_t from, int64_t to) {
    to_rows(tiles + from * TILE * h, std::min(n, to * TILE) - from * TILE, h, rows + from * TILE * h, h);
  });
}

void tickets_mlp_back(const TicketsMlpBack* all) noexcept {
  for (int64_t first = 0; first < all->n; first += all->block) {
    TicketsMlpBack some = *all;
    some.n = std::min(all->block, all->n - first);
    some.middle += first * all->h;
    some.gate += first * all->i;
    some.up += first * all->i;
    some.attended += first * all->q;
    some.dx += first * all->h;
    some.dattended += first * all->q;
    mlp_back(some);
  }
}

void tickets_input_back(const TicketsInputBack* all) noexcept {
  for (int64_t first = 0; first < all->n; first += all->block) {
    TicketsInputBack some = *all;
    some.n = std::min(all->block, all->n - first);
    some.x += first * all->h;
    some.dq += first * all->q;
    some.dk += first * all->k;
    some.dv += first * all->k;
    some.dx += first * all->h;
    input_back(some);
  }
}

}  // extern "C"
