// redoubt limit: what may be used, by whom; what was used. On a running server (--server) or straight in the database
// of the data folder, where a running server sees a change within half a second.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>

#include "apps/admin_commands.h"
#include "apps/data_folder.h"
#include "apps/identity_store.h"
#include "server/admin_limits.h"

namespace redoubt {
namespace {

constexpr const char* kLimits = "/admin/v1/limits";

struct LimitFlags {
  AdminFlags admin;
  std::string scope, subject, kind, amount, model, tenant, counter;
  std::optional<std::string> time_zone;
  std::optional<double> weight;
  std::optional<int64_t> prompt, answer;
};

// The database of the data folder, opened for one call.
struct OwnLimits {
  SteadyClock clock;
  SystemWallClock wall;
  std::unique_ptr<Database> database;
  IdentityStore people;  // where the data folder has a directory
  std::unique_ptr<LimitStore> store;
  std::unique_ptr<DatabaseLedger> ledger;

  Status open(const AdminFlags& flags) {
    REDOUBT_TRY(database, open_own_database(flags.data, flags.database));
    const std::filesystem::path data = data_folder_path(flags.data);
    if (std::filesystem::exists(data / "hash.key")) {
      REDOUBT_TRY(people, open_present_identity_store(data, flags.database, clock, wall));
    }
    REDOUBT_TRY(store, LimitStore::open(
                           *database, [](const LimitRules&) {}, clock, wall, 0));
    ledger = std::make_unique<DatabaseLedger>(*database, "command");
    return ok();
  }
  LimitAdministration administration() {
    return {.store = *store, .ledger = *ledger, .wall = wall, .directory = people.directory.get()};
  }
};

template <class Own>
Result<Json> ask(const AdminFlags& flags, const std::string& method, const std::string& path, const Json& body,
                 const AdminQuery& query, Own own) {
  if (!flags.server.empty()) {
    REDOUBT_TRY(const auto target, open_admin_target(flags));
    return target->call(method, path, body, query);
  }
  OwnLimits limits;
  REDOUBT_CHECK(limits.open(flags));
  return own(limits.administration());
}

// What is accepted and limits nothing is said beside what was asked for.
void tell_warnings(const Json& answer) {
  for (const Json& warning : answer.value("warnings", Json::array()))
    if (warning.is_string()) fmt::print(stderr, "warning: {}\n", warning.get<std::string>());
}
Status print_answer(const AdminFlags& flags, Json answer) {
  tell_warnings(answer);
  if (!flags.json) answer.erase("warnings");
  return print_record(flags, answer);
}

Status set(const LimitFlags& flags) {
  Json amount = nullptr;
  if (flags.amount != "none") {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(flags.amount.data(), flags.amount.data() + flags.amount.size(), number);
    if (error != std::errc() || end != flags.amount.data() + flags.amount.size())
      return invalid("AMOUNT: expected a whole number, or none", "--amount");
    amount = number;
  }
  const Json body{{"scope", flags.scope},
                  {"subject", flags.subject},
                  {"kind", flags.kind},
                  {"model", flags.model},
                  {"amount", amount}};
  REDOUBT_TRY(const Json done, ask(flags.admin, "PUT", kLimits, body, {},
                                   [&](const LimitAdministration& limits) { return limits.set(body); }));
  return print_answer(flags.admin, done);
}

Result<Json> everything(const LimitFlags& flags) {
  REDOUBT_TRY(Json all, ask(flags.admin, "GET", kLimits, Json::object(), {},
                            [](const LimitAdministration& limits) { return limits.list(); }));
  tell_warnings(all);
  return all;
}

Status list(const LimitFlags& flags) {
  REDOUBT_TRY(const Json all, everything(flags));
  return print_records(flags.admin, all["limits"], {"scope", "subject", "kind", "model", "amount"});
}

Status show(const LimitFlags& flags) {
  REDOUBT_TRY(const Json all, everything(flags));
  if (flags.admin.json) return write_stdout(dump_json(all) + "\n");
  return write_stdout(table_text(all["limits"], {"scope", "subject", "kind", "model", "amount"}) +
                      table_text(all["tenants"], {"tenant", "time_zone", "share_weight"}) +
                      table_text(all["prices"], {"model", "prompt", "answer"}));
}

Status usage(const LimitFlags& flags) {
  AdminQuery query;
  if (!flags.counter.empty()) query.emplace_back("counter", flags.counter);
  REDOUBT_TRY(const Json found, ask(flags.admin, "GET", std::string(kLimits) + "/usage", Json::object(), query,
                                    [&](const LimitAdministration& limits) { return limits.usage(flags.counter); }));
  return print_records(flags.admin, found["usage"], {"counter", "period", "settled", "reserved"});
}

Status tenant(const LimitFlags& flags) {
  Json body = Json::object();
  if (flags.time_zone) body["time_zone"] = *flags.time_zone;
  if (flags.weight) body["share_weight"] = *flags.weight;
  REDOUBT_TRY(const Json done,
              ask(flags.admin, "PUT", admin_path(std::string(kLimits) + "/tenants", flags.tenant), body, {},
                  [&](const LimitAdministration& limits) { return limits.set_tenant(flags.tenant, body); }));
  return print_record(flags.admin, done);
}

Status price(const LimitFlags& flags) {
  Json body = Json::object();
  if (flags.prompt) body["prompt"] = *flags.prompt;
  if (flags.answer) body["answer"] = *flags.answer;
  REDOUBT_TRY(const Json done,
              ask(flags.admin, "PUT", admin_path(std::string(kLimits) + "/prices", flags.model), body, {},
                  [&](const LimitAdministration& limits) { return limits.set_price(flags.model, body); }));
  return print_answer(flags.admin, done);
}

}  // namespace

void add_limit(CLI::App& app, Pending& pending) {
  AdminCommands<LimitFlags> commands(app, pending, "limit", "Limits: set, list, show, usage, tenant, price");
  {
    const auto [sub, flags] = commands.add("set", "Sets a limit, or lifts it with the amount none", set);
    sub->add_option("scope", flags->scope, "tenant, team, user, key or model")->required();
    sub->add_option("subject", flags->subject, "Whose: tenant, tenant/team, tenant/user, key id, model; * for each")
        ->required();
    sub->add_option("kind", flags->kind, "Such as tokens_per_day (docs/limits.md)")->required();
    sub->add_option("amount", flags->amount, "In the kind's unit, or none")->required();
    sub->add_option("--model", flags->model, "Count this model's requests alone");
  }
  commands.add("list", "The limits that hold", list);
  commands.add("show", "Limits, tenants' settings and prices", show);
  {
    const auto [sub, flags] = commands.add("usage", "What is settled and reserved", usage);
    sub->add_option("counter", flags->counter, "Only counters that begin so, such as \"tokens_per_day tenant north\"");
  }
  {
    const auto [sub, flags] = commands.add("tenant", "A tenant's time zone and share of a full machine", tenant);
    sub->add_option("tenant", flags->tenant)->required();
    sub->add_option("--time-zone", flags->time_zone, "IANA name, such as Asia/Shanghai");
    sub->add_option("--weight", flags->weight, "Beside the others', 0.001 to 1000");
  }
  {
    const auto [sub, flags] =
        commands.add("price", "A model's price, in millionths of the currency for a million tokens", price);
    sub->add_option("model", flags->model)->required();
    sub->add_option("--prompt", flags->prompt, "Of prompt tokens [as it is]");
    sub->add_option("--answer", flags->answer, "Of answer tokens [as it is]");
  }
}

}  // namespace redoubt
