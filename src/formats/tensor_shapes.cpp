#include "formats/tensor_shapes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <optional>
#include <unordered_map>

#include "formats/gguf_names.h"

namespace redoubt {
namespace {

class ShapeList {
 public:
  ShapeList(const ModelConfig& config, int64_t num_experts) : c_(config), num_experts_(num_experts) {}
  std::vector<NamedShape> take() { return std::move(entries_); }

  void add_all() {
    add_embedding();
    for (int64_t layer = 0; layer < c_.num_hidden_layers + c_.num_nextn_predict_layers; ++layer) add_numbered(layer);
    add_norm();
    if (!c_.tie_word_embeddings) add_head();
  }
  void add_embedding() { add("model.embed_tokens.weight", {c_.vocab_size, c_.hidden_size}); }
  void add_norm() { add("model.norm.weight", {c_.hidden_size}); }
  void add_head() { add("lm_head.weight", {c_.vocab_size, c_.hidden_size}); }
  // A layer, or one of the MTP modules that are numbered after them.
  void add_numbered(int64_t layer) {
    if (layer < c_.num_hidden_layers)
      add_layer(layer);
    else
      add_mtp(layer);
  }

 private:
  void add(std::string name, std::vector<int64_t> shape) { entries_.push_back({std::move(name), std::move(shape)}); }

  void add_mlp(const std::string& prefix, int64_t width) {
    add(prefix + "gate_proj.weight", {width, c_.hidden_size});
    add(prefix + "up_proj.weight", {width, c_.hidden_size});
    add(prefix + "down_proj.weight", {c_.hidden_size, width});
  }

  void add_mla(const std::string& prefix) {
    const int64_t heads = c_.num_attention_heads;
    if (c_.q_lora_rank > 0) {
      add(prefix + "q_a_proj.weight", {c_.q_lora_rank, c_.hidden_size});
      add(prefix + "q_a_layernorm.weight", {c_.q_lora_rank});
      add(prefix + "q_b_proj.weight", {heads * c_.qk_head_dim(), c_.q_lora_rank});
    } else {
      add(prefix + "q_proj.weight", {heads * c_.qk_head_dim(), c_.hidden_size});
    }
    add(prefix + "kv_a_proj_with_mqa.weight", {c_.kv_lora_rank + c_.qk_rope_head_dim, c_.hidden_size});
    add(prefix + "kv_a_layernorm.weight", {c_.kv_lora_rank});
    add(prefix + "kv_b_proj.weight", {heads * (c_.qk_nope_head_dim + c_.v_head_dim), c_.kv_lora_rank});
    add(prefix + "o_proj.weight", {c_.hidden_size, heads * c_.v_head_dim});
  }

  void add_gqa(const std::string& prefix) {
    const int64_t q = c_.num_attention_heads * c_.head_dim, kv = c_.num_key_value_heads * c_.head_dim;
    add(prefix + "q_proj.weight", {q, c_.hidden_size});
    add(prefix + "k_proj.weight", {kv, c_.hidden_size});
    add(prefix + "v_proj.weight", {kv, c_.hidden_size});
    if (c_.attention_bias) {
      add(prefix + "q_proj.bias", {q});
      add(prefix + "k_proj.bias", {kv});
      add(prefix + "v_proj.bias", {kv});
    }
    add(prefix + "o_proj.weight", {c_.hidden_size, q});
  }

  void add_layer(int64_t layer, bool always_moe = false) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "input_layernorm.weight", {c_.hidden_size});
    if (c_.architecture == Architecture::deepseek) {
      add_mla(prefix + "self_attn.");
    } else {
      add_gqa(prefix + "self_attn.");
    }
    add(prefix + "post_attention_layernorm.weight", {c_.hidden_size});
    if (c_.n_routed_experts == 0 || !(always_moe || c_.is_moe_layer(layer))) {
      add_mlp(prefix + "mlp.", c_.intermediate_size);
      return;
    }
    add(prefix + "mlp.gate.weight", {c_.n_routed_experts, c_.hidden_size});
    if (c_.topk_method == TopkMethod::noaux_tc) add(prefix + "mlp.gate.e_score_correction_bias", {c_.n_routed_experts});
    for (int64_t expert = 0; expert < num_experts_; ++expert) {
      add_mlp(fmt::format("{}mlp.experts.{}.", prefix, expert), c_.moe_intermediate_size);
    }
    if (c_.n_shared_experts > 0)
      add_mlp(prefix + "mlp.shared_experts.", c_.n_shared_experts * c_.moe_intermediate_size);
  }

