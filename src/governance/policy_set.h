// A text of policies, ready to decide. Immutable: any number of threads may ask.
//
// Deny unless a permit is satisfied; a satisfied forbid wins over every permit; a policy whose evaluation fails counts
// as not satisfied and is reported.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "governance/cedar_evaluator.h"
#include "governance/cedar_lexer.h"
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

// What became of a policy whose head fits a request.
struct PolicyTrace {
  enum class Outcome : uint8_t {
    satisfied,
    not_satisfied,  // a condition is false
    failed,         // a condition cannot be evaluated
    open,           // it depends on what is not known
  };
  uint32_t policy = 0;
  Outcome outcome = Outcome::satisfied;
  uint32_t node = 0;             // of not_satisfied: the condition that is false
  cedar::EvaluationError error;  // of failed
};

// What the context says of a model: it is absent when a route is asked about.
inline bool is_said_of_model(std::string_view key) { return key == "stage" || key == "budget_left"; }

class PolicySet {
 public:
  static Result<std::shared_ptr<const PolicySet>> parse(std::string text, const cedar::ParseLimits& limits = {});

  PolicyVerdict decide(const cedar::Request& request, bool model_follows = false) const;
  // The definition of decide(): every policy, in order, without the index.
  PolicyVerdict decide_one_by_one(const cedar::Request& request, bool model_follows = false) const;

  // A server asks about the route of a request before it knows the request's model (model_follows). A forbid that reads
  // the resource, or what the context says of a model, and names no route, then waits for the model.
  bool waits_for_model(uint32_t policy) const { return briefs_[policy].waits_for_model; }

  // What decide() computes, for all policies whose head fits: for explanations. Conditions that read what is unknown
  // leave a policy open, unless another one is false.
  using Unknown = PolicyIndex::Unknown;
  std::vector<PolicyTrace> trace(const cedar::Request& request, Unknown unknown) const;
  std::vector<PolicyTrace> trace(const cedar::Request& request) const { return trace(request, Unknown{}); }

  bool reads_budget() const { return reads_budget_; }  // of the context: to be told only where somebody looks

  const std::string& text() const { return text_; }
  const cedar::Program& program() const { return program_; }
  const std::vector<cedar::Policy>& policies() const { return program_.policies; }
  std::string_view policy_text(uint32_t policy) const;
  std::vector<cedar::EntityName> constants() const;  // entities that conditions name
  // The indices of a policy's nodes: they lie together, in the order of policies.
  template <class Use>
  void for_each_node(const cedar::Policy& policy, Use use) const {
    const std::vector<cedar::Node>& nodes = program().nodes;
    const auto first = std::partition_point(nodes.begin(), nodes.end(),
                                            [&](const cedar::Node& node) { return node.position < policy.begin; });
    for (auto i = static_cast<uint32_t>(first - nodes.begin()); i < nodes.size() && nodes[i].position < policy.end; ++i)
      use(i);
  }
  cedar::Place place_of_node(uint32_t node) const;
  cedar::Place place_of_policy(uint32_t policy) const;
  std::string describe(const PolicyError& error) const;  // one sentence with the policy's id, line and column

  PolicySet(const PolicySet&) = delete;
  PolicySet& operator=(const PolicySet&) = delete;

 private:
  explicit PolicySet(std::string text) : text_(std::move(text)) {}
  // `head_known`: the index found it, so that its head fits.
  void judge(uint32_t policy, bool head_known, const ResolvedRequest& request, cedar::Evaluator& evaluator,
             PolicyVerdict& permits, PolicyVerdict& forbids) const;
  bool reads_model(const cedar::Policy& policy) const;
  static PolicyVerdict settled(PolicyVerdict permits, PolicyVerdict forbids);
  cedar::Place place(uint32_t position) const;
  PolicyTrace traced(uint32_t policy, cedar::Evaluator& evaluator, Unknown unknown) const;

  std::string text_;
  cedar::Arena arena_;  // names and constants
  cedar::Program program_;
  std::vector<uint32_t> lines_;        // where each begins
  std::vector<bool> reads_context_;    // each node, or what is below it
  std::vector<bool> reads_principal_;  // attributes or tags of it
  bool reads_budget_ = false;
  // What a decision reads of each policy, side by side.
  struct Brief {
    uint32_t first_condition = 0;  // in conditions_
    uint16_t conditions = 0;
    cedar::Effect effect = cedar::Effect::permit;
    bool needs_head = false;
    bool waits_for_model = false;
  };
  std::vector<Brief> briefs_;
  std::vector<uint32_t> conditions_;
  PolicyIndex index_;
};

}  // namespace redoubt
