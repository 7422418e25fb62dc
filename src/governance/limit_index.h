// Which limits a request meets: the rules as they are looked up, and what an amount of each kind is for a request.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "governance/limit_rule.h"
#include "governance/principal.h"

namespace redoubt {

class LimitIndex {
 public:
  explicit LimitIndex(LimitRules rules);

  struct Met {
    const LimitRule* rule = nullptr;
    std::string counter;  // "tokens_per_day team north/risk", and " for r1" where the rule is of one model
    std::string limit;    // for people: "tokens_per_day of team north/risk"
  };
  // A key that rotation made meets the limits of the first of its row (Principal::first_key), under its counters.
  // A rule of the subject itself goes before one of "*" of the same kind, scope and model.
  std::vector<Met> limits_of(const Principal& principal, const std::string& model) const;
  const TenantSetting& tenant(const std::string& name) const;
  ModelPrice price(const std::string& model) const;

 private:
  LimitRules rules_;
  TenantSetting default_tenant_;
  std::unordered_map<std::string, std::vector<const LimitRule*>> by_subject_;  // "team north/risk"
};

// Of one request, all choices together.
struct UseAmounts {
  int64_t prompt = 0, answer = 0, thinking = 0;
};
// In the kind's unit; money is rounded up.
int64_t amount_of(LimitKind kind, const UseAmounts& use, const ModelPrice& price);

}  // namespace redoubt
