// Finds the policies whose head may fit a request without looking at the others.
//
// A policy is filed under what its head names: one key each for principal, action and resource (an entity's name, a
// type, or nothing). A request looks under the keys of its own entities and of all that they belong to; keys that no
// policy uses are dropped first. What is found is a superset; the head itself is tested afterwards.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "governance/cedar_evaluator.h"
#include "governance/cedar_program.h"

namespace redoubt {

// The entities of a request, looked up once.
struct ResolvedRequest {
  explicit ResolvedRequest(const cedar::Request& request)
      : request(request),
        principal(request.find(request.principal)),
        action(request.find(request.action)),
        resource(request.find(request.resource)) {}

  const cedar::Request& request;
  const cedar::Entity *principal, *action, *resource;  // null: nobody has described it
};

class PolicyIndex {
 public:
  void add(uint32_t policy, const cedar::Policy& what);
  // Ascending, each once.
  void find(const ResolvedRequest& request, std::vector<uint32_t>& out) const;

 private:
  struct Identity {
    size_t operator()(uint64_t key) const { return key; }
  };
  using Keys = std::unordered_set<uint64_t, Identity>;

  std::unordered_map<uint64_t, std::vector<uint32_t>, Identity> filed_;  // by the three keys together
  Keys principals_, actions_, resources_;
};

}  // namespace redoubt
