// What may be used, by whom: one rule, and the settings that give it meaning (a tenant's time zone and weight, a
// model's price).
//
// A rule bounds one kind of use for one subject of a scope, or, with the subject "*", for each subject of the scope on
// its own. All rules that apply to a request hold at once. With `model` it counts that model's requests alone.
// Units: tokens are prompt and answer together; thinking tokens are those of the answer inside the think block; money
// is in millionths of the currency that the prices are in.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace redoubt {

enum class LimitScope : uint8_t { tenant, team, user, key, model };
enum class LimitKind : uint8_t {
  requests_per_minute,
  tokens_per_minute,
  concurrent_streams,
  tokens_per_day,
  tokens_per_month,
  money_per_day,
  money_per_month,
  thinking_tokens_per_day,
  thinking_tokens_per_request,
  context_tokens,  // of one request, prompt and answer
};
constexpr int kLimitKinds = 10;

std::string_view scope_name(LimitScope scope);  // "tenant"
std::string_view kind_name(LimitKind kind);     // "tokens_per_day"
std::optional<LimitScope> scope_of(std::string_view name);
std::optional<LimitKind> kind_of(std::string_view name);

// How what was used comes back.
enum class LimitWindow : uint8_t {
  minute,   // sixty seconds after it was used
  day,      // when the tenant's day ends
  month,    // when the tenant's month ends
  level,    // when the request ends
  request,  // it never adds up
};
LimitWindow window_of(LimitKind kind);

struct LimitRule {
  LimitScope scope = LimitScope::tenant;
  std::string subject;  // "*": each
  LimitKind kind = LimitKind::requests_per_minute;
  std::string model;  // "": all
  int64_t amount = 0;

  Status validate() const;
};

struct TenantSetting {
  std::string time_zone = "UTC";  // an IANA name
  double share_weight = 1;        // of a full machine (docs/decisions/0007)

  Status validate() const;
};

struct ModelPrice {  // millionths of the currency for a million tokens, so of a token in units of 1e-12
  int64_t prompt = 0, answer = 0;
};

struct LimitRules {
  std::vector<LimitRule> rules;
  std::map<std::string, TenantSetting> tenants;  // absent: the default
  std::map<std::string, ModelPrice> prices;      // absent: free
};

}  // namespace redoubt
