// dsonas_level: the operations of a level on the weighted sums of their sources.
#ifndef DSONAS_MX_NATIVE_LEVEL_H_
#define DSONAS_MX_NATIVE_LEVEL_H_

#include <algorithm>
#include <cstring>
#include <limits>
#include <omp.h>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mixing.h"
#include "operands.h"
#include "planes.h"
#include "products.h"

namespace {

struct Operation {
  enum Kind { kSeparable, kMaximum, kAverage } kind;
  int size;                  // of the kernel
  int weight;                // number among the separable ones
  int first_edge;
  std::vector<int> sources;  // one for each edge
};

struct Level {
  std::vector<Operation> operations;
  std::vector<int> maps;     // of each stack
  std::vector<std::pair<int, int>> places;               // source -> (stack, map in it)
  std::vector<std::vector<std::pair<int, int>>> users;   // source -> (operation, edge)s
  bool scaled;
  Gradients gradients;
  int edges = 0, separables = 0, reach = 1;

  explicit Level(const Attributes& attributes)
      : maps(numbers(attribute(attributes, "maps"), ',')),
        scaled(flag(attributes, "scaled", "1")), gradients(attributes) {
    for (size_t k = 0; k < maps.size(); ++k)
      for (int m = 0; m < maps[k]; ++m) places.emplace_back(k, m);
    users.resize(places.size());
    const auto names = split(attribute(attributes, "operations"), ',');
    const auto sources = split(attribute(attributes, "edges"), ';');
    if (names.size() != sources.size())
      throw std::runtime_error("edges lists " + std::to_string(sources.size()) +
                               " operations, not " + std::to_string(names.size()));
    for (size_t t = 0; t < names.size(); ++t) add(names[t], numbers(sources[t], ' '));
  }

  int stacks() const { return static_cast<int>(maps.size()); }
  int first_stack() const { return scaled ? 1 : 0; }
  int first_weight() const { return first_stack() + stacks(); }
  int inputs() const { return first_weight() + 2 * separables; }

 private:
  void add(const std::string& name, const std::vector<int>& sources) {
    Operation op = {Operation::kSeparable, 3, separables, edges, sources};
    if (name == "max") {
      op.kind = Operation::kMaximum;
    } else if (name == "avg") {
      op.kind = Operation::kAverage;
    } else if (name == "sep3" || name == "sep5" || name == "sep7") {
      op.size = name[3] - '0';
      reach = std::max(reach, op.size / 2);
      ++separables;
    } else {
      throw std::runtime_error("operations are sep3, sep5, sep7, max and avg, got '" + name + "'");
    }
    for (int source : sources) {
      if (source >= static_cast<int>(places.size()))
        throw std::runtime_error("source " + std::to_string(source) + " is not one of " +
                                 std::to_string(places.size()));
      users[source].emplace_back(operations.size(), edges++);
    }
    operations.push_back(op);
  }
};

constexpr float kWall = -std::numeric_limits<float>::infinity();  // border of a maximum
constexpr float kNinths[9] = {1 / 9.f, 1 / 9.f, 1 / 9.f, 1 / 9.f, 1 / 9.f,
                          1 / 9.f, 1 / 9.f, 1 / 9.f, 1 / 9.f};

// The inputs of a level, for its forward and backward alike.
struct LevelData {
  const Level& level;
  Maps maps;
  std::vector<float> lambdas;
  std::vector<const float*> stacks, depthwise, pointwise;

  LevelData(const Level& level, const Maps& maps, MXTensor* inputs)
      : level(level), maps(maps), lambdas(level.edges, 1.f) {
    if (level.scaled) lambdas.assign(data(inputs[0]), data(inputs[0]) + level.edges);
    for (int k = 0; k < level.stacks(); ++k)
      stacks.push_back(data(inputs[level.first_stack() + k]));
    for (int w = 0; w < level.separables; ++w) {
      depthwise.push_back(data(inputs[level.first_weight() + 2 * w]));
      pointwise.push_back(data(inputs[level.first_weight() + 2 * w + 1]));
    }
  }

  // Where a channel of a source starts in its stack.
  size_t offset(int source, int image, int channel) const {
    const auto place = level.places[source];
    const size_t map = static_cast<size_t>(image) * level.maps[place.first] + place.second;
    return (map * maps.channels + channel) * maps.pixels;
  }
  const float* source(int source, int image, int channel) const {
    return stacks[level.places[source].first] + offset(source, image, channel);
  }

