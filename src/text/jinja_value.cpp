#include "text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace redoubt::jinja {
namespace {

constexpr size_t kIndexFrom = 12;  // below this, looking at each key is faster

int sign(bool less, bool greater) { return less ? -1 : greater ? 1 : 0; }

// Exact where both are integers; an integer and a float compare as doubles (templates hold no such giants).
int compare_numbers(const Value& a, const Value& b) {
  if (!a.is_float() && !b.is_float()) return sign(a.integer() < b.integer(), a.integer() > b.integer());
  return sign(a.number() < b.number(), a.number() > b.number());
}

bool is_nan(const Value& value) { return value.is_float() && std::isnan(value.number()); }

bool equal_scalars(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
  return a.is_none() && b.is_none();
}

}  // namespace

Value Value::undefined(std::string why) {
  Value value;
  value.data = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

bool Value::is_list() const {
  const auto* container = std::get_if<ContainerPtr>(&data);
  return container && ((*container)->kind == Container::Kind::list || (*container)->kind == Container::Kind::tuple);
}
bool Value::is_tuple() const {
  const auto* container = std::get_if<ContainerPtr>(&data);
  return container && (*container)->kind == Container::Kind::tuple;
}
bool Value::is_dict() const {
  const auto* container = std::get_if<ContainerPtr>(&data);
  return container && (*container)->kind == Container::Kind::dict;
}
bool Value::is_namespace() const {
  const auto* container = std::get_if<ContainerPtr>(&data);
  return container && (*container)->kind == Container::Kind::name_space;
}
const std::vector<Value>& Value::items() const { return container().values; }
Integer Value::integer() const { return is_bool() ? (std::get<bool>(data) ? 1 : 0) : std::get<Integer>(data); }
double Value::number() const { return is_float() ? std::get<double>(data) : static_cast<double>(integer()); }

size_t Container::position(std::string_view key) const {
  if (keys.size() < kIndexFrom) {
    for (size_t i = 0; i < keys.size(); ++i) {
      if (keys[i].is_text() && keys[i].bytes() == key) return i;
    }
    return keys.size();
  }
  for (; indexed_ < keys.size(); ++indexed_) {
    if (keys[indexed_].is_text()) index_.emplace(keys[indexed_].bytes(), indexed_);
  }
  const auto found = index_.find(key);
  return found == index_.end() ? keys.size() : found->second;
}

size_t Container::position(const Value& key) const {
  if (key.is_text()) return position(std::string_view(key.bytes()));
  for (size_t i = 0; i < keys.size(); ++i) {
    if (equal_scalars(keys[i], key)) return i;
  }
  return keys.size();
}

const Value* Container::find(std::string_view key) const {
  const size_t at = position(key);
  return at < keys.size() ? &values[at] : nullptr;
}
const Value* Container::find(const Value& key) const {
  const size_t at = position(key);
  return at < keys.size() ? &values[at] : nullptr;
}

void Container::set(Value key, Value value) {
  const size_t at = position(key);
  if (at < keys.size()) {
    values[at] = std::move(value);
  } else {
    keys.push_back(std::move(key));
    values.push_back(std::move(value));
  }
}

void Container::erase(size_t at) {
  index_.clear();
  indexed_ = 0;
  keys.erase(keys.begin() + static_cast<std::ptrdiff_t>(at));
  values.erase(values.begin() + static_cast<std::ptrdiff_t>(at));
}

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_float()) return value.number() != 0;
  if (value.is_number()) return value.integer() != 0;
  if (value.is_text()) return !value.text().empty();
  if (value.is_list() || value.is_dict()) return !value.container().values.empty();
  return true;
}

std::string_view type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_bool()) return "bool";
  if (value.is_integer()) return "int";
  if (value.is_float()) return "float";
  if (value.is_text()) return "str";
  if (value.is_tuple()) return "tuple";
  if (value.is_list()) return "list";
  if (value.is_dict()) return "dict";
  if (value.is_namespace()) return "Namespace";
  return value.is_callable() ? "function" : "LoopContext";
}

