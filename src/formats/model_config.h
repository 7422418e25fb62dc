// What a checkpoint says of its model, read once from config.json or GGUF metadata and validated there.
// Field names are those of config.json. Source: facts of the DeepSeek-V2/V3 reports and the released configurations.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

enum class Architecture : uint8_t {
  deepseek,  // MLA + mixture of experts: deepseek_v2, deepseek_v3 (V2, V2-Lite, V3, R1)
  dense,     // grouped-query attention: qwen2, llama
};

enum class RopeStyle : uint8_t {
  interleaved,  // rotates adjacent pairs (x_2i, x_2i+1): DeepSeek's checkpoints, GGUF llama
  half,         // rotates (x_i, x_i+d/2): Hugging Face qwen2 and llama, GGUF qwen2
};

struct RopeConfig {
  enum class Scaling : uint8_t { none, linear, yarn, llama3, factors };
  double theta = 10000.0;
  Scaling scaling = Scaling::none;
  double factor = 1.0;
  int64_t original_max_position_embeddings = 0;
  double beta_fast = 32, beta_slow = 1;              // yarn
  double mscale = 1.0, mscale_all_dim = 0.0;         // yarn
  double attention_factor = 0.0;                     // yarn, 0: computed
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  std::vector<float> freq_divisors;                  // factors: one per pair (GGUF rope_freqs.weight)
};

enum class ScoringFunc : uint8_t { softmax, sigmoid };
enum class TopkMethod : uint8_t { greedy, group_limited_greedy, noaux_tc };

struct ModelConfig {
  Architecture architecture = Architecture::dense;
  std::string model_type;  // "deepseek_v3", "deepseek_v2", "qwen2", "llama"
  std::string name;        // general.name or directory name

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;  // without MTP layers
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // dense
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // q, k, v have biases (Qwen2 always)
  RopeStyle rope_style = RopeStyle::half;
  RopeConfig rope;

  // MLA
  int64_t q_lora_rank = 0;  // 0: a single q_proj
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;

  // Mixture of experts
  int64_t n_routed_experts = 0;  // 0: every layer dense
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1.0;
  ScoringFunc scoring_func = ScoringFunc::softmax;
  TopkMethod topk_method = TopkMethod::greedy;

  int64_t num_nextn_predict_layers = 0;  // MTP modules in the file; computed only if their tensors are there

  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  bool is_moe_layer(int64_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }

  Status validate() const;  // positive sizes, consistent groups and heads, bounds that products cannot overflow
};

// generation_config.json, or what of it a GGUF file holds.
struct GenerationConfig {
  std::vector<int32_t> eos_token_ids;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
  bool do_sample = true;
};

Result<ModelConfig> parse_model_config(const Json& config);  // config.json, both spellings of the rope settings
Result<GenerationConfig> parse_generation_config(const Json& config);

}  // namespace redoubt
