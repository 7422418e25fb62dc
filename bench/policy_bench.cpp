// How long is a decision among 10,000 policies? Prints microseconds (median, p99, p99.9) for policies of several
// shapes:
//   by name     each names a user or a team, an action and a model
//   by label    each speaks of everybody and everything, and of one label in its condition
//   mixed       half of each, one in ten a forbid, conditions on time and address
//   by address  each speaks of everybody and everything, and of a range of addresses
//   by pattern  each speaks of everybody and everything, and of a pattern for the purpose or a label: a piece that is
//               anywhere, one in front that many others share, one behind
//   by date     each speaks of everybody and everything, until a day of a year; one in fifty has not ended yet
//   open        each speaks of everybody and everything, and of the time of day: the index knows no question like this,
//               so none is left out and all are evaluated
// "decide" is the decision alone, "request" with the question's entities made first, "one by one" without the index.
//   policy_bench [POLICIES]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "governance/policy.h"

namespace redoubt {
namespace {

using Random = std::mt19937;
constexpr int kRequests = 20'000;

int pick(Random& random, int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); }

std::string by_name(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const std::string who = i % 2 == 0 ? fmt::format("principal == Redoubt::User::\"user{}\"", i)
                                       : fmt::format("principal in Redoubt::Team::\"acme/team{}\"", i % 500);
    text += fmt::format(
        "permit ({}, action in [Redoubt::Action::\"generate\", Redoubt::Action::\"tokenize\"], "
        "resource == Redoubt::Model::\"model{}\");\n",
        who, pick(random, 50));
  }
  return text;
}

std::string by_label(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format(
        "permit (principal, action == Redoubt::Action::\"generate\", resource) "
        "when {{ principal.labels.department == \"department{}\" && context.purpose == \"purpose{}\" }};\n",
        i % 2000, pick(random, 10));
  }
  return text;
}

std::string mixed(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format(
        "{} (principal in Redoubt::Team::\"acme/team{}\", action in Redoubt::Action::\"use\", {}) "
        "when {{ context.source_ip.isInRange(ip(\"10.{}.0.0/16\")) && "
        "context.now.toTime() < duration(\"{}h\") }};\n",
        i % 10 == 0 ? "forbid" : "permit", i % 500,
        i % 2 == 0 ? "resource" : fmt::format("resource == Redoubt::Model::\"model{}\"", i % 50), pick(random, 8),
        8 + pick(random, 16));
  }
  return text;
}

std::string by_address(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format(
        "{} (principal, action, resource) when {{ context.source_ip.isInRange(ip(\"172.{}.{}.0/24\")) }};\n",
        i % 10 == 0 ? "forbid" : "permit", 16 + pick(random, 16), pick(random, 256));
  }
  return text;
}

std::string by_pattern(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const int number = pick(random, 2000);
    const std::string condition =
        i % 3 == 0   ? fmt::format("context.purpose like \"*{:x}{:x}*\"", 160 + pick(random, 96), pick(random, 256))
        : i % 3 == 1 ? fmt::format("principal.labels.department like \"department{}*\"", number)
                     : fmt::format("principal.labels.department like \"*part*{}\"", number);
    text +=
        fmt::format("{} (principal, action, resource) when {{ {} }};\n", i % 10 == 0 ? "forbid" : "permit", condition);
  }
  return text;
}

std::string by_date(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const int year = pick(random, 50) == 0 ? 1971 : 1969;  // questions are asked on the first day of 1970
    text += fmt::format("{} (principal, action, resource) when {{ context.now < datetime(\"{}-{:02}-{:02}\") }};\n",
                        i % 10 == 0 ? "forbid" : "permit", year, 1 + pick(random, 12), 1 + pick(random, 28));
  }
  return text;
}

std::string open(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format("{} (principal, action, resource) when {{ context.now.toTime() < duration(\"{}s\") }};\n",
                        i % 10 == 0 ? "forbid" : "permit", pick(random, 864));
  }
  return text;
}

struct Asked {
  Principal principal;
  std::string model;
  PolicyContext context;
};

std::vector<Asked> questions(Random& random, int policies) {
  std::vector<Asked> out(kRequests);
  for (Asked& asked : out) {
    asked.principal.id = fmt::format("user{}", pick(random, policies));
    asked.principal.tenant = "acme";
    asked.principal.teams = {fmt::format("team{}", pick(random, 250)), fmt::format("team{}", 250 + pick(random, 250))};
    asked.principal.roles = {"user"};
    asked.principal.labels["department"] = fmt::format("department{}", pick(random, 2000));
    asked.model = fmt::format("model{}", pick(random, 50));
    asked.context = {.now_ms = pick(random, 86'400'000),
                     .source_ip = fmt::format("10.{}.1.2", pick(random, 8)),
                     .purpose = fmt::format("purpose{}", pick(random, 10))};
  }
  return out;
}

AuthorizationRequest request_of(const Asked& asked) {
  return AuthorizationRequest(asked.principal, "generate", "Model", asked.model, asked.context);
}

void report(const char* what, std::vector<double> us, int allowed) {
  std::sort(us.begin(), us.end());
  const auto at = [&](double share) { return us[static_cast<size_t>(share * static_cast<double>(us.size() - 1))]; };
  fmt::print("  {:<12} median {:8.2f} us   p99 {:8.2f}   p99.9 {:8.2f}   allowed {:4.1f} %\n", what, at(0.5), at(0.99),
             at(0.999), 100.0 * allowed / static_cast<double>(us.size()));
}

// Each question's time, and how many were allowed.
void measure(const char* what, int count, const std::function<bool(int)>& ask) {
  std::vector<double> us;
  int allowed = 0;
  for (int i = 0; i < count; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    allowed += ask(i);
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  report(what, std::move(us), allowed);
}

void measure_text(const char* name, std::string text, int policies, Random& random) {
  const size_t bytes = text.size();
  const auto begin = std::chrono::steady_clock::now();
  auto engine = PolicyEngine::with_text(std::move(text));
  if (!engine) {
    fmt::print("{}: {}\n", name, engine.error().message);
    std::exit(1);
  }
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("{}: {} policies, {} KiB, parsed and filed in {:.0f} ms\n", name, policies, bytes >> 10, ms);
  const std::vector<Asked> asked = questions(random, policies);
  std::vector<AuthorizationRequest> requests;
  for (const Asked& one : asked) requests.push_back(request_of(one));
  const auto at = [](int i) { return static_cast<size_t>(i); };
  measure("decide", kRequests, [&](int i) { return (*engine)->decide(requests[at(i)]).allowed; });
  measure("request", kRequests, [&](int i) { return (*engine)->decide(request_of(asked[at(i)])).allowed; });
  const auto snapshot = (*engine)->snapshot();
  measure("one by one", 200, [&](int i) {
    cedar::Request request = requests[at(i)].request();
    request.far = snapshot->entities.get();
    return snapshot->policies->decide_one_by_one(request).allowed;
  });
}

int run(int policies) {
  Random random(1);
  measure_text("by name", by_name(random, policies), policies, random);
  measure_text("by label", by_label(random, policies), policies, random);
  measure_text("mixed", mixed(random, policies), policies, random);
  measure_text("by address", by_address(random, policies), policies, random);
  measure_text("by pattern", by_pattern(random, policies), policies, random);
  measure_text("by date", by_date(random, policies), policies, random);
  measure_text("open", open(random, policies), policies, random);
  return 0;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) { return redoubt::run(argc > 1 ? std::atoi(argv[1]) : 10'000); }
