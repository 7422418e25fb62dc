#include "server/json_fields.h"

#include <fmt/format.h>

#include <cmath>

#include "core/utf8.h"

namespace redoubt {
namespace {

// Stops at the wanted field.
class FieldReader final : public nlohmann::json_sax<Json> {
 public:
  explicit FieldReader(std::string_view key) : key_(key) {}
  std::optional<std::string> found;

  bool null() override { return go_on(); }
  bool boolean(bool) override { return go_on(); }
  bool number_integer(int64_t) override { return go_on(); }
  bool number_unsigned(uint64_t) override { return go_on(); }
  bool number_float(double, const std::string&) override { return go_on(); }
  bool string(std::string& value) override {
    if (is_next_) found = value;
    return go_on();
  }
  bool binary(Json::binary_t&) override { return go_on(); }
  bool start_object(size_t) override { return ++depth_, go_on(); }
  bool end_object() override { return --depth_, true; }
  bool start_array(size_t) override { return ++depth_, go_on(); }
  bool end_array() override { return --depth_, true; }
  bool key(std::string& name) override { return is_next_ = depth_ == 1 && name == key_, true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool go_on() const { return !is_next_; }  // the field's value, whatever it is, is the end

  std::string_view key_;
  int depth_ = 0;
  bool is_next_ = false;
};

}  // namespace

std::string_view json_type(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

std::optional<std::string> find_string_in_body(std::string_view body, std::string_view key) {
  FieldReader reader(key);
  Json::sax_parse(body.begin(), body.end(), &reader);
  return std::move(reader.found);
}

std::string string_in_body(std::string_view body, std::string_view key) {
  return find_string_in_body(body, key).value_or("");
}

Error wrong_type(std::string_view param, std::string_view expected, const Json& found) {
  return invalid(fmt::format("{}: expected {}, found {}", param, expected, json_type(found)), std::string(param));
}

Result<Json> parse_json_body(std::string_view body) {
  auto parsed = parse_json(body);
  if (!parsed) return std::move(parsed).error().within("request body");
  if (!parsed->is_object()) {
    return invalid(fmt::format("request body: expected a JSON object, found {}", json_type(*parsed)));
  }
  return parsed;
}

const Json* JsonFields::find(std::string_view key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

Result<std::optional<std::string>> JsonFields::string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return wrong_type(param(key), "a string", *value);
  return std::optional<std::string>(value->get_ref<const std::string&>());
}

Result<std::optional<bool>> JsonFields::boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return wrong_type(param(key), "a boolean", *value);
  return std::optional<bool>(value->get<bool>());
}

Result<std::optional<double>> JsonFields::number(std::string_view key, double low, double high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return wrong_type(param(key), "a number", *value);
  const double found = value->get<double>();
  if (!std::isfinite(found) || found < low || found > high) {
    return invalid(fmt::format("{}: expected a number from {} to {}, found {}", param(key), low, high, found),
                   param(key));
  }
  return std::optional<double>(found);
}

Result<std::optional<int64_t>> JsonFields::integer(std::string_view key, int64_t low, int64_t high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<int64_t>();
  if (!value->is_number()) return wrong_type(param(key), "an integer", *value);
  int64_t found = 0;
  if (value->is_number_float()) {  // 10.0 is what some languages send for 10
    const double as_double = value->get<double>();
    if (std::trunc(as_double) != as_double || std::abs(as_double) > 9.0e15) {
      return invalid(fmt::format("{}: expected an integer, found {}", param(key), as_double), param(key));
    }
    found = static_cast<int64_t>(as_double);
  } else if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return invalid(fmt::format("{}: expected at most {}", param(key), high), param(key));
  } else {
    found = value->get<int64_t>();
  }
  if (found < low || found > high) {
    return invalid(fmt::format("{}: expected an integer from {} to {}, found {}", param(key), low, high, found),
                   param(key));
  }
  return std::optional<int64_t>(found);
}

Result<const Json*> JsonFields::array(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_array()) return wrong_type(param(key), "an array", *value);
  return value;
}

Result<const Json*> JsonFields::object(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_object()) return wrong_type(param(key), "an object", *value);
  return value;
}

Error JsonFields::refuse(std::string_view key, std::string_view why) const {
  return invalid(fmt::format("{}: {}", param(key), why), param(key));
}

Error JsonFields::refuse_word(std::string_view key, std::string_view expected, std::string_view found) const {
  return refuse(key, fmt::format("expected {}, found {}", expected, dump_json(Json(utf8_head(found, 64)))));
}

Status JsonFields::refuse_unless_empty(std::string_view key, std::string_view why) const {
  const Json* value = find(key);
  if (value == nullptr || (value->is_boolean() && !value->get<bool>()) ||
      (value->is_number() && value->get<double>() == 0) ||
      (value->is_string() && value->get_ref<const std::string&>().empty()) ||
      ((value->is_array() || value->is_object()) && value->empty())) {
    return ok();
  }
  return refuse(key, why);
}

}  // namespace redoubt
