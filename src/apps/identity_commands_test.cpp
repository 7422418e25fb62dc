#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "apps/admin_target.h"
#include "apps/first_keys.h"
#include "apps/identity_store.h"
#include "apps/record_text.h"
#include "governance/api_keys.h"
#include "server/admin_call.h"
#include "server/http_test_client.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

class IdentityCommands : public testing::Test {
 protected:
  void SetUp() override {
    auto store = open_identity_store(data_, "", clock_, wall_, {.period_ms = 0});
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(store).value();
    first_ = store_.directory->first_start("").value();
  }
  std::string file(const std::filesystem::path& path) const {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  test::TemporaryFolder folder_;
  const std::filesystem::path data_ = folder_.path();
  SteadyClock clock_;
  SystemWallClock wall_;
  IdentityStore store_;
  Directory::FirstKeys first_;
};

TEST_F(IdentityCommands, FirstKeysAreShownOnATerminalAndKeptNowhere) {
  const auto shown = tell_first_keys(first_, Audience::terminal, data_, "http://127.0.0.1:8000");
  ASSERT_TRUE(shown);
  EXPECT_NE(shown->find(first_.user), std::string::npos);
  EXPECT_NE(shown->find(first_.appointing), std::string::npos);
  EXPECT_NE(shown->find("curl http://127.0.0.1:8000/v1/chat/completions"), std::string::npos);
  EXPECT_NE(shown->find("\"max_tokens\": 100"), std::string::npos) << "it is to answer soon";
  EXPECT_FALSE(std::filesystem::exists(data_ / "first.key"));
  EXPECT_EQ(*tell_first_keys({}, Audience::terminal, data_, ""), "");
}

TEST_F(IdentityCommands, ElsewhereFirstKeysAreInAFileForItsOwner) {
  const auto said = tell_first_keys(first_, Audience::file, data_, "http://127.0.0.1:8000");
  ASSERT_TRUE(said);
  EXPECT_EQ(said->find(first_.user), std::string::npos);
  EXPECT_NE(file(data_ / "first.key").find(first_.user), std::string::npos);
  struct stat info {};
  ASSERT_EQ(::stat((data_ / "first.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // Of a start that came to nothing: the next one, on a terminal, says where they are until somebody takes them away.
  EXPECT_EQ(*tell_first_keys({}, Audience::file, data_, ""), "");
  EXPECT_NE(tell_first_keys({}, Audience::terminal, data_, "")->find("first.key"), std::string::npos);
  std::filesystem::remove(data_ / "first.key");
  EXPECT_EQ(*tell_first_keys({}, Audience::terminal, data_, ""), "");
}

TEST_F(IdentityCommands, WithABootstrapKeyNothingIsSaid) {
  const auto said = tell_first_keys({.appointing = first_.appointing}, Audience::terminal, data_, "x");
  ASSERT_TRUE(said);
  EXPECT_EQ(*said, "");
  EXPECT_NE(file(data_ / "first.key").find(first_.appointing), std::string::npos);
}

TEST_F(IdentityCommands, TheOwnerOfTheFolderChangesWhatARunningServerSees) {
  const auto target = open_admin_target({.data = data_.string()});
  ASSERT_TRUE(target) << target.error().message;
  const auto made = (*target)->call("POST", "/admin/v1/keys", Json{{"principal", "first"}, {"name", "n"}});
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_TRUE(store_.directory->refresh());
  EXPECT_TRUE(store_.directory->snapshot()->keys.contains((*made)["id"]));
  EXPECT_EQ((*target)->list("/admin/v1/keys", {})->size(), 3u);
  EXPECT_FALSE((*target)->call("GET", admin_path("/admin/v1/users", "a/b")));
  EXPECT_FALSE(open_admin_target({.data = (data_ / "absent").string()}));
}

// A gate that knows keys of the directory, and permits everything to whoever has one.
class Knowing final : public Gate {
 public:
  explicit Knowing(const Directory& directory) : directory_(directory) {}
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    const auto snapshot = directory_.snapshot();
    const auto found =
        snapshot->keys_by_hash.find(key_hash(directory_.hash(), std::string(head.header("authorization")).substr(7)));
    if (found == snapshot->keys_by_hash.end())
      return ApiError{401, "the API key is not valid", "authentication_error", {}, {}, {}};
    return enter_route(std::make_shared<Permit>(found->second->who, everything_), head, route);
  }

 private:
  struct Everything final : Authority {
    Verdict decide(const Principal&, const AccessQuestion&) const override { return Verdict::permitted; }
    Status still_valid(const Principal&) const override { return ok(); }
    uint64_t version() const override { return 0; }
  };
  const Directory& directory_;
  std::shared_ptr<Everything> everything_ = std::make_shared<Everything>();
};

std::unique_ptr<RunningServer> serve_administration(Directory& directory, const WallClock& wall) {
  std::vector<Route> routes;
  add_admin_identity_routes(directory, wall, routes);
  HttpOptions options;
  options.gate = std::make_shared<Knowing>(directory);
  options.admin = AdminListener{};
  return std::make_unique<RunningServer>(std::move(routes), std::move(options));
}

TEST_F(IdentityCommands, AServerIsAskedWithAKeyAndAnswersTheSame) {
  const auto running = serve_administration(*store_.directory, wall_);
  const std::string url = "http://127.0.0.1:" + std::to_string(running->server->admin_port()) + "/";
  const auto with = [&](const std::string& key) {
    std::ofstream(data_ / "key") << key << "\n";
    return open_admin_target({.server = url, .key_file = (data_ / "key").string()});
  };
  const auto appointer = with(first_.appointing);
  ASSERT_TRUE(appointer) << appointer.error().message;
  const auto keys =
      (*appointer)
          ->call("POST", "/admin/v1/administrators", Json{{"system", "sys"}, {"security", "sec"}, {"audit", "aud"}});
  ASSERT_TRUE(keys) << keys.error().message;
  const auto system = with((*keys)["system"]["key"]);
  ASSERT_TRUE((*system)->call("POST", "/admin/v1/users", Json{{"id", "ana@bank"}}));
  const auto ana = (*system)->call("GET", admin_path("/admin/v1/users", "ana@bank"));
  ASSERT_TRUE(ana) << ana.error().message;
  EXPECT_EQ((*ana)["id"], "ana@bank");
  EXPECT_EQ((*system)->list("/admin/v1/users", {{"tenant", "default"}})->size(), 5u);
  const auto denied = (*system)->call("PATCH", "/admin/v1/users/aud", Json{{"disabled", true}});
  ASSERT_FALSE(denied);
  EXPECT_NE(denied.error().message.find("administrator"), std::string::npos) << denied.error().message;
  const auto stranger = with("wrong");
  EXPECT_FALSE((*stranger)->call("GET", "/admin/v1/users"));
}

// Each sets labels of its own, takes some away, and the certificate or the provider's names: nothing that one does
// undoes what the other did, whichever way they come.
TEST_F(IdentityCommands, TwoWhoChangeOneUserAtOnceLoseNothing) {
  const auto running = serve_administration(*store_.directory, wall_);
  std::ofstream(data_ / "key") << first_.user << "\n";
  const AdminFlags over_http{.server = "http://127.0.0.1:" + std::to_string(running->server->admin_port()),
                             .key_file = (data_ / "key").string()},
      of_folder{.data = data_.string()};
  ASSERT_TRUE((*open_admin_target(of_folder))->call("POST", "/admin/v1/users", Json{{"id", "ana"}}));
  ASSERT_TRUE(store_.directory->refresh());
  constexpr int kChanges = 20;
  const auto changes = [&](const AdminFlags& flags, const std::string& own, const std::string& method) {
    const auto target = open_admin_target(flags);
    ASSERT_TRUE(target) << target.error().message;
    for (int i = 0; i < kChanges; ++i) {
      Json body = {{"labels", {{own + std::to_string(i), "x"}}}};
      if (i % 4 == 3) body["labels"][own + std::to_string(i - 1)] = nullptr;
      Json identity = {{"subject", own + std::to_string(i)}};
      if (method == "oidc") identity["issuer"] = "https://idp";
      body["identities"][method] = Json::array({identity});
      const auto changed = (*target)->call("PATCH", "/admin/v1/users/ana", body);
      ASSERT_TRUE(changed) << changed.error().message;
    }
  };
  std::thread a([&] { changes(over_http, "a", "oidc"); }), b([&] { changes(of_folder, "b", "mtls"); });
  changes(over_http, "c", "oidc");
  a.join();
  b.join();
  const auto ana = (*open_admin_target(of_folder))->call("GET", "/admin/v1/users/ana");
  ASSERT_TRUE(ana) << ana.error().message;
  Labels expected;
  for (const std::string own : {"a", "b", "c"}) {
    for (int i = 0; i < kChanges; ++i) {
      if (i % 4 != 2) expected[own + std::to_string(i)] = "x";
    }
  }
  EXPECT_EQ((*ana)["labels"].get<Labels>(), expected);
  ASSERT_EQ((*ana)["identities"].size(), 2u) << (*ana)["identities"].dump();
  EXPECT_EQ((*ana)["identities"][0]["subject"], "b" + std::to_string(kChanges - 1));
}

TEST(RecordText, IsForPeople) {
  const Json record =
      parse_json(R"({"id":"a","teams":["x","y"],"labels":{"k":"v"},"disabled":false,"expires_at":null,"created_at":0})")
          .value();
  EXPECT_EQ(record_text(record),
            "id          a\nteams       x, y\nlabels      k=v\ndisabled    no\nexpires_at  -\ncreated_at  1970-01-01 "
            "00:00 UTC\n");
  EXPECT_EQ(table_text(Json::array({record}), {"id", "teams", "nothing"}), "id  teams  nothing\na   x, y   -\n");
  EXPECT_EQ(json_lines(Json::array({1, 2})), "1\n2\n");
}

TEST(ParseSeconds, KnowsUnits) {
  EXPECT_EQ(*parse_seconds("90d", "--x"), 90 * 86'400);
  EXPECT_EQ(*parse_seconds("45s", "--x"), 45);
  EXPECT_EQ(*parse_seconds("0s", "--x"), 0);
  for (const char* text : {"", "45", "0", "d", "-1d", "1w", "1.5h", "99999999999999999999", "9223372036854775807d"})
    EXPECT_FALSE(parse_seconds(text, "--x")) << text;
}

}  // namespace
}  // namespace redoubt
