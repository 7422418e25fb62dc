// A text of policies, ready to decide. Immutable: any number of threads may ask.
//
// Deny unless a permit is satisfied; a satisfied forbid wins over every permit; a policy whose evaluation fails counts
// as not satisfied and is reported.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "governance/cedar_evaluator.h"
#include "governance/cedar_parser.h"
#include "governance/policy_index.h"

namespace redoubt {

struct PolicyError {
  uint32_t policy = 0;  // by place in the text
  cedar::EvaluationError error;
};

struct PolicyVerdict {
  bool allowed = false;
  std::vector<uint32_t> determining;  // the forbids that denied, else the permits that allowed; none: denied by default
  std::vector<PolicyError> errors;    // policies that could not be evaluated; they had no say
};

class PolicySet {
 public:
  static Result<std::shared_ptr<const PolicySet>> parse(std::string text, const cedar::ParseLimits& limits = {});

  PolicyVerdict decide(const cedar::Request& request) const;
  // The definition of decide(): every policy, in order, without the index.
  PolicyVerdict decide_one_by_one(const cedar::Request& request) const;

  const std::string& text() const { return text_; }
  const std::vector<cedar::Policy>& policies() const { return program_.policies; }
  std::string_view policy_text(uint32_t policy) const;
  std::string describe(const PolicyError& error) const;  // one sentence with the policy's id, line and column

  PolicySet(const PolicySet&) = delete;
  PolicySet& operator=(const PolicySet&) = delete;

 private:
  explicit PolicySet(std::string text) : text_(std::move(text)) {}
  void judge(uint32_t policy, const ResolvedRequest& request, cedar::Evaluator& evaluator, PolicyVerdict& permits,
             PolicyVerdict& forbids) const;
  static PolicyVerdict settled(PolicyVerdict permits, PolicyVerdict forbids);

  std::string text_;
  cedar::Arena arena_;  // names and constants
  cedar::Program program_;
  PolicyIndex index_;
};

}  // namespace redoubt
