// The policies a first start has, and the guards that no policy text can lift.
#pragma once

#include <string_view>

namespace redoubt {

// What a new server permits: users and services with the role `user` work with models of their own tenant, each of the
// three administrators does their part. A file or the API replaces this text.
std::string_view default_policy_text();

// What holds beside every text and wins over it. Forbids: the parts of the three administrators stay apart, and the
// appointing key does nothing else. One permit, to which these forbids go before: the audit stays the audit
// administrator's, so that who writes policies cannot silence it. If a guard cannot be evaluated, the answer is no.
std::string_view guard_policy_text();

}  // namespace redoubt
