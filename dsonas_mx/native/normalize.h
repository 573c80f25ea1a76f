// dsonas_normalize and dsonas_average: batch normalisation, which gives its statistics too, and the
// moving averages apart, so that a graph that computes the first again does not move them twice.
//
// dsonas_normalize
//   attributes  maps (1) in the stack, relu (1), eps (1e-5), fix_gamma (1)
//   inputs      the stack (B, maps * C, H, W); gamma and beta (C) of each map in turn
//   outputs     the stack; mean and variance (2, maps * C)
//
// dsonas_average
//   attributes  maps (1), momentum (0.9)
//   inputs      mean and variance (2, maps * C); moving mean and variance (C) of each map in turn,
//               which it changes
//   outputs     a zero (1), so that a graph can ask for it
#ifndef DSONAS_MX_NATIVE_NORMALIZE_H_
#define DSONAS_MX_NATIVE_NORMALIZE_H_

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "batch_norm.h"
#include "operands.h"

namespace {

int maps_of(const Attributes& attributes) {
  const int maps = numbers(attribute(attributes, "maps", "1"), ',').at(0);
  if (maps < 1) throw std::runtime_error("maps must be at least 1");
  return maps;
}

struct Normalize {
  BatchNorm norm;
  bool relu;
  int maps;
  explicit Normalize(const Attributes& attributes)
      : norm(attributes), relu(flag(attributes, "relu", "1")), maps(maps_of(attributes)) {}
  int inputs() const { return 1 + 2 * maps; }
};

// Channels of a batch, handed out in groups that are neighbours in memory when planes are small.
// A group's planes of the whole batch are read twice: the second time they come from the cache.
struct ChannelGroups {
  Maps maps;
  int size, count;
  explicit ChannelGroups(const Maps& maps)
      : maps(maps), size(std::max(1, std::min(maps.channels, 1024 / maps.pixels))),
        count((maps.channels + size - 1) / size) {}

  // Calls body(c, offset of the plane) for the planes of a group.
  template <class Body>
  INLINE void for_planes(int group, Body body) const {
    const int begin = group * size, end = std::min(maps.channels, begin + size);
    for (int b = 0; b < maps.batch; ++b)
      for (int c = begin; c < end; ++c)
        body(c, (static_cast<size_t>(b) * maps.channels + c) * maps.pixels);
  }
  template <class Body>
  INLINE void for_channels(int group, Body body) const {
    const int begin = group * size, end = std::min(maps.channels, begin + size);
    for (int c = begin; c < end; ++c) body(c);
  }
};

template <bool kRelu>
void normalize(const Normalize& plan, Tensors* inputs, Tensors* outputs) {
  const ChannelGroups groups(Maps((*outputs)[0], 1));
  const int channels = groups.maps.channels, pixels = groups.maps.pixels;
  const Statistics statistics = {data((*outputs)[1]), channels};
  const Pairs parameters = {*inputs, 1, channels / plan.maps};
  const float* x = data((*inputs)[0]);
  float* y = data((*outputs)[0]);
  std::vector<Moments> moments(channels);
  std::vector<Affine> affine(channels);
#pragma omp parallel for schedule(dynamic)
  for (int g = 0; g < groups.count; ++g) {
    groups.for_planes(g, [&](int c, size_t at) { moments[c].join(plane_moments(x + at, pixels)); });
    groups.for_channels(g, [&](int c) {
      statistics.set(c, moments[c]);
      affine[c] = Affine(plan.norm, statistics, parameters, c);
    });
    groups.for_planes(g, [&](int c, size_t at) {
      for_pixels(pixels, Normalized<kRelu>{affine[c], x + at, y + at});
    });
  }
}

void normalize_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                       const OpResource&) {
  const Normalize plan(attributes);
  (plan.relu ? normalize<true> : normalize<false>)(plan, inputs, outputs);
}

// Inputs: gradients of the outputs, the inputs, the outputs. Outputs: gradients of the inputs.
template <bool kRelu>
void normalize_gradient(const Normalize& plan, Tensors* inputs, Tensors* outputs) {
  const ChannelGroups groups(Maps((*outputs)[0], 1));
  const int channels = groups.maps.channels, pixels = groups.maps.pixels;
  const double count = static_cast<double>(groups.maps.batch) * pixels;
  const Statistics statistics = {data((*inputs)[2 + plan.inputs() + 1]), channels};
  const Pairs parameters = {*inputs, 3, channels / plan.maps};
  const Pairs gradients = {*outputs, 1, channels / plan.maps};
  const float* gradient = data((*inputs)[0]);
  const float* x = data((*inputs)[2]);
  float* out = data((*outputs)[0]);
  std::vector<Affine> affine(channels);
  std::vector<GradientSums> sums(channels);
  std::vector<AffineGradient> channel(channels);
#pragma omp parallel for schedule(dynamic)
  for (int g = 0; g < groups.count; ++g) {
    groups.for_channels(g, [&](int c) {
      affine[c] = Affine(plan.norm, statistics, parameters, c);
    });
    groups.for_planes(g, [&](int c, size_t at) {
      sums[c].add(sums_by_input<kRelu>(affine[c], x + at, gradient + at, pixels));
    });
    groups.for_channels(g, [&](int c) {
      channel[c] = AffineGradient(affine[c], sums[c], count);
      set_gradients(plan.norm, sums[c], gradients, c);
    });
    groups.for_planes(g, [&](int c, size_t at) {
      for_pixels(pixels, InputGradient<kRelu>{channel[c], x + at, gradient + at, out + at});
    });
  }
}

void normalize_backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                        const OpResource&) {
  const Normalize plan(attributes);
  (plan.relu ? normalize_gradient<true> : normalize_gradient<false>)(plan, inputs, outputs);
}

void normalize_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                      std::vector<Shape>* outputs) {
  const Normalize plan(attributes);
  const Shape stack = (*inputs)[0];
  expect_maps(stack, plan.maps, "the stack");
  expect_pairs(inputs, 1, plan.maps, stack[1] / plan.maps, "gamma", "beta");
  (*outputs)[0] = stack;
  (*outputs)[1] = {2, stack[1]};
}

void average_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                     const OpResource&) {
  const double momentum = std::stod(attribute(attributes, "momentum", "0.9"));
  const int maps = maps_of(attributes);
  const int channels = static_cast<int>((*inputs)[1].size());
  const Statistics statistics = {data((*inputs)[0]), maps * channels};
  const Pairs moving = {*inputs, 1, channels};
  const auto move = [&](float& average, double value) {
    average = static_cast<float>(momentum * average + (1 - momentum) * value);
  };
  for (int c = 0; c < maps * channels; ++c) {
    move(moving.left(c), statistics.mean(c));
    move(moving.right(c), statistics.variance(c));
  }
  data((*outputs)[0])[0] = 0.f;
}

void average_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                    std::vector<Shape>* outputs) {
  const int maps = maps_of(attributes);
  const Shape statistics = (*inputs)[0];
  if (!is_known(statistics) || statistics.size() != 2 || statistics[1] % maps)
    throw std::runtime_error("statistics needs a shape (2, maps * C), got " + text_of(statistics));
  expect_pairs(inputs, 1, maps, statistics[1] / maps, "moving mean", "moving variance");
  (*outputs)[0] = {1};
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_NORMALIZE_H_
