// Operators of the search block for MXNet on the CPU, registered through mx.library.
//
//   dsonas_level       a level's operations on the weighted sums of their sources
//   dsonas_collect     the block's output: a 1x1 convolution of the weighted maps
//   dsonas_statistics  mean and inverse deviation of every channel, moving averages
//   dsonas_normalize   batch normalisation with given statistics, and ReLU
//
// All tensors are float32, feature maps plain NCHW. A "stack" holds n maps of C channels as
// (B, n*C, H, W). Results do not depend on the number of threads: a thread owns whole images or
// channels, and gradients of parameters are summed over a fixed partition of the batch.
//
// The library trusts the shapes of output tensors only: those MXNet passes for inputs that it
// had to reorder may dangle.

#include <exception>
#include <stdexcept>
#include <vector>

#include "native_src/collect.h"
#include "native_src/level.h"
#include "native_src/normalize.h"
#include "native_src/operands.h"

namespace {

// Runs `body`, turning exceptions into MXNet's error messages.
template <class Body>
MXReturnValue guarded(const char* name, Body body) {
  try {
    body();
    return mxnet::ext::MX_SUCCESS;
  } catch (const std::exception& error) {
    MX_ERROR_MSG << name << ": " << error.what();
    return mxnet::ext::MX_FAIL;
  }
}

typedef void (*Compute)(const Attributes&, Tensors*, Tensors*, const OpResource&);
typedef void (*Shapes)(const Attributes&, std::vector<Shape>*, std::vector<Shape>*);
typedef int (*Count)(const Attributes&);

// The functions of an operator as MXNet calls them.
template <const char* kName, Count kInputs, Shapes kShapes, Compute kForward, Compute kBackward>
struct Operator {
  static MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
    return guarded(kName, [&] { *inputs = kInputs(attributes), *outputs = 1; });
  }
  static MXReturnValue types(const Attributes&, std::vector<int>* inputs,
                             std::vector<int>* outputs) {
    return guarded(kName, [&] {
      for (int& type : *inputs) {
        if (type != mxnet::ext::kFloat32 && type != -1)
          throw std::runtime_error("all inputs must be float32");
        type = mxnet::ext::kFloat32;
      }
      outputs->assign(1, mxnet::ext::kFloat32);
    });
  }
  // Asked for the backward pass too. MXNet knows no storage type yet for moving averages.
  static MXReturnValue storages(const Attributes&, std::vector<int>* inputs,
                                std::vector<int>* outputs) {
    return guarded(kName, [&] {
      for (int& storage : *inputs) {
        if (storage > mxnet::ext::kDefaultStorage)
          throw std::runtime_error("all inputs must be dense");
        storage = mxnet::ext::kDefaultStorage;
      }
      for (int& storage : *outputs) storage = mxnet::ext::kDefaultStorage;
    });
  }
  static MXReturnValue shapes(const Attributes& attributes, std::vector<Shape>* inputs,
                              std::vector<Shape>* outputs) {
    return guarded(kName, [&] { kShapes(attributes, inputs, outputs); });
  }
  static MXReturnValue forward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                               const OpResource& resource) {
    return guarded(kName, [&] { kForward(attributes, inputs, outputs, resource); });
  }
  static MXReturnValue backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                                const OpResource& resource) {
    return guarded(kName, [&] { kBackward(attributes, inputs, outputs, resource); });
  }
  static mxnet::ext::CustomOp& add_to(mxnet::ext::CustomOp& op) {
    return op.setParseAttrs(parse)
        .setInferType(types)
        .setInferSType(storages)
        .setInferShape(shapes)
        .setForward(forward, "cpu");
  }
  static mxnet::ext::CustomOp& add_with_gradient_to(mxnet::ext::CustomOp& op) {
    return add_to(op).setBackward(backward, "cpu");
  }
};

int level_inputs(const Attributes& attributes) { return Level(attributes).inputs(); }
int collect_inputs(const Attributes& attributes) { return Collect(attributes).inputs(); }
int statistics_inputs(const Attributes& attributes) { return 1 + 2 * maps_of(attributes); }
int normalize_inputs(const Attributes& attributes) { return 2 + 2 * maps_of(attributes); }

MXReturnValue moving_averages(const Attributes& attributes, std::vector<int>* inputs) {
  return guarded("dsonas_statistics", [&] {
    for (int i = 1; i < statistics_inputs(attributes); ++i) inputs->push_back(i);
  });
}

constexpr char kLevel[] = "dsonas_level";
constexpr char kCollect[] = "dsonas_collect";
constexpr char kStatistics[] = "dsonas_statistics";
constexpr char kNormalize[] = "dsonas_normalize";

typedef Operator<kLevel, level_inputs, level_shapes, level_forward, level_backward> LevelOp;
typedef Operator<kCollect, collect_inputs, collect_shapes, collect_forward, collect_backward>
    CollectOp;
typedef Operator<kStatistics, statistics_inputs, statistics_shapes, statistics_forward,
                 statistics_backward>
    StatisticsOp;
typedef Operator<kNormalize, normalize_inputs, normalize_shapes, normalize_forward,
                 normalize_backward>
    NormalizeOp;

mxnet::ext::CustomOp& register_operator(const char* name) {
  return mxnet::ext::Registry<mxnet::ext::CustomOp>::get()->add(name);
}

const bool registered = [] {
  LevelOp::add_with_gradient_to(register_operator(kLevel));
  CollectOp::add_with_gradient_to(register_operator(kCollect));
  // Without a gradient, or the backward pass would keep the maps that statistics were taken of.
  StatisticsOp::add_to(register_operator(kStatistics)).setMutateInputs(moving_averages);
  NormalizeOp::add_with_gradient_to(register_operator(kNormalize));
  return true;
}();

}  // namespace

MXReturnValue initialize(int version) {
  if (version >= 10700 && registered) return mxnet::ext::MX_SUCCESS;
  MX_ERROR_MSG << "MXNet " << version << " is too old for the operators of dsonas_mx";
  return mxnet::ext::MX_FAIL;
}
