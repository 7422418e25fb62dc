#include "governance/principal.h"

#include <algorithm>

namespace redoubt {

std::string_view kind_name(PrincipalKind kind) {
  switch (kind) {
    case PrincipalKind::user:
      return "user";
    case PrincipalKind::service:
      return "service";
    case PrincipalKind::appointer:
      return "appointer";
    case PrincipalKind::open:
      return "open";
  }
  return "user";
}

bool Principal::has_role(std::string_view role) const { return std::ranges::find(roles, role) != roles.end(); }

}  // namespace redoubt
