// What a request must satisfy before it may wait: ranges, token ids, and room in the context.
#pragma once

#include <cstdint>

#include "core/result.h"
#include "engine/engine.h"
#include "engine/thinking.h"

namespace redoubt {

struct AdmissionLimits {
  int64_t vocab_size = 0;
  int64_t max_context = 0;  // tokens of prompt and answer
  int max_choices = 128;
};

// Errors: invalid_argument, unsupported (a thinking budget where no token closes thinking), context_length; `param` is
// the field at fault.
Status check_request(const GenerationRequest& request, const AdmissionLimits& limits, const ThinkMarks& marks);

}  // namespace redoubt
