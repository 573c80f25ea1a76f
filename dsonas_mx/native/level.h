// dsonas_level: the operations of a level on the weighted sums of their sources, normalised, and
// ReLU. What lies between sums and output is never kept: the backward pass computes it again.
//
//   attributes  maps         of each stack, as 1,4,4: the sources are numbered through all stacks
//               operations   of the level, as sep3,max
//               edges        the sources of each operation, as 0 1 2;0 2
//               scaled (1)   with lambdas; else the sums are plain
//               per_sample (0)  lambdas for every sample, which get no gradient
//               gradients (all)  that parameters get: all, weights, lambdas or none
//               eps (1e-5), fix_gamma (1)  of the normalisation
//   inputs      lambdas (edges) or (B, edges), if scaled, edge by edge in the order of `edges`;
//               the stacks (B, maps * C, H, W); depthwise (C, 1, k, k) and pointwise (C, C, 1, 1)
//               weights of each separable operation in turn; gamma and beta (C) of each operation
//   outputs     a stack of the operations (B, operations * C, H, W); mean and variance of its
//               channels before normalisation (2, operations * C)
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

#include "batch_norm.h"
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
  bool per_sample;  // every sample has scales of its own, which get no gradient
  Gradients gradients;
  BatchNorm norm;
  int edges = 0, separables = 0, reach = 1;

  explicit Level(const Attributes& attributes)
      : maps(numbers(attribute(attributes, "maps"), ',')),
        scaled(flag(attributes, "scaled", "1")),
        per_sample(scaled && flag(attributes, "per_sample", "0")), gradients(attributes),
        norm(attributes) {
    if (per_sample) gradients.lambdas = false;
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
  int first_affine() const { return first_weight() + 2 * separables; }
  int count() const { return static_cast<int>(operations.size()); }
  int inputs() const { return first_affine() + 2 * count(); }

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
  std::vector<float> lambdas;  // of each edge, or of each edge of each image
  std::vector<const float*> stacks, depthwise, pointwise;

  LevelData(const Level& level, const Maps& maps, MXTensor* inputs)
      : level(level), maps(maps), lambdas(level.edges, 1.f) {
    const size_t scales = static_cast<size_t>(level.per_sample ? maps.batch : 1) * level.edges;
    if (level.scaled) lambdas.assign(data(inputs[0]), data(inputs[0]) + scales);
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

  const float* scales(int image) const {
    return lambdas.data() + (level.per_sample ? static_cast<size_t>(image) * level.edges : 0);
  }

  // The weighted sums of one channel for each operation.
  void add_sources(int image, int channel, const float** planes, float* const* sums) const {
    constexpr int kBlock = 512;
    const float** plane = planes;
    for (const Operation& op : level.operations)
      for (int j : op.sources) *plane++ = source(j, image, channel);
    for (int x = 0; x < maps.pixels; x += kBlock)
      for (int t = 0; t < level.count(); ++t) {
        const Operation& op = level.operations[t];
        add_planes(planes + op.first_edge, scales(image) + op.first_edge,
                   static_cast<int>(op.sources.size()), x, std::min(maps.pixels, x + kBlock),
                   sums[t]);
      }
  }
};

// A map of one image, channel by channel, or a plane that its channels use in turn.
struct Planes {
  float* first;
  size_t step;
  float* operator[](int channel) const { return first + channel * step; }
};

Planes whole_map(const Maps& maps, const Bordered& in, Arena* arena) {
  return {arena->floats(maps.image + in.dense_size()), static_cast<size_t>(maps.pixels)};
}

Planes one_plane(const Bordered& in, Arena* arena) { return {arena->floats(in.dense_size()), 0}; }

// One thread's memory for the maps of an image.
struct LevelScratch {
  float *plane, *bordered, *walled, *panel;
  std::vector<Planes> sums;   // of each operation
  std::vector<Planes> mixed;  // depthwise outputs of the separable ones
  std::vector<const float*> planes;
  std::vector<float*> targets;  // of the sums of a channel

  LevelScratch(const LevelData& level, const Bordered& in, bool keeps_sums, Arena* arena)
      : plane(arena->floats(in.dense_size())), bordered(arena->floats(in.size())),
        walled(arena->floats(in.size())), panel(arena->floats(level.maps.channels * kTileColumns)),
        planes(level.level.edges), targets(level.level.count()) {
    for (const Operation& op : level.level.operations) {
      const bool separable = op.kind == Operation::kSeparable;
      sums.push_back(separable && keeps_sums ? whole_map(level.maps, in, arena)
                                             : one_plane(in, arena));
      if (separable) mixed.push_back(whole_map(level.maps, in, arena));
    }
  }

  void prepare(const Bordered& in) {
    std::fill(bordered, bordered + in.size(), 0.f);
    std::fill(walled, walled + in.size(), kWall);
  }
};

// Computes the maps of an image before normalisation and hands them to `use`, always the same
// bits: the planes of pooling operations as use.pooled(t, channel, plane), those of a separable one
// at use.map(t) as use.separable(t, map).
template <class Use>
void level_maps(const LevelData& level, const Bordered& in, int image, LevelScratch* my, Use use) {
  const Maps& maps = level.maps;
  const auto& operations = level.level.operations;
  const int count = level.level.count();
  float** sums = my->targets.data();
  for (int c = 0; c < maps.channels; ++c) {
    for (int t = 0; t < count; ++t) sums[t] = my->sums[t][c];
    level.add_sources(image, c, my->planes.data(), sums);
    for (int t = 0; t < count; ++t) {
      const Operation& op = operations[t];
      if (op.kind == Operation::kMaximum) {
        enclose(sums[t], in, kWall, my->walled);
        FOR_LANES(in, (maximum_plane<N>(my->walled, in, my->plane)));
        use.pooled(t, c, my->plane);
        continue;
      }
      enclose(sums[t], in, 0.f, my->bordered);
      if (op.kind == Operation::kAverage) {
        correlate(3, my->bordered, in, kNinths, my->plane);
        use.pooled(t, c, my->plane);
      } else {
        correlate(op.size, my->bordered, in, level.depthwise[op.weight] + c * op.size * op.size,
                  my->mixed[op.weight][c]);
      }
    }
  }
  for (int t = 0; t < count; ++t) {
    const Operation& op = operations[t];
    if (op.kind != Operation::kSeparable) continue;
    float* map = use.map(t);
    multiply<false>(level.pointwise[op.weight], maps.channels, maps.channels, maps.channels,
                    my->mixed[op.weight][0], maps.pixels, map, maps.pixels, maps.pixels, my->panel);
    use.separable(t, map);
  }
}

// Takes an image's maps into the output, and their moments while they are in the cache.
struct MapsToOutput {
  const Maps& maps;
  float* out;
  Moments* moments;  // of each channel

  void pooled(int t, int channel, const float* plane) const {
    const int c = t * maps.channels + channel;
    std::memcpy(out + static_cast<size_t>(c) * maps.pixels, plane, maps.pixels * sizeof(float));
    moments[c] = plane_moments(plane, maps.pixels);
  }
  float* map(int t) const { return out + t * maps.image; }
  void separable(int t, const float* map) const {
    for (int c = 0; c < maps.channels; ++c)
      moments[t * maps.channels + c] =
          plane_moments(map + static_cast<size_t>(c) * maps.pixels, maps.pixels);
  }
};

void level_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                   const OpResource& resource) {
  const Level plan(attributes);
  const LevelData level(plan, Maps((*outputs)[0], plan.count()), inputs->data());
  const Maps& maps = level.maps;
  const Bordered in(maps.height, maps.width, plan.reach);
  const int threads = threads_for(maps.batch), channels = plan.count() * maps.channels;
  std::vector<LevelScratch> scratch;
  Moments* moments;  // of each channel of each image
  allocate(resource, [&](Arena* arena) {
    scratch.clear();
    for (int i = 0; i < threads; ++i) scratch.emplace_back(level, in, false, arena);
    moments = arena->items<Moments>(static_cast<size_t>(maps.batch) * channels);
  });
  float* out = data((*outputs)[0]);
  const Statistics statistics = {data((*outputs)[1]), channels};
  const Pairs parameters = {*inputs, plan.first_affine(), maps.channels};
  std::vector<Affine> affine(channels);
#pragma omp parallel num_threads(threads)
  {
    LevelScratch* my = &scratch[omp_get_thread_num()];
    my->prepare(in);
#pragma omp for schedule(dynamic)
    for (int b = 0; b < maps.batch; ++b)
      level_maps(level, in, b, my,
                 MapsToOutput{maps, out + b * (maps.image * plan.count()),
                              moments + static_cast<size_t>(b) * channels});
#pragma omp for schedule(static)
    for (int c = 0; c < channels; ++c) {
      Moments all = {};
      for (int b = 0; b < maps.batch; ++b)
        all.join(moments[static_cast<size_t>(b) * channels + c]);
      statistics.set(c, all);
      affine[c] = Affine(plan.norm, statistics, parameters, c);
    }
    // Backwards, since the last images may still be in the cache.
#pragma omp for schedule(dynamic)
    for (int b = maps.batch - 1; b >= 0; --b)
      for (int c = 0; c < channels; ++c) {
        float* plane = out + (static_cast<size_t>(b) * channels + c) * maps.pixels;
        for_pixels(maps.pixels, Normalized<true>{affine[c], plane, plane});
      }
  }
}

