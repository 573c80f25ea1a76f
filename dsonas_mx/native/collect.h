// dsonas_collect: the output of a block, a 1x1 convolution of weighted maps.
//
//   attributes  maps in the stack; select  the numbers of those that are used, as 0 2 3, or all;
//               scaled (1), per_sample (0), gradients (all)  as dsonas_level's
//   inputs      lambdas (selected) or (B, selected), if scaled; the stack (B, maps * C, H, W);
//               the weight (O, selected * C, 1, 1)
//   outputs     a map (B, O, H, W)
#ifndef DSONAS_MX_NATIVE_COLLECT_H_
#define DSONAS_MX_NATIVE_COLLECT_H_

#include <algorithm>
#include <omp.h>
#include <stdexcept>
#include <string>
#include <vector>

#include "mixing.h"
#include "operands.h"
#include "products.h"

namespace {

struct Collect {
  int maps;                   // in the stack
  std::vector<int> selected;  // those that are used
  bool scaled;
  bool per_sample;  // every sample has scales of its own, which get no gradient
  Gradients gradients;

  explicit Collect(const Attributes& attributes)
      : maps(numbers(attribute(attributes, "maps"), ',').at(0)),
        scaled(flag(attributes, "scaled", "1")),
        per_sample(scaled && flag(attributes, "per_sample", "0")), gradients(attributes) {
    if (per_sample) gradients.lambdas = false;
    if (attributes.count("select")) {
      selected = numbers(attributes.at("select"), ' ');
    } else {
      for (int m = 0; m < maps; ++m) selected.push_back(m);
    }
    for (size_t i = 0; i < selected.size(); ++i)
      if (selected[i] >= maps || (i && selected[i] <= selected[i - 1]))
        throw std::runtime_error("select must ascend below maps");
  }

  int count() const { return static_cast<int>(selected.size()); }
  int stack() const { return scaled ? 1 : 0; }
  int weight() const { return stack() + 1; }
  int inputs() const { return stack() + 2; }
};

// The weight with the columns of map j scaled by lambda j.
void scale_columns(const float* weight, const float* lambdas, int rows, int count, int channels,
                   float* scaled) {
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < count; ++j)
      for (int c = 0; c < channels; ++c, ++weight, ++scaled)
        *scaled = lambdas ? lambdas[j] * *weight : *weight;
}

// The weight transposed, with the rows of map j scaled by lambda j.
void turn_columns(const float* weight, const float* lambdas, int rows, int depth, int channels,
                  float* turned) {
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < depth; ++k)
      turned[static_cast<size_t>(k) * rows + r] =
          weight[static_cast<size_t>(r) * depth + k] * (lambdas ? lambdas[k / channels] : 1.f);
}

void collect_forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                     const OpResource& resource) {
  const Collect plan(attributes);
  MXTensor& result = (*outputs)[0];
  const Maps out(result, 1);
  const int count = plan.count();
  const int depth = static_cast<int>((*inputs)[plan.weight()].size() / out.channels);
  const int channels = depth / count;
  const size_t map = static_cast<size_t>(channels) * out.pixels;
  const int threads = threads_for(out.batch);
  std::vector<float*> scaled(plan.per_sample ? threads : 1);  // the weight
  std::vector<float*> panels(threads);
  allocate(resource, [&](Arena* arena) {
    for (float*& copy : scaled) copy = arena->floats(static_cast<size_t>(out.channels) * depth);
    for (float*& panel : panels) panel = arena->floats(depth * kTileColumns);
  });
  const float* weight = data((*inputs)[plan.weight()]);
  const float* lambdas = plan.scaled ? data((*inputs)[0]) : nullptr;
  if (!plan.per_sample) scale_columns(weight, lambdas, out.channels, count, channels, scaled[0]);
  const float* stack = data((*inputs)[plan.stack()]);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int b = 0; b < out.batch; ++b) {
    float* to = data(result) + b * out.image;
    float* panel = panels[omp_get_thread_num()];
    const float* columns = scaled[plan.per_sample ? omp_get_thread_num() : 0];
    if (plan.per_sample)
      scale_columns(weight, lambdas + static_cast<size_t>(b) * count, out.channels, count, channels,
                    scaled[omp_get_thread_num()]);
    // A run of neighbouring maps is one matrix.
    for (int j = 0, next; j < count; j = next) {
      for (next = j + 1; next < count && plan.selected[next] == plan.selected[next - 1] + 1;)
        ++next;
      const float* from = stack + (static_cast<size_t>(b) * plan.maps + plan.selected[j]) * map;
      const auto product = j == 0 ? multiply<false> : multiply<true>;
      product(columns + j * channels, depth, out.channels, (next - j) * channels, from, out.pixels,
              to, out.pixels, out.pixels, panel);
    }
  }
}

