#include "formats/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "formats/blocks.h"
#include "formats/gguf_names.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

// The keys of one architecture: "<architecture>.<key>". An optional key of the wrong type is an error, not an absence.
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture) : file_(file), architecture_(architecture) {}

  std::string full(std::string_view key) const { return fmt::format("{}.{}", architecture_, key); }
  bool has(std::string_view key) const { return file_.value(full(key)) != nullptr; }

  Status require(std::string_view key, int64_t& value) const {
    REDOUBT_TRY(value, file_.expect_integer(full(key)));
    return ok();
  }
  Status read(std::string_view key, int64_t& value) const { return has(key) ? require(key, value) : ok(); }
  Status read(std::string_view key, double& value) const {
    if (!has(key)) return ok();
    REDOUBT_TRY(value, file_.expect_number(full(key)));
    if (!std::isfinite(value)) return corrupt(fmt::format("{}: expected a finite number", full(key)));
    return ok();
  }
  Status read(std::string_view key, bool& value) const {
    int64_t integer = value ? 1 : 0;
    REDOUBT_CHECK(read(key, integer));
    value = integer != 0;
    return ok();
  }
  Status read(std::string_view key, std::string& value) const {
    if (!has(key)) return ok();
    REDOUBT_TRY(value, file_.expect_string(full(key)));
    return ok();
  }
  // Some writers keep one value a layer; only equal ones are understood.
  Status require_same(std::string_view key, int64_t& value) const {
    const auto list = file_.integers(full(key));
    if (!list) return require(key, value);
    value = list->front();
    for (const int64_t other : *list) {
      if (other != value) return unsupported(fmt::format("{}: expected one value for all layers", full(key)));
    }
    return ok();
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

// Single precision in the file, double in config.json: 0.707 comes back as 0.707 and not as 0.70700001716.
double shortened(double value) { return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr); }

Status read_rope(const Keys& keys, ModelConfig& m) {
  RopeConfig& rope = m.rope;
  REDOUBT_CHECK(keys.read("rope.freq_base", rope.theta));
  std::string type = "none";
  REDOUBT_CHECK(keys.read("rope.scaling.type", type));
  double linear = 0;  // the key of early files
  REDOUBT_CHECK(keys.read("rope.scale_linear", linear));
  REDOUBT_CHECK(keys.read("rope.scaling.factor", rope.factor));
  if (type == "none" && linear > 0 && linear != 1.0) {
    type = "linear";
    rope.factor = linear;
  }
  if (type == "none") {
    rope.factor = 1.0;
    return ok();
  }
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
    return ok();
  }
  if (type != "yarn") {
    return unsupported(
        fmt::format("{}: expected none, linear or yarn, found {}", keys.full("rope.scaling.type"), shown(type)));
  }
  rope.scaling = RopeConfig::Scaling::yarn;
  rope.original_max_position_embeddings = m.max_position_embeddings;
  REDOUBT_CHECK(keys.read("rope.scaling.original_context_length", rope.original_max_position_embeddings));
  REDOUBT_CHECK(keys.read("rope.scaling.attn_factor", rope.attention_factor));
  REDOUBT_CHECK(keys.read("rope.scaling.yarn_beta_fast", rope.beta_fast));
  REDOUBT_CHECK(keys.read("rope.scaling.yarn_beta_slow", rope.beta_slow));
  double log_multiplier = 0;  // 0.1 * mscale_all_dim
  REDOUBT_CHECK(keys.read("rope.scaling.yarn_log_multiplier", log_multiplier));
  if (m.architecture == Architecture::deepseek) {
    rope.mscale_all_dim = shortened(log_multiplier / 0.1);
    rope.mscale = log_multiplier > 0 ? rope.mscale_all_dim : 1.0;  // equal in every released model: their ratio is 1
  }
  return ok();
}

