// Does the head of a policy, what stands in its brackets, fit a request?
#pragma once

#include "governance/cedar_program.h"
#include "governance/policy_index.h"

namespace redoubt {

bool head_fits(const cedar::Policy& policy, const ResolvedRequest& request);

}  // namespace redoubt
