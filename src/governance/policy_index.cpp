#include "governance/policy_index.h"

#include <algorithm>
#include <array>

namespace redoubt {
namespace {

using cedar::Scope;

constexpr uint64_t kAny = 0;

uint64_t type_key(std::string_view type) { return cedar::hash_bytes(type, 2); }

// Under which a head is filed; none where it can fit nothing (`action in []`).
std::vector<uint64_t> keys_of(const Scope& scope) {
  switch (scope.test) {
    case Scope::Test::any:
      return {kAny};
    case Scope::Test::is:
      return {type_key(scope.type)};
    default:
      break;
  }
  std::vector<uint64_t> keys;
  for (const cedar::EntityName* name : scope.names) keys.push_back(name->hash);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

uint64_t together(uint64_t principal, uint64_t action, uint64_t resource) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
  uint64_t key = (principal ^ 0x5851F42D4C957F2Du) * kOdd;
  key = (key ^ key >> 32 ^ action) * kOdd;
  key = (key ^ key >> 32 ^ resource) * kOdd;
  return key ^ key >> 32;
}

// The keys of one entity of a request that some policy uses.
template <class Keys>
void keys_in_use(const cedar::EntityName& name, const cedar::Entity* entity, const Keys& used,
                 std::vector<uint64_t>& out) {
  const auto offer = [&](uint64_t key) {
    if (used.contains(key)) out.push_back(key);
  };
  out.clear();
  offer(kAny);
  offer(type_key(name.type));
  offer(name.hash);
  if (entity == nullptr) return;
  for (const cedar::EntityName* ancestor : entity->ancestors) offer(ancestor->hash);
}

}  // namespace

void PolicyIndex::add(uint32_t policy, const cedar::Policy& what) {
  for (const uint64_t principal : keys_of(what.principal)) {
    for (const uint64_t action : keys_of(what.action)) {
      for (const uint64_t resource : keys_of(what.resource)) {
        filed_[together(principal, action, resource)].push_back(policy);
        principals_.insert(principal);
        actions_.insert(action);
        resources_.insert(resource);
      }
    }
  }
}

void PolicyIndex::find(const ResolvedRequest& request, std::vector<uint32_t>& out) const {
  std::vector<uint64_t> principals, actions, resources;
  keys_in_use(request.request.principal, request.principal, principals_, principals);
  keys_in_use(request.request.action, request.action, actions_, actions);
  keys_in_use(request.request.resource, request.resource, resources_, resources);
  out.clear();
  for (const uint64_t principal : principals) {
    for (const uint64_t action : actions) {
      for (const uint64_t resource : resources) {
        const auto at = filed_.find(together(principal, action, resource));
        if (at != filed_.end()) out.insert(out.end(), at->second.begin(), at->second.end());
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

}  // namespace redoubt
