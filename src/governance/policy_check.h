// What a text of policies says that is probably not meant: a name without its namespace, an action or type that there
// is not, an attribute that nothing has, a text that is no address. None of it is an error of the language, and all of
// it makes a policy hold for nobody.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "governance/policy.h"
#include "governance/policy_set.h"

namespace redoubt {

// What there is where the policies are to hold. What is absent is not known, and not warned of.
struct KnownNames {
  const cedar::Entities* described = nullptr;  // whose attributes a resource may have; with the actions' groups
  const PolicySet* guards = nullptr;           // with `described`: what the text can't lift
  struct People {
    std::set<std::string> users, services, teams, tenants;  // a team with its tenant, "acme/research"
    std::set<std::string> roles;                            // that anybody has
  };
  std::optional<People> people;
  std::optional<std::set<std::string>> models;
};

// How policies are changed by the API: the action, and the route it is done to.
inline constexpr const char* kManagePolicies = "manage_policies";
inline constexpr const char* kChangeRoute = "PUT /admin/v1/policies";
// Does a key with these scopes open that? Empty: it opens all that its principal may do.
bool opens_policies(std::span<const std::string> scopes);

// By these policies, may some security administrator still change them? If none may, in no context, only the owner of
// the data folder can put that right.
struct Administrators {
  std::vector<Principal> all;   // that there are; empty: somebody with that role is meant
  std::vector<Principal> able;  // of these, who can come in: by a key that opens that, a provider or a certificate
};
enum class Changeable : uint8_t {
  yes,      // one may whatever the context
  depends,  // on what a request says or who it is from; or who may cannot come in
  no,
};
Changeable policies_changeable(const std::shared_ptr<const PolicySnapshot>& by, const Administrators& administrators);
// Moments at which what the policies say of context.now may change for who asks that, in order: the datetimes of the
// policies on which it depends, and each so much earlier and later as a duration of the same policy says, or a number
// of its days, hours, ... (toDays). nullopt: more than `most`.
std::optional<std::vector<int64_t>> named_times_ms(const PolicySnapshot& by, const cedar::Request& asks, size_t most);
inline constexpr std::string_view kLocksOut =
    "after this no security administrator could change policies; only the owner of the data folder could";
inline constexpr std::string_view kLocksAuthorOut =
    "after this you could not change policies by such a request as this one, and whether any other security "
    "administrator could is not sure";
inline constexpr std::string_view kLocksAuthorOutLater =
    "after this you could not change policies any more once a time that they name has come, and whether any other "
    "security administrator could is not sure";

inline constexpr std::string_view kNotLookedAt =
    "whether you could still change policies at all times after this takes too long to tell";
inline constexpr std::string_view kAuthorEnds =
    "the key that you come by ends within 30 days and you have no other, and whether any other security administrator "
    "could change policies after this is not sure";

// Sentences with line and column, in the order of the text; at most a thousand.
std::vector<std::string> policy_warnings(const PolicySet& set, const KnownNames& known = {});

}  // namespace redoubt