Status read_experts(const Keys& keys, ModelConfig& m) {
  REDOUBT_CHECK(keys.read("expert_count", m.n_routed_experts));
  if (m.n_routed_experts == 0) return ok();
  REDOUBT_CHECK(keys.require("expert_used_count", m.num_experts_per_tok));
  REDOUBT_CHECK(keys.require("expert_feed_forward_length", m.moe_intermediate_size));
  REDOUBT_CHECK(keys.read("expert_shared_count", m.n_shared_experts));
  REDOUBT_CHECK(keys.read("leading_dense_block_count", m.first_k_dense_replace));
  REDOUBT_CHECK(keys.read("expert_weights_scale", m.routed_scaling_factor));
  if (m.routed_scaling_factor == 0) m.routed_scaling_factor = 1.0;
  m.routed_scaling_factor = shortened(m.routed_scaling_factor);

  int64_t gating = 0;  // absent in files of the V2 time: softmax
  REDOUBT_CHECK(keys.read("expert_gating_func", gating));
  if (gating < 0 || gating > 2) {
    return unsupported(fmt::format("{}: expected 1 or 2, found {}", keys.full("expert_gating_func"), gating));
  }
  m.scoring_func = gating == 2 ? ScoringFunc::sigmoid : ScoringFunc::softmax;
  m.norm_topk_prob = m.scoring_func == ScoringFunc::sigmoid;
  REDOUBT_CHECK(keys.read("expert_weights_norm", m.norm_topk_prob));

  // Files from before the group keys: the released models' values, which their configurations state.
  if (m.scoring_func == ScoringFunc::sigmoid && m.n_routed_experts == 256) {
    m.n_group = 8;
    m.topk_group = 4;
  } else if (m.scoring_func == ScoringFunc::softmax && m.n_routed_experts == 160) {
    m.n_group = 8;
    m.topk_group = 3;
  }
  REDOUBT_CHECK(keys.read("expert_group_count", m.n_group));
  REDOUBT_CHECK(keys.read("expert_group_used_count", m.topk_group));
  if (m.scoring_func == ScoringFunc::sigmoid) {
    m.topk_method = TopkMethod::noaux_tc;
  } else {
    m.topk_method = m.n_group > 1 ? TopkMethod::group_limited_greedy : TopkMethod::greedy;
  }
  return ok();
}

// block_count of some writers includes the MTP layers, of others not: the first nextn tensor says where they begin.
Status read_nextn(const GgufFile& file, const Keys& keys, ModelConfig& m) {
  REDOUBT_CHECK(keys.read("nextn_predict_layers", m.num_nextn_predict_layers));
  int64_t first = INT64_MAX;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto layer = gguf_layer(tensor.name);
    if (layer && layer->rest == "nextn.eh_proj.weight") first = std::min(first, layer->layer);
  }
  if (first != INT64_MAX) {
    m.num_hidden_layers = first;
  } else if (m.num_nextn_predict_layers > 0 &&
             file.find(fmt::format("blk.{}.attn_norm.weight", m.num_hidden_layers - 1)) == nullptr) {
    m.num_hidden_layers -= std::min(m.num_nextn_predict_layers, m.num_hidden_layers);
  }
  return ok();
}

Status read_deepseek(const GgufFile& file, const Keys& keys, ModelConfig& m) {
  m.architecture = Architecture::deepseek;
  m.rope_style = RopeStyle::interleaved;
  REDOUBT_CHECK(keys.read("attention.q_lora_rank", m.q_lora_rank));
  REDOUBT_CHECK(keys.require("attention.kv_lora_rank", m.kv_lora_rank));
  REDOUBT_CHECK(keys.require("rope.dimension_count", m.qk_rope_head_dim));
  // New files describe the absorbed form in key_length and value_length, and the heads in the *_mla keys.
  int64_t key_length = 0;
  REDOUBT_CHECK(keys.require(keys.has("attention.key_length_mla") ? "attention.key_length_mla" : "attention.key_length",
                             key_length));
  REDOUBT_CHECK(keys.require(
      keys.has("attention.value_length_mla") ? "attention.value_length_mla" : "attention.value_length", m.v_head_dim));
  if (key_length > INT32_MAX || m.qk_rope_head_dim < 0 || m.qk_rope_head_dim >= key_length) {
    return corrupt(fmt::format("{}: expected above the {} rotary dimensions, found {}",
                               keys.full("attention.key_length"), m.qk_rope_head_dim, key_length));
  }
  m.qk_nope_head_dim = key_length - m.qk_rope_head_dim;
  m.num_key_value_heads = m.num_attention_heads;  // written as 1 for the absorbed form
  REDOUBT_CHECK(read_experts(keys, m));
  m.model_type = m.scoring_func == ScoringFunc::sigmoid ? "deepseek_v3" : "deepseek_v2";
  return read_nextn(file, keys, m);
}

