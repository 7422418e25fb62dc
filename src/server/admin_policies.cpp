#include "server/admin_policies.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/clock.h"
#include "governance/permit.h"
#include "governance/policy_actions.h"
#include "governance/policy_authority.h"
#include "governance/policy_check.h"
#include "governance/policy_expectations.h"
#include "governance/policy_explain.h"
#include "governance/policy_matrix.h"
#include "server/access_question.h"
#include "server/admin_answer.h"
#include "server/json_fields.h"
#include "server/router.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

constexpr int64_t kHourMs = 3'600'000, kDayMs = 24 * kHourMs;
// Looked at whatever times the policies name, since they may compute one: each week of ten years, then each month of a
// hundred.
constexpr int64_t kEachWeekMs = 3'653 * kDayMs, kEachMonthMs = 36'525 * kDayMs;
constexpr int64_t kKeyLastsS = 30 * 86'400;  // of a key that is relied on
constexpr size_t kMaxTimes = 512;            // that the policies name; of more nothing is sure
constexpr int kHistory = 100;                // versions listed
constexpr size_t kMaxShownCells = 20'000;    // of a matrix or a difference in one answer

Json shown(const PolicyVersion& version, bool whole) {
  Json json = {{"version", version.version},
               {"author", version.author},
               {"note", version.note},
               {"created_ms", version.created_ms}};
  if (whole) {
    json["text"] = version.text;
    json["entities"] = version.entities;
  }
  return json;
}

// The changes of the matrix; where there are too many to list, their number.
Status add_changes(const std::shared_ptr<const PolicySnapshot>& before,
                   const std::shared_ptr<const PolicySnapshot>& after, Json& out) {
  auto found = changes(before, after);
  if (!found) {  // more cells than are computed: not a reason to refuse the change
    out["changes_error"] = found.error().message;
    return ok();
  }
  out["changed_cells"] = found->size();
  if (found->size() > kMaxShownCells) found->resize(kMaxShownCells);
  out["changes"] = to_json(*found);
  return ok();
}

Result<Json> one_version(PolicyStore& store, const HttpRequest& request) {
  const std::string text = path_param(request.path_params, "id");
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return not_found("policies: a version is a number");
  REDOUBT_TRY(const PolicyVersion version, store.version(number));
  return shown(version, true);
}

Result<Json> history(PolicyStore& store) {
  REDOUBT_TRY(const auto versions, store.history(kHistory));
  Json list = Json::array();
  for (const PolicyVersion& version : versions) list.push_back(shown(version, false));
  return Json{{"versions", std::move(list)}};
}

Result<Json> matrix_of(PolicyStore& store) {
  const auto snapshot = store.engine()->snapshot();
  const MatrixAxis axis = axis_of(*snapshot);
  if (axis.cells() > kMaxShownCells * 10) {
    return invalid("matrix: too many principals and resources are named to show all; explain asks for one of them");
  }
  REDOUBT_TRY(const Matrix matrix, compute_matrix(snapshot, axis));
  Json json = to_json(matrix);
  json["policy_version"] = snapshot->version;
  return json;
}

// Whom the directory describes, the server takes from there: an entity of that name would mean nothing.
Status check_described(const Json& entities) {
  constexpr std::array kDirectorys{"Redoubt::User",   "Redoubt::Service",   "Redoubt::Team", "Redoubt::Role",
                                   "Redoubt::Tenant", "Redoubt::Appointer", "Redoubt::Open"};
  for (const Json& entity : entities) {
    const Json uid = entity.is_object() ? entity.value("uid", Json()) : Json();
    const Json name = uid.is_object() && uid.contains("__entity") ? uid["__entity"] : uid;
    const std::string type = name.is_object() ? name.value("type", "") : "";
    if (std::ranges::find(kDirectorys, type) != kDirectorys.end())
      return invalid(
          fmt::format("entities: {} is described by the directory, and what is said of it here means nothing", type),
          "entities");
  }
  return ok();
}