void collect_backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                      const OpResource& resource) {
  const Collect plan(attributes);
  const Gradients wanted = plan.gradients;
  const Maps maps((*outputs)[plan.stack()], plan.maps);
  const int count = plan.count(), channels = maps.channels, depth = count * channels;
  const int rows = static_cast<int>((*outputs)[plan.weight()].size() / depth);
  const bool wants_lambdas = plan.scaled && wanted.lambdas;
  const float* gradient = data((*inputs)[0]);
  const float* lambdas = plan.scaled ? data((*inputs)[1]) : nullptr;
  const float* stack = data((*inputs)[1 + plan.stack()]);
  const float* weight = data((*inputs)[1 + plan.weight()]);
  float* stack_gradient = data((*outputs)[plan.stack()]);
  const Parts partition(maps.batch);
  const int threads = threads_for(partition.count);
  const int stride = count * product_stride(channels);
  std::vector<float*> turned(plan.per_sample ? threads : 1);  // the weight, transposed
  std::vector<float*> panels(threads), squares(threads), products(partition.count);
  allocate(resource, [&](Arena* arena) {
    for (float*& copy : turned) copy = arena->floats(static_cast<size_t>(rows) * depth);
    for (float*& panel : panels) panel = arena->floats(rows * kTileColumns);
    for (float*& square : squares) square = arena->floats(kPixels * product_stride(channels));
    if (wanted.weights)
      for (float*& part : products) part = arena->floats(static_cast<size_t>(rows) * stride);
  });
  // Where lambda's gradient is asked for, the map's gradient is scaled after the dot product.
  if (!plan.per_sample)
    turn_columns(weight, wants_lambdas ? nullptr : lambdas, rows, depth, channels, turned[0]);
  std::vector<double> dots(static_cast<size_t>(partition.count) * count, 0.0);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int p = 0; p < partition.count; ++p) {
    float* panel = panels[omp_get_thread_num()];
    float* square = squares[omp_get_thread_num()];
    if (wanted.weights) std::fill_n(products[p], static_cast<size_t>(rows) * stride, 0.f);
    for (int b = partition.begin(p); b < partition.end(p); ++b) {
      const float* from = gradient + static_cast<size_t>(b) * rows * maps.pixels;
      const float* scales = plan.per_sample ? lambdas + static_cast<size_t>(b) * count : nullptr;
      float* columns = turned[plan.per_sample ? omp_get_thread_num() : 0];
      if (plan.per_sample) turn_columns(weight, scales, rows, depth, channels, columns);
      for (int m = 0, j = 0; m < plan.maps; ++m) {
        const size_t at = (static_cast<size_t>(b) * plan.maps + m) * maps.image;
        float* to = stack_gradient + at;
        if (j == count || plan.selected[j] != m) {
          std::fill_n(to, maps.image, 0.f);
          continue;
        }
        multiply<false>(columns + static_cast<size_t>(j) * channels * rows, rows, channels, rows,
                        from, maps.pixels, to, maps.pixels, maps.pixels, panel);
        if (wants_lambdas) {
          float lanes[kLanes] = {};
          float* dot = lanes;
          const float* unscaled = to;
          distribute<true>(1, &unscaled, lambdas + j, stack + at, static_cast<int>(maps.image), to,
                           &dot);
          dots[static_cast<size_t>(p) * count + j] += sum_of_lanes<kLanes>(load<kLanes>(lanes));
        }
        if (wanted.weights)
          add_products(from, rows, stack + at, channels, maps.pixels,
                       products[p] + j * product_stride(channels), stride, square,
                       scales ? scales[j] : 1.f);
        ++j;
      }
    }
  }
  if (wants_lambdas) {
    for (int j = 0; j < count; ++j) {
      double sum = 0;
      for (int p = 0; p < partition.count; ++p) sum += dots[static_cast<size_t>(p) * count + j];
      data((*outputs)[0])[j] = static_cast<float>(sum);
    }
  }
  if (!wanted.weights) return;
  for (int j = 0; j < count; ++j) {
    std::vector<const float*> parts;
    for (const float* product : products) parts.push_back(product + j * product_stride(channels));
    sum_parts(parts, rows, channels, stride, lambdas && !plan.per_sample ? lambdas[j] : 1.f,
              data((*outputs)[plan.weight()]) + j * channels, depth);
  }
}

void collect_shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                    std::vector<Shape>* outputs) {
  const Collect plan(attributes);
  const Shape stack = (*inputs)[plan.stack()];
  expect_maps(stack, plan.maps, "the stack");
  const Shape weight = (*inputs)[plan.weight()];
  const unsigned int count = plan.count(), filters = is_known(weight) ? weight[0] : 0;
  if (plan.scaled)
    expect_shape((*inputs)[0], plan.per_sample ? Shape{stack[0], count} : Shape{count}, "lambdas");
  expect_shape(weight, {filters, count * (stack[1] / plan.maps), 1, 1}, "the weight");
  (*outputs)[0] = {stack[0], filters, stack[2], stack[3]};
}

}  // namespace

#endif  // DSONAS_MX_NATIVE_COLLECT_H_
