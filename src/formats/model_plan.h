// What a model becomes in the other container: every tensor of a Checkpoint, whichever container it came from, as
// output tensors of a safetensors directory or of a GGUF file, with types chosen by policy.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/model_writer.h"

namespace redoubt {

Container container_of(const std::filesystem::path& path);  // by name: .gguf, .redoubt-packed or a directory

enum class TensorRole : uint8_t {
  matrix,      // multiplied with activations
  embedding,   // looked up by row
  head,        // gives the logits
  projection,  // MTP's eh_proj, kept in 16 bits by DeepSeek
  kept,        // norms, biases, the router: small, and exact
};
TensorRole role_of(std::string_view hf_name, const std::vector<int64_t>& shape);

// The type to write: role, stored type, values in a row.
using TypePolicy = std::function<DType(TensorRole role, DType stored, int64_t cols)>;

struct ModelPlan {
  std::vector<OutputTensor> tensors;
  std::vector<std::string> stored_as_bf16;  // Hugging Face names of what was BF16 and is written as F32
  std::vector<std::string> notes;
};

Result<ModelPlan> plan_gguf(const Checkpoint& model, const TypePolicy& policy);
Result<ModelPlan> plan_safetensors(const Checkpoint& model, const TypePolicy& policy);

// A weight in DeepSeek's FP8 blocks and its scales: two output tensors.
void add_fp8_blocks(std::string name, std::vector<int64_t> shape, TensorRows rows, std::vector<OutputTensor>& outputs);

// Writes the plan with everything beside the tensors: configuration, tokenizer, template, generation defaults.
Result<ConvertReport> write_model(const Checkpoint& model, ModelPlan plan, const std::filesystem::path& out,
                                  Container target, const WriteOptions& options);

Status check_output_is_new(const std::filesystem::path& out, Container target);

}  // namespace redoubt