// Who comes in for thirty days more: by a key that opens administration, or by a way that is there.
std::set<std::string> able_to_come(const DirectorySnapshot& snapshot, const WaysIn& ways, int64_t now_s) {
  std::set<std::string> able;
  for (const auto& [id, key] : snapshot.keys) {
    if (key->valid_at(now_s) && key->goes_on_at(now_s + kKeyLastsS) && opens_policies(key->scopes))
      able.insert(key->principal);
  }
  for (const auto& [identity, id] : snapshot.identities) {
    if (identity.method == "mtls" ? ways.certificates : ways.issuers.contains(identity.issuer)) able.insert(id);
  }
  return able;
}

Administrators security_administrators(const DirectorySnapshot& snapshot, const std::set<std::string>& able) {
  Administrators found;
  for (const auto& [id, record] : snapshot.principals) {
    const auto who = snapshot.principal(id, "");
    if (who == nullptr || !who->has_role(kSecurityAdmin)) continue;
    found.all.push_back(*who);
    if (able.contains(id)) found.able.push_back(*who);
  }
  return found;
}

// May the change of policies be done that `request` is?
AuthorizationRequest change_question(const HttpRequest& request, int64_t now_ms) {
  const AccessQuestion question = route_question(request, admin_rule(kManagePolicies), kChangeRoute);
  return {request.permit->principal(), question.action, question.resource_kind, question.resource_id,
          policy_context(question, now_ms)};
}

// Of a change over the admin listener.
PolicyAuthor author_of(const HttpRequest& request, const Directory& directory, const WaysIn& ways, int64_t now_ms) {
  const auto snapshot = directory.snapshot();
  const std::set<std::string> able = able_to_come(*snapshot, ways, now_ms / 1000);
  PolicyAuthor author{.administrators = security_administrators(*snapshot, able), .now_ms = now_ms};
  if (request.permit == nullptr) return author;
  const Principal& asks = request.permit->principal();
  author.name = asks.id;
  const bool is_listed = snapshot->principals.contains(asks.id);  // others come by a provider, or nobody asks for keys
  author.goes_on = is_listed ? able.contains(asks.id) : asks.auth_method != "api_key";
  author.is_still_permitted = [&request, now_ms](const std::shared_ptr<const PolicySnapshot>& by, int64_t later_ms) {
    return decide_as_served(by, change_question(request, now_ms + later_ms).request()).allowed;
  };
  author.named_times_ms = [&request, now_ms](const PolicySnapshot& by) {
    return named_times_ms(by, change_question(request, now_ms).request(), kMaxTimes);
  };
  return author;
}

// A principal of whom nothing but the id is said is as the directory has it.
Status complete_principal(const Directory& directory, Json& body) {
  if (!body.contains("principal") || !body["principal"].is_object()) return ok();
  Json& principal = body["principal"];
  constexpr std::array kSaid{"type", "tenant", "teams", "roles", "labels", "tenant_labels", "team_labels"};
  const bool is_described = std::ranges::any_of(kSaid, [&](const char* key) { return principal.contains(key); });
  if (is_described || !principal.contains("id") || !principal["id"].is_string()) return ok();
  const std::string id = principal["id"].get<std::string>();
  const auto who = directory.snapshot()->principal(id, "");
  if (who == nullptr)
    return not_found(
        "principal: the directory has nobody of that name who may come in; say its tenant, teams and roles");
  principal["kind"] = kind_name(who->kind);
  principal["tenant"] = who->tenant;
  principal["teams"] = who->teams;
  principal["roles"] = who->roles;
  principal["labels"] = who->labels;
  principal["tenant_labels"] = who->tenant_labels;
  principal["team_labels"] = who->team_labels;
  return ok();
}

Result<Json> explained(PolicyStore& store, const Directory& directory, Json body) {
  REDOUBT_CHECK(complete_principal(directory, body));
  REDOUBT_TRY(const AuthorizationRequest request, request_from_json(body));
  return to_json(explain(store.engine()->snapshot(), request.request()));
}

