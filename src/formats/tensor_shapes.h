// The tensors of a model, with the shapes that its configuration asks for.
#pragma once

#include <cstdint>
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

// What is there has those shapes; as where it is loaded, a matrix may have its rows in two dimensions, and a tensor
// that the configuration does not ask for any. Errors: corrupt_data, naming file, tensor, what was expected and found.
Status check_shapes(const Checkpoint& model);

}  // namespace redoubt
