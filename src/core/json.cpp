#include "core/json.h"

#include <fmt/format.h>

#include <set>
#include <vector>

namespace redoubt {
namespace {

// Builds the document and refuses, on the way, what the library would accept silently.
class LimitedReader : public nlohmann::json_sax<Json> {
 public:
  LimitedReader(Json& root, const JsonLimits& limits) : builder_(root, /*allow_exceptions=*/false), limits_(limits) {}

  bool null() override { return builder_.null(); }
  bool boolean(bool value) override { return builder_.boolean(value); }
  bool number_integer(number_integer_t value) override { return builder_.number_integer(value); }
  bool number_unsigned(number_unsigned_t value) override { return builder_.number_unsigned(value); }
  bool number_float(number_float_t value, const string_t& text) override { return builder_.number_float(value, text); }
  bool string(string_t& value) override { return builder_.string(value); }
  bool binary(binary_t& value) override { return builder_.binary(value); }
  bool start_object(size_t elements) override {
    keys_.emplace_back();
    return enter() && builder_.start_object(elements);
  }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) return fail(fmt::format("duplicate key '{}'", value.substr(0, 64)));
    return builder_.key(value);
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return builder_.end_object();
  }
  bool start_array(size_t elements) override { return enter() && builder_.start_array(elements); }
  bool end_array() override {
    --depth_;
    return builder_.end_array();
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail(fmt::format("not JSON at byte {}", position));
  }

  std::string failure = "not JSON";

 private:
  bool enter() {
    if (++depth_ > limits_.max_depth) return fail(fmt::format("JSON nested deeper than {}", limits_.max_depth));
    return true;
  }
  bool fail(std::string why) {
    failure = std::move(why);
    return false;
  }

  nlohmann::detail::json_sax_dom_parser<Json> builder_;
  const JsonLimits& limits_;
  std::vector<std::set<std::string>> keys_;
  int depth_ = 0;
};

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return invalid(fmt::format("JSON of {} bytes: expected at most {}", text.size(), limits.max_bytes));
  }
  Json root;
  LimitedReader reader(root, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) return invalid(reader.failure);
  return root;
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace redoubt
