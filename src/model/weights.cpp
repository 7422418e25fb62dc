#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "formats/blocks.h"
#include "formats/quantized_matrix.h"
#include "formats/tensor_shapes.h"

namespace redoubt {
namespace {

WeightMatrix matrix_of(const KernelTable& kernels, DType dtype, const std::byte* data, int64_t rows, int64_t cols) {
  return {.data = reinterpret_cast<const unsigned char*>(data),
          .rows = rows,
          .cols = cols,
          .row_bytes = row_bytes(dtype, cols),
          .dtype = static_cast<int32_t>(dtype),
          .block_elems = info(dtype).block_elems,
          .block_bytes = info(dtype).block_bytes,
          .scales = nullptr,
          .scale_cols = 0,
          .decode = decoder_for(kernels, dtype)};
}

// Rows that share cache lines in another program's layout go to one thread.
template <class Body>
void over_chunks(ThreadPool& pool, int64_t rows, const Body& body) {
  constexpr int64_t kRows = 128;
  pool.parallel_for((rows + kRows - 1) / kRows,
                    [&](int64_t chunk, int) { body(chunk * kRows, std::min(rows, (chunk + 1) * kRows)); });
}

}  // namespace

Status WeightLoader::verify(const TensorView& tensor) { return checkpoint_.verify(tensor, &pool_); }

Result<const TensorView*> WeightLoader::find_matrix(const std::string& name, int64_t rows, int64_t cols) {
  const TensorView* tensor = checkpoint_.find(name + ".weight");
  if (tensor == nullptr)
    return corrupt(
        fmt::format("{}: expected [{}, {}], found no such tensor", checkpoint_.place_of(name + ".weight"), rows, cols));
  if (!has_shape(*tensor, std::array{rows, cols})) {
    return corrupt(fmt::format("{}: expected [{}, {}], found [{}]", checkpoint_.place_of(tensor->name), rows, cols,
                               fmt::join(tensor->shape, ", ")));
  }
  const DTypeInfo& type = info(tensor->dtype);
  if (decoder_for(kernels_, tensor->dtype) == nullptr || cols % type.block_elems != 0) {
    return unsupported(fmt::format("{}: rows of {} values of type {} cannot be computed with",
                                   checkpoint_.place_of(tensor->name), cols, type.name));
  }
  return tensor;
}

Status WeightLoader::add_bias(const std::string& name, Weight& weight) {
  if (checkpoint_.find(name + ".bias") != nullptr) {
    REDOUBT_TRY(weight.bias, vector(name + ".bias", weight.rows()));
  }
  return ok();
}

Result<Weight> WeightLoader::matrix(const std::string& name, int64_t rows, int64_t cols) {
  REDOUBT_TRY(const TensorView* tensor, find_matrix(name, rows, cols));
  REDOUBT_CHECK(verify(*tensor));
  Weight weight;
  weight.matrix = matrix_of(kernels_, tensor->dtype, tensor->data.data(), rows, cols);
  if (tensor->source != nullptr && tensor->source->columns.empty()) {
    weight.matrix.data = reinterpret_cast<const unsigned char*>(storage_.emplace_back(read_blocks(*tensor)).data());
  } else if (tensor->source != nullptr) {  // sorted columns: what looks into a matrix wants them in order
    std::vector<float>& values = storage_.emplace_back(static_cast<size_t>(rows * cols));
    over_chunks(pool_, rows, [&](int64_t begin, int64_t end) {
      read_values(*tensor->source, tensor->dtype, cols, begin, end, values.data() + begin * cols);
    });
    weight.matrix = matrix_of(kernels_, DType::f32, reinterpret_cast<const std::byte*>(values.data()), rows, cols);
  }
  REDOUBT_CHECK(add_scales(name, weight));
  REDOUBT_CHECK(add_bias(name, weight));
  return weight;
}

// Of FP8 blocks.
Status WeightLoader::add_scales(const std::string& name, Weight& weight) {
  if (weight.matrix.dtype != static_cast<int32_t>(DType::f8_e4m3)) return ok();
  if (checkpoint_.find(name + ".weight_scale_inv") == nullptr) return ok();
  const int64_t scale_rows = (weight.rows() + kScaleBlock - 1) / kScaleBlock;
  weight.matrix.scale_cols = (weight.cols() + kScaleBlock - 1) / kScaleBlock;
  REDOUBT_TRY(weight.matrix.scales, vector(name + ".weight_scale_inv", scale_rows * weight.matrix.scale_cols));
  return ok();
}

std::vector<float> WeightLoader::read_blocks(const TensorView& tensor) {
  const int64_t cols = tensor.shape.back(), rows = tensor.elements() / cols, stride = row_bytes(tensor.dtype, cols);
  std::vector<float> memory(static_cast<size_t>(rows * stride / 4 + 1));
  auto* bytes = reinterpret_cast<std::byte*>(memory.data());
  over_chunks(pool_, rows,
              [&](int64_t begin, int64_t end) { tensor.source->read(begin, end, bytes + begin * stride); });
  tensor.release_pages();
  return memory;
}

const int32_t* WeightLoader::column_order(const std::vector<int32_t>& columns) {
  if (columns.empty()) return nullptr;
  for (const auto* order : orders_) {
    if (*order == columns) return order->data();
  }
  orders_.push_front(&columns);
  if (orders_.size() > 4) orders_.pop_back();
  return columns.data();
}

void WeightLoader::pack(const std::string& name, Weight& weight, Inputs inputs) {
  // The errors of a small model's few narrow layers do not average out.
  constexpr int64_t kSmallHidden = 1024;
  weight.fine = inputs == Inputs::fine || checkpoint_.config().hidden_size <= kSmallHidden;
  if (packed_ != nullptr) packed_->add(packed_kernels_, name, weight);
}

Result<Weight> WeightLoader::packed(const std::string& name, int64_t rows, int64_t cols, Inputs inputs) {
  REDOUBT_TRY(const TensorView* tensor, find_matrix(name, rows, cols));
  if (tensor->source == nullptr) {
    REDOUBT_TRY(Weight weight, matrix(name, rows, cols));
    pack(name, weight, inputs);
    return weight;
  }
  Weight weight;
  weight.matrix = matrix_of(kernels_, tensor->dtype, nullptr, rows, cols);
  weight.columns = column_order(tensor->source->columns);
  REDOUBT_CHECK(add_scales(name, weight));
  REDOUBT_CHECK(add_bias(name, weight));
  if (tensor->packed != nullptr) {
    pack(name, weight, inputs);
    if (weight.packed.data != nullptr) return weight;  // mapped; its chunks are verified before their first use
    REDOUBT_CHECK(verify(*tensor));                    // the kernels want it as stored: unpacked into memory
  }
  std::vector<float> blocks = read_blocks(*tensor);
  weight.matrix.data = reinterpret_cast<const unsigned char*>(blocks.data());
  if (tensor->packed == nullptr) pack({}, weight, inputs);  // without a name: its source is gone, so it is never kept
  if (weight.packed.data == nullptr) {
    storage_.push_back(std::move(blocks));
  } else {
    weight.matrix.data = nullptr;  // only the packed form is left
  }
  return weight;
}

Result<Weight> WeightLoader::projection(const std::string& name, int64_t rows, int64_t cols) {
  const TensorView* tensor = checkpoint_.find(name + ".weight");
  const bool adopted = tensor != nullptr && tensor->source != nullptr;
  return adopted ? matrix(name, rows, cols) : packed(name, rows, cols);
}

Result<const float*> WeightLoader::vector(const std::string& name, int64_t elements) {
  const TensorView* tensor = checkpoint_.find(name);
  if (tensor == nullptr) {
    return corrupt(fmt::format("{}: expected {} values, found no such tensor", checkpoint_.place_of(name), elements));
  }
  if (!has_shape(*tensor, std::array{elements})) {
    return corrupt(fmt::format("{}: expected {} values, found [{}]", checkpoint_.place_of(name), elements,
                               fmt::join(tensor->shape, ", ")));
  }
  if (tensor->source != nullptr || !can_decode(tensor->dtype) || elements % info(tensor->dtype).block_elems != 0) {
    return unsupported(
        fmt::format("{}: type {} cannot be read here", checkpoint_.place_of(name), info(tensor->dtype).name));
  }
  REDOUBT_CHECK(verify(*tensor));
  std::vector<float>& values = storage_.emplace_back(static_cast<size_t>(elements));
  decode_row(tensor->dtype, tensor->data.data(), values);
  return values.data();
}

Result<MlpWeights> WeightLoader::mlp(const std::string& prefix, int64_t hidden, int64_t inner) {
  MlpWeights weights;
  REDOUBT_TRY(weights.gate, packed(prefix + ".gate_proj", inner, hidden));
  REDOUBT_TRY(weights.up, packed(prefix + ".up_proj", inner, hidden));
  REDOUBT_TRY(weights.down, packed(prefix + ".down_proj", hidden, inner));
  return weights;
}

}  // namespace redoubt
