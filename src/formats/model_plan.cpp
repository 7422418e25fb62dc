#include "formats/model_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/float_bits.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "formats/packed_file.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

constexpr int64_t kFp8Block = 128;
constexpr float kFp8Largest = 448.0f;

bool is_left_out(std::string_view name) {  // computed, or read together with another tensor
  return name.ends_with("_scale_inv") || name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight";
}

// "…mlp.experts.17.gate_proj.weight" -> layer, 17, "gate_proj".
struct ExpertName {
  int64_t layer, expert;
  std::string_view projection;
};
std::optional<ExpertName> expert_of(std::string_view name) {
  constexpr std::string_view kMiddle = "mlp.experts.", kEnd = ".weight";
  const auto layer = hf_layer(name);
  if (!layer || !layer->rest.starts_with(kMiddle) || !layer->rest.ends_with(kEnd)) return std::nullopt;
  std::string_view rest = layer->rest.substr(kMiddle.size());
  rest.remove_suffix(std::min(rest.size(), kEnd.size()));
  const size_t dot = rest.find('.');
  if (dot == 0 || dot > 6) return std::nullopt;
  int64_t expert = 0;
  for (const char c : rest.substr(0, dot)) {
    if (c < '0' || c > '9') return std::nullopt;
    expert = expert * 10 + (c - '0');
  }
  return ExpertName{layer->layer, expert, rest.substr(dot + 1)};
}

// Rows of q_proj and k_proj, turned to what the target wants. Only Llama's differ between the containers.
Result<TensorRows> attention_rows(const Checkpoint& model, const TensorView& tensor, Container target) {
  const ModelConfig& config = model.config();
  TensorRows rows = rows_of(model, tensor);
  const RopeStyle wanted = target == Container::gguf ? RopeStyle::interleaved : RopeStyle::half;
  const bool turned = tensor.name.ends_with("q_proj.weight") || tensor.name.ends_with("k_proj.weight");
  const bool bias = tensor.name.ends_with("q_proj.bias") || tensor.name.ends_with("k_proj.bias");
  if (config.model_type != "llama" || config.rope_style == wanted || (!turned && !bias)) return rows;
  if (bias)
    return unsupported(fmt::format("tensor {}: a Llama q or k bias cannot be permuted yet", shown(tensor.name)));
  if (rows.rows % config.head_dim != 0) {
    return corrupt(fmt::format("tensor {}: expected rows of a multiple of head_dim {}, found {}", shown(tensor.name),
                               config.head_dim, rows.rows));
  }
  return wanted == RopeStyle::interleaved ? halves_to_pairs(rows, config.head_dim)
                                          : pairs_to_halves(rows, config.head_dim);
}

Status check_shape(const TensorView& tensor, std::vector<int64_t> expected) {
  if (tensor.shape == expected) return ok();
  return corrupt(fmt::format("tensor {}: expected [{}], found [{}]", shown(tensor.name), fmt::join(expected, ", "),
                             fmt::join(tensor.shape, ", ")));
}

class GgufPlanner {
 public:
  GgufPlanner(const Checkpoint& model, const TypePolicy& policy)
      : model_(model), config_(model.config()), policy_(policy) {}

  Result<ModelPlan> plan() {
    for (const TensorView& tensor : model_.tensors()) {
      if (is_left_out(tensor.name)) continue;
      const auto layer = hf_layer(tensor.name);
      if (const auto expert = expert_of(tensor.name)) {
        if (expert->expert == 0) {
          REDOUBT_CHECK(add_stack(tensor, *expert));
        } else if (expert->expert >= config_.n_routed_experts ||
                   model_.find(expert_name(expert->layer, 0, expert->projection)) == nullptr) {
          return corrupt(fmt::format("tensor {}: expected experts 0 to {}, each with its tensors", shown(tensor.name),
                                     config_.n_routed_experts - 1));
        }
      } else if (layer && layer->rest == "self_attn.kv_b_proj.weight" &&
                 config_.architecture == Architecture::deepseek) {
        REDOUBT_CHECK(add_kv_b(tensor, layer->layer));
      } else if (const auto name = gguf_name(tensor.name)) {
        REDOUBT_TRY(TensorRows rows, attention_rows(model_, tensor, Container::gguf));
        add(*name, tensor.name, tensor.shape, std::move(rows));
      } else {
        plan_.notes.push_back(fmt::format("Tensor {} has no place in GGUF and was left out.", shown(tensor.name)));
      }
    }
    return std::move(plan_);
  }