std::string object_type_repr(const Value& value) {
  if (value.is_none()) return "None";
  if (value.is_namespace()) return "jinja2.utils.Namespace object";
  return fmt::format("{} object", type_name(value));
}

bool is_hashable(const Value& value) { return value.is_text() || value.is_number() || value.is_none(); }

bool equal(const Value& a, const Value& b, int64_t& steps, int depth) {
  if (depth > kMaxValueDepth || --steps < 0) return false;
  if (a.is_number() && b.is_number()) return equal_scalars(a, b);
  if (a.data.index() != b.data.index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.is_text()) return a.bytes() == b.bytes();
  if (a.is_callable()) return std::get<Value::CallablePtr>(a.data) == std::get<Value::CallablePtr>(b.data);
  if (std::holds_alternative<Value::LoopPtr>(a.data)) {
    return std::get<Value::LoopPtr>(a.data) == std::get<Value::LoopPtr>(b.data);
  }
  const Container &left = a.container(), &right = b.container();
  if (&left == &right) return true;
  if (left.kind != right.kind || left.kind == Container::Kind::name_space) return false;
  if (left.values.size() != right.values.size()) return false;
  for (size_t i = 0; i < left.values.size(); ++i) {
    const Value* other = left.kind == Container::Kind::dict ? right.find(left.keys[i]) : &right.values[i];
    if (!other || !equal(left.values[i], *other, steps, depth + 1)) return false;
  }
  return true;
}

int compare(const Value& a, const Value& b, int64_t& steps, int depth) {
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_text() && b.is_text()) return sign(a.bytes() < b.bytes(), a.bytes() > b.bytes());  // UTF-8 keeps the order
  if (!a.is_list() || !b.is_list() || a.is_tuple() != b.is_tuple() || depth > kMaxValueDepth) return 2;
  const auto &left = a.items(), &right = b.items();
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    if (!equal(left[i], right[i], steps, depth + 1)) return compare(left[i], right[i], steps, depth + 1);
  }
  return sign(left.size() < right.size(), left.size() > right.size());
}

std::string to_string(Integer value) { return fmt::format("{}", value); }

bool append_repr(std::string& out, const Value& value, size_t max_bytes, int depth) {
  if (out.size() > max_bytes || depth > kMaxValueDepth) return false;
  if (value.is_undefined()) return out += depth == 0 ? "" : "Undefined", true;
  if (value.is_none()) return out += "None", true;
  if (value.is_bool()) return out += std::get<bool>(value.data) ? "True" : "False", true;
  if (value.is_integer()) return out += to_string(value.integer()), true;
  if (value.is_float()) return out += python_repr(value.number()), true;
  if (value.is_text()) return out += python_repr(value.bytes()), out.size() <= max_bytes;
  if (value.is_callable()) {
    return out += fmt::format("<function {}>", std::get<Value::CallablePtr>(value.data)->name), true;
  }
  if (!std::holds_alternative<Value::ContainerPtr>(value.data)) return out += "<LoopContext>", true;

  const Container& container = value.container();
  const bool keyed = value.is_dict() || value.is_namespace();
  out += value.is_namespace() ? "<Namespace {" : keyed ? "{" : value.is_tuple() ? "(" : "[";
  for (size_t i = 0; i < container.values.size(); ++i) {
    if (i > 0) out += ", ";
    if (keyed) {
      if (!append_repr(out, container.keys[i], max_bytes, depth + 1)) return false;
      out += ": ";
    }
    if (!append_repr(out, container.values[i], max_bytes, depth + 1)) return false;
  }
  if (value.is_tuple() && container.values.size() == 1) out += ',';
  out += value.is_namespace() ? "}>" : keyed ? "}" : value.is_tuple() ? ")" : "]";
  return out.size() <= max_bytes;
}

}  // namespace redoubt::jinja
