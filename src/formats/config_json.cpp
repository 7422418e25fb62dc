#include "formats/config_json.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

namespace redoubt {
namespace {

void add_deepseek(const ModelConfig& m, Json& json) {
  json["q_lora_rank"] = m.q_lora_rank > 0 ? Json(m.q_lora_rank) : Json();
  json["kv_lora_rank"] = m.kv_lora_rank;
  json["qk_nope_head_dim"] = m.qk_nope_head_dim;
  json["qk_rope_head_dim"] = m.qk_rope_head_dim;
  json["v_head_dim"] = m.v_head_dim;
  if (m.n_routed_experts == 0) {
    json["n_routed_experts"] = Json();
  } else {
    json["n_routed_experts"] = m.n_routed_experts;
    json["n_shared_experts"] = m.n_shared_experts;
    json["num_experts_per_tok"] = m.num_experts_per_tok;
    json["moe_intermediate_size"] = m.moe_intermediate_size;
    json["first_k_dense_replace"] = m.first_k_dense_replace;
    json["moe_layer_freq"] = m.moe_layer_freq;
    json["n_group"] = m.n_group;
    json["topk_group"] = m.topk_group;
    json["norm_topk_prob"] = m.norm_topk_prob;
    json["routed_scaling_factor"] = m.routed_scaling_factor;
    json["scoring_func"] = m.scoring_func == ScoringFunc::sigmoid ? "sigmoid" : "softmax";
    json["topk_method"] = m.topk_method == TopkMethod::noaux_tc               ? "noaux_tc"
                          : m.topk_method == TopkMethod::group_limited_greedy ? "group_limited_greedy"
                                                                              : "greedy";
  }
  if (m.num_nextn_predict_layers > 0) json["num_nextn_predict_layers"] = m.num_nextn_predict_layers;
}

// GGUF keeps Llama 3's scaling as divisors only: find the published parameters that give them.
Result<RopeConfig> explained(const ModelConfig& m) {
  if (m.rope.scaling != RopeConfig::Scaling::factors) return m.rope;
  for (const double factor : {8.0, 32.0}) {
    RopeConfig trial = m.rope;
    trial.scaling = RopeConfig::Scaling::llama3;
    trial.factor = factor;
    trial.original_max_position_embeddings = 8192;
    const std::vector<float> divisors = llama3_divisors(trial, m.head_dim);
    bool same = divisors.size() == m.rope.freq_divisors.size();
    for (size_t i = 0; same && i < divisors.size(); ++i) {
      same = std::fabs(divisors[i] - m.rope.freq_divisors[i]) <= 1e-4f * std::fabs(divisors[i]);
    }
    if (same) return trial;
  }
  return unsupported("rope_freqs.weight: expected the divisors of a published Llama 3 configuration");
}

Json rope_to_json(const RopeConfig& rope) {
  Json json = Json::object();
  switch (rope.scaling) {
    case RopeConfig::Scaling::none:
    case RopeConfig::Scaling::factors:
      return {};
    case RopeConfig::Scaling::linear:
      return {{"type", "linear"}, {"rope_type", "linear"}, {"factor", rope.factor}};
    case RopeConfig::Scaling::llama3:
      return {{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_max_position_embeddings}};
    case RopeConfig::Scaling::yarn:
      break;
  }
  json = {{"type", "yarn"},
          {"rope_type", "yarn"},
          {"factor", rope.factor},
          {"original_max_position_embeddings", rope.original_max_position_embeddings},
          {"beta_fast", rope.beta_fast},
          {"beta_slow", rope.beta_slow}};
  if (rope.attention_factor != 0) json["attention_factor"] = rope.attention_factor;
  if (rope.mscale_all_dim != 0) {
    json["mscale"] = rope.mscale;
    json["mscale_all_dim"] = rope.mscale_all_dim;
  }
  return json;
}

std::string_view class_name(const ModelConfig& m) {
  if (m.model_type == "deepseek_v3") return "DeepseekV3ForCausalLM";
  if (m.model_type == "deepseek_v2") return "DeepseekV2ForCausalLM";
  return m.model_type == "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM";
}

// A scope for one architecture's keys.
class KeyWriter {
 public:
  KeyWriter(GgufMetadata& metadata, std::string architecture)
      : metadata_(metadata), architecture_(std::move(architecture)) {}
  void count(std::string_view key, int64_t value) { put(key, static_cast<uint32_t>(value)); }
  void real(std::string_view key, double value) { put(key, static_cast<float>(value)); }
  template <class T>
  void put(std::string_view key, T value) {
    metadata_.emplace_back(fmt::format("{}.{}", architecture_, key), std::move(value));
  }