 private:
  void add(std::string name, std::string_view hf, std::vector<int64_t> shape, TensorRows rows) {
    const DType type = policy_(role_of(hf, shape), rows.dtype, rows.cols);
    if (rows.dtype == DType::bf16 && type == DType::f32) plan_.stored_as_bf16.emplace_back(hf);
    plan_.tensors.push_back(output_tensor(std::move(name), type, std::move(shape), std::move(rows)));
  }

  Status add_stack(const TensorView& first, const ExpertName& name) {
    if (first.shape.size() != 2) return check_shape(first, {0, 0});
    std::vector<TensorRows> experts;
    for (int64_t expert = 0; expert < config_.n_routed_experts; ++expert) {
      const TensorView* tensor = model_.find(expert_name(name.layer, expert, name.projection));
      if (tensor == nullptr) {
        return corrupt(fmt::format("tensor {}: expected one for each of {} experts, found none for expert {}",
                                   shown(first.name), config_.n_routed_experts, expert));
      }
      REDOUBT_CHECK(check_shape(*tensor, first.shape));
      if (tensor->dtype != first.dtype) {
        return corrupt(fmt::format("tensor {}: expected {} as in expert 0, found {}", shown(tensor->name),
                                   info(first.dtype).name, info(tensor->dtype).name));
      }
      experts.push_back(rows_of(model_, *tensor));
    }
    add(expert_stack_name(name.layer, name.projection), first.name,
        {config_.n_routed_experts, first.shape[0], first.shape[1]}, stacked_rows(std::move(experts)));
    return ok();
  }

  Status add_kv_b(const TensorView& tensor, int64_t layer) {
    const int64_t heads = config_.num_attention_heads;
    REDOUBT_CHECK(check_shape(tensor, {heads * (config_.qk_nope_head_dim + config_.v_head_dim), config_.kv_lora_rank}));
    const TensorRows kv_b = rows_of(model_, tensor);
    add(fmt::format("blk.{}.attn_k_b.weight", layer), tensor.name,
        {heads, config_.kv_lora_rank, config_.qk_nope_head_dim}, k_b_rows(kv_b, config_));
    add(fmt::format("blk.{}.attn_v_b.weight", layer), tensor.name, {heads, config_.v_head_dim, config_.kv_lora_rank},
        v_b_rows(kv_b, config_));
    return ok();
  }

  const Checkpoint& model_;
  const ModelConfig& config_;
  const TypePolicy& policy_;
  ModelPlan plan_;
};

}  // namespace

Container container_of(const std::filesystem::path& path) {
  if (path.extension() == kPackedExtension) return Container::packed;
  return path.extension() == ".gguf" ? Container::gguf : Container::safetensors;
}

TensorRole role_of(std::string_view name, const std::vector<int64_t>& shape) {
  if (shape.size() < 2 || name.ends_with(".mlp.gate.weight")) return TensorRole::kept;
  if (name.ends_with("embed_tokens.weight")) return TensorRole::embedding;
  if (name == "lm_head.weight" || name.ends_with("shared_head.head.weight")) return TensorRole::head;
  return name.ends_with("eh_proj.weight") ? TensorRole::projection : TensorRole::matrix;
}

Result<ModelPlan> plan_gguf(const Checkpoint& model, const TypePolicy& policy) {
  if (model.config().moe_layer_freq != 1)
    return unsupported("moe_layer_freq: GGUF has no key for a value other than 1");
  return GgufPlanner(model, policy).plan();
}

