// What the front door adds to a request: front_door_bench [REQUESTS_PER_SECOND] [SECONDS]
//
// The path of a chat completion without sockets and without an engine: the key is looked up, the route and the model
// are asked of the policies, a request is reserved under limits of every scope, and settled as if a stub engine had
// answered at once. 1,000 users with a key each, in ten teams, who all were here before; the database is SQLite in a
// folder of its own. Open loop over the cores: each thread has its own schedule, and what starts late counts from when
// it should have.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "apps/identity_store.h"
#include "core/thread_pool.h"
#include "governance/limit_service.h"
#include "governance/policy_store.h"
#include "server/identity_gate.h"

namespace redoubt {
namespace {

using Steady = std::chrono::steady_clock;
constexpr int kUsers = 1000, kTeams = 10;

template <class T>
T expect(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "front_door_bench: {}\n", result.error().message);
  std::exit(1);
}
void expect(const Status& status) {
  if (status) return;
  fmt::print(stderr, "front_door_bench: {}\n", status.error().message);
  std::exit(1);
}

std::vector<std::string> make_users(Directory& directory) {
  const Actor owner;  // of the data folder
  for (int i = 0; i < kTeams; ++i) expect(directory.create_team(owner, "default", fmt::format("team{}", i), {}));
  std::vector<std::string> keys;
  for (int i = 0; i < kUsers; ++i) {
    NewPrincipal user{.id = fmt::format("user{}", i)};
    user.fields.teams = std::vector{fmt::format("team{}", i % kTeams)};
    expect(directory.create_principal(owner, user));
    keys.push_back(expect(directory.create_key(owner, {.principal = user.id})).text);
  }
  return keys;
}

// Large enough that nobody is refused: their cost is wanted, not their answer.
void set_limits(LimitStore& store) {
  constexpr int64_t kMany = int64_t{1} << 40;
  for (const auto& [scope, subject] :
       {std::pair{LimitScope::tenant, "default"}, {LimitScope::team, "*"}, {LimitScope::user, "*"}}) {
    for (const LimitKind kind : {LimitKind::requests_per_minute, LimitKind::tokens_per_minute,
                                 LimitKind::concurrent_streams, LimitKind::tokens_per_day}) {
      expect(store.set({.scope = scope, .subject = subject, .kind = kind, .amount = kMany}));
    }
  }
}

struct Parts {  // of one request, ns
  std::vector<int64_t> all, gate, model, limits;
};

std::string quantiles(std::vector<int64_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double q) {
    return static_cast<double>(ns[static_cast<size_t>(q * static_cast<double>(ns.size() - 1))]) / 1e3;
  };
  return fmt::format("{:9.1f} {:9.1f} {:9.1f} {:9.1f}", at(0.5), at(0.99), at(0.999), at(1));
}

