// What lists tell of models that are loaded and that are not; Ollama's keep_alive, and who may say it.
#include "server/routes_fixture.h"

namespace redoubt {
namespace {

const Json kMessages = Json::array({{{"role", "user"}, {"content", "hi"}}});

class ModelLists : public Routes {
 protected:
  // Permits everything but one action.
  class AllBut final : public Authority {
   public:
    explicit AllBut(std::string action) : action_(std::move(action)) {}
    Verdict decide(const Principal&, const AccessQuestion& question) const override {
      return question.action == action_ ? Verdict::not_permitted : Verdict::permitted;
    }
    Status still_valid(const Principal&) const override { return ok(); }
    uint64_t version() const override { return 0; }

   private:
    std::string action_;
  };
  void forbid(const std::string& action) {
    permit = std::make_shared<Permit>(std::make_shared<Principal>(Principal{.tenant = "t1"}),
                                      std::make_shared<AllBut>(action));
  }
  std::shared_ptr<RecordingWriter> say(const Json& more) {
    Json body = {{"model", "tiny"}, {"messages", kMessages}, {"stream", false}};
    body.update(more);
    return post("/api/chat", body);
  }
  using Stay = std::pair<std::string, std::optional<int64_t>>;
};

TEST_F(ModelLists, AModelThatIsNotLoadedHasWhatItsFilesSay) {
  Json list = call("GET", "/v1/models")->json()["data"];
  EXPECT_EQ(list[0]["max_model_len"], 4096);  // the engine's
  EXPECT_EQ(list[1]["max_model_len"], 512);
  EXPECT_EQ(call("GET", "/v1/models/other")->json()["max_model_len"], 512);
  const Json tag = call("GET", "/api/tags")->json()["models"][1];
  EXPECT_EQ(tag["size"], 1000);
  EXPECT_EQ(tag["modified_at"], "1970-01-02T00:00:00Z");
  EXPECT_EQ(tag["details"]["family"], "llama");

  host.other_is_whole = false;  // and the list still answers
  list = call("GET", "/v1/models")->json()["data"];
  EXPECT_EQ(list.size(), 2u);
  EXPECT_TRUE(list[1]["max_model_len"].is_null());
  EXPECT_EQ(call("GET", "/api/tags")->json()["models"][1]["size"], 0);
}

TEST_F(ModelLists, KeepAliveIsASecondsNumberOrADuration) {
  const std::pair<Json, std::optional<int64_t>> cases[] = {
      {300, 300},  {0, 0},          {"5m", 300},          {"1h30m", 5400},    {"90", 90}, {"0", 0},
      {-1, {}},    {"-1", {}},      {"-1m", {}},          {"1.5h", 5400},     {0.2, 1},   {"300ms", 1},
      {1e300, {}}, {"24h", 86'400}, {"99999999999h", {}}, {"2m30s500ms", 151}};
  for (const auto& [keep, seconds] : cases) {
    SCOPED_TRACE(keep.dump());
    host.stays.clear();
    EXPECT_EQ(say({{"keep_alive", keep}})->status(), 200);
    EXPECT_EQ(host.stays, (std::vector<Stay>{{"tiny", seconds}}));
    host.stays.clear();
    EXPECT_EQ(post("/api/generate", {{"model", "tiny"}, {"prompt", "a"}, {"keep_alive", keep}})->status(), 200);
    EXPECT_EQ(host.stays, (std::vector<Stay>{{"tiny", seconds}}));
  }
  for (const Json& wrong : {Json("soon"), Json("5x"), Json(""), Json("5m3"), Json("m"), Json("1e3s"), Json("--1"),
                            Json(true), Json::array()}) {
    SCOPED_TRACE(wrong.dump());
    const auto reply = say({{"keep_alive", wrong}});
    EXPECT_EQ(reply->status(), 400);
    EXPECT_EQ(reply->json()["error"].get<std::string>().find("keep_alive:"), 0u) << reply->body();
  }
  host.stays.clear();
  EXPECT_EQ(say({{"keep_alive", nullptr}})->status(), 200);
  EXPECT_EQ(say(Json::object())->status(), 200);
  EXPECT_TRUE(host.stays.empty());
}

TEST_F(ModelLists, AnEmptyRequestLoadsPinsOrUnloads) {
  EXPECT_EQ(say({{"messages", Json::array()}, {"keep_alive", -1}})->json()["done_reason"], "load");
  EXPECT_EQ(host.stays, (std::vector<Stay>{{"tiny", std::nullopt}}));
  EXPECT_EQ(host.unloads, 0);
  EXPECT_EQ(say({{"messages", Json::array()}, {"keep_alive", 0}})->json()["done_reason"], "unload");
  EXPECT_EQ(host.stays.back(), (Stay{"tiny", 0}));
  EXPECT_EQ(host.unloads, 1);
  EXPECT_EQ(post("/api/generate", {{"model", "tiny:latest"}, {"keep_alive", "0s"}})->json()["done_reason"], "unload");
  EXPECT_EQ(post("/api/generate", {{"model", "gone"}, {"keep_alive", 0}})->status(), 404);
}

TEST_F(ModelLists, KeepAliveIsForThoseWhomAPolicyPermitsIt) {
  forbid("set_keep_alive");
  for (const Json& keep : {Json("5m"), Json(-1), Json(0)}) EXPECT_EQ(say({{"keep_alive", keep}})->status(), 200);
  EXPECT_TRUE(host.stays.empty());
  const auto refused = say({{"messages", Json::array()}, {"keep_alive", 0}});
  EXPECT_EQ(refused->status(), 403);
  EXPECT_NE(refused->body().find("keep_alive"), std::string::npos) << refused->body();
  EXPECT_TRUE(host.stays.empty());
  EXPECT_EQ(host.unloads, 0);
  forbid("generate");
  EXPECT_EQ(say({{"messages", Json::array()}, {"keep_alive", 0}})->status(), 403);
  EXPECT_TRUE(host.stays.empty());
}

TEST_F(ModelLists, PsTellsWhenAModelIsUnloaded) {
  const auto year = [&] {
    const Json models = call("GET", "/api/ps")->json()["models"];
    EXPECT_EQ(models.size(), 1u);
    return std::stoi(models[0]["expires_at"].get<std::string>().substr(0, 4));
  };
  EXPECT_GT(year(), 2300);  // never
  host.unload_in_s = int64_t{10} * 365 * 86'400;
  EXPECT_LT(year(), 2300);
  const int in_ten_years = year();
  host.unload_in_s = 0;
  EXPECT_NEAR(year(), in_ten_years - 10, 1);
}

}  // namespace
}  // namespace redoubt