Result<ModelPlan> plan_safetensors(const Checkpoint& model, const TypePolicy& policy) {
  const ModelConfig& config = model.config();
  ModelPlan plan;
  std::vector<std::string_view> was_bf16;
  if (model.gguf() != nullptr) was_bf16 = model.gguf()->strings("redoubt.stored_as_bf16").value_or(was_bf16);
  std::ranges::sort(was_bf16);
  for (const TensorView& tensor : model.tensors()) {
    if (is_left_out(tensor.name)) continue;
    std::string name(tensor.name);
    std::vector<int64_t> shape = tensor.shape;
    const auto layer = hf_layer(tensor.name);
    if (layer && layer->rest == "self_attn.v_b_proj.weight") continue;  // read with k_b_proj
    REDOUBT_TRY(TensorRows rows, attention_rows(model, tensor, Container::safetensors));
    if (layer && layer->rest == "self_attn.k_b_proj.weight") {
      const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer->layer);
      const TensorView* v_b = model.find(prefix + "v_b_proj.weight");
      if (v_b == nullptr) return corrupt(fmt::format("tensor {}: expected v_b beside it, found none", shown(name)));
      const int64_t heads = config.num_attention_heads;
      REDOUBT_CHECK(check_shape(tensor, {heads, config.kv_lora_rank, config.qk_nope_head_dim}));
      REDOUBT_CHECK(check_shape(*v_b, {heads, config.v_head_dim, config.kv_lora_rank}));
      rows = kv_b_rows(rows_of(model, tensor), rows_of(model, *v_b), config);
      name = prefix + "kv_b_proj.weight";
      shape = {rows.rows, rows.cols};
    } else if (model.gguf() != nullptr && gguf_name(name) == std::nullopt && !expert_of(name)) {
      plan.notes.push_back(fmt::format("Tensor {} has no name in this architecture and was left out.", shown(name)));
      continue;
    }
    DType type = policy(role_of(name, shape), rows.dtype, rows.cols);
    if (type == DType::f32 && std::ranges::binary_search(was_bf16, name)) type = DType::bf16;
    if (type == DType::f8_e4m3 && shape.size() != 2) type = DType::bf16;
    if (type == DType::f8_e4m3 && rows.dtype == type && rows.raw) {  // as it is, with its scales
      const TensorView* scale = fp8_scales(model, tensor);
      if (scale != nullptr) {
        plan.tensors.push_back(
            output_tensor(std::string(scale->name), scale->dtype, scale->shape, rows_of(model, *scale)));
      }
      plan.tensors.push_back(output_tensor(std::move(name), type, std::move(shape), std::move(rows)));
    } else if (type == DType::f8_e4m3) {
      add_fp8_blocks(std::move(name), std::move(shape), std::move(rows), plan.tensors);
    } else {
      plan.tensors.push_back(output_tensor(std::move(name), type, std::move(shape), std::move(rows)));
    }
  }
  return plan;
}

void add_fp8_blocks(std::string name, std::vector<int64_t> shape, TensorRows rows, std::vector<OutputTensor>& outputs) {
  const int64_t cols = rows.cols, blocks = (cols + kFp8Block - 1) / kFp8Block;
  // Scales of one row of blocks, from its at most 128 rows of weights.
  const auto scales_of = [blocks, cols](std::span<const float> values) {
    std::vector<float> scales(static_cast<size_t>(blocks), 0.0f);
    for (size_t i = 0; i < values.size(); ++i) {
      float& scale = scales[i % static_cast<size_t>(cols) / kFp8Block];
      scale = std::max(scale, std::fabs(values[i]));
    }
    for (float& scale : scales) scale = scale > 0 ? scale / kFp8Largest : 1.0f;
    return scales;
  };
  OutputTensor weight{name, DType::f8_e4m3, shape, kFp8Block, {}, rows.verify, rows.release};
  weight.fill = [rows, scales_of, cols](int64_t begin, int64_t end, std::byte* out) {  // begin: a multiple of 128
    std::vector<float> values;
    for (int64_t first = begin; first < end; first += kFp8Block) {
      const int64_t last = std::min(end, first + kFp8Block);
      values.resize(static_cast<size_t>((last - first) * cols));
      rows.read(first, last, values.data());
      const std::vector<float> scales = scales_of(values);
      for (size_t i = 0; i < values.size(); ++i) {
        *out++ = static_cast<std::byte>(e4m3_from_float(values[i] / scales[i % static_cast<size_t>(cols) / kFp8Block]));
      }
    }
  };
  OutputTensor scale{name + "_scale_inv", DType::f32, {(shape[0] + kFp8Block - 1) / kFp8Block, blocks}, 1, {}, {}};
  scale.fill = [rows, scales_of, cols](int64_t begin, int64_t end, std::byte* out) {
    std::vector<float> values;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * kFp8Block, last = std::min(rows.rows, first + kFp8Block);
      values.resize(static_cast<size_t>((last - first) * cols));
      rows.read(first, last, values.data());
      const std::vector<float> scales = scales_of(values);
      std::memcpy(out, scales.data(), scales.size() * sizeof(float));
      out += scales.size() * sizeof(float);
    }
  };
  outputs.push_back(std::move(weight));
  outputs.push_back(std::move(scale));
}

}  // namespace redoubt