 private:
  GgufMetadata& metadata_;
  std::string architecture_;
};

void add_rope(const ModelConfig& m, KeyWriter& keys) {
  keys.real("rope.freq_base", m.rope.theta);
  if (m.rope.scaling == RopeConfig::Scaling::linear) {
    keys.put("rope.scaling.type", std::string("linear"));
    keys.real("rope.scaling.factor", m.rope.factor);
  }
  if (m.rope.scaling != RopeConfig::Scaling::yarn) return;
  keys.put("rope.scaling.type", std::string("yarn"));
  keys.real("rope.scaling.factor", m.rope.factor);
  keys.count("rope.scaling.original_context_length", m.rope.original_max_position_embeddings);
  keys.real("rope.scaling.yarn_beta_fast", m.rope.beta_fast);
  keys.real("rope.scaling.yarn_beta_slow", m.rope.beta_slow);
  if (m.rope.attention_factor != 0) keys.real("rope.scaling.attn_factor", m.rope.attention_factor);
  if (m.rope.mscale_all_dim != 0) keys.real("rope.scaling.yarn_log_multiplier", 0.1 * m.rope.mscale_all_dim);
}

void add_deepseek(const ModelConfig& m, KeyWriter& keys) {
  keys.count("attention.head_count_kv", 1);  // absorbed: one latent for all heads
  if (m.q_lora_rank > 0) keys.count("attention.q_lora_rank", m.q_lora_rank);
  keys.count("attention.kv_lora_rank", m.kv_lora_rank);
  keys.count("attention.key_length", m.kv_lora_rank + m.qk_rope_head_dim);
  keys.count("attention.value_length", m.kv_lora_rank);
  keys.count("attention.key_length_mla", m.qk_head_dim());
  keys.count("attention.value_length_mla", m.v_head_dim);
  keys.count("rope.dimension_count", m.qk_rope_head_dim);
  if (m.n_routed_experts == 0) return;
  keys.count("leading_dense_block_count", m.first_k_dense_replace);
  keys.count("expert_count", m.n_routed_experts);
  keys.count("expert_used_count", m.num_experts_per_tok);
  keys.count("expert_shared_count", m.n_shared_experts);
  keys.count("expert_feed_forward_length", m.moe_intermediate_size);
  keys.real("expert_weights_scale", m.routed_scaling_factor);
  keys.put("expert_weights_norm", m.norm_topk_prob);
  keys.count("expert_gating_func", m.scoring_func == ScoringFunc::sigmoid ? 2 : 1);
  keys.count("expert_group_count", m.n_group);
  keys.count("expert_group_used_count", m.topk_group);
}

}  // namespace

std::vector<float> llama3_divisors(const RopeConfig& rope, int64_t head_dim) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  std::vector<float> divisors;
  for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
    const double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    if (wavelength < original / rope.high_freq_factor) {
      divisors.push_back(1.0f);
    } else if (wavelength > original / rope.low_freq_factor) {
      divisors.push_back(static_cast<float>(rope.factor));
    } else {
      const double smooth =
          (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      divisors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / rope.factor + smooth)));
    }
  }
  return divisors;
}

