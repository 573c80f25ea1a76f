// Vectors of floats, as wide as the processor has them.
#ifndef DSONAS_MX_NATIVE_VECTORS_H_
#define DSONAS_MX_NATIVE_VECTORS_H_

#include <algorithm>
#include <cstddef>
#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;       // floats in a vector register
constexpr int kTileVectors = 4;  // the product's accumulators: 6 x 4 of 32 registers
#else
constexpr int kLanes = 8;
constexpr int kTileVectors = 2;  // 6 x 2 of 16 registers
#endif
constexpr int kTileRows = 6;
constexpr int kTileColumns = kTileVectors * kLanes;

#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

template <int N>
struct Lanes {
  typedef float Vector __attribute__((vector_size(N * sizeof(float))));
  typedef int Mask __attribute__((vector_size(N * sizeof(int))));
  typedef float Loose __attribute__((vector_size(N * sizeof(float)), aligned(4), may_alias));
};
template <int N>
using Vec = typename Lanes<N>::Vector;

template <int N>
INLINE Vec<N> load(const float* from) {
  return *reinterpret_cast<const typename Lanes<N>::Loose*>(from);
}

template <int N>
INLINE void store(float* to, Vec<N> value) {
  *reinterpret_cast<typename Lanes<N>::Loose*>(to) = value;
}

// A store past the caches, for tensors too large to be read from there again.
template <int N>
INLINE void stream(float* to, Vec<N> value) {
#if defined(__AVX512F__)
  if constexpr (N == 16) return _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#endif
#if defined(__AVX__)
  if constexpr (N == 8) return _mm256_stream_ps(to, reinterpret_cast<__m256>(value));
#endif
  store<N>(to, value);
}

// What a thread streamed becomes visible to others.
void finish_streams() {
#if defined(__SSE__)
  _mm_sfence();
#endif
}

INLINE bool can_stream(const float* to) { return reinterpret_cast<size_t>(to) % 64 == 0; }

template <int N>
INLINE Vec<N> spread(float value) {
  return value - Vec<N>{};
}

template <int N>
INLINE Vec<N> larger(Vec<N> a, Vec<N> b) {
  return a > b ? a : b;
}

template <int N>
INLINE float sum_of_lanes(Vec<N> v) {
  float lanes[N];
  store<N>(lanes, v);
  for (int half = N / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// Lane numbers, to tell the lanes of a row's last vector that are past its end.
template <int N>
INLINE typename Lanes<N>::Mask lane_numbers() {
  typename Lanes<N>::Mask numbers = {};
  UNROLL for (int i = 0; i < N; ++i) numbers[i] = i;
  return numbers;
}

constexpr int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

#endif  // DSONAS_MX_NATIVE_VECTORS_H_
