#include "apps/roofline.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace redoubt {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool is_embedding(std::string_view name) { return contains(name, "embed_tokens") || contains(name, "token_embd"); }
bool is_head(std::string_view name) { return name == "lm_head.weight" || name == "output.weight"; }
bool is_routed_expert(std::string_view name) { return contains(name, ".experts.") || contains(name, "_exps."); }

// The layer in "model.layers.12.…" or "blk.12.…"; -1 if it names none.
int64_t layer_of(std::string_view name) {
  for (const std::string_view prefix : {"layers.", "blk."}) {
    const size_t at = name.find(prefix);
    if (at == std::string_view::npos) continue;
    const std::string_view digits = name.substr(at + prefix.size());
    int64_t layer = -1;
    std::from_chars(digits.data(), digits.data() + digits.size(), layer);
    return layer;
  }
  return -1;
}

void add(WeightCount& count, const TensorView& tensor) {
  count.bytes += static_cast<double>(tensor.stored_bytes());
  (info(tensor.dtype).block_elems > 1 ? count.integers : count.floats) += static_cast<double>(tensor.elements());
}

void add_products(Work& work, const WeightCount& count, double times) {
  work.int8_ops += 2 * times * count.integers;
  work.bf16_flops += 2 * times * count.floats;
}

// Multiply-adds, two operations each, of one query with one key and its value, all heads and layers.
double attention_flops(const ModelConfig& c, bool absorbed) {
  const int64_t width = c.architecture == Architecture::dense ? 2 * c.head_dim
                        : absorbed                            ? 2 * c.kv_lora_rank + c.qk_rope_head_dim
                                                              : c.qk_head_dim() + c.v_head_dim;
  return 2.0 * static_cast<double>(width * c.num_attention_heads * c.num_hidden_layers);
}

// Keys that tokens at positions depth .. depth + tokens - 1 see, themselves included.
double keys_seen(int64_t depth, int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  return n * static_cast<double>(depth) + n * (n + 1) / 2;
}

}  // namespace

double WeightTraffic::bytes_per_step(int64_t tokens) const {
  const double touched = 1 - std::pow(1 - expert_share, static_cast<double>(tokens));
  return always.bytes + touched * experts.bytes;
}

WeightTraffic weight_traffic(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  WeightTraffic traffic;
  for (const TensorView& tensor : checkpoint.tensors()) {
    if (layer_of(tensor.name) >= config.num_hidden_layers) continue;  // multi-token prediction: not in a plain step
    if (is_embedding(tensor.name)) {
      if (config.tie_word_embeddings) add(traffic.head, tensor);  // else one row of it a token
    } else if (is_head(tensor.name)) {
      if (!config.tie_word_embeddings) add(traffic.head, tensor);
    } else {
      add(is_routed_expert(tensor.name) ? traffic.experts : traffic.always, tensor);
    }
  }
  if (config.n_routed_experts > 0) {
    traffic.expert_share =
        static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
  }
  return traffic;
}

Work prefill_work(const ModelConfig& config, const WeightTraffic& traffic, const StepShape& shape,
                  int64_t step_tokens) {
  Work work;
  const auto tokens = static_cast<double>(shape.tokens);
  add_products(work, traffic.always, tokens);
  add_products(work, traffic.experts, tokens * traffic.expert_share);
  add_products(work, traffic.head, 1);
  work.bf16_flops += attention_flops(config, /*absorbed=*/false) * keys_seen(shape.depth, shape.tokens);
  for (int64_t at = 0; at < shape.tokens; at += step_tokens) {
    work.bytes += traffic.bytes_per_step(std::min(step_tokens, shape.tokens - at));
  }
  work.bytes += traffic.head.bytes;
  const auto batch = static_cast<double>(shape.batch);
  return {work.bytes * batch, work.int8_ops * batch, work.bf16_flops * batch};
}

Work decode_work(const ModelConfig& config, const WeightTraffic& traffic, const StepShape& shape,
                 double cache_token_bytes) {
  Work work;
  const auto batch = static_cast<double>(shape.batch), steps = static_cast<double>(shape.tokens);
  const double keys = batch * keys_seen(shape.depth, shape.tokens);
  add_products(work, traffic.always, batch * steps);
  add_products(work, traffic.experts, batch * steps * traffic.expert_share);
  add_products(work, traffic.head, batch * steps);
  work.bf16_flops += attention_flops(config, /*absorbed=*/true) * keys;
  work.bytes = steps * (traffic.bytes_per_step(shape.batch) + traffic.head.bytes) + cache_token_bytes * keys;
  return work;
}

LeastTime least_time(const Work& work, const Ceilings& ceilings) {
  const bool known = (work.bytes == 0 || ceilings.read_bandwidth_bytes_per_s > 0) &&
                     (work.int8_ops == 0 || ceilings.int8_ops_per_s > 0) &&
                     (work.bf16_flops == 0 || ceilings.bf16_flops_per_s > 0);
  if (!known) return {};
  const auto time = [](double amount, double rate) { return amount > 0 ? amount / rate : 0.0; };
  return {time(work.bytes, ceilings.read_bandwidth_bytes_per_s),
          time(work.int8_ops, ceilings.int8_ops_per_s) + time(work.bf16_flops, ceilings.bf16_flops_per_s)};
}

}  // namespace redoubt
