// Tensor names in GGUF and in Hugging Face checkpoints, one to one except for experts (stacked in GGUF).
// Source: the tensor tables of docs/formats/gguf.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace redoubt {

// "blk.3.attn_q_a.weight" <-> "model.layers.3.self_attn.q_a_proj.weight". Nothing for names outside the tables.
std::optional<std::string> hf_name(std::string_view gguf);
std::optional<std::string> gguf_name(std::string_view hf);

// The parts of "blk.<layer>.<rest>" or "model.layers.<layer>.<rest>".
struct LayerName {
  int64_t layer = 0;
  std::string_view rest;
};
std::optional<LayerName> gguf_layer(std::string_view name);
std::optional<LayerName> hf_layer(std::string_view name);

// "ffn_gate_exps.weight" -> "gate_proj", and "ffn_up_exps", "ffn_down_exps".
std::optional<std::string_view> expert_projection(std::string_view rest);
// And back: "gate_proj" of layer 3 -> "blk.3.ffn_gate_exps.weight".
std::string expert_stack_name(int64_t layer, std::string_view projection);
// The name under which GGUF holds it, an expert's in its stack; as it is where GGUF has none.
std::string stored_gguf_name(std::string_view hf);
std::string expert_name(int64_t layer, int64_t expert, std::string_view projection);  // the Hugging Face name

}  // namespace redoubt
