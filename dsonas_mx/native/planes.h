// Kernels for one plane of a feature map: correlation, maximum, and their gradients.
#ifndef DSONAS_MX_NATIVE_PLANES_H_
#define DSONAS_MX_NATIVE_PLANES_H_

#include <algorithm>
#include <cstddef>

#include "vectors.h"

namespace {

constexpr int kRowGroup = 4;  // output rows computed together, sharing loaded input rows
constexpr int kSlack = 64;    // floats past the end of own planes that may be read and written

// A plane with a border of `pad` on each side, rows apart by `stride`. Kernels compute groups of
// whole rows and whole vectors, so that there are spare rows and columns.
struct Bordered {
  int height, width, pad, lanes, stride, rows;

  Bordered(int height, int width, int pad)
      : height(height), width(width), pad(pad),
        lanes(kLanes == 16 && (width % 16 == 0 || width % 16 > 8) ? 16 : 8),
        stride(std::max(pad + round_up(width, lanes), width + 2 * pad)),
        rows(round_up(height, kRowGroup) + 2 * pad) {}
  size_t size() const { return static_cast<size_t>(rows) * stride + kSlack; }
  // Where a kernel that reaches `reach` to each side starts to read.
  int corner(int reach) const { return (pad - reach) * stride + pad - reach; }
  // Floats of a dense plane of which kernels may write spare rows and columns.
  size_t dense_size() const {
    return static_cast<size_t>(height) * width + kRowGroup * width + kSlack;
  }
};

// Copies a dense plane (readable past its end) inside the border.
template <int N>
void enclose_plane(const float* plane, const Bordered& in, float border, float* bordered) {
  const Vec<N> outside = spread<N>(border);
  const typename Lanes<N>::Mask inside = lane_numbers<N>() < (in.width - 1) % N + 1;
  for (int r = 0; r < in.height; ++r) {
    const float* from = plane + static_cast<size_t>(r) * in.width;
    float* to = bordered + in.corner(0) + r * in.stride;
    int x = 0;
    for (; x + N < in.width; x += N) store<N>(to + x, load<N>(from + x));
    store<N>(to + x, inside ? load<N>(from + x) : outside);
  }
}

// Visits groups of rows and vectors of an output plane so that what a row's last vector writes
// past its end is overwritten later: rows ascend, vectors descend.
template <int N, class Body>
INLINE void for_each_group(const Bordered& in, Body body) {
  for (int r = 0; r < in.height; r += kRowGroup)
    for (int x = (in.width - 1) / N * N; x >= 0; x -= N) body(r, x);
}

// Cross-correlation with a K x K kernel.
template <int K, int N>
void correlate_plane(const float* bordered, const Bordered& in, const float* kernel, float* out) {
  const float* corner = bordered + in.corner(K / 2);
  for_each_group<N>(in, [&](int r, int x) {
    Vec<N> sum[kRowGroup] = {};
    UNROLL for (int i = 0; i < kRowGroup + K - 1; ++i) {
      const float* row = corner + (r + i) * in.stride + x;
      UNROLL for (int dx = 0; dx < K; ++dx) {
        const Vec<N> value = load<N>(row + dx);
        UNROLL for (int o = 0; o < kRowGroup; ++o)
          if (i >= o && i - o < K) sum[o] += kernel[(i - o) * K + dx] * value;
      }
    }
    UNROLL for (int o = 0; o < kRowGroup; ++o)
      store<N>(out + static_cast<size_t>(r + o) * in.width + x, sum[o]);
  });
}

// Rows kFirst .. kFirst+kRows of the kernel's gradient: gradient times shifted input.
template <int K, int N, int kFirst, int kRows>
void add_kernel_gradient_rows(const float* input, const float* gradient, const Bordered& in,
                              float* kernel_gradient) {
  const float* corner = input + in.corner(K / 2) + kFirst * in.stride;
  const float* origin = gradient + in.corner(0);
  Vec<N> sum[kRows][K] = {};
  for_each_group<N>(in, [&](int r, int x) {
    Vec<N> g[kRowGroup];
    UNROLL for (int o = 0; o < kRowGroup; ++o) g[o] = load<N>(origin + (r + o) * in.stride + x);
    UNROLL for (int i = 0; i < kRowGroup + kRows - 1; ++i) {
      const float* row = corner + (r + i) * in.stride + x;
      UNROLL for (int dx = 0; dx < K; ++dx) {
        const Vec<N> value = load<N>(row + dx);
        UNROLL for (int o = 0; o < kRowGroup; ++o)
          if (i >= o && i - o < kRows) sum[i - o][dx] += g[o] * value;
      }
    }
  });
  UNROLL for (int dy = 0; dy < kRows; ++dy)
    UNROLL for (int dx = 0; dx < K; ++dx)
      kernel_gradient[(kFirst + dy) * K + dx] += sum_of_lanes<N>(sum[dy][dx]);
}

// As many rows at a time as there are registers for accumulators.
template <int K, int N, int kFirst = 0>
void add_kernel_gradient_plane(const float* input, const float* gradient, const Bordered& in,
                               float* kernel_gradient) {
  constexpr int kRows = K < 7 ? K : std::min(4, K - kFirst);
  add_kernel_gradient_rows<K, N, kFirst, kRows>(input, gradient, in, kernel_gradient);
  if constexpr (kFirst + kRows < K)
    add_kernel_gradient_plane<K, N, kFirst + kRows>(input, gradient, in, kernel_gradient);
}

// 3 x 3 maximum.
template <int N>
void maximum_plane(const float* bordered, const Bordered& in, float* out) {
  const float* corner = bordered + in.corner(1);
  for_each_group<N>(in, [&](int r, int x) {
    Vec<N> best[kRowGroup + 2];
    UNROLL for (int i = 0; i < kRowGroup + 2; ++i) {
      const float* row = corner + (r + i) * in.stride + x;
      best[i] = larger<N>(larger<N>(load<N>(row), load<N>(row + 1)), load<N>(row + 2));
    }
    UNROLL for (int o = 0; o < kRowGroup; ++o)
      store<N>(out + static_cast<size_t>(r + o) * in.width + x,
               larger<N>(larger<N>(best[o], best[o + 1]), best[o + 2]));
  });
}

// Gradient of the 3 x 3 maximum, which goes to the first of equal maxima in the order of
// scanning. `choice` (bordered) is filled with the number of the chosen tap for every output.
template <int N>
void maximum_gradient(const float* input, const float* gradient, const Bordered& in,
                      float* choice, float* out) {
  for_each_group<N>(in, [&](int r, int x) {
    UNROLL for (int o = 0; o < kRowGroup; ++o) {
      const float* window = input + in.corner(1) + (r + o) * in.stride + x;
      Vec<N> best = load<N>(window), chosen = {};
      UNROLL for (int tap = 1; tap < 9; ++tap) {
        const Vec<N> value = load<N>(window + tap / 3 * in.stride + tap % 3);
        chosen = value > best ? spread<N>(tap) : chosen;
        best = larger<N>(value, best);
      }
      store<N>(choice + in.corner(0) + (r + o) * in.stride + x, chosen);
    }
  });
  for_each_group<N>(in, [&](int r, int x) {
    UNROLL for (int o = 0; o < kRowGroup; ++o) {
      const int last = in.corner(-1) + (r + o) * in.stride + x;
      Vec<N> sum = {};
      UNROLL for (int tap = 0; tap < 9; ++tap) {
        const int at = last - tap / 3 * in.stride - tap % 3;
        const Vec<N> g = load<N>(gradient + at);
        sum += load<N>(choice + at) == spread<N>(tap) ? g : Vec<N>{};
      }
      store<N>(out + static_cast<size_t>(r + o) * in.width + x, sum);
    }
  });
}

// The kernels above for the plane's vectors and the kernel's size.
#define FOR_LANES(in, call)      \
  do {                           \
    if ((in).lanes == 16) {      \
      constexpr int N = kLanes;  \
      call;                      \
    } else {                     \
      constexpr int N = 8;       \
      call;                      \
    }                            \
  } while (0)

void enclose(const float* plane, const Bordered& in, float border, float* bordered) {
  FOR_LANES(in, (enclose_plane<N>(plane, in, border, bordered)));
}

void correlate(int size, const float* bordered, const Bordered& in, const float* kernel,
               float* out) {
  if (size == 3) FOR_LANES(in, (correlate_plane<3, N>(bordered, in, kernel, out)));
  if (size == 5) FOR_LANES(in, (correlate_plane<5, N>(bordered, in, kernel, out)));
  if (size == 7) FOR_LANES(in, (correlate_plane<7, N>(bordered, in, kernel, out)));
}

void add_kernel_gradient(int size, const float* input, const float* gradient, const Bordered& in,
                         float* out) {
  if (size == 3) FOR_LANES(in, (add_kernel_gradient_plane<3, N>(input, gradient, in, out)));
  if (size == 5) FOR_LANES(in, (add_kernel_gradient_plane<5, N>(input, gradient, in, out)));
  if (size == 7) FOR_LANES(in, (add_kernel_gradient_plane<7, N>(input, gradient, in, out)));
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_PLANES_H_