// One thread's memory for the backward pass.
struct LevelBackward {
  LevelScratch forward;
  float *gradient, *choice, *turned;
  float* map;                     // of one separable operation, then its gradient
  std::vector<Planes> gradients;  // of the sums; pooling ones' are computed for all channels first
  std::vector<float*> dots;       // kLanes partial sums for each edge
  // Of the users of one source: gradients of their sums, their scales and dots.
  std::vector<const float*> user_gradients;
  std::vector<float> user_lambdas;
  std::vector<float*> user_dots;

  LevelBackward(const LevelData& level, const Bordered& in, const Gradients& wanted, Arena* arena)
      : forward(level, in, wanted.weights, arena), gradient(arena->floats(in.size())),
        choice(arena->floats(in.size())),
        turned(arena->floats(kPixels * product_stride(level.maps.channels))),
        map(level.level.separables ? arena->floats(level.maps.image) : nullptr),
        user_gradients(level.level.count()), user_lambdas(level.level.count()),
        user_dots(level.level.count()) {
    for (const Operation& op : level.level.operations)
      gradients.push_back(op.kind == Operation::kSeparable ? one_plane(in, arena)
                                                           : whole_map(level.maps, in, arena));
    for (int e = 0; e < level.level.edges; ++e) dots.push_back(arena->floats(kLanes));
  }