Result<Json> tested(PolicyStore& store, const Json& body) {
  const auto snapshot = store.engine()->snapshot();
  REDOUBT_TRY(const auto results, run_expectations(*snapshot, body));
  const auto failed =
      std::count_if(results.begin(), results.end(), [](const ExpectationResult& one) { return !one.passed; });
  return Json{{"passed", failed == 0},
              {"failed", failed},
              {"policy_version", snapshot->version},
              {"results", to_json(results)}};
}

// Whether the author may change policies again, at some hour of a week: permissions for office hours are no lock-out.
class LaterWeeks {
 public:
  LaterWeeks(const std::shared_ptr<const PolicySnapshot>& after, const PolicyAuthor& author)
      : after_(after), author_(author) {}
  bool is_permitted_in(int64_t later_ms) {
    for (int64_t i = 0; i < 24 && !is_over(); ++i) {  // each hour once, on all days
      const int64_t hour = (hour_ + i) % 24;
      if (!author_.is_still_permitted(after_, later_ms + hour * kHourMs + hour % 7 * kDayMs)) continue;
      hour_ = hour;  // most likely an office hour in the next week too
      return true;
    }
    return false;
  }
  // Policies of many thousand conditions take long, and what is not looked at is not sure.
  bool is_over() const { return clock_.now_ns() - start_ns_ > kMostNs; }

 private:
  static constexpr int64_t kMostNs = 10'000'000'000;
  const std::shared_ptr<const PolicySnapshot>& after_;
  const PolicyAuthor& author_;
  ThreadClock clock_;
  const int64_t start_ns_ = clock_.now_ns();
  int64_t hour_ = 0;
};

// What is said of a change after which perhaps nobody can change policies; "" if one surely can.
std::string_view lockout_of(const std::shared_ptr<const PolicySnapshot>& after, const PolicyAuthor& author) {
  const Changeable changeable = policies_changeable(after, author.administrators);
  if (changeable == Changeable::yes) return {};
  const bool no = changeable == Changeable::no;
  if (author.is_still_permitted == nullptr) return no ? kLocksOut : std::string_view();
  if (!author.is_still_permitted(after, 0)) return no ? kLocksOut : kLocksAuthorOut;
  if (!author.goes_on) return kAuthorEnds;
  const auto named = author.named_times_ms(*after);
  LaterWeeks weeks(after, author);
  const auto is_permitted = [&](int64_t later) { return weeks.is_permitted_in(later); };
  const auto is_permitted_about = [&](int64_t time_ms) {
    const int64_t later = std::clamp(time_ms, author.now_ms, author.now_ms + 2 * kEachMonthMs) - author.now_ms;
    return is_permitted(std::max<int64_t>(0, later - 1000)) && is_permitted(later) && is_permitted(later + 1000);
  };
  if (!named || !std::ranges::all_of(*named, is_permitted_about))
    return weeks.is_over() ? kNotLookedAt : kLocksAuthorOutLater;
  for (int64_t later = 0; later <= kEachMonthMs; later += later < kEachWeekMs ? 7 * kDayMs : 30 * kDayMs)
    if (!is_permitted(later)) return weeks.is_over() ? kNotLookedAt : kLocksAuthorOutLater;
  return {};
}

}  // namespace

