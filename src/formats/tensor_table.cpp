#include "formats/tensor_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf_names.h"
#include "formats/shown.h"

namespace redoubt {

Status TensorTable::add(std::string name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> data) {
  const std::string& kept = names.emplace_back(std::move(name));
  if (!index.emplace(kept, tensors.size()).second) return corrupt(fmt::format("tensor {}: found twice", shown(kept)));
  tensors.push_back({kept, dtype, std::move(shape), data});
  weights_bytes += static_cast<int64_t>(data.size());
  return ok();
}

const TensorView* TensorTable::find(std::string_view name) const {
  const auto it = index.find(name);
  return it == index.end() ? nullptr : &tensors[it->second];
}

namespace {

// A stack of experts [experts, rows, cols] as one tensor for each. Files may fuse gate and up: rows of gate first.
Status add_experts(const GgufTensor& stack, const ModelConfig& config, int64_t layer,
                   std::span<const std::string_view> projections, TensorTable& table) {
  const auto parts = static_cast<int64_t>(projections.size());
  if (stack.dims.size() != 3 || stack.dims[2] != config.n_routed_experts || stack.dims[1] % parts != 0) {
    return corrupt(fmt::format("tensor {}: expected a stack of {} experts, found [{}]", shown(stack.name),
                               config.n_routed_experts, fmt::join(stack.dims, ", ")));
  }
  const int64_t rows = stack.dims[1] / parts, cols = stack.dims[0];
  const auto bytes = static_cast<size_t>(rows * row_bytes(stack.dtype, cols));
  for (int64_t expert = 0; expert < config.n_routed_experts; ++expert) {
    for (int64_t part = 0; part < parts; ++part) {
      REDOUBT_CHECK(table.add(expert_name(layer, expert, projections[static_cast<size_t>(part)]), stack.dtype,
                              {rows, cols},
                              stack.data.subspan(static_cast<size_t>(expert * parts + part) * bytes, bytes)));
    }
  }
  return ok();
}

}  // namespace

Status load_gguf(const GgufFile& file, const ModelConfig& config, TensorTable& table) {
  constexpr std::string_view kGateUp[] = {"gate_proj", "up_proj"};
  for (const GgufTensor& tensor : file.tensors()) {
    if (const auto layer = gguf_layer(tensor.name)) {
      if (const auto projection = expert_projection(layer->rest)) {
        REDOUBT_CHECK(add_experts(tensor, config, layer->layer, {&*projection, 1}, table));
        continue;
      }
      if (layer->rest == "ffn_gate_up_exps.weight") {
        REDOUBT_CHECK(add_experts(tensor, config, layer->layer, kGateUp, table));
        continue;
      }
    }
    std::vector<int64_t> shape(tensor.dims.rbegin(), tensor.dims.rend());
    REDOUBT_CHECK(table.add(hf_name(tensor.name).value_or(std::string(tensor.name)), tensor.dtype, std::move(shape),
                            tensor.data));
  }
  return ok();
}

}  // namespace redoubt
