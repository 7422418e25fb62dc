// The tensors of a model, with the shapes that its configuration asks for.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "formats/checkpoint.h"
#include "formats/model_config.h"

namespace redoubt {

struct NamedShape {
  std::string name;  // Hugging Face's
  std::vector<int64_t> shape;
};
// All of them, as a directory of safetensors has them.
std::vector<NamedShape> tensor_shapes(const ModelConfig& config);

// A vector has its values; a matrix its rows and columns, of which the rows may be in two dimensions.
bool has_shape(const TensorView& tensor, std::span<const int64_t> expected);

// What is there has those shapes, and a tensor that the configuration does not ask for any. Errors: corrupt_data,
// naming file, tensor, what was expected and found.
Status check_shapes(const Checkpoint& model);

}  // namespace redoubt
