#include "apps/weight_traffic.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace redoubt {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool is_embedding(std::string_view name) { return contains(name, "embed_tokens") || contains(name, "token_embd"); }
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

}  // namespace

double WeightTraffic::bytes_per_step(int64_t batch) const {
  const double touched = 1 - std::pow(1 - expert_share, static_cast<double>(batch));
  return static_cast<double>(always_bytes) + touched * static_cast<double>(expert_bytes);
}

WeightTraffic weight_traffic(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  const bool has_head = checkpoint.find("lm_head.weight") != nullptr && !config.tie_word_embeddings;
  WeightTraffic traffic;
  for (const TensorView& tensor : checkpoint.tensors()) {
    if (layer_of(tensor.name) >= config.num_hidden_layers) continue;  // multi-token prediction: not in a plain step
    if (is_embedding(tensor.name) && has_head) continue;              // one row of it
    const auto bytes = static_cast<int64_t>(tensor.data.size());
    if (is_routed_expert(tensor.name)) {
      traffic.expert_bytes += bytes;
      traffic.expert_weights += tensor.elements();
    } else {
      traffic.always_bytes += bytes;
      traffic.always_weights += tensor.elements();
    }
  }
  if (config.n_routed_experts > 0) {
    traffic.expert_share =
        static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
  }
  return traffic;
}

}  // namespace redoubt