  // The weighted sums of one channel for the operations with a place in `sums`.
  void add_sources(int image, int channel, const float** planes, float* const* sums) const {
    constexpr int kBlock = 512;
    const int count = static_cast<int>(level.operations.size());
    const float** plane = planes;
    for (const Operation& op : level.operations)
      for (int j : op.sources) *plane++ = source(j, image, channel);
    for (int x = 0; x < maps.pixels; x += kBlock)
      for (int t = 0; t < count; ++t) {
        const Operation& op = level.operations[t];
        if (sums[t])
          add_planes(planes + op.first_edge, lambdas.data() + op.first_edge,
                     static_cast<int>(op.sources.size()), x, std::min(maps.pixels, x + kBlock),
                     sums[t]);
      }
  }
};

// One thread's memory for the forward pass.
struct LevelForward {
  float *plane, *bordered, *walled, *panel;
  std::vector<float*> sums, mixed;  // a plane for each operation, a map for each separable one
  std::vector<const float*> planes;

  LevelForward(const LevelData& level, const Bordered& in, Arena* arena)
      : plane(arena->floats(in.dense_size())), bordered(arena->floats(in.size())),
        walled(arena->floats(in.size())),
        panel(arena->floats(level.maps.channels * kTileColumns)),
        planes(level.level.edges) {
    for (const Operation& op : level.level.operations) {
      sums.push_back(arena->floats(in.dense_size()));
      if (op.kind == Operation::kSeparable)
        mixed.push_back(arena->floats(level.maps.image + in.dense_size()));
    }
  }

  void prepare(const Bordered& in) {
    std::fill(bordered, bordered + in.size(), 0.f);
    std::fill(walled, walled + in.size(), kWall);
    for (float* sum : sums) std::fill(sum, sum + in.dense_size(), 0.f);
  }
};

void level_forward_image(const LevelData& level, const Bordered& in, int image, LevelForward* my,
                         float* out) {
  const Maps& maps = level.maps;
  const auto& operations = level.level.operations;
  const int count = static_cast<int>(operations.size());
  for (int c = 0; c < maps.channels; ++c) {
    level.add_sources(image, c, my->planes.data(), my->sums.data());
    for (int t = 0; t < count; ++t) {
      const Operation& op = operations[t];
      float* to = out + t * maps.image + static_cast<size_t>(c) * maps.pixels;
      if (op.kind == Operation::kSeparable) {
        enclose(my->sums[t], in, 0.f, my->bordered);
        correlate(op.size, my->bordered, in,
                  level.depthwise[op.weight] + c * op.size * op.size,
                  my->mixed[op.weight] + static_cast<size_t>(c) * maps.pixels);
      } else if (op.kind == Operation::kAverage) {
        enclose(my->sums[t], in, 0.f, my->bordered);
        correlate(3, my->bordered, in, kNinths, my->plane);
        std::memcpy(to, my->plane, maps.pixels * sizeof(float));
      } else {
        enclose(my->sums[t], in, kWall, my->walled);
        FOR_LANES(in, (maximum_plane<N>(my->walled, in, my->plane)));
        std::memcpy(to, my->plane, maps.pixels * sizeof(float));
      }
    }
  }
  for (int t = 0; t < count; ++t)
    if (operations[t].kind == Operation::kSeparable)
      multiply<false>(level.pointwise[operations[t].weight], maps.channels, maps.channels,
                      maps.channels, my->mixed[operations[t].weight], maps.pixels,
                      out + t * maps.image, maps.pixels, maps.pixels, my->panel);
}

void level_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                   const OpResource& resource) {
  const Level plan(attributes);
  const int count = static_cast<int>(plan.operations.size());
  const LevelData level(plan, Maps((*outputs)[0], count), inputs->data());
  const Maps& maps = level.maps;
  const Bordered in(maps.height, maps.width, plan.reach);
  const int threads = threads_for(maps.batch);
  std::vector<LevelForward> scratch;
  allocate(resource, [&](Arena* arena) {
    scratch.clear();
    for (int i = 0; i < threads; ++i) scratch.emplace_back(level, in, arena);
  });
  float* out = data((*outputs)[0]);
#pragma omp parallel num_threads(threads)
  {
    LevelForward* my = &scratch[omp_get_thread_num()];
    my->prepare(in);
#pragma omp for schedule(dynamic)
    for (int b = 0; b < maps.batch; ++b)
      level_forward_image(level, in, b, my, out + b * (maps.image * count));
  }
}