void run(double rate, double seconds) {
  const std::filesystem::path data = std::filesystem::temp_directory_path() / fmt::format("front_door_{}", ::getpid());
  std::filesystem::create_directories(data);
  const SteadyClock clock;
  const SystemWallClock wall;
  {
    IdentityStore store = expect(open_identity_store(data, "", clock, wall));
    expect(store.directory->first_start("").has_value() ? ok() : Status(unavailable("no first start")));
    const std::vector<std::string> keys = make_users(*store.directory);
    Identity identity(*store.directory, nullptr, clock, wall);
    const std::unique_ptr<PolicyStore> policies = expect(PolicyStore::open(*store.database, {}, clock, wall));
    LimitService limits = expect(LimitService::open(*store.database, "bench", clock, wall));
    set_limits(*limits.store);
    const std::shared_ptr<Gate> gate = make_identity_gate(identity, policies->engine(), wall);
    Route route{.method = "POST", .path = "/v1/chat/completions"};
    route.rule = generate_rule();

    const auto request = [&](size_t i, Parts& parts, Steady::time_point begun) {
      HttpRequest head{.method = route.method, .path = route.path, .remote_address = "10.1.2.3"};
      head.headers = {{"host", "localhost"}, {"authorization", "Bearer " + keys[i * 7919 % keys.size()]}};
      const auto start = std::max(Steady::now(), begun);
      auto entered = gate->enter(head, &route);
      if (!std::holds_alternative<std::shared_ptr<Permit>>(entered)) expect(Status(unavailable("not let in")));
      const auto permit = std::get<std::shared_ptr<Permit>>(entered);
      const auto in = Steady::now();
      expect(permit->check({.action = "generate", .resource_kind = "Model", .resource_id = "r1", .context = {}}));
      const auto checked = Steady::now();
      // As the routes do before the body is worked on: the least is foreseen, and the request taken.
      const auto foreseen = limits.limits->foresee(
          {.principal = &permit->principal(), .model = "r1", .prompt_tokens = 1, .max_tokens = 1, .may_think = false});
      if (foreseen) expect(Status(unavailable(foreseen->message)));
      auto alone = limits.limits->reserve({.principal = &permit->principal(), .model = "r1", .is_request_alone = true});
      if (auto* refusal = std::get_if<LimitRefusal>(&alone)) expect(Status(unavailable(refusal->message)));
      auto taken = limits.limits->reserve(
          {.principal = &permit->principal(), .model = "r1", .prompt_tokens = 100, .max_tokens = 256},
          &std::get<Reservation>(alone));
      if (auto* refusal = std::get_if<LimitRefusal>(&taken)) expect(Status(unavailable(refusal->message)));
      std::get<Reservation>(taken).settle({.prompt = 100, .answer = 200});
      const auto end = Steady::now();
      const auto ns = [](auto a, auto b) { return (b - a) / std::chrono::nanoseconds(1); };
      parts.all.push_back(ns(begun, end));
      parts.gate.push_back(ns(start, in));
      parts.model.push_back(ns(in, checked));
      parts.limits.push_back(ns(checked, end));
    };

    // A user's first request waits for a lease from the database; those after it find one in memory.
    Parts first;
    for (size_t i = 0; i < keys.size(); ++i) request(i, first, Steady::now());

    const int threads = ThreadPool::usable_cores();
    std::vector<Parts> parts(static_cast<size_t>(threads));
    std::vector<std::thread> workers;
    const auto began = Steady::now();
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        const auto count = static_cast<size_t>(rate * seconds / threads);
        const auto step = std::chrono::nanoseconds(static_cast<int64_t>(1e9 * threads / rate));
        for (size_t i = 0; i < count; ++i) {
          const auto due = began + static_cast<int64_t>(i) * step;
          // Sleeps to shortly before, then looks at the clock: a late wake-up is the kernel's, not the door's.
          std::this_thread::sleep_until(due - std::chrono::microseconds(100));
          while (Steady::now() < due) {
          }
          request(i * static_cast<size_t>(threads) + static_cast<size_t>(t), parts[static_cast<size_t>(t)], due);
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    Parts sum;
    for (const Parts& p : parts) {
      for (auto member : {&Parts::all, &Parts::gate, &Parts::model, &Parts::limits}) {
        (sum.*member).insert((sum.*member).end(), (p.*member).begin(), (p.*member).end());
      }
    }
    fmt::print("{} requests, {} a second, {} threads; microseconds\n{:<22} {:>9} {:>9} {:>9} {:>9}\n", sum.all.size(),
               rate, threads, "", "median", "p99", "p99.9", "largest");
    fmt::print("{:<22} {}\n", "gate: key and route", quantiles(sum.gate));
    fmt::print("{:<22} {}\n", "policies: the model", quantiles(sum.model));
    fmt::print("{:<22} {}\n", "limits: taken, settled", quantiles(sum.limits));
    fmt::print("{:<22} {}\n", "all, from when due", quantiles(sum.all));
    fmt::print("{:<22} {}\n", "a user's first, alone", quantiles(first.all));
  }
  std::filesystem::remove_all(data);
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) {
  redoubt::run(argc > 1 ? std::atof(argv[1]) : 5000, argc > 2 ? std::atof(argv[2]) : 10);
  return 0;
}