Result<Json> config_to_json(const ModelConfig& m, std::string_view torch_dtype) {
  REDOUBT_TRY(const RopeConfig rope, explained(m));
  Json json{{"architectures", {class_name(m)}},
            {"model_type", m.model_type},
            {"vocab_size", m.vocab_size},
            {"hidden_size", m.hidden_size},
            {"intermediate_size", m.intermediate_size},
            {"num_hidden_layers", m.num_hidden_layers},
            {"num_attention_heads", m.num_attention_heads},
            {"num_key_value_heads", m.num_key_value_heads},
            {"max_position_embeddings", m.max_position_embeddings},
            {"rms_norm_eps", m.rms_norm_eps},
            {"tie_word_embeddings", m.tie_word_embeddings},
            {"hidden_act", "silu"},
            {"rope_theta", rope.theta},
            {"rope_scaling", rope_to_json(rope)},
            {"torch_dtype", torch_dtype}};
  if (m.architecture == Architecture::deepseek) {
    add_deepseek(m, json);
  } else {
    json["head_dim"] = m.head_dim;
    if (m.model_type == "llama") json["attention_bias"] = m.attention_bias;
  }
  return json;
}

Json generation_to_json(const GenerationConfig& g, const GgufFile* gguf) {
  Json json = Json::object();
  if (gguf != nullptr) {
    if (const auto bos = gguf->integer("tokenizer.ggml.bos_token_id")) json["bos_token_id"] = *bos;
  }
  if (g.eos_token_ids.size() == 1) json["eos_token_id"] = g.eos_token_ids.front();
  if (g.eos_token_ids.size() > 1) json["eos_token_id"] = g.eos_token_ids;
  json["do_sample"] = g.do_sample;
  if (g.temperature) json["temperature"] = *g.temperature;
  if (g.top_p) json["top_p"] = *g.top_p;
  if (g.top_k) json["top_k"] = *g.top_k;
  if (g.min_p) json["min_p"] = *g.min_p;
  if (g.repetition_penalty) json["repetition_penalty"] = *g.repetition_penalty;
  return json;
}

GgufMetadata config_to_gguf(const ModelConfig& m) {
  GgufMetadata metadata;
  const bool deepseek = m.architecture == Architecture::deepseek;
  const std::string architecture = deepseek ? "deepseek2" : m.model_type;
  metadata.emplace_back("general.architecture", architecture);
  metadata.emplace_back("general.type", std::string("model"));
  if (!m.name.empty()) metadata.emplace_back("general.name", m.name);
  KeyWriter keys(metadata, architecture);
  keys.count("block_count", m.num_hidden_layers + m.num_nextn_predict_layers);
  keys.count("context_length", m.max_position_embeddings);
  keys.count("embedding_length", m.hidden_size);
  keys.count("feed_forward_length", m.intermediate_size);
  keys.count("attention.head_count", m.num_attention_heads);
  keys.real("attention.layer_norm_rms_epsilon", m.rms_norm_eps);
  keys.count("vocab_size", m.vocab_size);
  add_rope(m, keys);
  if (deepseek) {
    add_deepseek(m, keys);
    if (m.num_nextn_predict_layers > 0) keys.count("nextn_predict_layers", m.num_nextn_predict_layers);
    return metadata;
  }
  keys.count("attention.head_count_kv", m.num_key_value_heads);
  if (m.head_dim * m.num_attention_heads != m.hidden_size) {
    keys.count("attention.key_length", m.head_dim);
    keys.count("attention.value_length", m.head_dim);
  }
  keys.count("rope.dimension_count", m.head_dim);
  return metadata;
}

void add_generation_keys(const GenerationConfig& g, GgufMetadata& metadata) {
  const auto real = [&](const char* key, std::optional<double> value) {
    if (value) metadata.emplace_back(fmt::format("general.sampling.{}", key), static_cast<float>(*value));
  };
  real("temp", g.temperature);
  real("top_p", g.top_p);
  real("min_p", g.min_p);
  real("penalty_repeat", g.repetition_penalty);
  if (g.top_k) metadata.emplace_back("general.sampling.top_k", static_cast<uint32_t>(*g.top_k));
}

}  // namespace redoubt
