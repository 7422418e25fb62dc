// What a text of policies says that is probably not meant: a name without its namespace, an action or type that there
// is not, a text that is no address. None of it is an error of the language, and all of it makes a policy hold for
// nobody.
#pragma once

#include <string>
#include <vector>

#include "governance/policy_set.h"

namespace redoubt {

// Sentences with line and column, in the order of the text; at most a thousand.
std::vector<std::string> policy_warnings(const PolicySet& set);

}  // namespace redoubt
