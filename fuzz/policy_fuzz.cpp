// Any bytes as a text of policies: parsed or refused, never worse. What is parsed is asked a few questions, with the
// index and without; both must answer the same. The bytes as JSON entities and as the extension types' texts too.
#include <cstdlib>
#include <string>

#include "governance/cedar_extensions.h"
#include "governance/policy.h"

namespace redoubt {
namespace {

const Json& known_entities() {
  static const Json kEntities = Json::parse(R"([
    {"uid": {"type": "U", "id": "a"}, "attrs": {"n": 1, "s": "ab", "r": {"k": [1, "x"]},
      "e": {"__entity": {"type": "U", "id": "b"}}, "ip": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}},
     "parents": [{"type": "G", "id": "g"}], "tags": {"t": 5}},
    {"uid": {"type": "G", "id": "g"}, "parents": [{"type": "G", "id": "h"}]}])");
  return kEntities;
}

bool same(const PolicyVerdict& a, const PolicyVerdict& b) {
  if (a.allowed != b.allowed || a.determining != b.determining || a.errors.size() != b.errors.size()) return false;
  for (size_t i = 0; i < a.errors.size(); ++i) {
    if (a.errors[i].policy != b.errors[i].policy) return false;
  }
  return true;
}

void decide_with(const PolicySet& set) {
  static const auto kEntities =
      std::make_shared<const cedar::Entities>(std::move(*cedar::Entities::from_json(known_entities())));
  cedar::Arena arena;
  const cedar::Field fields[] = {{"n", cedar::Value::of(int64_t{7})}, {"s", cedar::Value::of(std::string_view("a*b"))}};
  cedar::Request request{.principal = cedar::entity_name("U", "a"),
                         .action = cedar::entity_name("Action", "x"),
                         .resource = cedar::entity_name("G", "g"),
                         .context = arena.record(fields).record,
                         .near = kEntities.get()};
  const PolicyVerdict verdict = set.decide(request);
  if (!same(verdict, set.decide_one_by_one(request))) std::abort();
  for (const PolicyError& error : verdict.errors) (void)set.describe(error);
}

}  // namespace
}  // namespace redoubt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace redoubt;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto set = PolicySet::parse(text, {.max_bytes = 1 << 16, .max_policies = 64, .max_depth = 32}))
    decide_with(**set);
  if (const auto json = parse_json(text)) {
    if (const auto entities = cedar::Entities::from_json(*json)) (void)entities->size();
  }
  // What a parser takes, it takes again from the text that is made of it, as the same value.
  if (const auto ip = cedar::parse_ip(text)) {
    const auto again = cedar::parse_ip(cedar::ip_text(*ip));
    if (!again || again->bytes != ip->bytes || again->prefix != ip->prefix || again->is_v6 != ip->is_v6) std::abort();
  }
  if (const auto value = cedar::parse_decimal(text);
      value && cedar::parse_decimal(cedar::decimal_text(*value)) != value)
    std::abort();
  if (const auto value = cedar::parse_duration(text);
      value && cedar::parse_duration(cedar::duration_text(*value)) != value)
    std::abort();
  if (const auto value = cedar::parse_datetime(text)) {
    const auto again = cedar::parse_datetime(cedar::datetime_text(*value));
    // An offset may lead out of the years that can be written.
    if (again ? again != value : cedar::datetime_text(*value).starts_with("1970-01-01 +") == false) std::abort();
  }
  return 0;
}
