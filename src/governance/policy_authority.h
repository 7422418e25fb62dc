// Permits' questions, answered by policies: what permit.h asks, in the entities and context of docs/policies.md.
#pragma once

#include <functional>
#include <memory>

#include "core/clock.h"
#include "governance/permit.h"
#include "governance/policy.h"

namespace redoubt {

// Whether principals still are what they were: Identity's part.
struct PrincipalCheck {
  std::function<PrincipalPtr(const Principal&)> current;  // as it is now; null: one no more
  std::function<uint64_t()> version;
};

// A question's context as conditions read it: `source_ip` an address, `priority`, `budget_left` and whatever else is
// written in digits only a number, the rest strings.
PolicyContext policy_context(const AccessQuestion& question, int64_t now_ms);

class PolicyAuthority final : public Authority {
 public:
  // `fresh` (may be null) says if what is known of principals and policies is young enough to decide by; where it is
  // not, nothing can be told (Verdict::unknown), and what was permitted is taken back. The clock outlives the
  // authority.
  PolicyAuthority(std::shared_ptr<const PolicyEngine> engine, PrincipalCheck principals, const WallClock& clock,
                  std::function<bool()> fresh = nullptr)
      : engine_(std::move(engine)), principals_(std::move(principals)), clock_(clock), fresh_(std::move(fresh)) {}

  Verdict decide(const Principal& principal, const AccessQuestion& question) const override;
  Status still_valid(const Principal& principal) const override;
  PrincipalPtr current(const PrincipalPtr& principal) const override;
  uint64_t version() const override;

 private:
  bool is_stale() const { return fresh_ && !fresh_(); }

  std::shared_ptr<const PolicyEngine> engine_;
  PrincipalCheck principals_;
  const WallClock& clock_;
  std::function<bool()> fresh_;
};

}  // namespace redoubt
