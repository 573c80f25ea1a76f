// Operators of the search block for MXNet on the CPU, registered through mx.library.
//
//   dsonas_level      a level's operations on the weighted sums of their sources, with their
//                     batch normalisation and ReLU; and mean and variance of every channel
//   dsonas_collect    the block's output: a 1x1 convolution of the weighted maps
//   dsonas_normalize  batch normalisation and ReLU; and mean and variance of every channel
//   dsonas_average    moves the averages of means and variances; gives a zero
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

#include "collect.h"
#include "level.h"
#include "normalize.h"
#include "operands.h"

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
template <const char* kName, Count kInputs, int kOutputs, Shapes kShapes, Compute kForward>
struct Operator {
  static MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
    return guarded(kName, [&] { *inputs = kInputs(attributes), *outputs = kOutputs; });
  }
  static MXReturnValue types(const Attributes&, std::vector<int>* inputs,
                             std::vector<int>* outputs) {
    return guarded(kName, [&] {
      for (int& type : *inputs) {
        if (type != mxnet::ext::kFloat32 && type != -1)
          throw std::runtime_error("all inputs must be float32");
        type = mxnet::ext::kFloat32;
      }
      outputs->assign(kOutputs, mxnet::ext::kFloat32);
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
  static mxnet::ext::CustomOp& add() {
    return mxnet::ext::Registry<mxnet::ext::CustomOp>::get()
        ->add(kName)
        .setParseAttrs(parse)
        .setInferType(types)
        .setInferSType(storages)
        .setInferShape(shapes)
        .setForward(forward, "cpu");
  }
};

// One that has a gradient, for which MXNet keeps all its inputs and outputs.
template <const char* kName, Count kInputs, int kOutputs, Shapes kShapes, Compute kForward,
          Compute kBackward>
struct Differentiable : Operator<kName, kInputs, kOutputs, kShapes, kForward> {
  static MXReturnValue backward(const Attributes& attributes, Tensors* inputs, Tensors* outputs,
                                const OpResource& resource) {
    return guarded(kName, [&] { kBackward(attributes, inputs, outputs, resource); });
  }
  static mxnet::ext::CustomOp& add() {
    return Operator<kName, kInputs, kOutputs, kShapes, kForward>::add().setBackward(backward,
                                                                                    "cpu");
  }
};

int level_inputs(const Attributes& attributes) { return Level(attributes).inputs(); }
int collect_inputs(const Attributes& attributes) { return Collect(attributes).inputs(); }
int normalize_inputs(const Attributes& attributes) { return Normalize(attributes).inputs(); }
int average_inputs(const Attributes& attributes) { return 1 + 2 * maps_of(attributes); }

MXReturnValue moving_averages(const Attributes& attributes, std::vector<int>* inputs) {
  return guarded("dsonas_average", [&] {
    for (int i = 1; i < average_inputs(attributes); ++i) inputs->push_back(i);
  });
}

constexpr char kLevel[] = "dsonas_level";
constexpr char kCollect[] = "dsonas_collect";
constexpr char kNormalize[] = "dsonas_normalize";
constexpr char kAverage[] = "dsonas_average";

typedef Differentiable<kLevel, level_inputs, 2, level_shapes, level_forward, level_backward>
    LevelOp;
typedef Differentiable<kCollect, collect_inputs, 1, collect_shapes, collect_forward,
                       collect_backward>
    CollectOp;
typedef Differentiable<kNormalize, normalize_inputs, 2, normalize_shapes, normalize_forward,
                       normalize_backward>
    NormalizeOp;
typedef Operator<kAverage, average_inputs, 1, average_shapes, average_forward> AverageOp;

const bool registered = [] {
  LevelOp::add();
  CollectOp::add();
  NormalizeOp::add();
  AverageOp::add().setMutateInputs(moving_averages);
  return true;
}();

}  // namespace

// The largest piece of memory that an operator asked for at once so far.
extern "C" long long dsonas_workspace_bytes() { return largest_workspace; }

MXReturnValue initialize(int version) {
  if (version >= 10700 && registered) return mxnet::ext::MX_SUCCESS;
  MX_ERROR_MSG << "MXNet " << version << " is too old for the operators of dsonas_mx";
  return mxnet::ext::MX_FAIL;
}
