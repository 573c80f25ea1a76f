// Weighted sums of planes, and their gradients.
#ifndef DSONAS_MX_NATIVE_MIXING_H_
#define DSONAS_MX_NATIVE_MIXING_H_

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vectors.h"

namespace {

template <int N, int V>
INLINE void add_vectors(const float* const* planes, const float* weights, int count, int x,
                        float* out) {
  Vec<N> sum[V] = {};
  for (int e = 0; e < count; ++e) {
    const float* from = planes[e] + x;
    const Vec<N> weight = spread<N>(weights[e]);
    UNROLL for (int v = 0; v < V; ++v) sum[v] += weight * load<N>(from + v * N);
  }
  UNROLL for (int v = 0; v < V; ++v) store<N>(out + x + v * N, sum[v]);
}

// out = sum of weights[e] * planes[e] over `size` floats. Blocks stay in the first cache while
// the caller asks for several sums of the same planes.
void add_planes(const float* const* planes, const float* weights, int count, int begin, int end,
                float* out) {
  int x = begin;
  for (; x + 4 * kLanes <= end; x += 4 * kLanes)
    add_vectors<kLanes, 4>(planes, weights, count, x, out);
  for (; x + kLanes <= end; x += kLanes) add_vectors<kLanes, 1>(planes, weights, count, x, out);
  for (; x < end; ++x) add_vectors<1, 1>(planes, weights, count, x, out);
}

// What one source of a level receives from `kCount` of its consumers: out (+)= sum of
// weights[i] * gradients[i]; and dots[i] += gradients[i] . source, kLanes partial sums each.
template <int kCount, bool kAdd, bool kDots, bool kStream>
void distribute_to(const float* const* gradients, const float* weights, const float* source,
                   int size, float* out, float* const* dots) {
  Vec<kLanes> weight[kCount], dot[kCount] = {};
  UNROLL for (int i = 0; i < kCount; ++i) weight[i] = spread<kLanes>(weights[i]);
  int x = 0;
  for (; x + kLanes <= size; x += kLanes) {
    Vec<kLanes> value = {}, sum = kAdd ? load<kLanes>(out + x) : Vec<kLanes>{};
    if (kDots) value = load<kLanes>(source + x);
    UNROLL for (int i = 0; i < kCount; ++i) {
      const Vec<kLanes> g = load<kLanes>(gradients[i] + x);
      sum += weight[i] * g;
      if (kDots) dot[i] += value * g;
    }
    kStream ? stream<kLanes>(out + x, sum) : store<kLanes>(out + x, sum);
  }
  for (int lane = 0; x < size; ++x, ++lane) {
    float sum = kAdd ? out[x] : 0.f;
    for (int i = 0; i < kCount; ++i) {
      sum += weights[i] * gradients[i][x];
      if (kDots) dots[i][lane] += source[x] * gradients[i][x];
    }
    out[x] = sum;
  }
  if (kDots)
    UNROLL for (int i = 0; i < kCount; ++i)
      store<kLanes>(dots[i], load<kLanes>(dots[i]) + dot[i]);
}

template <bool kAdd, bool kDots, bool kStream>
void distribute_few(int count, const float* const* gradients, const float* weights,
                    const float* source, int size, float* out, float* const* dots) {
  switch (count) {
    case 1:
      return distribute_to<1, kAdd, kDots, kStream>(gradients, weights, source, size, out,
                                                       dots);
    case 2:
      return distribute_to<2, kAdd, kDots, kStream>(gradients, weights, source, size, out,
                                                       dots);
    case 3:
      return distribute_to<3, kAdd, kDots, kStream>(gradients, weights, source, size, out,
                                                       dots);
    default:
      return distribute_to<4, kAdd, kDots, kStream>(gradients, weights, source, size, out,
                                                       dots);
  }
}

template <bool kDots>
void distribute(int count, const float* const* gradients, const float* weights,
                const float* source, int size, float* out, float* const* dots) {
  if (count == 0) std::memset(out, 0, size * sizeof(float));
  for (int i = 0; i < count; i += 4) {
    if (i == 0 && count <= 4 && can_stream(out))
      distribute_few<false, kDots, true>(count, gradients, weights, source, size, out, dots);
    else if (i == 0)
      distribute_few<false, kDots, false>(std::min(4, count), gradients, weights, source, size, out,
                                   dots);
    else
      distribute_few<true, kDots, false>(std::min(4, count - i), gradients + i, weights + i, source,
                                  size, out, dots + i);
  }
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_MIXING_H_