  void prepare(const Bordered& in) {
    forward.prepare(in);
    std::fill(gradient, gradient + in.size(), 0.f);
    std::fill(choice, choice + in.size(), 0.f);
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

// An image's sums over pixels for the gradients of normalisation, from its maps.
struct MapsToSums {
  const Maps& maps;
  const Affine* affine;
  const float* out_gradient;
  float* space;        // for a map
  GradientSums* sums;  // of each channel

  void pooled(int t, int channel, const float* plane) const {
    const int c = t * maps.channels + channel;
    sums[c] = sums_by_input<true>(
        affine[c], plane, out_gradient + static_cast<size_t>(c) * maps.pixels, maps.pixels);
  }
  float* map(int) const { return space; }
  void separable(int t, const float* map) const {
    for (int c = 0; c < maps.channels; ++c)
      pooled(t, c, map + static_cast<size_t>(c) * maps.pixels);
  }
};

// An image's gradients of pooling operations' sums, and of depthwise outputs in place of these.
struct MapsToGradients {
  const LevelData& level;
  const TurnedWeights& weights;
  const Bordered& in;
  const AffineGradient* norm;
  const float* out_gradient;
  LevelBackward* my;
  LevelPart* part;  // its pointwise gradients are added to, where they are wanted

  // From a plane of a map to its gradient.
  void differentiate(int t, int channel, float* plane) const {
    const int c = t * level.maps.channels + channel, pixels = level.maps.pixels;
    const float* gradient = out_gradient + static_cast<size_t>(c) * pixels;
    for_pixels(pixels, InputGradient<true>{norm[c], plane, gradient, plane});
  }
  void pooled(int t, int channel, float* plane) const {
    differentiate(t, channel, plane);
    enclose(plane, in, 0.f, my->gradient);
    float* to = my->gradients[t][channel];
    if (level.level.operations[t].kind == Operation::kAverage) {
      correlate(3, my->gradient, in, kNinths, to);
    } else {  // whose sum is still enclosed
      FOR_LANES(in, (maximum_gradient<N>(my->forward.walled, my->gradient, in, my->choice, to)));
    }
  }
  float* map(int) const { return my->map; }
  void separable(int t, float* map) const {
    const int w = level.level.operations[t].weight;
    const int channels = level.maps.channels, pixels = level.maps.pixels;
    float* mixed = my->forward.mixed[w][0];
    for (int c = 0; c < channels; ++c)
      differentiate(t, c, map + static_cast<size_t>(c) * pixels);
    if (level.level.gradients.weights)
      add_products(map, channels, mixed, channels, pixels, part->pointwise[w],
                   product_stride(channels), my->turned);
    multiply<false>(weights.pointwise[w], channels, channels, channels, map, pixels, mixed, pixels,
                    pixels, my->forward.panel);
  }
};

// Gradients of one channel's sums of separable operations, and of the depthwise kernels.
void level_channel_gradients(const LevelData& level, const TurnedWeights& weights,
                             const Bordered& in, int channel, LevelBackward* my,
                             LevelPart* part) {
  for (int t = 0; t < level.level.count(); ++t) {
    const Operation& op = level.level.operations[t];
    if (op.kind != Operation::kSeparable) continue;
    const int kernel = channel * op.size * op.size;
    enclose(my->forward.mixed[op.weight][channel], in, 0.f, my->gradient);
    if (level.level.gradients.weights) {
      enclose(my->forward.sums[t][channel], in, 0.f, my->forward.bordered);
      add_kernel_gradient(op.size, my->forward.bordered, my->gradient, in,
                          part->depthwise[op.weight] + kernel);
    }
    correlate(op.size, my->gradient, in, weights.depthwise[op.weight] + kernel,
              my->gradients[t][channel]);
  }
}

void level_backward_image(const LevelData& level, const TurnedWeights& weights, const Bordered& in,
                          const AffineGradient* norm, int image, const float* out_gradient,
                          LevelBackward* my, LevelPart* part, float* const* stack_gradients) {
  const Level& plan = level.level;
  const Maps& maps = level.maps;
  level_maps(level, in, image, &my->forward,
             MapsToGradients{level, weights, in, norm, out_gradient, my, part});
  for (float* dots : my->dots) std::fill(dots, dots + kLanes, 0.f);
  const float** gradients = my->user_gradients.data();
  float* lambdas = my->user_lambdas.data();
  float** dots = my->user_dots.data();
  for (int c = 0; c < maps.channels; ++c) {
    level_channel_gradients(level, weights, in, c, my, part);
    for (size_t j = 0; j < plan.users.size(); ++j) {
      int count = 0;
      for (const auto& user : plan.users[j]) {
        gradients[count] = my->gradients[user.first][c];
        lambdas[count] = level.scales(image)[user.second];
        dots[count++] = my->dots[user.second];
      }
      float* out = stack_gradients[plan.places[j].first] + level.offset(j, image, c);
      if (plan.scaled && plan.gradients.lambdas)
        distribute<true>(count, gradients, lambdas, level.source(j, image, c), maps.pixels, out,
                         dots);
      else
        distribute<false>(count, gradients, lambdas, nullptr, maps.pixels, out, dots);
    }
  }
  for (int e = 0; e < plan.edges; ++e)
    part->lambdas[e] += sum_of_lanes<kLanes>(load<kLanes>(my->dots[e]));
  finish_streams();
}

// Sums over the pixels of an image for the gradients of normalisation. With gamma fixed the output
// tells xhat wherever its gradient counts; otherwise (gamma may be zero) the maps are needed.
void level_gradient_sums(const LevelData& level, const Bordered& in, const Affine* affine,
                         int image, const float* out, const float* out_gradient,
                         LevelBackward* my, GradientSums* sums) {
  const Maps& maps = level.maps;
  if (!level.level.norm.fix_gamma)
    return level_maps(level, in, image, &my->forward,
                      MapsToSums{maps, affine, out_gradient, my->map, sums});
  for (int c = 0; c < level.level.count() * maps.channels; ++c) {
    const size_t at = static_cast<size_t>(c) * maps.pixels;
    sums[c] = sums_by_output(affine[c], out + at, out_gradient + at, maps.pixels);
  }
}

// Inputs: gradients of the outputs, the inputs, the outputs. Outputs: gradients of the inputs.
void level_backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                    const OpResource& resource) {
  const Level plan(attributes);
  const Gradients wanted = plan.gradients;
  const LevelData level(plan, Maps((*outputs)[plan.first_stack()], plan.maps[0]),
                        inputs->data() + 2);
  const Maps& maps = level.maps;
  const Bordered in(maps.height, maps.width, plan.reach);
  const Parts partition(maps.batch);
  const int threads = threads_for(partition.count), channels = plan.count() * maps.channels;
  const size_t image = maps.image * plan.count();
  std::vector<LevelBackward> scratch;
  std::vector<LevelPart> parts;
  std::vector<TurnedWeights> turned;
  GradientSums* sums;  // of each channel of each image
  allocate(resource, [&](Arena* arena) {
    scratch.clear(), parts.clear(), turned.clear();
    for (int i = 0; i < threads; ++i) scratch.emplace_back(level, in, wanted, arena);
    for (int i = 0; i < partition.count; ++i) parts.emplace_back(level, wanted, arena);
    turned.emplace_back(level, arena);
    sums = arena->items<GradientSums>(static_cast<size_t>(maps.batch) * channels);
  });
  turned[0].fill(level);
  const float* out_gradient = data((*inputs)[0]);
  const float* out = data((*inputs)[2 + plan.inputs()]);
  const Statistics statistics = {data((*inputs)[2 + plan.inputs() + 1]), channels};
  const Pairs parameters = {*inputs, 2 + plan.first_affine(), maps.channels};
  const Pairs parameter_gradients = {*outputs, plan.first_affine(), maps.channels};
  std::vector<Affine> affine;
  for (int c = 0; c < channels; ++c) affine.emplace_back(plan.norm, statistics, parameters, c);
  std::vector<AffineGradient> norm(channels);
  std::vector<float*> stack_gradients;
  for (int k = 0; k < plan.stacks(); ++k)
    stack_gradients.push_back(data((*outputs)[plan.first_stack() + k]));
#pragma omp parallel num_threads(threads)
  {
    LevelBackward* my = &scratch[omp_get_thread_num()];
    my->prepare(in);
    // Backwards, so that the first images may be in the cache afterwards.
#pragma omp for schedule(dynamic)
    for (int b = maps.batch - 1; b >= 0; --b)
      level_gradient_sums(level, in, affine.data(), b, out + b * image, out_gradient + b * image,
                          my, sums + static_cast<size_t>(b) * channels);
#pragma omp for schedule(static)
    for (int c = 0; c < channels; ++c) {
      GradientSums all = {};
      for (int b = 0; b < maps.batch; ++b) all.add(sums[static_cast<size_t>(b) * channels + c]);
      norm[c] = AffineGradient(affine[c], all, static_cast<double>(maps.batch) * maps.pixels);
      if (wanted.weights) set_gradients(plan.norm, all, parameter_gradients, c);
    }
#pragma omp for schedule(dynamic)
    for (int p = 0; p < partition.count; ++p) {
      LevelPart* part = &parts[p];
      for (const Operation& op : plan.operations) {
        if (op.kind != Operation::kSeparable || !wanted.weights) continue;
        std::fill_n(part->depthwise[op.weight], LevelPart::depthwise_size(maps, op), 0.f);
        std::fill_n(part->pointwise[op.weight], LevelPart::pointwise_size(maps), 0.f);
      }
      for (int b = partition.begin(p); b < partition.end(p); ++b)
        level_backward_image(level, turned[0], in, norm.data(), b, out_gradient + b * image, my,
                             part, stack_gradients.data());
    }
  }
  if (plan.scaled && wanted.lambdas) {
    float* to = data((*outputs)[0]);
    for (int e = 0; e < plan.edges; ++e) {
      double sum = 0;
      for (const LevelPart& part : parts) sum += part.lambdas[e];
      to[e] = static_cast<float>(sum);
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
  if (plan.scaled) {
    const unsigned int edges = plan.edges;
    expect_shape((*inputs)[0], plan.per_sample ? Shape{stack[0], edges} : Shape{edges}, "lambdas");
  }
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
  expect_pairs(inputs, plan.first_affine(), plan.count(), channels, "gamma", "beta");
  (*outputs)[0] = maps(plan.count());
  (*outputs)[1] = {2, plan.count() * channels};
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_LEVEL_H_