Result<Json> change_policies(PolicyStore& store, const PolicyAuthor& author, const Json& body) {
  REDOUBT_CHECK(check_fields(body, {"text", "entities", "note", "expected_version", "dry_run", "allow_lockout"}));
  const JsonFields fields(body);
  REDOUBT_TRY(const auto text, fields.string("text"));
  if (!text) return invalid("text: expected the policies", "text");
  REDOUBT_TRY(const Json* entities, fields.array("entities"));
  REDOUBT_TRY(const auto note, fields.string("note"));
  REDOUBT_TRY(const auto expected, fields.integer("expected_version", 0));
  REDOUBT_TRY(const auto dry_run, fields.boolean("dry_run"));
  REDOUBT_TRY(const auto allow_lockout, fields.boolean("allow_lockout"));
  PolicyStore::Change change{.text = *text, .author = author.name, .note = note.value_or(""), .expected = expected};
  if (entities != nullptr) {
    REDOUBT_CHECK(check_described(*entities));
    change.entities = *entities;
  }

  REDOUBT_TRY(const PolicyVersion newest, store.newest());
  const auto before = store.engine()->snapshot();
  const Json& described = entities != nullptr ? *entities : newest.entities;
  REDOUBT_TRY(const auto after,
              make_policy_snapshot(*text, with_configured(described, store.configured().entities), 0));
  Json out = {{"dry_run", dry_run.value_or(false)},
              {"warnings",
               policy_warnings(*after->policies, {.described = after->entities.get(), .guards = after->guards.get()})}};
  const std::string_view lockout = lockout_of(after, author);
  if (!lockout.empty()) out["warnings"].insert(out["warnings"].begin(), std::string(lockout));
  REDOUBT_CHECK(add_changes(before, after, out));
  if (dry_run.value_or(false)) {
    out["version"] = newest.version;
    return out;
  }
  if (!lockout.empty() && !author.is_owner && !allow_lockout.value_or(false))
    return invalid(std::string(lockout) + ": with allow_lockout it is done nevertheless", "allow_lockout");
  REDOUBT_TRY(const int64_t version, store.change(change));
  out["version"] = version;
  return out;
}

void add_policy_routes(PolicyStore& store, const Directory& directory, WaysIn ways, std::vector<Route>& routes) {
  const auto get = [&](std::string path, std::string summary, Json schema, AdminAnswer answer,
                       std::vector<Json> parameters = {}) {
    routes.push_back({.method = "GET",
                      .path = std::move(path),
                      .rule = admin_rule("read_policies"),
                      .summary = std::move(summary),
                      .response_schema = std::move(schema),
                      .parameters = std::move(parameters),
                      .handler = answering(std::move(answer))});
  };
  const auto send = [&](std::string method, std::string path, std::string action, std::string summary, Json takes,
                        Json gives, AdminAnswer answer) {
    routes.push_back({.method = std::move(method),
                      .path = std::move(path),
                      .rule = admin_rule(std::move(action)),
                      .summary = std::move(summary),
                      .request_schema = std::move(takes),
                      .response_schema = std::move(gives),
                      .handler = answering(std::move(answer))});
  };
  get("/admin/v1/policies", "The policies that hold", object_schema({"version", "text", "entities", "author"}),
      [&store](const HttpRequest&) -> Result<Json> {
        REDOUBT_TRY(const PolicyVersion newest, store.newest());
        Json json = shown(newest, true);
        json["configured_entities"] = store.configured().entities;
        json["configured_stages"] = store.configured().stages;
        return json;
      });
  get("/admin/v1/policies/versions", "Every version of the policies, the newest first", object_schema({"versions"}),
      [&store](const HttpRequest&) { return history(store); });
  get("/admin/v1/policies/versions/{id}", "One version of the policies", object_schema({"version", "text", "author"}),
      [&store](const HttpRequest& request) { return one_version(store, request); }, {path_parameter("id")});
  get("/admin/v1/policies/matrix", "Who may do what to what, computed from the policies",
      object_schema({"cells", "policy_version"}), [&store](const HttpRequest&) { return matrix_of(store); });
  send("PUT", "/admin/v1/policies", kManagePolicies, "Change the policies, or see what a change would do",
       object_schema({"text"}), object_schema({"version", "warnings"}),
       with_body([&store, &directory, ways = std::move(ways)](const HttpRequest& request, const Json& body) {
         return change_policies(store, author_of(request, directory, ways, store.wall().now_ms()), body);
       }));
  send("POST", "/admin/v1/policies/explain", "read_policies", "What the policies say to a request, and why",
       object_schema({"principal", "action", "resource"}), object_schema({"decision", "why", "policies"}),
       with_body(
           [&store, &directory](const HttpRequest&, const Json& body) { return explained(store, directory, body); }));
  send("POST", "/admin/v1/policies/test", "read_policies", "Requests with the decisions expected of them",
       object_schema({"tests"}), object_schema({"passed", "results"}),
       with_body([&store](const HttpRequest&, const Json& body) { return tested(store, body); }));
}

}  // namespace redoubt