// One thread's memory for the backward pass.
struct LevelBackward {
  float *plane, *bordered, *walled, *gradient, *choice, *panel, *turned;
  std::vector<float*> sums;       // kept whole where they are needed again
  std::vector<float*> mixed;      // the depthwise output, then its gradient
  std::vector<float*> gradients;  // of one channel's sums
  std::vector<float*> dots;       // kLanes partial sums for each edge
  std::vector<const float*> planes;

  LevelBackward(const LevelData& level, const Bordered& in, const Gradients& wanted, Arena* arena)
      : plane(arena->floats(in.dense_size())), bordered(arena->floats(in.size())),
        walled(arena->floats(in.size())), gradient(arena->floats(in.size())),
        choice(arena->floats(in.size())),
        panel(arena->floats(level.maps.channels * kTileColumns)),
        turned(arena->floats(kPixels * product_stride(level.maps.channels))),
        planes(level.level.edges) {
    const size_t map = level.maps.image + in.dense_size();
    for (const Operation& op : level.level.operations) {
      const bool separable = op.kind == Operation::kSeparable;
      const bool again = op.kind == Operation::kMaximum || (separable && wanted.weights);
      sums.push_back(again ? arena->floats(map) : nullptr);
      if (separable) mixed.push_back(arena->floats(map));
      gradients.push_back(arena->floats(in.dense_size()));
    }
    for (int e = 0; e < level.level.edges; ++e) dots.push_back(arena->floats(kLanes));
  }

  void prepare(const Bordered& in, size_t map) {
    std::fill(bordered, bordered + in.size(), 0.f);
    std::fill(gradient, gradient + in.size(), 0.f);
    std::fill(choice, choice + in.size(), 0.f);
    std::fill(plane, plane + in.dense_size(), 0.f);
    std::fill(walled, walled + in.size(), kWall);
    for (float* sum : sums)
      if (sum) std::fill(sum + map, sum + map + in.dense_size(), 0.f);
    for (float* map_ : mixed) std::fill(map_ + map, map_ + map + in.dense_size(), 0.f);
  }
};

// Gradients of parameters from one part of the batch.
struct LevelPart {
  std::vector<float*> depthwise, pointwise;
  std::vector<double> lambdas;

  LevelPart(const LevelData& level, const Gradients& wanted, Arena* arena)
      : lambdas(level.level.edges, 0.0) {
    if (!wanted.weights) return;
    for (const Operation& op : level.level.operations) {
      if (op.kind != Operation::kSeparable) continue;
      depthwise.push_back(arena->floats(depthwise_size(level.maps, op)));
      pointwise.push_back(arena->floats(pointwise_size(level.maps)));
    }
  }
  static size_t depthwise_size(const Maps& maps, const Operation& op) {
    return static_cast<size_t>(maps.channels) * op.size * op.size;
  }
  static size_t pointwise_size(const Maps& maps) {
    return static_cast<size_t>(maps.channels) * product_stride(maps.channels);
  }
};

// Weights as the backward pass wants them: pointwise transposed, depthwise turned around.
struct TurnedWeights {
  std::vector<float*> depthwise, pointwise;

  TurnedWeights(const LevelData& level, Arena* arena) {
    for (const Operation& op : level.level.operations) {
      if (op.kind != Operation::kSeparable) continue;
      depthwise.push_back(arena->floats(LevelPart::depthwise_size(level.maps, op)));
      pointwise.push_back(arena->floats(static_cast<size_t>(level.maps.channels) *
                                        level.maps.channels));
    }
  }
  void fill(const LevelData& level) {
    const int channels = level.maps.channels;
    for (const Operation& op : level.level.operations) {
      if (op.kind != Operation::kSeparable) continue;
      const int taps = op.size * op.size, w = op.weight;
      for (int c = 0; c < channels; ++c) {
        std::reverse_copy(level.depthwise[w] + c * taps, level.depthwise[w] + (c + 1) * taps,
                          depthwise[w] + c * taps);
        for (int k = 0; k < channels; ++k)
          pointwise[w][k * channels + c] = level.pointwise[w][c * channels + k];
      }
    }
  }
};

