// Log-probabilities that a client may see: of the model's own distribution, log_softmax of the logits as the model gave
// them, before bias, penalties, masks and temperature (what most servers call raw log-probabilities). So they can be
// compared between requests with different sampling, and the log-probability of a forced token is the model's too.
#pragma once

#include <cstdint>
#include <span>

#include "engine/engine.h"

namespace redoubt {

// top: the `num_top` most probable tokens, of equal ones lower ids first (the token itself may be absent).
TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int num_top);

}  // namespace redoubt
