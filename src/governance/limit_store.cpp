#include "governance/limit_store.h"

#include <array>

#include "governance/database_ledger.h"
#include "storage/migration.h"

namespace redoubt {
namespace {

constexpr std::string_view kTopic = "limits";
constexpr std::array<Migration, 1> kMigrations{{{1, "rules", R"sql(
CREATE TABLE limit_rules (
  scope TEXT NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, amount BIGINT NOT NULL,
  PRIMARY KEY (scope, subject, kind, model));
CREATE TABLE limit_tenants (tenant TEXT PRIMARY KEY, time_zone TEXT NOT NULL, share_weight DOUBLE PRECISION NOT NULL);
CREATE TABLE limit_prices (model TEXT PRIMARY KEY, prompt BIGINT NOT NULL, answer BIGINT NOT NULL)
)sql"}}};

Result<LimitRules> read_rules(Transaction& tx) {
  LimitRules rules;
  REDOUBT_TRY(const auto rows, tx.rows<std::string, std::string, std::string, std::string, int64_t>(
                                   "SELECT scope, subject, kind, model, amount FROM limit_rules"));
  for (const auto& [scope, subject, kind, model, amount] : rows) {
    const auto scope_found = scope_of(scope);
    const auto kind_found = kind_of(kind);
    // A kind that this program does not know could not be held: better to say so than to let it go.
    if (!scope_found || !kind_found) return corrupt("limits: a rule of an unknown kind: " + kind + " of " + scope);
    rules.rules.push_back({*scope_found, subject, *kind_found, model, amount});
  }
  REDOUBT_TRY(const auto tenants,
              tx.rows<std::string, std::string, double>("SELECT tenant, time_zone, share_weight FROM limit_tenants"));
  for (const auto& [tenant, zone, weight] : tenants) rules.tenants[tenant] = {zone, weight};
  REDOUBT_TRY(const auto prices,
              tx.rows<std::string, int64_t, int64_t>("SELECT model, prompt, answer FROM limit_prices"));
  for (const auto& [model, prompt, answer] : prices) rules.prices[model] = {prompt, answer};
  return rules;
}

}  // namespace

Result<std::unique_ptr<LimitStore>> LimitStore::open(Database& database, Use use, const Clock& clock,
                                                     const WallClock& wall, int period_ms) {
  REDOUBT_CHECK(prepare_topics(database, wall));
  REDOUBT_CHECK(prepare_quota_tables(database, wall));
  REDOUBT_CHECK(migrate(database, kTopic, kMigrations, wall));
  auto store = std::unique_ptr<LimitStore>(new LimitStore(database, std::move(use)));
  LimitStore* self = store.get();
  const auto load = [self](Transaction& tx) -> Status {
    REDOUBT_TRY(const LimitRules rules, read_rules(tx));
    self->use_(rules);
    return ok();
  };
  store->refresher_ = std::make_unique<Refresher>(
      database, RefresherOptions{.topic = std::string(kTopic), .period_ms = period_ms}, load, clock);
  REDOUBT_CHECK(store->refresh());
  return store;
}

Status LimitStore::change(const std::function<Status(Transaction&)>& body) {
  REDOUBT_CHECK(database_.write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(body(tx));
    return bump(tx, kTopic);
  }));
  refresher_->read_back();
  return ok();
}

Status LimitStore::set(const LimitRule& rule) {
  REDOUBT_CHECK(rule.validate());
  return change([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(
        tx.execute("INSERT INTO limit_rules (scope, subject, kind, model, amount) VALUES (?, ?, ?, ?, ?) "
                   "ON CONFLICT (scope, subject, kind, model) DO UPDATE SET amount = excluded.amount",
                   scope_name(rule.scope), rule.subject, kind_name(rule.kind), rule.model, rule.amount));
    return ok();
  });
}

Status LimitStore::remove(const LimitRule& rule) {
  return change([&](Transaction& tx) -> Status {
    REDOUBT_TRY(const int64_t gone,
                tx.execute("DELETE FROM limit_rules WHERE scope = ? AND subject = ? AND kind = ? AND model = ?",
                           scope_name(rule.scope), rule.subject, kind_name(rule.kind), rule.model));
    if (gone == 0) return not_found("limit: there is none like it");
    return ok();
  });
}

Status LimitStore::set_tenant(const std::string& tenant, const TenantSetting& setting) {
  REDOUBT_CHECK(setting.validate());
  return change([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(
        tx.execute("INSERT INTO limit_tenants (tenant, time_zone, share_weight) VALUES (?, ?, ?) "
                   "ON CONFLICT (tenant) DO UPDATE SET time_zone = excluded.time_zone, "
                   "share_weight = excluded.share_weight",
                   tenant, setting.time_zone, setting.share_weight));
    return ok();
  });
}

Status LimitStore::set_price(const std::string& model, const ModelPrice& price) {
  constexpr int64_t kMost = int64_t{1} << 50;
  if (price.prompt < 0 || price.answer < 0 || price.prompt > kMost || price.answer > kMost)
    return invalid("price: expected millionths of the currency for a million tokens, 0 or more", "prompt");
  return change([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(
        tx.execute("INSERT INTO limit_prices (model, prompt, answer) VALUES (?, ?, ?) "
                   "ON CONFLICT (model) DO UPDATE SET prompt = excluded.prompt, answer = excluded.answer",
                   model, price.prompt, price.answer));
    return ok();
  });
}

Result<LimitRules> LimitStore::rules() const {
  return database_.read([](Transaction& tx) { return read_rules(tx); });
}

}  // namespace redoubt