// The sums and depthwise outputs that the gradients need.
void level_recompute(const LevelData& level, const Bordered& in, const Gradients& wanted,
                     int image, LevelBackward* my) {
  const auto& operations = level.level.operations;
  std::vector<float*> sums(operations.size());
  for (int c = 0; c < level.maps.channels; ++c) {
    const size_t at = static_cast<size_t>(c) * level.maps.pixels;
    for (size_t t = 0; t < sums.size(); ++t) sums[t] = my->sums[t] ? my->sums[t] + at : nullptr;
    level.add_sources(image, c, my->planes.data(), sums.data());
    if (!wanted.weights) continue;
    for (size_t t = 0; t < sums.size(); ++t) {
      const Operation& op = operations[t];
      if (op.kind != Operation::kSeparable) continue;
      enclose(sums[t], in, 0.f, my->bordered);
      correlate(op.size, my->bordered, in, level.depthwise[op.weight] + c * op.size * op.size,
                my->mixed[op.weight] + at);
    }
  }
}

// Gradients of one channel's sums, and of the depthwise kernels.
void level_channel_gradients(const LevelData& level, const TurnedWeights& turned,
                             const Bordered& in, const Gradients& wanted, int channel,
                             const float* out_gradient, LevelBackward* my, LevelPart* part) {
  const Maps& maps = level.maps;
  const auto& operations = level.level.operations;
  const size_t at = static_cast<size_t>(channel) * maps.pixels;
  for (size_t t = 0; t < operations.size(); ++t) {
    const Operation& op = operations[t];
    if (op.kind == Operation::kSeparable) {
      const int kernel = channel * op.size * op.size;
      enclose(my->mixed[op.weight] + at, in, 0.f, my->gradient);
      if (wanted.weights) {
        enclose(my->sums[t] + at, in, 0.f, my->bordered);
        add_kernel_gradient(op.size, my->bordered, my->gradient, in,
                            part->depthwise[op.weight] + kernel);
      }
      correlate(op.size, my->gradient, in, turned.depthwise[op.weight] + kernel,
                my->gradients[t]);
      continue;
    }
    std::memcpy(my->plane, out_gradient + t * maps.image + at, maps.pixels * sizeof(float));
    enclose(my->plane, in, 0.f, my->gradient);
    if (op.kind == Operation::kAverage) {
      correlate(3, my->gradient, in, kNinths, my->gradients[t]);
    } else {
      enclose(my->sums[t] + at, in, kWall, my->walled);
      FOR_LANES(in, (maximum_gradient<N>(my->walled, my->gradient, in, my->choice,
                                         my->gradients[t])));
    }
  }
}

void level_backward_image(const LevelData& level, const TurnedWeights& turned, const Bordered& in,
                          const Gradients& wanted, int image, const float* out_gradient,
                          LevelBackward* my, LevelPart* part, float* const* stack_gradients) {
  const Maps& maps = level.maps;
  const int channels = maps.channels;
  level_recompute(level, in, wanted, image, my);
  for (size_t t = 0; t < level.level.operations.size(); ++t) {
    const Operation& op = level.level.operations[t];
    if (op.kind != Operation::kSeparable) continue;
    const float* gradient = out_gradient + t * maps.image;
    float* mixed = my->mixed[op.weight];
    if (wanted.weights)
      add_products(gradient, channels, mixed, channels, maps.pixels, part->pointwise[op.weight],
                   product_stride(channels), my->turned);
    multiply<false>(turned.pointwise[op.weight], channels, channels, channels, gradient,
                    maps.pixels, mixed, maps.pixels, maps.pixels, my->panel);
  }
  for (float* dots : my->dots) std::fill(dots, dots + kLanes, 0.f);
  std::vector<const float*> gradients(level.level.operations.size());
  std::vector<float> lambdas(gradients.size());
  std::vector<float*> dots(gradients.size());
  for (int c = 0; c < channels; ++c) {
    level_channel_gradients(level, turned, in, wanted, c, out_gradient, my, part);
    for (size_t j = 0; j < level.level.users.size(); ++j) {
      int count = 0;
      for (const auto& user : level.level.users[j]) {
        gradients[count] = my->gradients[user.first];
        lambdas[count] = level.lambdas[user.second];
        dots[count++] = my->dots[user.second];
      }
      float* out = stack_gradients[level.level.places[j].first] + level.offset(j, image, c);
      if (level.level.scaled && wanted.lambdas)
        distribute<true>(count, gradients.data(), lambdas.data(), level.source(j, image, c),
                         maps.pixels, out, dots.data());
      else
        distribute<false>(count, gradients.data(), lambdas.data(), nullptr, maps.pixels, out,
                          dots.data());
    }
  }
  for (int e = 0; e < level.level.edges; ++e)
    part->lambdas[e] += sum_of_lanes<kLanes>(load<kLanes>(my->dots[e]));
  finish_streams();
}

