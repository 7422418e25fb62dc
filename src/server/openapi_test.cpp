#include "server/openapi.h"

#include <gtest/gtest.h>

#include "server/router.h"

namespace redoubt {
namespace {

TEST(OpenApi, DescribesEveryRouteWithItsParametersErrorsAndSecurity) {
  Route chat;
  chat.method = "POST";
  chat.path = "/v1/chat/completions";
  chat.request_schema = Json{{"type", "object"}};
  chat.streams = true;
  Route model;
  model.method = "GET";
  model.path = "/v1/models/{id}";
  Route live;
  live.method = "GET";
  live.path = "/livez";
  live.rule = status_rule();
  live.response_schema = Json{{"type", "object"}, {"required", Json::array({"status"})}};
  const Json document = openapi_document({chat, model, live}, "0.1.0");
  EXPECT_EQ(document["openapi"], "3.1.0");
  ASSERT_EQ(document["paths"].size(), 3u);
  const Json& post = document["paths"]["/v1/chat/completions"]["post"];
  EXPECT_EQ(post["operationId"], "postV1ChatCompletions");
  EXPECT_TRUE(post["responses"]["200"]["content"].contains("text/event-stream"));
  EXPECT_TRUE(post["responses"].contains("401"));
  EXPECT_EQ(post["requestBody"]["content"]["application/json"]["schema"]["type"], "object");
  const Json& get = document["paths"]["/v1/models/{id}"]["get"];
  EXPECT_EQ(get["parameters"][0]["name"], "id");
  EXPECT_EQ(get["parameters"][0]["required"], true);
  EXPECT_EQ(document["paths"]["/livez"]["get"]["security"], Json::array());
  const Json& not_live = document["paths"]["/livez"]["get"]["responses"]["503"]["content"]["application/json"];
  EXPECT_EQ(not_live["schema"], live.response_schema) << "a status, and no error that tells why";
}

TEST(Router, TheMoreLiteralTemplateWinsAndATrailingParameterTakesTheRest) {
  const auto make = [](std::string method, std::string path) {
    Route route;
    route.method = std::move(method);
    route.path = std::move(path);
    return route;
  };
  const Router router(
      {make("GET", "/m/{id}"), make("GET", "/m/list"), make("POST", "/m/{id}"), make("POST", "/m/{id}/cancel")});
  EXPECT_EQ(router.find("GET", "/m/list").route->path, "/m/list");
  EXPECT_EQ(router.find("GET", "/m/org/name").params.at("id"), "org/name");
  EXPECT_EQ(router.find("POST", "/m/7/cancel").route->path, "/m/{id}/cancel");
  EXPECT_EQ(router.find("HEAD", "/m/x").route->method, "GET");
  EXPECT_EQ(router.find("PUT", "/m/x").route, nullptr);
  EXPECT_EQ(router.find("PUT", "/m/x").allow, "GET, HEAD, OPTIONS, POST");
  EXPECT_EQ(router.find("GET", "/m/").allow, "");
  EXPECT_EQ(router.find("GET", "/other").allow, "");
}

}  // namespace
}  // namespace redoubt
