#include "server/access_question.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

#include "governance/limits.h"

namespace redoubt {
namespace {

constexpr size_t kMaxPurpose = 64;
constexpr std::string_view kPurposeCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

AccessQuestion question_of(const HttpRequest& http, std::string action, std::string kind, std::string id) {
  AccessQuestion question{.action = std::move(action),
                          .resource_kind = std::move(kind),
                          .resource_id = std::move(id),
                          .context = {{"source_ip", http.remote_address}}};
  if (const std::string_view purpose = http.header(kPurposeHeader); !purpose.empty())
    question.context.emplace("purpose", purpose);
  return question;
}

}  // namespace

Status check_purpose(const HttpRequest& http) {
  size_t given = 0;
  for (const auto& [name, value] : http.headers) {
    if (name != kPurposeHeader) continue;
    const bool sane = !value.empty() && value.size() <= kMaxPurpose &&
                      value.find_first_not_of(kPurposeCharacters) == std::string::npos;
    if (++given == 1 && sane) continue;
    return invalid("x-redoubt-purpose: expected one of 1 to 64 characters of A-Z a-z 0-9 . _ -",
                   std::string(kPurposeHeader));
  }
  return ok();
}

AccessQuestion route_question(const HttpRequest& http, const RouteRule& rule, std::string route_id) {
  AccessQuestion question = question_of(http, rule.action, "Route", std::move(route_id));
  question.context.emplace("scope", rule.scope);
  return question;
}

AccessQuestion model_question(const HttpRequest& http, std::string action, const AskedModel& model) {
  AccessQuestion question = question_of(http, std::move(action), "Model", model.name);
  if (!model.stage.empty()) question.context.emplace("stage", model.stage);
  if (model.limits == nullptr) return question;
  // The handler that asks first may wait for the ledger; the permits' own thread, which asks again, may not.
  question.budget_left = [limits = model.limits, name = model.name,
                          asked = std::make_shared<std::atomic<bool>>(false)](const Principal& principal) {
    return limits->tokens_left(principal, name, !asked->exchange(true));
  };
  return question;
}

}  // namespace redoubt