Status read_dense(const GgufFile& file, const Keys& keys, ModelConfig& m) {
  m.architecture = Architecture::dense;
  const bool llama = m.model_type == "llama";
  m.rope_style = llama ? RopeStyle::interleaved : RopeStyle::half;
  m.attention_bias = !llama || file.find("blk.0.attn_q.bias") != nullptr;
  m.num_key_value_heads = m.num_attention_heads;
  if (keys.has("attention.head_count_kv")) {
    REDOUBT_CHECK(keys.require_same("attention.head_count_kv", m.num_key_value_heads));
  }
  if (m.num_attention_heads > 0) m.head_dim = m.hidden_size / m.num_attention_heads;
  REDOUBT_CHECK(keys.read("attention.key_length", m.head_dim));
  int64_t experts = 0;
  REDOUBT_CHECK(keys.read("expert_count", experts));
  if (experts > 0) return unsupported(fmt::format("{}: expected 0, found {}", keys.full("expert_count"), experts));
  return ok();
}

Status read_freq_divisors(const GgufFile& file, ModelConfig& m) {
  const GgufTensor* tensor = file.find("rope_freqs.weight");
  if (tensor == nullptr || m.architecture != Architecture::dense) return ok();
  if (tensor->dtype != DType::f32 || tensor->dims.size() != 1) {
    return corrupt("tensor 'rope_freqs.weight': expected one row of f32");
  }
  m.rope.scaling = RopeConfig::Scaling::factors;
  m.rope.freq_divisors.resize(static_cast<size_t>(tensor->dims[0]));
  decode_row(DType::f32, tensor->data.data(), m.rope.freq_divisors);
  return ok();
}

Result<ModelConfig> read_config(const GgufFile& file) {
  REDOUBT_TRY(const std::string_view architecture, file.expect_string("general.architecture"));
  if (architecture != "deepseek2" && architecture != "llama" && architecture != "qwen2") {
    return unsupported(
        fmt::format("general.architecture: expected deepseek2, llama or qwen2, found {}", shown(architecture)));
  }
  const Keys keys(file, architecture);
  ModelConfig m;
  m.model_type = architecture;
  m.name = file.string("general.name").value_or("");
  REDOUBT_CHECK(keys.require("embedding_length", m.hidden_size));
  REDOUBT_CHECK(keys.require_same("feed_forward_length", m.intermediate_size));
  REDOUBT_CHECK(keys.require("block_count", m.num_hidden_layers));
  REDOUBT_CHECK(keys.require_same("attention.head_count", m.num_attention_heads));
  REDOUBT_CHECK(keys.require("context_length", m.max_position_embeddings));
  REDOUBT_CHECK(keys.read("attention.layer_norm_rms_epsilon", m.rms_norm_eps));
  m.rms_norm_eps = shortened(m.rms_norm_eps);
  if (const GgufTensor* embedding = file.find("token_embd.weight");
      embedding != nullptr && embedding->dims.size() == 2) {
    m.vocab_size = embedding->dims[1];
  } else {
    REDOUBT_CHECK(keys.read("vocab_size", m.vocab_size));
  }
  m.tie_word_embeddings = file.find("output.weight") == nullptr;
  if (architecture == "deepseek2") {
    REDOUBT_CHECK(read_deepseek(file, keys, m));
  } else {
    REDOUBT_CHECK(read_dense(file, keys, m));
  }
  REDOUBT_CHECK(read_rope(keys, m));
  REDOUBT_CHECK(read_freq_divisors(file, m));
  REDOUBT_CHECK(m.validate());
  return m;
}

}  // namespace

Result<ModelConfig> model_config_from_gguf(const GgufFile& file) {
  Result<ModelConfig> config = read_config(file);
  if (!config) return std::move(config).error().within(file.file());
  return config;
}

Result<GenerationConfig> generation_config_from_gguf(const GgufFile& file) {
  GenerationConfig g;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const auto id = file.integer(key);
    if (!id) continue;
    if (*id < 0 || *id > INT32_MAX)
      return corrupt(fmt::format("{}: {}: expected a token id, found {}", file.file(), key, *id));
    if (g.eos_token_ids.empty() || g.eos_token_ids.front() != static_cast<int32_t>(*id)) {
      g.eos_token_ids.push_back(static_cast<int32_t>(*id));
    }
  }
  const auto sampling = [&](const char* key) -> std::optional<double> {
    const auto value = file.number(fmt::format("general.sampling.{}", key));
    if (!value || !std::isfinite(*value)) return std::nullopt;
    return shortened(*value);
  };
  g.temperature = sampling("temp");
  g.top_p = sampling("top_p");
  g.min_p = sampling("min_p");
  g.repetition_penalty = sampling("penalty_repeat");
  if (const auto top_k = file.integer("general.sampling.top_k"); top_k && *top_k >= 0 && *top_k <= INT32_MAX) {
    g.top_k = static_cast<int>(*top_k);
  }
  return g;
}

}  // namespace redoubt
