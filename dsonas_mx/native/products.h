// Products of matrices, for 1x1 convolutions and the gradients of their weights.
#ifndef DSONAS_MX_NATIVE_PRODUCTS_H_
#define DSONAS_MX_NATIVE_PRODUCTS_H_

#include <algorithm>
#include <cstddef>

#include "vectors.h"

namespace {

// c[m][n] (+)= sum over k of a[m][k] * b[k][n] for up to kTileRows rows and V vectors of columns;
// of the last vector only `lanes` are written.
template <int V, bool kAdd>
void multiply_tile(const float* a, int a_stride, int depth, const float* b, int b_stride, float* c,
                   int c_stride, int rows, int lanes) {
  const float* row[kTileRows];
  for (int m = 0; m < kTileRows; ++m) row[m] = a + std::min(m, rows - 1) * a_stride;
  Vec<kLanes> sum[kTileRows][V] = {};
  for (int k = 0; k < depth; ++k, b += b_stride) {
    Vec<kLanes> column[V];
    UNROLL for (int v = 0; v < V; ++v) column[v] = load<kLanes>(b + v * kLanes);
    UNROLL for (int m = 0; m < kTileRows; ++m) {
      const Vec<kLanes> factor = spread<kLanes>(row[m][k]);
      UNROLL for (int v = 0; v < V; ++v) sum[m][v] += factor * column[v];
    }
  }
  UNROLL for (int m = 0; m < kTileRows; ++m) {
    if (m >= rows) return;
    float* to = c + m * c_stride;
    UNROLL for (int v = 0; v < V; ++v) {
      float* part = to + v * kLanes;
      if (v + 1 < V || lanes == kLanes) {
        store<kLanes>(part, kAdd ? load<kLanes>(part) + sum[m][v] : sum[m][v]);
      } else {
        for (int i = 0; i < lanes; ++i) part[i] = kAdd ? part[i] + sum[m][v][i] : sum[m][v][i];
      }
    }
  }
}

template <bool kAdd>
void multiply_strip(const float* a, int a_stride, int rows, int depth, const float* b,
                    int b_stride, float* c, int c_stride, int columns) {
  const int vectors = (columns + kLanes - 1) / kLanes;
  const int lanes = columns - (vectors - 1) * kLanes;
  for (int m = 0; m < rows; m += kTileRows) {
    const float* a_tile = a + static_cast<size_t>(m) * a_stride;
    float* c_tile = c + static_cast<size_t>(m) * c_stride;
    const int left = std::min(kTileRows, rows - m);
    switch (vectors) {
#define TILE(V)                                                                           \
  case V:                                                                                 \
    multiply_tile<V, kAdd>(a_tile, a_stride, depth, b, b_stride, c_tile, c_stride, left, lanes); \
    break;
      TILE(1) TILE(2) TILE(3) TILE(4)
#undef TILE
    }
  }
}

// c (+)= a * b. Strips of b are copied to `panel` (depth x kTileColumns): a stride of a power of
// two would map their rows to few sets of the cache, and the copy needs no care at the end.
template <bool kAdd>
void multiply(const float* a, int a_stride, int rows, int depth, const float* b, int b_stride,
              float* c, int c_stride, int columns, float* panel) {
  for (int n = 0; n < columns; n += kTileColumns) {
    const int width = std::min(kTileColumns, columns - n);
    for (int k = 0; k < depth; ++k) {
      const float* from = b + static_cast<size_t>(k) * b_stride + n;
      float* to = panel + k * kTileColumns;
      if (width == kTileColumns) {
        UNROLL for (int v = 0; v < kTileVectors; ++v)
          store<kLanes>(to + v * kLanes, load<kLanes>(from + v * kLanes));
      } else {
        for (int i = 0; i < kTileColumns; ++i) to[i] = i < width ? from[i] : 0.f;
      }
    }
    multiply_strip<kAdd>(a, a_stride, rows, depth, panel, kTileColumns, c + n, c_stride, width);
  }
}

// Transposes a square of kLanes x kLanes floats.
INLINE void transpose_square(const float* from, int from_stride, int rows, float* to,
                             int to_stride) {
  Vec<kLanes> r[kLanes];
  UNROLL for (int i = 0; i < kLanes; ++i)
    r[i] = i < rows ? load<kLanes>(from + static_cast<size_t>(i) * from_stride) : Vec<kLanes>{};
  UNROLL for (int step = 1; step < kLanes; step *= 2) {
    typename Lanes<kLanes>::Mask low = {}, high = {};
    UNROLL for (int l = 0; l < kLanes; ++l) {
      low[l] = l & step ? kLanes + l - step : l;
      high[l] = l & step ? kLanes + l : l + step;
    }
    UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i & step) continue;
      const Vec<kLanes> a = r[i], b = r[i + step];
      r[i] = __builtin_shuffle(a, b, low);
      r[i + step] = __builtin_shuffle(a, b, high);
    }
  }
  UNROLL for (int i = 0; i < kLanes; ++i) store<kLanes>(to + i * to_stride, r[i]);
}

constexpr int kPixels = 128;  // pixels transposed at a time: the copy stays in the cache

// Row stride of a product of maps with `channels` columns.
constexpr int product_stride(int channels) { return round_up(channels, kLanes); }

// product[m][k] += scale * sum over pixels of y[m][pixel] * x[k][pixel], the gradient of a 1x1
// convolution's weight. `turned` holds kPixels x product_stride(channels).
void add_products(const float* y, int rows, const float* x, int channels, int pixels,
                  float* product, int stride, float* turned, float scale = 1.f) {
  const int width = product_stride(channels);
  for (int p = 0; p < pixels; p += kPixels) {
    const int depth = std::min(kPixels, pixels - p);
    for (int k = 0; k < channels; k += kLanes) {
      const float* from = x + static_cast<size_t>(k) * pixels + p;
      const int left = std::min(kLanes, channels - k);
      int i = 0;
      for (; i + kLanes <= depth; i += kLanes)
        transpose_square(from + i, pixels, left, turned + i * width + k, width);
      for (; i < depth; ++i)
        for (int l = 0; l < kLanes; ++l)
          turned[i * width + k + l] = l < left ? from[static_cast<size_t>(l) * pixels + i] : 0.f;
    }
    if (scale != 1.f)
      for (int i = 0; i < depth * width; ++i) turned[i] *= scale;
    for (int n = 0; n < width; n += kTileColumns)
      multiply_strip<true>(y + p, pixels, rows, depth, turned + n, width, product + n, stride,
                           std::min(kTileColumns, width - n));
  }
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_PRODUCTS_H_
