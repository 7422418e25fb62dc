// The gate over Identity and policies: who is it (key, token, client certificate), has the key the scope, do the
// policies permit the route. From memory alone, on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "governance/identity.h"
#include "governance/policy.h"
#include "server/gate.h"

namespace redoubt {

// `identity` and `clock` outlive the gate. Where what is known of callers or policies is older than its bound, nobody
// new comes in, and streams under way end. policies_fresh null: these are always young enough. `closed` says why nobody
// is admitted at all, "" if they are; null: they are.
std::shared_ptr<Gate> make_identity_gate(Identity& identity, std::shared_ptr<const PolicyEngine> policies,
                                         const WallClock& clock, std::function<bool()> policies_fresh = nullptr,
                                         std::function<std::string()> closed = nullptr);

}  // namespace redoubt
