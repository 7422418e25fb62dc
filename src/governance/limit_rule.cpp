#include "governance/limit_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "governance/limit_calendar.h"

namespace redoubt {
namespace {

constexpr std::array<std::string_view, 5> kScopes{"tenant", "team", "user", "key", "model"};
constexpr std::array<std::string_view, kLimitKinds> kKinds{
    "requests_per_minute", "tokens_per_minute",       "concurrent_streams",
    "tokens_per_day",      "tokens_per_month",        "money_per_day",
    "money_per_month",     "thinking_tokens_per_day", "thinking_tokens_per_request",
    "context_tokens"};
constexpr std::array<LimitWindow, kLimitKinds> kWindows{
    LimitWindow::minute, LimitWindow::minute, LimitWindow::level, LimitWindow::day,     LimitWindow::month,
    LimitWindow::day,    LimitWindow::month,  LimitWindow::day,   LimitWindow::request, LimitWindow::request};
constexpr int64_t kMostAmount = int64_t{1} << 52;  // sums of many stay far from overflow

template <class T, size_t N>
std::optional<T> found(const std::array<std::string_view, N>& names, std::string_view name) {
  const auto at = std::ranges::find(names, name);
  if (at == names.end()) return std::nullopt;
  return static_cast<T>(at - names.begin());
}

}  // namespace

std::string_view scope_name(LimitScope scope) { return kScopes[static_cast<size_t>(scope)]; }
std::string_view kind_name(LimitKind kind) { return kKinds[static_cast<size_t>(kind)]; }
std::optional<LimitScope> scope_of(std::string_view name) { return found<LimitScope>(kScopes, name); }
std::optional<LimitKind> kind_of(std::string_view name) { return found<LimitKind>(kKinds, name); }
LimitWindow window_of(LimitKind kind) { return kWindows[static_cast<size_t>(kind)]; }

Status LimitRule::validate() const {
  if (subject.empty() || subject.size() > 256)
    return invalid("limit: expected a subject of 1 to 256 characters, or * for each", "subject");
  if ((scope == LimitScope::team || scope == LimitScope::user) && subject != "*") {
    const size_t slash = subject.find('/');
    if (slash == std::string::npos || slash == 0 || slash + 1 == subject.size())
      return invalid(fmt::format("limit: expected the {} with its tenant, such as default/{}, found {}",
                                 scope_name(scope), subject, subject),
                     "subject");
  }
  if (model.size() > 256) return invalid("limit: expected a model's name of at most 256 characters", "model");
  if (amount < 0 || amount > kMostAmount)
    return invalid(fmt::format("limit: expected an amount from 0 to {}, found {}", kMostAmount, amount), "amount");
  return ok();
}

Status TenantSetting::validate() const {
  if (!(share_weight >= 1e-3 && share_weight <= 1e3))
    return invalid(fmt::format("share_weight: expected 0.001 to 1000, found {}", share_weight), "share_weight");
  if (!is_time_zone(time_zone))
    return invalid(fmt::format("time_zone: expected an IANA name such as Asia/Shanghai that this system knows (package "
                               "tzdata), found {:?}",
                               time_zone),
                   "time_zone");
  return ok();
}

}  // namespace redoubt
