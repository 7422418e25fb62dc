#include "apps/yaml_json.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <string>

namespace redoubt {
namespace {

constexpr int kMaxDepth = 32;
constexpr int64_t kMaxNodes = 1'000'000;  // a few aliases of aliases could stand for any number
constexpr size_t kMaxBytes = size_t{16} << 20;

Error wrong(const YAML::Node& node, std::string_view what) {
  return invalid(fmt::format("line {}: {}", node.Mark().line + 1, what));
}

Json scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "true" || text == "false") return text == "true";
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) return number;
  return text;
}

Result<Json> converted(const YAML::Node& node, int depth, int64_t& room) {
  if (--room < 0)
    return wrong(node, fmt::format("more than {} values, aliases counted as often as they stand", kMaxNodes));
  if (depth == 0) return wrong(node, fmt::format("nested deeper than {}", kMaxDepth));
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return scalar(node);
    case YAML::NodeType::Sequence: {
      Json list = Json::array();
      for (const YAML::Node& item : node) {
        REDOUBT_TRY(Json value, converted(item, depth - 1, room));
        list.push_back(std::move(value));
      }
      return list;
    }
    case YAML::NodeType::Map: {
      Json object = Json::object();
      for (const auto& entry : node) {
        if (!entry.first.IsScalar()) return wrong(entry.first, "a key is no plain text");
        const std::string& key = entry.first.Scalar();
        if (object.contains(key)) return wrong(entry.first, fmt::format("{} is there twice", key));
        REDOUBT_TRY(object[key], converted(entry.second, depth - 1, room));
      }
      return object;
    }
    default:
      return Json(nullptr);
  }
}

}  // namespace

Result<Json> json_from_yaml(std::string_view text) {
  if (text.size() > kMaxBytes) return invalid(fmt::format("more than {} bytes", kMaxBytes));
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    int64_t room = kMaxNodes;
    return converted(root, kMaxDepth, room);
  } catch (const YAML::Exception& error) {
    return invalid(fmt::format("line {}: {}", error.mark.line + 1, error.msg));
  }
}

}  // namespace redoubt
