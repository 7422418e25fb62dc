#include "engine/model_facts.h"

#include "core/log.h"
#include "formats/checkpoint.h"

namespace redoubt {

Result<ModelFacts> read_model_facts(const std::filesystem::path& model) {
  REDOUBT_TRY(const Checkpoint checkpoint, Checkpoint::open(model));
  return ModelFacts{.context_tokens = checkpoint.config().max_position_embeddings,
                    .weights_bytes = checkpoint.weights_bytes(),
                    .modified_unix = checkpoint.source_key().modified_ns / 1'000'000'000,
                    .model_type = checkpoint.config().model_type,
                    .is_gguf = checkpoint.gguf() != nullptr};
}

std::optional<ModelFacts> KnownModelFacts::find(const std::filesystem::path& model, int64_t now_ns) {
  constexpr int64_t kTryAgainNs = 60'000'000'000;
  const std::lock_guard lock(mutex_);
  const auto [at, is_new] = known_.try_emplace(model);
  Known& known = at->second;
  if (!is_new && (known.facts || now_ns - known.asked_ns < kTryAgainNs)) return known.facts;
  known.asked_ns = now_ns;
  if (auto facts = read_model_facts(model)) {
    known.facts = std::move(*facts);
  } else if (is_new) {
    log::warn("{}: nothing can be told of the model before it is loaded: {}", model.string(), facts.error().message);
  }
  return known.facts;
}

}  // namespace redoubt