  void add_mtp(int64_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "embed_tokens.weight", {c_.vocab_size, c_.hidden_size});
    add(prefix + "enorm.weight", {c_.hidden_size});
    add(prefix + "hnorm.weight", {c_.hidden_size});
    add(prefix + "eh_proj.weight", {c_.hidden_size, 2 * c_.hidden_size});
    add_layer(layer, /*always_moe=*/true);
    add(prefix + "shared_head.norm.weight", {c_.hidden_size});
    add(prefix + "shared_head.head.weight", {c_.vocab_size, c_.hidden_size});
  }

  const ModelConfig& c_;
  const int64_t num_experts_;  // of a layer that are named
  std::vector<NamedShape> entries_;
};

using ShapesByName = std::unordered_map<std::string, std::vector<int64_t>>;

ShapesByName by_name(std::vector<NamedShape> list) {
  ShapesByName shapes;
  for (NamedShape& entry : list) shapes.emplace(std::move(entry.name), std::move(entry.shape));
  return shapes;
}

// "…mlp.experts.17.…" as the first expert, whose shapes are all experts'.
std::string of_first_expert(std::string_view name) {
  constexpr std::string_view kExperts = ".mlp.experts.";
  const size_t at = name.find(kExperts);
  const size_t end = at == std::string_view::npos ? at : name.find('.', at + kExperts.size());
  if (end == std::string_view::npos) return std::string(name);
  return std::string(name.substr(0, at + kExperts.size())) + "0" + std::string(name.substr(end));
}

// Of those layers alone whose tensors are there: a configuration may speak of any number.
class ExpectedShapes {
 public:
  explicit ExpectedShapes(const ModelConfig& config) : c_(config) {
    ShapeList list(config, 0);
    list.add_embedding();
    list.add_norm();
    list.add_head();
    whole_ = by_name(list.take());
  }

  std::optional<std::vector<int64_t>> of(std::string_view name) {
    const auto layer = hf_layer(name);
    const ShapesByName& shapes = layer ? of_layer(layer->layer) : whole_;
    if (const auto found = shapes.find(of_first_expert(name)); found != shapes.end()) return found->second;
    constexpr std::string_view kBias = ".bias";  // of any matrix, as long as it has rows
    if (!name.ends_with(kBias)) return std::nullopt;
    const auto matrix = shapes.find(std::string(name.substr(0, name.size() - kBias.size())) + ".weight");
    return matrix == shapes.end() ? std::nullopt : std::optional(std::vector<int64_t>{matrix->second.front()});
  }

 private:
  const ShapesByName& of_layer(int64_t layer) {
    static const ShapesByName none;
    if (layer >= c_.num_hidden_layers + c_.num_nextn_predict_layers) return none;
    const auto [it, is_new] = layers_.try_emplace(layer);
    if (is_new) {
      ShapeList list(c_, 1);
      list.add_numbered(layer);
      it->second = by_name(list.take());
      add_halves(layer, it->second);
    }
    return it->second;
  }

  // GGUF has kv_b_proj in two.
  void add_halves(int64_t layer, ShapesByName& shapes) const {
    const std::string at = fmt::format("model.layers.{}.self_attn.", layer);
    if (!shapes.contains(at + "kv_b_proj.weight")) return;
    const int64_t heads = c_.num_attention_heads;
    shapes[at + "k_b_proj.weight"] = {heads * c_.kv_lora_rank, c_.qk_nope_head_dim};
    shapes[at + "v_b_proj.weight"] = {heads * c_.v_head_dim, c_.kv_lora_rank};
  }

  const ModelConfig& c_;
  ShapesByName whole_;
  std::map<int64_t, ShapesByName> layers_;
};

}  // namespace

bool has_shape(const TensorView& tensor, std::span<const int64_t> expected) {
  int64_t elements = 1;
  for (const int64_t extent : expected) elements *= extent;
  if (tensor.elements() != elements) return false;
  return expected.size() == 1 || (!tensor.shape.empty() && tensor.shape.back() == expected.back());
}

std::vector<NamedShape> tensor_shapes(const ModelConfig& config) {
  ShapeList list(config, config.n_routed_experts);
  list.add_all();
  return list.take();
}

Status check_shapes(const Checkpoint& model) {
  ExpectedShapes shapes(model.config());
  for (const TensorView& tensor : model.tensors()) {
    const auto expected = shapes.of(tensor.name);
    if (!expected || has_shape(tensor, *expected)) continue;
    return corrupt(fmt::format("{}: expected [{}], found [{}]", model.place_of(tensor.name), fmt::join(*expected, ", "),
                               fmt::join(tensor.shape, ", ")));
  }
  return ok();
}

}  // namespace redoubt
