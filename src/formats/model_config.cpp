#include "formats/model_config.h"

#include <fmt/format.h>

#include <cmath>

#include "formats/shown.h"

namespace redoubt {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any one dimension: three multiplied stay inside int64

const Json* member(const Json& object, std::string_view key) {  // null counts as absent
  if (!object.is_object()) return nullptr;
  const auto it = object.find(std::string(key));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Status read(const Json& object, std::string_view key, int64_t& value) {
  const Json* found = member(object, key);
  if (found == nullptr) return ok();
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return corrupt(fmt::format("{}: expected an integer below 2^63", key));
  }
  if (!found->is_number_integer())
    return corrupt(fmt::format("{}: expected an integer, found {}", key, found->type_name()));
  value = found->get<int64_t>();
  return ok();
}

Status read(const Json& object, std::string_view key, double& value) {
  const Json* found = member(object, key);
  if (found == nullptr) return ok();
  if (!found->is_number()) return corrupt(fmt::format("{}: expected a number, found {}", key, found->type_name()));
  value = found->get<double>();
  if (!std::isfinite(value)) return corrupt(fmt::format("{}: expected a finite number", key));
  return ok();
}

Status read(const Json& object, std::string_view key, bool& value) {
  const Json* found = member(object, key);
  if (found == nullptr) return ok();
  if (!found->is_boolean())
    return corrupt(fmt::format("{}: expected true or false, found {}", key, found->type_name()));
  value = found->get<bool>();
  return ok();
}

Status read(const Json& object, std::string_view key, std::string& value) {
  const Json* found = member(object, key);
  if (found == nullptr) return ok();
  if (!found->is_string()) return corrupt(fmt::format("{}: expected a string, found {}", key, found->type_name()));
  value = found->get<std::string>();
  return ok();
}

template <class T>
Status read(const Json& object, std::string_view key, std::optional<T>& value) {
  if (member(object, key) == nullptr) return ok();
  T found{};
  REDOUBT_CHECK(read(object, key, found));
  value = found;
  return ok();
}

// Both spellings: `rope_theta` + `rope_scaling` with `type`, and transformers 5's `rope_parameters` with `rope_type`.
Status read_rope(const Json& config, ModelConfig& m) {
  RopeConfig& rope = m.rope;
  REDOUBT_CHECK(read(config, "rope_theta", rope.theta));
  const Json* scaling = member(config, "rope_parameters");
  if (scaling == nullptr) scaling = member(config, "rope_scaling");
  if (scaling == nullptr) return ok();
  if (!scaling->is_object()) return corrupt("rope_scaling: expected an object");
  REDOUBT_CHECK(read(*scaling, "rope_theta", rope.theta));
  std::string type = "default";
  REDOUBT_CHECK(read(*scaling, "type", type));
  REDOUBT_CHECK(read(*scaling, "rope_type", type));
  if (type == "default" || type == "none") return ok();
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (type == "yarn") {
    rope.scaling = RopeConfig::Scaling::yarn;
  } else if (type == "llama3") {
    rope.scaling = RopeConfig::Scaling::llama3;
  } else {
    return unsupported(fmt::format("rope_scaling: expected linear, yarn or llama3, found {}", shown(type)));
  }
  rope.original_max_position_embeddings = m.max_position_embeddings;
  REDOUBT_CHECK(read(*scaling, "factor", rope.factor));
  REDOUBT_CHECK(read(*scaling, "original_max_position_embeddings", rope.original_max_position_embeddings));
  REDOUBT_CHECK(read(*scaling, "beta_fast", rope.beta_fast));
  REDOUBT_CHECK(read(*scaling, "beta_slow", rope.beta_slow));
  REDOUBT_CHECK(read(*scaling, "mscale", rope.mscale));
  REDOUBT_CHECK(read(*scaling, "mscale_all_dim", rope.mscale_all_dim));
  REDOUBT_CHECK(read(*scaling, "attention_factor", rope.attention_factor));
  REDOUBT_CHECK(read(*scaling, "low_freq_factor", rope.low_freq_factor));
  REDOUBT_CHECK(read(*scaling, "high_freq_factor", rope.high_freq_factor));
  return ok();
}

Status read_deepseek(const Json& config, ModelConfig& m) {
  const bool v3 = m.model_type == "deepseek_v3";
  m.architecture = Architecture::deepseek;
  bool interleaved = true;
  REDOUBT_CHECK(read(config, "rope_interleave", interleaved));
  m.rope_style = interleaved ? RopeStyle::interleaved : RopeStyle::half;
  // Defaults of the published configuration classes, for files that leave them out.
  m.n_group = v3 ? 8 : 1;
  m.topk_group = v3 ? 4 : 1;
  m.norm_topk_prob = v3;
  m.routed_scaling_factor = v3 ? 2.5 : 1.0;
  REDOUBT_CHECK(read(config, "q_lora_rank", m.q_lora_rank));
  REDOUBT_CHECK(read(config, "kv_lora_rank", m.kv_lora_rank));
  REDOUBT_CHECK(read(config, "qk_nope_head_dim", m.qk_nope_head_dim));
  REDOUBT_CHECK(read(config, "qk_rope_head_dim", m.qk_rope_head_dim));
  REDOUBT_CHECK(read(config, "v_head_dim", m.v_head_dim));
  REDOUBT_CHECK(read(config, "n_routed_experts", m.n_routed_experts));
  REDOUBT_CHECK(read(config, "n_shared_experts", m.n_shared_experts));
  REDOUBT_CHECK(read(config, "num_experts_per_tok", m.num_experts_per_tok));
  REDOUBT_CHECK(read(config, "moe_intermediate_size", m.moe_intermediate_size));
  REDOUBT_CHECK(read(config, "first_k_dense_replace", m.first_k_dense_replace));
  REDOUBT_CHECK(read(config, "moe_layer_freq", m.moe_layer_freq));
  REDOUBT_CHECK(read(config, "n_group", m.n_group));
  REDOUBT_CHECK(read(config, "topk_group", m.topk_group));
  REDOUBT_CHECK(read(config, "norm_topk_prob", m.norm_topk_prob));
  REDOUBT_CHECK(read(config, "routed_scaling_factor", m.routed_scaling_factor));
  REDOUBT_CHECK(read(config, "num_nextn_predict_layers", m.num_nextn_predict_layers));

  std::string scoring = v3 ? "sigmoid" : "softmax", method = v3 ? "noaux_tc" : "greedy";
  REDOUBT_CHECK(read(config, "scoring_func", scoring));
  REDOUBT_CHECK(read(config, "topk_method", method));
  if (scoring != "softmax" && scoring != "sigmoid") {
    return unsupported(fmt::format("scoring_func: expected softmax or sigmoid, found {}", shown(scoring)));
  }
  m.scoring_func = scoring == "sigmoid" ? ScoringFunc::sigmoid : ScoringFunc::softmax;
  if (method == "greedy") {
    m.topk_method = TopkMethod::greedy;
  } else if (method == "group_limited_greedy") {
    m.topk_method = TopkMethod::group_limited_greedy;
  } else if (method == "noaux_tc") {
    m.topk_method = TopkMethod::noaux_tc;
  } else {
    return unsupported(
        fmt::format("topk_method: expected greedy, group_limited_greedy or noaux_tc, found {}", shown(method)));
  }
  return ok();
}

Status read_dense(const Json& config, ModelConfig& m) {
  m.architecture = Architecture::dense;
  m.rope_style = RopeStyle::half;
  bool sliding = false;
  REDOUBT_CHECK(read(config, "use_sliding_window", sliding));
  if (sliding) return unsupported("use_sliding_window: expected false, found true");
  if (m.model_type == "qwen2") m.attention_bias = true;  // fixed in the architecture, not in its configuration
  if (m.num_attention_heads > 0) m.head_dim = m.hidden_size / m.num_attention_heads;
  return read(config, "head_dim", m.head_dim);
}

Status positive(std::string_view name, int64_t value, int64_t most = kMaxSize) {
  if (value >= 1 && value <= most) return ok();
  return corrupt(fmt::format("{}: expected 1 to {}, found {}", name, most, value));
}
Status not_negative(std::string_view name, int64_t value, int64_t most = kMaxSize) {
  if (value >= 0 && value <= most) return ok();
  return corrupt(fmt::format("{}: expected 0 to {}, found {}", name, most, value));
}
Status even(std::string_view name, int64_t value) {
  if (value % 2 == 0) return ok();
  return corrupt(fmt::format("{}: expected an even number, found {}", name, value));
}

constexpr int64_t kMaxLayers = 4096, kMaxHeads = 1 << 14, kMaxHeadDim = 1 << 14, kMaxExperts = 1 << 14;

Status validate_rope(const RopeConfig& rope) {
  if (!(rope.theta > 0)) return corrupt(fmt::format("rope_theta: expected above 0, found {}", rope.theta));
  if (!(rope.factor > 0)) return corrupt(fmt::format("rope factor: expected above 0, found {}", rope.factor));
  for (const double value : {rope.theta, rope.factor, rope.mscale, rope.mscale_all_dim, rope.attention_factor}) {
    if (!std::isfinite(value)) return corrupt(fmt::format("rope settings: expected finite numbers, found {}", value));
  }
  if (rope.scaling == RopeConfig::Scaling::yarn || rope.scaling == RopeConfig::Scaling::llama3) {
    REDOUBT_CHECK(positive("original_max_position_embeddings", rope.original_max_position_embeddings, INT32_MAX));
  }
  if (rope.scaling == RopeConfig::Scaling::llama3 && !(rope.high_freq_factor > rope.low_freq_factor)) {
    return corrupt(fmt::format("high_freq_factor: expected above low_freq_factor {}, found {}", rope.low_freq_factor,
                               rope.high_freq_factor));
  }
  return ok();
}

Status validate_deepseek(const ModelConfig& m) {
  REDOUBT_CHECK(not_negative("q_lora_rank", m.q_lora_rank));
  REDOUBT_CHECK(positive("kv_lora_rank", m.kv_lora_rank));
  REDOUBT_CHECK(positive("qk_nope_head_dim", m.qk_nope_head_dim, kMaxHeadDim));
  REDOUBT_CHECK(positive("qk_rope_head_dim", m.qk_rope_head_dim, kMaxHeadDim));
  REDOUBT_CHECK(even("qk_rope_head_dim", m.qk_rope_head_dim));
  REDOUBT_CHECK(positive("v_head_dim", m.v_head_dim, kMaxHeadDim));
  REDOUBT_CHECK(not_negative("n_routed_experts", m.n_routed_experts, kMaxExperts));
  REDOUBT_CHECK(not_negative("num_nextn_predict_layers", m.num_nextn_predict_layers, 16));
  if (m.n_routed_experts == 0) return ok();
  REDOUBT_CHECK(not_negative("n_shared_experts", m.n_shared_experts, kMaxExperts));
  REDOUBT_CHECK(positive("moe_intermediate_size", m.moe_intermediate_size));
  REDOUBT_CHECK(not_negative("first_k_dense_replace", m.first_k_dense_replace, kMaxLayers));
  REDOUBT_CHECK(positive("moe_layer_freq", m.moe_layer_freq, kMaxLayers));
  REDOUBT_CHECK(positive("n_group", m.n_group, m.n_routed_experts));
  if (m.n_routed_experts % m.n_group != 0) {
    return corrupt(
        fmt::format("n_group: expected a divisor of n_routed_experts {}, found {}", m.n_routed_experts, m.n_group));
  }
  REDOUBT_CHECK(positive("topk_group", m.topk_group, m.n_group));
  const int64_t choosable =
      m.topk_method == TopkMethod::greedy ? m.n_routed_experts : m.n_routed_experts / m.n_group * m.topk_group;
  return positive("num_experts_per_tok", m.num_experts_per_tok, choosable);
}

}  // namespace

