// From the slopes of targets' logprobs to the last layer's output, on the CPU in float32, for a vocabulary whose logits of some tokens fit
// the processor's cache: logits, log-softmax and all gradients. Threads share tokens, then rows of the matrix, as in back.cpp.
//
// Shape legend: n targets, h hidden, v vocabulary.

#include "logits.h"
#include "outer.h"

extern "C" {

struct TicketsHeadBack {
  int64_t n, h, v;
  // `inverse` of the temperature.
  float eps, inverse;
  // The last layer's output at every target, the targets, and the slopes of the loss by their logprobs.
  const float* x;
  const int64_t* targets;
  const float* slopes;
  // Weights: the last norm, the matrix of the vocabulary [v, h] and its transpose.
  const float *norm, *head, *head_t;
  // Written: gradients by x, logprobs, entropies.
  float *dx, *logprobs, *entropies;
  // Added to.
  float *sum_norm, *sum_head;
  // Room for h + v features and h sums of all targets, see AllTokens, then for tiles of 4 h + v + v / 16 features of each thread.
  float* room;
};

void tickets_head_back(const TicketsHeadBack* all) noexcept {
  const TicketsHeadBack& s = *all;
  const int64_t h = s.h, v = s.v;
  AllTokens room(s.room, s.n);
  const Tiles dlogits = room.tiles(v);
  const Columns normed = room.columns(h);
  float* of_norm = room.sums(h);
  by_tokens(s.n, 4 * h + v + (v + TILE - 1) / TILE, room.rest(), [&](float* at, int64_t share, int64_t first, int64_t count) {
    float *x = at, *y = x + share * h, *dy = y + share * h, *dx = dy + share * h;
    float *rows = dx + share * h, *powers = rows + share * v;
    const int64_t tiles = tiles_of(count);
    to_tiles(s.x + first * h, h, count, h, x);
    norm_tiles(tiles, h, s.eps, x, s.norm, y);
    tiles_to_columns(y, first, count, normed);
    multiply(tiles, v, h, s.head, nullptr, y, nullptr, dlogits.from(first));
    to_rows(dlogits.from(first), count, v, rows, v);
    target_rows(
        0, count, v, s.inverse, rows, s.targets + first, s.slopes + first, powers, s.logprobs + first,
        s.entropies + first);
    to_tiles(rows, v, count, v, dlogits.from(first));
    multiply(tiles, h, v, s.head_t, nullptr, dlogits.from(first), nullptr, dy);
    std::fill(dx, dx + tiles * h * TILE, 0.0f);
    norm_tiles_back(tiles, h, s.eps, dy, x, s.norm, dx, of_norm + first / TILE * h);
    to_rows(dx, count, h, s.dx + first * h, h);
  });
  add_rows(of_norm, tiles_of(s.n), h, s.sum_norm);
  outers<1>(s.n, {{{dlogits, normed, s.sum_head}}});
}

}  // extern "C"
