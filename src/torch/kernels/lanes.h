// Vectors of floats and small products, as the compiler makes the best of them on each generation of processors.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

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
INLINE Lanes exp_of(Lanes x) {
  typedef int32_t Whole __attribute__((vector_size(4 * LANES)));
  const Lanes least = Lanes{} - 87.0f, most = Lanes{} + 88.0f;
  const Lanes bounded = x > most ? most : x;
  // Adding it leaves the nearest whole number in the last bits.
  const Lanes turner = bounded * 1.44269504088896341f + 12582912.0f;
  const Lanes rounded = turner - 12582912.0f;
  const Lanes rest = (bounded - rounded * 0.693359375f) + rounded * 2.12194440e-4f;
  Lanes sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  const Lanes series = sum * rest * rest + rest + 1.0f;
  Whole bits;
  std::memcpy(&bits, &turner, sizeof(bits));
  bits = (bits + 127) << 23;
  Lanes power;
  std::memcpy(&power, &bits, sizeof(power));
  // What came out below that is not a number that means something.
  return x < least ? Lanes{} : series * power;
}

INLINE Lanes larger(Lanes a, Lanes b) {
  return a > b ? a : b;
}

INLINE float largest_of(Lanes lanes) {
  float most = lanes[0];
  for (int lane = 1; lane < LANES; ++lane) {
    most = lanes[lane] > most ? lanes[lane] : most;
  }
  return most;
}

// Calls body(place, numbers) for `count` numbers, LANES of them at a time.
template <typename Body>
INLINE void each(int64_t count, const Body& body) {
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES) {
    body(at, LANES);
  }
  if (at < count) {
    body(at, count - at);
  }
}

// Up to LANES numbers; `rest` stands for those that are missing.
INLINE Lanes load_some(const float* at, int64_t count, float rest) {
  if (count == LANES) {
    return load(at);
  }
  Lanes lanes = Lanes{} + rest;
  std::memcpy(&lanes, at, count * sizeof(float));
  return lanes;
}

INLINE void store_some(float* at, int64_t count, Lanes lanes) {
  if (count == LANES) {
    store(at, lanes);
  } else {
    std::memcpy(at, &lanes, count * sizeof(float));
  }
}

// The gradient by silu(gate) * up becomes that product, gate and up become gradients by them.
INLINE void swiglu_back(Lanes& grad, Lanes& gate, Lanes& up) {
  const Lanes share = 1.0f / (1.0f + exp_of(-gate)), silu = gate * share;
  const Lanes by_up = grad * silu;
  gate = grad * up * (share + silu * (1.0f - share));
  grad = silu * up;
  up = by_up;
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

template <typename Body>
void rows_in_parallel(int64_t rows, int64_t elements, const Body& body) {
  // As libtorch: nothing below 32,768 elements is worth a second thread.
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements));
  at::parallel_for(0, rows, grain, body);
}

}  // namespace
