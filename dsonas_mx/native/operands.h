// What all operators do with attributes, shapes, tensors and memory.
#ifndef DSONAS_MX_NATIVE_OPERANDS_H_
#define DSONAS_MX_NATIVE_OPERANDS_H_

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <omp.h>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mxnet/lib_api.h"

namespace {

using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
using mxnet::ext::OpResource;
typedef std::unordered_map<std::string, std::string> Attributes;
typedef std::vector<unsigned int> Shape;
typedef std::vector<MXTensor> Tensors;

std::string attribute(const Attributes& attributes, const char* name, const char* otherwise) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? otherwise : found->second;
}

std::string attribute(const Attributes& attributes, const char* name) {
  if (!attributes.count(name)) throw std::runtime_error(std::string("needs attribute ") + name);
  return attributes.at(name);
}

bool flag(const Attributes& attributes, const char* name, const char* otherwise) {
  const std::string value = attribute(attributes, name, otherwise);
  if (value == "1" || value == "True") return true;
  if (value == "0" || value == "False") return false;
  throw std::runtime_error(std::string(name) + " must be 0 or 1, got " + value);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::vector<int> numbers(const std::string& text, char separator) {
  std::vector<int> values;
  for (const std::string& part : split(text, separator)) {
    if (part.empty() || part.size() > 6 || part.find_first_not_of("0123456789") != part.npos)
      throw std::runtime_error("expected numbers, got '" + text + "'");
    values.push_back(std::stoi(part));
  }
  return values;
}

// Which gradients of parameters are asked for; the others stay unwritten.
struct Gradients {
  bool weights, lambdas;
  explicit Gradients(const Attributes& attributes) {
    const std::string value = attribute(attributes, "gradients", "all");
    weights = value == "all" || value == "weights";
    lambdas = value == "all" || value == "lambdas";
    if (!weights && !lambdas && value != "none")
      throw std::runtime_error("gradients must be all, weights, lambdas or none, got " + value);
  }
};

std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

bool is_known(const Shape& shape) {
  for (unsigned int size : shape)
    if (size == 0 || size > 0x7fffffffu) return false;
  return !shape.empty();
}

// A shape that is not known cannot be filled in: MXNet 1.9.1 counts its -1 dimensions when it
// allocates memory for the shapes it passes, and writes past the end.
void expect_shape(const Shape& shape, const Shape& wanted, const std::string& name) {
  if (!is_known(shape))
    throw std::runtime_error(name + " must be given its shape " + text_of(wanted));
  if (shape != wanted)
    throw std::runtime_error(name + " must have shape " + text_of(wanted) + ", got " +
                             text_of(shape));
}

void expect_maps(const Shape& shape, int maps, const char* name) {
  if (!is_known(shape) || shape.size() != 4)
    throw std::runtime_error(std::string(name) + " needs a known shape (B, C, H, W), got " +
                             text_of(shape));
  if (shape[1] % maps)
    throw std::runtime_error(std::string(name) + " has " + std::to_string(shape[1]) +
                             " channels, which are not " + std::to_string(maps) + " maps");
}

// The batch of maps an operator works on.
struct Maps {
  int batch, channels, height, width, pixels;
  size_t image;  // floats of one map
  Maps(const MXTensor& like, int maps_in_it)
      : batch(like.shape[0]), channels(like.shape[1] / maps_in_it), height(like.shape[2]),
        width(like.shape[3]), pixels(height * width),
        image(static_cast<size_t>(channels) * pixels) {}
};

float* data(MXTensor& tensor) { return static_cast<float*>(tensor.data_ptr); }

// A fixed partition of the batch: a part's images are visited in order by one thread, and the
// parts' gradients are added in order.
constexpr int kMostParts = 16;

struct Parts {
  int batch, images, count;
  explicit Parts(int batch)
      : batch(batch), images((batch + kMostParts - 1) / kMostParts),
        count((batch + images - 1) / images) {}
  int begin(int part) const { return part * images; }
  int end(int part) const { return std::min(batch, (part + 1) * images); }
};

// Adds the parts' gradients, rows x columns apart by `stride`, into rows apart by `out_stride`.
void sum_parts(const std::vector<const float*>& parts, int rows, int columns, int stride,
               float scale, float* out, int out_stride) {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; ++r) {
    float* to = out + static_cast<size_t>(r) * out_stride;
    std::fill_n(to, columns, 0.f);
    for (const float* part : parts) {
      const float* from = part + static_cast<size_t>(r) * stride;
      for (int c = 0; c < columns; ++c) to[c] += from[c];
    }
    for (int c = 0; c < columns; ++c) to[c] *= scale;
  }
}

// Hands out parts of one allocation. Without memory it only measures.
class Arena {
 public:
  explicit Arena(char* memory = nullptr) : memory_(memory), used_(0) {}
  template <class Item>
  Item* items(size_t count) {
    char* part = memory_ ? memory_ + used_ : nullptr;
    used_ += (count * sizeof(Item) + 63) / 64 * 64;
    return reinterpret_cast<Item*>(part);
  }
  float* floats(size_t count) { return items<float>(count); }
  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_;
};

std::atomic<long long> largest_workspace{0};  // bytes

// Calls carve(Arena*) twice, to measure and to place; MXNet counts the memory as its own.
template <class Carve>
void allocate(const OpResource& resource, Carve carve) {
  Arena measure;
  carve(&measure);
  const size_t bytes = measure.used() + 64;
  if (bytes > static_cast<size_t>(std::numeric_limits<int>::max()))
    throw std::runtime_error("the workspace would exceed 2 GB; use a smaller batch");
  for (long long most = largest_workspace;
       most < static_cast<long long>(bytes) &&
       !largest_workspace.compare_exchange_weak(most, static_cast<long long>(bytes));) {
  }
  char* memory = static_cast<char*>(resource.alloc_cpu(static_cast<int>(bytes)));
  Arena place(memory + (64 - reinterpret_cast<size_t>(memory) % 64) % 64);
  carve(&place);
}

int threads_for(int items) { return std::max(1, std::min(omp_get_max_threads(), items)); }

}  // namespace

#endif  // DSONAS_MX_NATIVE_OPERANDS_H_
