// A decoder's layers over a cache, for a list of new tokens, and the vocabulary's logits: on the CPU in float32, without a stop between
// operators. A thread takes some rows of the cache through all layers, 64 tokens at a time, which stay in its own cache of the processor.
//
// What a token gives does not depend on the other tokens, on how they are shared between threads, or on what comes later.
//
// Shape legend: n tokens, h hidden, i inner, d head width, q query heads * d, k key heads * d, v vocabulary.

#include <vector>

#include "cached.h"
#include "logits.h"
#include "tiles.h"

extern "C" {

struct TicketsDecoder {
  int64_t layers, h, i, heads, kv_heads, d, capacity;
  float eps, scale;
};

// Weights of a layer, its part of the cache (see tickets_attend_cached), and where rows of what is computed go. Null: biases and norms
// that the family has not, and what nobody wants to keep.
struct TicketsLayer {
  const float *attention_norm, *query, *query_bias, *key, *key_bias, *value, *value_bias, *query_norm, *key_norm, *output,
      *output_bias, *mlp_norm, *gate, *up, *down;
  float *keys, *values;
  float *raw_q, *raw_k, *q, *k, *v, *attended, *lse, *middle, *gate_out, *up_out, *out;
};

struct TicketsRows {
  int64_t count;
  const int64_t *slot, *before, *start, *tokens;
};

// What follows the last layer, after the last token of each row: logits, and tokens drawn at uniforms.
struct TicketsHead {
  int64_t v;
  // Of the temperature.
  float inverse;
  const float *norm, *matrix;
  float* logits;
  const double* uniforms;
  int64_t* tokens;
  float* logprobs;
};

}  // extern "C"

namespace {

// Rows of the vocabulary's matrix whose logits are in tiles at the same time.
constexpr int64_t VOCABULARY = 768;

// A thread's part of the room for all threads.
class Room {
 public:
  Room(float* all, int64_t size) : at_(all + at::get_thread_num() * size) {}
  float* take(int64_t size) {
    float* taken = at_;
    at_ += size;
    return taken;
  }

 private:
  float* at_;
};

// logits [count, v] of tokens in tiles, of which the last norm is taken in place; `part` has room for TOGETHER * VOCABULARY.
void logits_of(
    int64_t count, int64_t h, int64_t v, float eps, float* x, const float* norm, const float* head, float* part,
    float* logits) {
  const int64_t tiles = tiles_of(count);
  norm_tiles(tiles, h, eps, x, norm, x);
  for (int64_t row = 0; row < v; row += VOCABULARY) {
    const int64_t rows = std::min(VOCABULARY, v - row);
    multiply(tiles, rows, h, head + row * h, nullptr, x, nullptr, part);
    to_rows(part, count, rows, logits + row, v);
  }
}

// Rows of the tables for the positions of some tokens: a half of each, since the other is the same, but for a sign of the sines.
void turn_tables(
    const int64_t* position, int64_t tokens, int64_t d, const float* cos, const float* sin, float* cos_tiles,
    float* sin_tiles) {
  const int64_t half = d / 2;
  for (int64_t token = 0; token < tiles_of(tokens) * TILE; ++token) {
    const int64_t row = position[std::min(token, tokens - 1)] * d, place = token / TILE * half * TILE + token % TILE;
    for (int64_t at = 0; at < half; ++at) {
      cos_tiles[place + at * TILE] = cos[row + at];
      sin_tiles[place + at * TILE] = sin[row + half + at];
    }
  }
}

WIDEST void turn_tiles(int64_t tiles, int64_t heads, int64_t d, const float* cos, const float* sin, float* x) {
  const int64_t size = d / 2 * TILE;
  for (int64_t tile = 0; tile < tiles; ++tile, cos += size, sin += size) {
    for (int64_t head = 0; head < heads; ++head, x += 2 * size) {
      for (int64_t at = 0; at < size; at += LANES) {
        const Lanes a = load(x + at), b = load(x + size + at), c = load(cos + at), s = load(sin + at);
        store(x + at, a * c - b * s);
        store(x + size + at, b * c + a * s);
      }
    }
  }
}

WIDEST void swiglu_tiles(int64_t count, const float* up, float* gate) {
  for (int64_t at = 0; at < count; at += LANES) {
    const Lanes g = load(gate + at);
    store(gate + at, g / (1.0f + exp_of(-g)) * load(up + at));
  }
}

WIDEST void attend_row(
    const TicketsDecoder& shape, const TicketsLayer& layer, int64_t slot, int64_t next_slot, int64_t first, int64_t count, int64_t before,
    float* scores) {
  for (int64_t kv = 0; kv < shape.kv_heads; ++kv) {
    const int64_t size = shape.d * shape.capacity, place = (slot * shape.kv_heads + kv) * size;
    const int64_t next = kv + 1 < shape.kv_heads ? place + size : next_slot * shape.kv_heads * size;
    attend_cached_row(
        first, count, before, shape.heads, shape.kv_heads, kv, shape.d, shape.capacity, shape.scale, layer.q, layer.k,
        layer.v, layer.keys + place, layer.values + place, layer.keys + next, scores, layer.attended, layer.lse);
  }
}

// What one thread needs to take tokens through the layers.
class Walk {
 public:
  Walk(const TicketsDecoder& shape, const TicketsLayer* layers, const TicketsHead* head, const TicketsRows& rows,
       const float* cos, const float* sin, const float* embedding, float* x, float* room)
      : shape_(shape), layers_(layers), head_(head), rows_(rows), cos_(cos), sin_(sin), embedding_(embedding), in_(x),
        q_(shape.heads * shape.d), k_(shape.kv_heads * shape.d),
        room_(room, size(shape, head)) {
    scores_ = room_.take(shape.heads / shape.kv_heads * shape.capacity);
    x_ = room_.take(TOGETHER * shape.h);
    normed_ = room_.take(TOGETHER * shape.h);
    query_ = room_.take(TOGETHER * q_);
    attended_ = room_.take(TOGETHER * q_);
    key_ = room_.take(TOGETHER * k_);
    value_ = room_.take(TOGETHER * k_);
    gate_ = room_.take(TOGETHER * shape.i);
    up_ = room_.take(TOGETHER * shape.i);
    cos_tiles_ = room_.take(TOGETHER * shape.d / 2);
    sin_tiles_ = room_.take(TOGETHER * shape.d / 2);
    if (head != nullptr) {
      ends_ = room_.take(TOGETHER * shape.h);
      part_ = room_.take(TOGETHER * VOCABULARY);
      powers_ = room_.take(head->v);
    }
  }

