#include "formats/gguf_names.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace redoubt {
namespace {

struct Pair {
  std::string_view gguf, hf;
};

constexpr std::array kWhole{
    Pair{"token_embd.weight", "model.embed_tokens.weight"},
    Pair{"output_norm.weight", "model.norm.weight"},
    Pair{"output.weight", "lm_head.weight"},
};

constexpr std::array kInLayer{
    Pair{"attn_norm.weight", "input_layernorm.weight"},
    Pair{"ffn_norm.weight", "post_attention_layernorm.weight"},
    Pair{"attn_q.weight", "self_attn.q_proj.weight"},
    Pair{"attn_q.bias", "self_attn.q_proj.bias"},
    Pair{"attn_k.weight", "self_attn.k_proj.weight"},
    Pair{"attn_k.bias", "self_attn.k_proj.bias"},
    Pair{"attn_v.weight", "self_attn.v_proj.weight"},
    Pair{"attn_v.bias", "self_attn.v_proj.bias"},
    Pair{"attn_output.weight", "self_attn.o_proj.weight"},
    Pair{"attn_output.bias", "self_attn.o_proj.bias"},
    Pair{"attn_q_a.weight", "self_attn.q_a_proj.weight"},
    Pair{"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight"},
    Pair{"attn_q_b.weight", "self_attn.q_b_proj.weight"},
    Pair{"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"},
    Pair{"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
    Pair{"attn_kv_b.weight", "self_attn.kv_b_proj.weight"},
    Pair{"attn_k_b.weight", "self_attn.k_b_proj.weight"},
    Pair{"attn_v_b.weight", "self_attn.v_b_proj.weight"},
    Pair{"ffn_gate.weight", "mlp.gate_proj.weight"},
    Pair{"ffn_up.weight", "mlp.up_proj.weight"},
    Pair{"ffn_down.weight", "mlp.down_proj.weight"},
    Pair{"ffn_gate_inp.weight", "mlp.gate.weight"},
    Pair{"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    Pair{"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"},
    Pair{"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"},
    Pair{"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"},
    Pair{"nextn.eh_proj.weight", "eh_proj.weight"},
    Pair{"nextn.enorm.weight", "enorm.weight"},
    Pair{"nextn.hnorm.weight", "hnorm.weight"},
    Pair{"nextn.embed_tokens.weight", "embed_tokens.weight"},
    Pair{"nextn.shared_head_norm.weight", "shared_head.norm.weight"},
    Pair{"nextn.shared_head_head.weight", "shared_head.head.weight"},
};

std::optional<LayerName> layer_name(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  LayerName result;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), result.layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  if (result.layer < 0 || result.layer > 1'000'000) return std::nullopt;
  result.rest = name.substr(static_cast<size_t>(end - name.data()) + 1);
  return result;
}

}  // namespace

std::optional<LayerName> gguf_layer(std::string_view name) { return layer_name(name, "blk."); }
std::optional<LayerName> hf_layer(std::string_view name) { return layer_name(name, "model.layers."); }

std::optional<std::string> hf_name(std::string_view gguf) {
  for (const Pair& pair : kWhole) {
    if (pair.gguf == gguf) return std::string(pair.hf);
  }
  const auto layer = gguf_layer(gguf);
  if (!layer) return std::nullopt;
  for (const Pair& pair : kInLayer) {
    if (pair.gguf == layer->rest) return fmt::format("model.layers.{}.{}", layer->layer, pair.hf);
  }
  if (layer->rest == "exp_probs_b") {  // an early spelling
    return fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", layer->layer);
  }
  return std::nullopt;
}

std::optional<std::string> gguf_name(std::string_view hf) {
  for (const Pair& pair : kWhole) {
    if (pair.hf == hf) return std::string(pair.gguf);
  }
  const auto layer = hf_layer(hf);
  if (!layer) return std::nullopt;
  for (const Pair& pair : kInLayer) {
    if (pair.hf == layer->rest) return fmt::format("blk.{}.{}", layer->layer, pair.gguf);
  }
  return std::nullopt;
}

std::optional<std::string_view> expert_projection(std::string_view rest) {
  if (rest == "ffn_gate_exps.weight") return "gate_proj";
  if (rest == "ffn_up_exps.weight") return "up_proj";
  if (rest == "ffn_down_exps.weight") return "down_proj";
  return std::nullopt;
}

std::string expert_stack_name(int64_t layer, std::string_view projection) {
  return fmt::format("blk.{}.ffn_{}_exps.weight", layer, projection.substr(0, projection.find('_')));
}

std::string stored_gguf_name(std::string_view hf) {
  if (auto name = gguf_name(hf)) return std::move(*name);
  const auto layer = hf_layer(hf);
  if (!layer || !layer->rest.starts_with("mlp.experts.")) return std::string(hf);
  for (const std::string_view projection : {"gate_proj", "up_proj", "down_proj"})
    if (layer->rest.ends_with(fmt::format(".{}.weight", projection)))
      return expert_stack_name(layer->layer, projection);
  return std::string(hf);
}

std::string expert_name(int64_t layer, int64_t expert, std::string_view projection) {
  return fmt::format("model.layers.{}.mlp.experts.{}.{}.weight", layer, expert, projection);
}

}  // namespace redoubt
