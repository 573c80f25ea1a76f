// Batch normalisation and ReLU of planes, and their gradients.
#ifndef DSONAS_MX_NATIVE_BATCH_NORM_H_
#define DSONAS_MX_NATIVE_BATCH_NORM_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "operands.h"
#include "vectors.h"

namespace {

struct BatchNorm {
  bool fix_gamma;  // gamma is taken as one, and gets no gradient
  double eps;
  explicit BatchNorm(const Attributes& attributes)
      : fix_gamma(flag(attributes, "fix_gamma", "1")),
        eps(std::stod(attribute(attributes, "eps", "1e-5"))) {}
};

// Parameters of a stack's maps, each with a pair of tensors: gamma and beta, or mean and variance.
struct Pairs {
  Tensors& tensors;
  int first, channels;  // number of the first pair's tensor, channels of a map
  float& left(int c) const { return data(tensors[first + 2 * (c / channels)])[c % channels]; }
  float& right(int c) const {
    return data(tensors[first + 2 * (c / channels) + 1])[c % channels];
  }
};

void expect_pairs(std::vector<Shape>* inputs, int first, int maps, unsigned int channels,
                  const char* left, const char* right) {
  for (int m = 0; m < maps; ++m) {
    expect_shape((*inputs)[first + 2 * m], {channels}, left);
    expect_shape((*inputs)[first + 2 * m + 1], {channels}, right);
  }
}

// Sum over a plane of what term.at<N>(index) gives for N pixels.
template <class Term>
INLINE double sum_plane(int pixels, Term term) {
  Vec<kLanes> sum[4] = {};
  int x = 0;
  for (; x + 4 * kLanes <= pixels; x += 4 * kLanes)
    UNROLL for (int v = 0; v < 4; ++v) sum[v] += term.template at<kLanes>(x + v * kLanes);
  for (; x + kLanes <= pixels; x += kLanes) sum[0] += term.template at<kLanes>(x);
  float rest = 0;
  for (; x < pixels; ++x) rest += term.template at<1>(x)[0];
  return sum_of_lanes<kLanes>((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

// Calls body.at<N>(index) for all pixels of a plane.
template <class Body>
INLINE void for_pixels(int pixels, Body body) {
  int x = 0;
  for (; x + kLanes <= pixels; x += kLanes) body.template at<kLanes>(x);
  for (; x < pixels; ++x) body.template at<1>(x);
}

struct Value {
  const float* x;
  template <int N>
  INLINE Vec<N> at(int i) const {
    return load<N>(x + i);
  }
};

struct SquaredDistance {
  const float* x;
  float mean;
  template <int N>
  INLINE Vec<N> at(int i) const {
    const Vec<N> distance = load<N>(x + i) - spread<N>(mean);
    return distance * distance;
  }
};

// Mean and sum of squared distances to it, joined plane by plane (Chan, Golub and LeVeque).
struct Moments {
  double count, mean, squares;
  void join(const Moments& other) {
    const double distance = other.mean - mean, total = count + other.count;
    mean += distance * other.count / total;
    squares += other.squares + distance * distance * count * other.count / total;
    count = total;
  }
};

Moments plane_moments(const float* x, int pixels) {
  const double mean = sum_plane(pixels, Value{x}) / pixels;
  const float near = static_cast<float>(mean);
  const double squares =
      sum_plane(pixels, SquaredDistance{x, near}) - pixels * (mean - near) * (mean - near);
  return {static_cast<double>(pixels), mean, std::max(0.0, squares)};
}

// The means of all channels, then their variances: what the operators give, and read again.
struct Statistics {
  float* values;
  int channels;
  void set(int c, const Moments& moments) const {
    values[c] = static_cast<float>(moments.mean);
    values[channels + c] = static_cast<float>(moments.squares / moments.count);
  }
  float mean(int c) const { return values[c]; }
  float variance(int c) const { return values[channels + c]; }
};

// The normalisation of one channel: scale * (x - mean) + beta.
struct Affine {
  float mean, inverse, scale, beta;

  Affine() = default;
  Affine(const BatchNorm& norm, const Statistics& statistics, const Pairs& parameters, int c)
      : mean(statistics.mean(c)),
        inverse(static_cast<float>(1 / std::sqrt(statistics.variance(c) + norm.eps))),
        scale(norm.fix_gamma ? inverse : parameters.left(c) * inverse),
        beta(parameters.right(c)) {}

  template <int N>
  INLINE Vec<N> of(Vec<N> x) const {
    return (x - spread<N>(mean)) * scale + beta;
  }
};

template <bool kRelu>
struct Normalized {
  const Affine affine;
  const float* x;
  float* y;
  template <int N>
  INLINE void at(int i) const {
    const Vec<N> value = affine.template of<N>(load<N>(x + i));
    store<N>(y + i, kRelu ? larger<N>(value, Vec<N>{}) : value);
  }
};

// The output's gradient where ReLU let the value pass.
template <bool kRelu, int N>
INLINE Vec<N> passed_gradient(const Affine& affine, Vec<N> x, Vec<N> gradient) {
  if (!kRelu) return gradient;
  return affine.template of<N>(x) > Vec<N>{} ? gradient : Vec<N>{};
}

template <bool kRelu>
struct Passed {
  const Affine affine;
  const float *x, *gradient;
  template <int N>
  INLINE Vec<N> at(int i) const {
    return passed_gradient<kRelu, N>(affine, load<N>(x + i), load<N>(gradient + i));
  }
};

template <bool kRelu>
struct PassedTimesDistance {
  const Affine affine;
  const float *x, *gradient;
  template <int N>
  INLINE Vec<N> at(int i) const {
    const Vec<N> value = load<N>(x + i);
    return passed_gradient<kRelu, N>(affine, value, load<N>(gradient + i)) *
           (value - spread<N>(affine.mean));
  }
};

// The same two from the output, where gamma is one: xhat = y - beta wherever ReLU let it pass.
struct PassedByOutput {
  const float *y, *gradient;
  template <int N>
  INLINE Vec<N> at(int i) const {
    return load<N>(y + i) > Vec<N>{} ? load<N>(gradient + i) : Vec<N>{};
  }
};

struct PassedByOutputTimesXhat {
  const float *y, *gradient;
  float beta;
  template <int N>
  INLINE Vec<N> at(int i) const {
    const Vec<N> value = load<N>(y + i);
    return (value > Vec<N>{} ? load<N>(gradient + i) : Vec<N>{}) * (value - spread<N>(beta));
  }
};

// Sums of the passed gradient g and of g * xhat: the gradients of beta and gamma.
struct GradientSums {
  double g, g_xhat;
  void add(const GradientSums& other) { g += other.g, g_xhat += other.g_xhat; }
};

template <bool kRelu>
GradientSums sums_by_input(const Affine& affine, const float* x, const float* gradient,
                           int pixels) {
  return {sum_plane(pixels, Passed<kRelu>{affine, x, gradient}),
          sum_plane(pixels, PassedTimesDistance<kRelu>{affine, x, gradient}) * affine.inverse};
}

GradientSums sums_by_output(const Affine& affine, const float* y, const float* gradient,
                            int pixels) {
  return {sum_plane(pixels, PassedByOutput{y, gradient}),
          sum_plane(pixels, PassedByOutputTimesXhat{y, gradient, affine.beta})};
}

// From the output's gradient to the input's, through mean and variance too, for one channel.
struct AffineGradient {
  Affine affine;
  float mean, slope;  // averages of g and of g * xhat, the latter times invstd

  AffineGradient() = default;
  AffineGradient(const Affine& affine, const GradientSums& sums, double count)
      : affine(affine), mean(static_cast<float>(sums.g / count)),
        slope(static_cast<float>(sums.g_xhat / count * affine.inverse)) {}
};

template <bool kRelu>
struct InputGradient {
  const AffineGradient channel;
  const float *x, *gradient;
  float* out;  // may be x
  template <int N>
  INLINE void at(int i) const {
    const Affine& affine = channel.affine;
    const Vec<N> value = load<N>(x + i);
    const Vec<N> g = passed_gradient<kRelu, N>(affine, value, load<N>(gradient + i));
    store<N>(out + i, affine.scale * (g - spread<N>(channel.mean) -
                                      channel.slope * (value - spread<N>(affine.mean))));
  }
};

void set_gradients(const BatchNorm& norm, const GradientSums& sums, const Pairs& gradients, int c) {
  gradients.left(c) = norm.fix_gamma ? 0.f : static_cast<float>(sums.g_xhat);
  gradients.right(c) = static_cast<float>(sums.g);
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_BATCH_NORM_H_