  // What a thread takes of the room.
  static int64_t size(const TicketsDecoder& shape, const TicketsHead* head) {
    const int64_t q = shape.heads * shape.d, k = shape.kv_heads * shape.d;
    const int64_t behind = head == nullptr ? 0 : TOGETHER * (shape.h + VOCABULARY) + head->v;
    return TOGETHER * (2 * shape.h + 2 * q + 2 * k + 2 * shape.i + shape.d) + shape.heads / shape.kv_heads * shape.capacity + behind;
  }

  // The tokens of the rows from `row` up to `to`, and what follows them.
  void rows(int64_t row, int64_t to) {
    through(row, to);
    for (int64_t first = row; head_ != nullptr && first < to; first += TOGETHER) {
      ends(first, std::min(TOGETHER, to - first));
    }
  }

 private:
  void through(int64_t row, int64_t to) {
    const int64_t end = rows_.start[to];
    for (int64_t first = rows_.start[row]; first < end; first += TOGETHER) {
      const int64_t count = std::min(TOGETHER, end - first);
      while (rows_.start[row + 1] <= first) {
        ++row;
      }
      tokens(row, first, count);
    }
  }

  // Logits of some rows, and draws.
  void ends(int64_t row, int64_t count) {
    const int64_t h = shape_.h;
    const float* out = layers_[shape_.layers - 1].out;
    for (int64_t at = 0; at < count; ++at) {
      std::memcpy(ends_ + at * h, out + (rows_.start[row + at + 1] - 1) * h, h * sizeof(float));
    }
    to_tiles(ends_, h, count, h, normed_);
    float* logits = head_->logits + row * head_->v;
    logits_of(count, h, head_->v, shape_.eps, normed_, head_->norm, head_->matrix, part_, logits);
    draw_rows(
        0, count, head_->v, head_->inverse, logits, head_->uniforms + row, powers_, head_->tokens + row,
        head_->logprobs + row);
  }

  // Some tokens, of which the first is of `row`.
  void tokens(int64_t row, int64_t first, int64_t count) {
    const int64_t tiles = tiles_of(count), h = shape_.h;
    int64_t position[TOGETHER];
    int64_t its_row = row;
    for (int64_t at = 0; at < count; ++at) {
      const int64_t token = first + at;
      while (rows_.start[its_row + 1] <= token) {
        ++its_row;
      }
      position[at] = rows_.before[its_row] + token - rows_.start[its_row];
      std::memcpy(in_ + token * h, embedding_ + rows_.tokens[token] * h, h * sizeof(float));
    }
    to_tiles(in_ + first * h, h, count, h, x_);
    turn_tables(position, count, shape_.d, cos_, sin_, cos_tiles_, sin_tiles_);
    for (int64_t at = 0; at < shape_.layers; ++at) {
      const TicketsLayer& layer = layers_[at];
      attention(layer, tiles, row, first, count);
      mlp(layer, tiles, first, count);
    }
  }

