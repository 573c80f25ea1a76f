// dsonas_statistics and dsonas_normalize: batch normalisation in two operators, so that a graph
// that recomputes the second in its backward pass does not move the averages of the first twice.
#ifndef DSONAS_MX_NATIVE_NORMALIZE_H_
#define DSONAS_MX_NATIVE_NORMALIZE_H_

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "operands.h"
#include "vectors.h"

namespace {

// The stack's maps have parameters of their own, in pairs: mean and variance, gamma and beta.
struct Pairs {
  Tensors& tensors;
  int first, channels;  // number of the first pair's tensor, channels of a map
  float& left(int c) const { return data(tensors[first + 2 * (c / channels)])[c % channels]; }
  float& right(int c) const {
    return data(tensors[first + 2 * (c / channels) + 1])[c % channels];
  }
};

int maps_of(const Attributes& attributes) {
  const int maps = numbers(attribute(attributes, "maps", "1"), ',').at(0);
  if (maps < 1) throw std::runtime_error("maps must be at least 1");
  return maps;
}

void expect_pairs(std::vector<Shape>* inputs, int first, int maps, const char* left,
                  const char* right) {
  expect_maps((*inputs)[0], maps, "the stack");
  const Shape shape = {(*inputs)[0][1] / maps};
  for (int m = 0; m < maps; ++m) {
    expect_shape((*inputs)[first + 2 * m], shape, left);
    expect_shape((*inputs)[first + 2 * m + 1], shape, right);
  }
}

// Channels of a batch, handed out in groups that are neighbours in memory when planes are small.
struct ChannelGroups {
  Maps maps;
  int size, count;
  explicit ChannelGroups(const Maps& maps)
      : maps(maps), size(std::max(1, std::min(maps.channels, 1024 / maps.pixels))),
        count((maps.channels + size - 1) / size) {}
  int begin(int group) const { return group * size; }
  int end(int group) const { return std::min(maps.channels, (group + 1) * size); }
  size_t plane(int image, int channel) const {
    return (static_cast<size_t>(image) * maps.channels + channel) * maps.pixels;
  }
};

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
  double count = 0, mean = 0, squares = 0;
  void join(double n, double other_mean, double other_squares) {
    const double distance = other_mean - mean, total = count + n;
    mean += distance * n / total;
    squares += other_squares + distance * distance * count * n / total;
    count = total;
  }
};

void statistics_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                        const OpResource&) {
  const double eps = std::stod(attribute(attributes, "eps", "1e-5"));
  const double momentum = std::stod(attribute(attributes, "momentum", "0.9"));
  MXTensor& x = (*inputs)[0];
  const ChannelGroups groups(Maps(x, 1));
  const int channels = groups.maps.channels, pixels = groups.maps.pixels;
  const Pairs moving = {*inputs, 1, channels / maps_of(attributes)};
  float* out = data((*outputs)[0]);
#pragma omp parallel for schedule(dynamic)
  for (int g = 0; g < groups.count; ++g) {
    std::vector<Moments> moments(groups.size);
    for (int b = 0; b < groups.maps.batch; ++b)
      for (int c = groups.begin(g); c < groups.end(g); ++c) {
        const float* plane = data(x) + groups.plane(b, c);
        const double mean = sum_plane(pixels, Value{plane}) / pixels;
        const float near = static_cast<float>(mean);
        const double squares = sum_plane(pixels, SquaredDistance{plane, near}) -
                               pixels * (mean - near) * (mean - near);
        moments[c - groups.begin(g)].join(pixels, mean, std::max(0.0, squares));
      }
    for (int c = groups.begin(g); c < groups.end(g); ++c) {
      const Moments& m = moments[c - groups.begin(g)];
      const double variance = m.squares / m.count;
      out[c] = static_cast<float>(m.mean);
      out[channels + c] = static_cast<float>(1 / std::sqrt(variance + eps));
      float &mean = moving.left(c), &spread = moving.right(c);
      mean = static_cast<float>(momentum * mean + (1 - momentum) * m.mean);
      spread = static_cast<float>(momentum * spread + (1 - momentum) * variance);
    }
  }
}

void statistics_backward(const Attributes&, Tensors*, Tensors* outputs, const OpResource&) {
  for (MXTensor& gradient : *outputs)
    if (gradient.data_ptr) std::fill_n(data(gradient), gradient.size(), 0.f);
}

void statistics_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                       std::vector<Shape>* outputs) {
  expect_pairs(inputs, 1, maps_of(attributes), "moving mean", "moving variance");
  (*outputs)[0] = {2, (*inputs)[0][1]};
}

struct Normalize {
  bool fix_gamma, relu;
  int maps;
  explicit Normalize(const Attributes& attributes)
      : fix_gamma(flag(attributes, "fix_gamma", "1")), relu(flag(attributes, "relu", "1")),
        maps(maps_of(attributes)) {}
};

// The affine function of one channel: scale * (x - mean) + beta.
struct Affine {
  float mean, inverse, scale, beta;
  Affine(const Normalize& plan, Tensors& inputs, int first, int channels, int c)
      : mean(data(inputs[first + 1])[c]), inverse(data(inputs[first + 1])[channels + c]) {
    const Pairs affine = {inputs, first + 2, channels / plan.maps};
    scale = plan.fix_gamma ? inverse : affine.left(c) * inverse;
    beta = affine.right(c);
  }

  template <int N>
  INLINE Vec<N> operator()(Vec<N> x) const {
    return (x - spread<N>(mean)) * scale + beta;
  }
};

// Calls body.template at<N>(index) for all pixels of a plane.
template <class Body>
INLINE void for_pixels(int pixels, Body body) {
  int x = 0;
  for (; x + kLanes <= pixels; x += kLanes) body.template at<kLanes>(x);
  for (; x < pixels; ++x) body.template at<1>(x);
}

