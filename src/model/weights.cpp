#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "formats/blocks.h"

namespace redoubt {

Result<Weight> WeightLoader::matrix(const std::string& name, int64_t rows, int64_t cols) {
  const TensorView* tensor = checkpoint_.find(name + ".weight");
  if (tensor == nullptr)
    return corrupt(fmt::format("{}.weight: expected [{}, {}], found no such tensor", name, rows, cols));
  const bool shape_fits = !tensor->shape.empty() && tensor->shape.back() == cols && tensor->elements() == rows * cols;
  if (!shape_fits) {
    return corrupt(
        fmt::format("{}.weight: expected [{}, {}], found [{}]", name, rows, cols, fmt::join(tensor->shape, ", ")));
  }
  const DTypeInfo& type = info(tensor->dtype);
  if (decoder_for(kernels_, tensor->dtype) == nullptr || cols % type.block_elems != 0) {
    return unsupported(
        fmt::format("{}.weight: rows of {} values of type {} cannot be computed with", name, cols, type.name));
  }
  Weight weight;
  weight.matrix = {.data = reinterpret_cast<const unsigned char*>(tensor->data.data()),
                   .rows = rows,
                   .cols = cols,
                   .row_bytes = row_bytes(tensor->dtype, cols),
                   .dtype = static_cast<int32_t>(tensor->dtype),
                   .block_elems = type.block_elems,
                   .block_bytes = type.block_bytes,
                   .scales = nullptr,
                   .scale_cols = 0,
                   .decode = decoder_for(kernels_, tensor->dtype)};
  if (checkpoint_.find(name + ".weight_scale_inv") != nullptr) {
    const int64_t scale_rows = (rows + kScaleBlock - 1) / kScaleBlock;
    weight.matrix.scale_cols = (cols + kScaleBlock - 1) / kScaleBlock;
    REDOUBT_TRY(weight.matrix.scales, vector(name + ".weight_scale_inv", scale_rows * weight.matrix.scale_cols));
  }
  if (checkpoint_.find(name + ".bias") != nullptr) {
    REDOUBT_TRY(weight.bias, vector(name + ".bias", rows));
  }
  return weight;
}

void WeightLoader::pack(Weight& weight) { packed_.add(packed_kernels_, weight); }

Result<Weight> WeightLoader::packed(const std::string& name, int64_t rows, int64_t cols) {
  REDOUBT_TRY(Weight weight, matrix(name, rows, cols));
  pack(weight);
  return weight;
}

Result<const float*> WeightLoader::vector(const std::string& name, int64_t elements) {
  const TensorView* tensor = checkpoint_.find(name);
  if (tensor == nullptr) return corrupt(fmt::format("{}: expected {} values, found no such tensor", name, elements));
  if (tensor->elements() != elements) {
    return corrupt(fmt::format("{}: expected {} values, found [{}]", name, elements, fmt::join(tensor->shape, ", ")));
  }
  if (!can_decode(tensor->dtype) || elements % info(tensor->dtype).block_elems != 0) {
    return unsupported(fmt::format("{}: type {} cannot be read here", name, info(tensor->dtype).name));
  }
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