// Inputs: gradient of the output, the inputs, the output. Outputs: gradients of the inputs.
void level_backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                    const OpResource& resource) {
  const Level plan(attributes);
  const Gradients wanted = plan.gradients;
  const LevelData level(plan, Maps((*outputs)[plan.first_stack()], plan.maps[0]),
                        inputs->data() + 1);
  const Maps& maps = level.maps;
  const Bordered in(maps.height, maps.width, plan.reach);
  const Parts partition(maps.batch);
  const int threads = threads_for(partition.count);
  std::vector<LevelBackward> scratch;
  std::vector<LevelPart> parts;
  std::vector<TurnedWeights> turned;
  allocate(resource, [&](Arena* arena) {
    scratch.clear(), parts.clear(), turned.clear();
    for (int i = 0; i < threads; ++i) scratch.emplace_back(level, in, wanted, arena);
    for (int i = 0; i < partition.count; ++i) parts.emplace_back(level, wanted, arena);
    turned.emplace_back(level, arena);
  });
  turned[0].fill(level);
  const float* out_gradient = data((*inputs)[0]);
  std::vector<float*> stack_gradients;
  for (int k = 0; k < plan.stacks(); ++k)
    stack_gradients.push_back(data((*outputs)[plan.first_stack() + k]));
#pragma omp parallel num_threads(threads)
  {
    LevelBackward* my = &scratch[omp_get_thread_num()];
    my->prepare(in, maps.image);
#pragma omp for schedule(dynamic)
    for (int p = 0; p < partition.count; ++p) {
      LevelPart* part = &parts[p];
      for (const Operation& op : plan.operations) {
        if (op.kind != Operation::kSeparable || !wanted.weights) continue;
        std::fill_n(part->depthwise[op.weight], LevelPart::depthwise_size(maps, op), 0.f);
        std::fill_n(part->pointwise[op.weight], LevelPart::pointwise_size(maps), 0.f);
      }
      for (int b = partition.begin(p); b < partition.end(p); ++b)
        level_backward_image(level, turned[0], in, wanted, b,
                             out_gradient + b * (maps.image * plan.operations.size()), my, part,
                             stack_gradients.data());
    }
  }
  if (plan.scaled && wanted.lambdas) {
    float* out = data((*outputs)[0]);
    for (int e = 0; e < plan.edges; ++e) {
      double sum = 0;
      for (const LevelPart& part : parts) sum += part.lambdas[e];
      out[e] = static_cast<float>(sum);
    }
  }
  if (!wanted.weights) return;
  for (const Operation& op : plan.operations) {
    if (op.kind != Operation::kSeparable) continue;
    std::vector<const float*> depthwise, pointwise;
    for (const LevelPart& part : parts) {
      depthwise.push_back(part.depthwise[op.weight]);
      pointwise.push_back(part.pointwise[op.weight]);
    }
    const int taps = op.size * op.size, input = plan.first_weight() + 2 * op.weight;
    sum_parts(depthwise, maps.channels, taps, taps, 1.f, data((*outputs)[input]), taps);
    sum_parts(pointwise, maps.channels, maps.channels, product_stride(maps.channels), 1.f,
              data((*outputs)[input + 1]), maps.channels);
  }
}

void level_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                  std::vector<Shape>* outputs) {
  const Level plan(attributes);
  const int first = plan.first_stack();
  expect_maps((*inputs)[first], plan.maps[0], "the first stack");
  const Shape stack = (*inputs)[first];
  const unsigned int channels = stack[1] / plan.maps[0];
  const auto maps = [&](int count) {
    return Shape{stack[0], count * channels, stack[2], stack[3]};
  };
  if (plan.scaled)
    expect_shape((*inputs)[0], {static_cast<unsigned int>(plan.edges)}, "lambdas");
  for (int k = 0; k < plan.stacks(); ++k)
    expect_shape((*inputs)[first + k], maps(plan.maps[k]), "stack " + std::to_string(k));
  for (size_t t = 0; t < plan.operations.size(); ++t) {
    const Operation& op = plan.operations[t];
    if (op.kind != Operation::kSeparable) continue;
    const unsigned int size = op.size;
    const int input = plan.first_weight() + 2 * op.weight;
    const std::string name = "sep" + std::to_string(op.size) + "'s ";
    expect_shape((*inputs)[input], {channels, 1, size, size}, name + "depthwise weight");
    expect_shape((*inputs)[input + 1], {channels, channels, 1, 1}, name + "pointwise weight");
  }
  (*outputs)[0] = maps(static_cast<int>(plan.operations.size()));
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_LEVEL_H_