  void attention(const TicketsLayer& layer, int64_t tiles, int64_t row, int64_t first, int64_t count) {
    const int64_t h = shape_.h, d = shape_.d;
    norm_tiles(tiles, h, shape_.eps, x_, layer.attention_norm, normed_);
    multiply(tiles, q_, h, layer.query, layer.query_bias, normed_, nullptr, query_);
    multiply(tiles, k_, h, layer.key, layer.key_bias, normed_, nullptr, key_);
    multiply(tiles, k_, h, layer.value, layer.value_bias, normed_, nullptr, value_);
    if (layer.query_norm != nullptr) {
      keep(query_, count, q_, layer.raw_q, first);
      keep(key_, count, k_, layer.raw_k, first);
      norm_tiles(tiles * shape_.heads, d, shape_.eps, query_, layer.query_norm, query_);
      norm_tiles(tiles * shape_.kv_heads, d, shape_.eps, key_, layer.key_norm, key_);
    }
    turn_tiles(tiles, shape_.heads, d, cos_tiles_, sin_tiles_, query_);
    turn_tiles(tiles, shape_.kv_heads, d, cos_tiles_, sin_tiles_, key_);
    keep(query_, count, q_, layer.q, first);
    keep(key_, count, k_, layer.k, first);
    keep(value_, count, k_, layer.v, first);
    for (int64_t token = first; token < first + count; ++row) {
      const int64_t to = std::min(first + count, rows_.start[row + 1]);
      attend_row(
          shape_, layer, rows_.slot[row], rows_.slot[row + 1 < rows_.count ? row + 1 : row], token, to - token, rows_.before[row] + token - rows_.start[row],
          scores_);
      token = to;
    }
    to_tiles(layer.attended + first * q_, q_, count, q_, attended_);
    multiply(tiles, h, q_, layer.output, layer.output_bias, attended_, x_, x_);
    keep(x_, count, h, layer.middle, first);
  }

  void mlp(const TicketsLayer& layer, int64_t tiles, int64_t first, int64_t count) {
    const int64_t h = shape_.h, i = shape_.i;
    norm_tiles(tiles, h, shape_.eps, x_, layer.mlp_norm, normed_);
    multiply(tiles, i, h, layer.gate, nullptr, normed_, nullptr, gate_);
    multiply(tiles, i, h, layer.up, nullptr, normed_, nullptr, up_);
    keep(gate_, count, i, layer.gate_out, first);
    keep(up_, count, i, layer.up_out, first);
    swiglu_tiles(tiles * i * TILE, up_, gate_);
    multiply(tiles, h, i, layer.down, nullptr, gate_, x_, x_);
    keep(x_, count, h, layer.out, first);
  }

  static void keep(const float* tiles, int64_t count, int64_t features, float* rows, int64_t first) {
    if (rows != nullptr) {
      to_rows(tiles, count, features, rows + first * features, features);
    }
  }

  const TicketsDecoder& shape_;
  const TicketsLayer* layers_;
  const TicketsHead* head_;
  const TicketsRows& rows_;
  const float *cos_, *sin_, *embedding_;
  float* in_;
  const int64_t q_, k_;
  Room room_;
  float *scores_, *x_, *normed_, *query_, *attended_, *key_, *value_, *gate_, *up_, *cos_tiles_, *sin_tiles_, *ends_, *part_, *powers_;
};

}  // namespace

extern "C" {

// Numbers that tickets_decode and tickets_logits need room for, of each thread.
int64_t tickets_decode_room(const TicketsDecoder* shape, const TicketsHead* head) noexcept {
  return Walk::size(*shape, head);
}

int64_t tickets_logits_room(int64_t h) noexcept {
  return TOGETHER * (h + VOCABULARY);
}

// x [n, h] becomes the embedded tokens. A row of the cache is one thread's; `head` may be null.
void tickets_decode(
    const TicketsDecoder* shape, const TicketsLayer* layers, const TicketsHead* head, const TicketsRows* rows,
    const float* cos, const float* sin, const float* embedding, float* x, float* room) noexcept {
  // A part of more than TOGETHER tokens goes through the layers in several turns.
  const int64_t n = rows->start[rows->count], threads = at::get_num_threads();
  const int64_t share = tiles_of((n + threads - 1) / threads) * TILE;
  std::vector<int64_t> tasks = {0};
  for (int64_t row = 0; row < rows->count; ++row) {
    if (rows->start[row + 1] - rows->start[tasks.back()] >= share || row + 1 == rows->count) {
      tasks.push_back(row + 1);
    }
  }
  at::parallel_for(0, static_cast<int64_t>(tasks.size()) - 1, 1, [&](int64_t from, int64_t to) {
    Walk walk(*shape, layers, head, *rows, cos, sin, embedding, x, room);
    for (int64_t task = from; task < to; ++task) {
      walk.rows(tasks[task], tasks[task + 1]);
    }
  });
}

// logits [n, v] of the last layer's output x [n, h].
void tickets_logits(
    int64_t n, int64_t h, int64_t v, float eps, const float* x, const float* norm, const float* head, float* logits,
    float* room) noexcept {
  const int64_t share = share_of(n);
  at::parallel_for(0, (n + share - 1) / share, 1, [&](int64_t from, int64_t to) {
    Room own(room, tickets_logits_room(h));
    float *normed = own.take(TOGETHER * h), *part = own.take(TOGETHER * VOCABULARY);
    for (int64_t task = from; task < to; ++task) {
      const int64_t first = task * share, count = std::min(share, n - first);
      to_tiles(x + first * h, h, count, h, normed);
      logits_of(count, h, v, eps, normed, norm, head, part, logits + first * v);
    }
  });
}

}  // extern "C"
