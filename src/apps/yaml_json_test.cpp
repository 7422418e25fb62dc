#include "apps/yaml_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace redoubt {
namespace {

using testing::HasSubstr;

TEST(YamlJson, ReadsWhatPeopleWrite) {
  const auto json = json_from_yaml(R"(
tests:
  - name: users generate
    principal: {id: alice, roles: [user]}
    resource: 'Redoubt::Model::"r1"'
    context: {budget_left: 12, port: "12", night: true, note: ~, purpose: triage}
)");
  ASSERT_TRUE(json) << json.error().message;
  const Json& test = (*json)["tests"][0];
  EXPECT_EQ(test["principal"]["roles"], Json::array({"user"}));
  EXPECT_EQ(test["resource"], "Redoubt::Model::\"r1\"");
  EXPECT_EQ(test["context"]["budget_left"], 12);
  EXPECT_EQ(test["context"]["port"], "12");
  EXPECT_EQ(test["context"]["night"], true);
  EXPECT_TRUE(test["context"]["note"].is_null());
  EXPECT_EQ(*json_from_yaml(R"({"a": [1, "1", false]})"), Json::parse(R"({"a": [1, "1", false]})"));
}

TEST(YamlJson, SaysWhereItIsWrong) {
  EXPECT_THAT(json_from_yaml("a: 1\na: 2\n").error().message, HasSubstr("line 2: a is there twice"));
  EXPECT_THAT(json_from_yaml("a: [1\n").error().message, HasSubstr("line "));
  std::string bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n";
  for (char c = 'b'; c < 'k'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 10; ++i) bomb += std::string(i ? "," : "") + "*" + static_cast<char>(c - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(json_from_yaml(bomb).error().message, HasSubstr("values"));
}

}  // namespace
}  // namespace redoubt