template <bool kRelu>
struct NormalizePlane {
  const Affine affine;
  const float* x;
  float* y;
  template <int N>
  INLINE void at(int i) const {
    const Vec<N> value = affine.template operator()<N>(load<N>(x + i));
    store<N>(y + i, kRelu ? larger<N>(value, Vec<N>{}) : value);
  }
};

void normalize_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                       const OpResource&) {
  const Normalize plan(attributes);
  const Maps maps((*outputs)[0], 1);
  const float* x = data((*inputs)[0]);
  float* y = data((*outputs)[0]);
#pragma omp parallel for schedule(dynamic)
  for (int b = 0; b < maps.batch; ++b)
    for (int c = 0; c < maps.channels; ++c) {
      const size_t at = (static_cast<size_t>(b) * maps.channels + c) * maps.pixels;
      const Affine affine(plan, *inputs, 0, maps.channels, c);
      if (plan.relu)
        for_pixels(maps.pixels, NormalizePlane<true>{affine, x + at, y + at});
      else
        for_pixels(maps.pixels, NormalizePlane<false>{affine, x + at, y + at});
    }
}

// The output's gradient where ReLU let the value pass.
template <bool kRelu, int N>
INLINE Vec<N> passed_gradient(const Affine& affine, Vec<N> x, Vec<N> gradient) {
  if (!kRelu) return gradient;
  return affine.template operator()<N>(x) > Vec<N>{} ? gradient : Vec<N>{};
}

template <bool kRelu>
struct Passed {
  const Affine& affine;
  const float *x, *gradient;
  template <int N>
  INLINE Vec<N> at(int i) const {
    return passed_gradient<kRelu, N>(affine, load<N>(x + i), load<N>(gradient + i));
  }
};

template <bool kRelu>
struct PassedTimesDistance {
  const Affine& affine;
  const float *x, *gradient;
  template <int N>
  INLINE Vec<N> at(int i) const {
    const Vec<N> value = load<N>(x + i);
    return passed_gradient<kRelu, N>(affine, value, load<N>(gradient + i)) *
           (value - spread<N>(affine.mean));
  }
};

template <bool kRelu>
struct NormalizeGradientPlane {
  const Affine affine;
  float mean_gradient, slope;  // averages of g and of g * xhat, the latter times invstd
  const float *x, *gradient;
  float* out;
  template <int N>
  INLINE void at(int i) const {
    const Vec<N> value = load<N>(x + i);
    const Vec<N> g = passed_gradient<kRelu, N>(affine, value, load<N>(gradient + i));
    store<N>(out + i, affine.scale * (g - spread<N>(mean_gradient) -
                                      slope * (value - spread<N>(affine.mean))));
  }
};

template <bool kRelu>
void normalize_gradient(const Normalize& plan, Tensors* inputs, Tensors* outputs) {
  const ChannelGroups groups(Maps((*outputs)[0], 1));
  const int channels = groups.maps.channels, pixels = groups.maps.pixels;
  const double count = static_cast<double>(groups.maps.batch) * pixels;
  const float* gradient = data((*inputs)[0]);
  const float* x = data((*inputs)[1]);
  float* out = data((*outputs)[0]);
  const Pairs affine_gradient = {*outputs, 2, channels / plan.maps};
  // A group's planes of the whole batch are read for the sums and again for the result: the
  // second time they come from the cache.
#pragma omp parallel for schedule(dynamic)
  for (int g = 0; g < groups.count; ++g) {
    std::vector<double> sums(groups.size), products(groups.size);
    for (int b = 0; b < groups.maps.batch; ++b)
      for (int c = groups.begin(g), i = 0; c < groups.end(g); ++c, ++i) {
        const size_t at = groups.plane(b, c);
        const Affine affine(plan, *inputs, 1, channels, c);
        sums[i] += sum_plane(pixels, Passed<kRelu>{affine, x + at, gradient + at});
        products[i] +=
            sum_plane(pixels, PassedTimesDistance<kRelu>{affine, x + at, gradient + at});
      }
    for (int b = 0; b < groups.maps.batch; ++b)
      for (int c = groups.begin(g), i = 0; c < groups.end(g); ++c, ++i) {
        const size_t at = groups.plane(b, c);
        const Affine affine(plan, *inputs, 1, channels, c);
        const float slope = static_cast<float>(products[i] / count * affine.inverse *
                                               affine.inverse);
        for_pixels(pixels, NormalizeGradientPlane<kRelu>{
                               affine, static_cast<float>(sums[i] / count), slope, x + at,
                               gradient + at, out + at});
      }
    for (int c = groups.begin(g), i = 0; c < groups.end(g); ++c, ++i) {
      const Affine affine(plan, *inputs, 1, channels, c);
      affine_gradient.right(c) = static_cast<float>(sums[i]);
      affine_gradient.left(c) =
          plan.fix_gamma ? 0.f : static_cast<float>(products[i] * affine.inverse);
    }
  }
  std::fill_n(data((*outputs)[1]), 2 * channels, 0.f);
}

void normalize_backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                        const OpResource&) {
  const Normalize plan(attributes);
  if (plan.relu)
    normalize_gradient<true>(plan, inputs, outputs);
  else
    normalize_gradient<false>(plan, inputs, outputs);
}

void normalize_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                      std::vector<Shape>* outputs) {
  const Normalize plan(attributes);
  expect_pairs(inputs, 2, plan.maps, "gamma", "beta");
  expect_shape((*inputs)[1], {2, (*inputs)[0][1]}, "statistics");
  (*outputs)[0] = (*inputs)[0];
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_NORMALIZE_H_