Status ModelConfig::validate() const {
  REDOUBT_CHECK(positive("vocab_size", vocab_size));
  REDOUBT_CHECK(positive("hidden_size", hidden_size));
  REDOUBT_CHECK(positive("intermediate_size", intermediate_size));
  REDOUBT_CHECK(positive("num_hidden_layers", num_hidden_layers, kMaxLayers));
  REDOUBT_CHECK(positive("num_attention_heads", num_attention_heads, kMaxHeads));
  REDOUBT_CHECK(positive("num_key_value_heads", num_key_value_heads, num_attention_heads));
  REDOUBT_CHECK(positive("max_position_embeddings", max_position_embeddings, INT32_MAX));
  if (!(rms_norm_eps >= 0 && rms_norm_eps < 1)) {
    return corrupt(fmt::format("rms_norm_eps: expected 0 to 1, found {}", rms_norm_eps));
  }
  REDOUBT_CHECK(validate_rope(rope));
  if (architecture == Architecture::deepseek) return validate_deepseek(*this);
  REDOUBT_CHECK(positive("head_dim", head_dim, kMaxHeadDim));
  REDOUBT_CHECK(even("head_dim", head_dim));
  if (num_attention_heads % num_key_value_heads != 0) {
    return corrupt(fmt::format("num_key_value_heads: expected a divisor of num_attention_heads {}, found {}",
                               num_attention_heads, num_key_value_heads));
  }
  if (!rope.freq_divisors.empty() && static_cast<int64_t>(rope.freq_divisors.size()) != head_dim / 2) {
    return corrupt(fmt::format("rope_freqs: expected {} values, found {}", head_dim / 2, rope.freq_divisors.size()));
  }
  return ok();
}

Result<ModelConfig> parse_model_config(const Json& config) {
  if (!config.is_object()) return corrupt("config.json: expected an object");
  ModelConfig m;
  REDOUBT_CHECK(read(config, "model_type", m.model_type));
  REDOUBT_CHECK(read(config, "vocab_size", m.vocab_size));
  REDOUBT_CHECK(read(config, "hidden_size", m.hidden_size));
  REDOUBT_CHECK(read(config, "intermediate_size", m.intermediate_size));
  REDOUBT_CHECK(read(config, "num_hidden_layers", m.num_hidden_layers));
  REDOUBT_CHECK(read(config, "num_attention_heads", m.num_attention_heads));
  m.num_key_value_heads = m.num_attention_heads;
  REDOUBT_CHECK(read(config, "num_key_value_heads", m.num_key_value_heads));
  REDOUBT_CHECK(read(config, "max_position_embeddings", m.max_position_embeddings));
  REDOUBT_CHECK(read(config, "rms_norm_eps", m.rms_norm_eps));
  REDOUBT_CHECK(read(config, "tie_word_embeddings", m.tie_word_embeddings));
  REDOUBT_CHECK(read(config, "attention_bias", m.attention_bias));
  std::string activation = "silu";
  REDOUBT_CHECK(read(config, "hidden_act", activation));
  if (activation != "silu") return unsupported(fmt::format("hidden_act: expected silu, found {}", shown(activation)));

  if (m.model_type == "deepseek_v2" || m.model_type == "deepseek_v3") {
    REDOUBT_CHECK(read_deepseek(config, m));
  } else if (m.model_type == "qwen2" || m.model_type == "llama") {
    REDOUBT_CHECK(read_dense(config, m));
  } else {
    return unsupported(
        fmt::format("model_type: expected deepseek_v2, deepseek_v3, qwen2 or llama, found {}", shown(m.model_type)));
  }
  REDOUBT_CHECK(read_rope(config, m));
  REDOUBT_CHECK(m.validate());
  return m;
}

Result<GenerationConfig> parse_generation_config(const Json& config) {
  if (!config.is_object()) return corrupt("generation_config.json: expected an object");
  GenerationConfig g;
  if (const Json* eos = member(config, "eos_token_id")) {
    const Json list = eos->is_array() ? *eos : Json::array({*eos});
    for (const Json& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
        return corrupt("eos_token_id: expected token ids");
      }
      g.eos_token_ids.push_back(id.get<int32_t>());
    }
  }
  REDOUBT_CHECK(read(config, "temperature", g.temperature));
  REDOUBT_CHECK(read(config, "top_p", g.top_p));
  REDOUBT_CHECK(read(config, "min_p", g.min_p));
  REDOUBT_CHECK(read(config, "repetition_penalty", g.repetition_penalty));
  REDOUBT_CHECK(read(config, "do_sample", g.do_sample));
  int64_t top_k = -1;
  REDOUBT_CHECK(read(config, "top_k", top_k));
  if (top_k >= 0 && top_k <= INT32_MAX) g.top_k = static_cast<int>(top_k);
  return g;
}

}  // namespace redoubt
