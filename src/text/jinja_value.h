// The values of a template: Python's, as far as templates use them.
//
// Immutable texts and shared containers, as in Python. Memory that a render holds is counted by its Meter, so that a
// template cannot eat the machine's: each text and container carries the charge that it gives back when it dies.
// Depth: a container knows how deep it is when made (at most kMaxValueDepth), which bounds recursion over values.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "text/jinja_text.h"

namespace redoubt::jinja {

using Integer = __int128;  // holds every JSON integer, signed or unsigned, exactly
constexpr int kMaxValueDepth = 128;

class Evaluator;
struct Callable;
struct Container;
struct LoopState;

struct Meter {
  int64_t live_bytes = 0;
};

// A part of a Meter's count, given back with the object that carries it.
class Charge {
 public:
  Charge() = default;
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (meter_) meter_->live_bytes -= bytes_;
  }
  void add(Meter* meter, int64_t bytes) {
    meter_ = meter;
    bytes_ += bytes;
    meter->live_bytes += bytes;
  }

 private:
  Meter* meter_ = nullptr;
  int64_t bytes_ = 0;
};

struct Text {
  OriginText text;
  Charge charge;
};

struct Undefined {
  std::shared_ptr<const std::string> why;  // the message of the error that using it raises
};
struct None {};

struct Value {
  using TextPtr = std::shared_ptr<const Text>;
  using ContainerPtr = std::shared_ptr<Container>;
  using CallablePtr = std::shared_ptr<Callable>;
  using LoopPtr = std::shared_ptr<LoopState>;
  std::variant<Undefined, None, bool, Integer, double, TextPtr, ContainerPtr, CallablePtr, LoopPtr> data;

  Value() = default;
  Value(None) : data(None{}) {}
  Value(bool value) : data(value) {}
  Value(Integer value) : data(value) {}
  Value(int value) : data(static_cast<Integer>(value)) {}
  Value(int64_t value) : data(static_cast<Integer>(value)) {}
  Value(size_t value) : data(static_cast<Integer>(value)) {}
  Value(double value) : data(value) {}
  Value(TextPtr value) : data(std::move(value)) {}
  Value(ContainerPtr value) : data(std::move(value)) {}
  Value(CallablePtr value) : data(std::move(value)) {}
  Value(LoopPtr value) : data(std::move(value)) {}
  Value(const char*) = delete;
  static Value undefined(std::string why);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data); }
  bool is_none() const { return std::holds_alternative<None>(data); }
  bool is_bool() const { return std::holds_alternative<bool>(data); }
  bool is_integer() const { return std::holds_alternative<Integer>(data); }  // not bool
  bool is_float() const { return std::holds_alternative<double>(data); }
  bool is_text() const { return std::holds_alternative<TextPtr>(data); }
  bool is_list() const;  // list or tuple
  bool is_tuple() const;
  bool is_dict() const;
  bool is_namespace() const;
  bool is_callable() const { return std::holds_alternative<CallablePtr>(data); }
  bool is_number() const { return is_bool() || is_integer() || is_float(); }

  const OriginText& text() const { return std::get<TextPtr>(data)->text; }
  const std::string& bytes() const { return text().bytes(); }
  Container& container() const { return *std::get<ContainerPtr>(data); }
  const std::vector<Value>& items() const;  // of a list or tuple
  Integer integer() const;                  // of bool or integer
  double number() const;                    // of bool, integer or float
};

// A list, tuple, dict or namespace. One type, because what matters (depth, charge, mutation) is common to all.
struct Container {
  enum class Kind : uint8_t { list, tuple, dict, name_space };
  Kind kind = Kind::list;
  bool mutated = false;  // then the evaluator holds it to break cycles at the end
  int depth = 1;
  std::vector<Value> keys;    // of dict and namespace
  std::vector<Value> values;  // of all
  Charge charge;

  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  void set(Value key, Value value);  // replaces or adds; depth is the caller's business
  void erase(size_t position);
  size_t position(std::string_view key) const;  // keys.size() if absent
  size_t position(const Value& key) const;

 private:
  mutable std::unordered_map<std::string_view, size_t> index_;  // text keys, once there are many
  mutable size_t indexed_ = 0;                                  // keys [0, indexed_) are in index_
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

struct Callable {
  std::string name;
  std::function<Value(Evaluator&, Arguments&)> call;
  Charge charge;
};

// `loop` inside a for: the items are known, the position moves.
struct LoopState {
  std::vector<Value> items;
  size_t index0 = 0;
  int depth0 = 0;
  bool over = false;
  Value recurse;                    // callable of a recursive loop
  std::vector<Value> last_changed;  // arguments of the last loop.changed()
};

bool is_true(const Value& value);
std::string_view type_name(const Value& value);    // as Python's type(x).__name__
std::string object_type_repr(const Value& value);  // as Jinja names it in "... has no attribute"
bool is_hashable(const Value& value);              // what may be a dict's key here: text, number, None
// Shared parts can make a small value huge to walk, so that comparing takes from `steps`; once they are negative, the
// result means nothing.
bool equal(const Value& a, const Value& b, int64_t& steps, int depth = 0);
// -1, 0, 1, or 2 where Python raises TypeError.
int compare(const Value& a, const Value& b, int64_t& steps, int depth = 0);
std::string to_string(Integer value);
// str() of anything but text at depth 0, repr() inside. False, and cut, where it would pass max_bytes.
bool append_repr(std::string& out, const Value& value, size_t max_bytes, int depth = 0);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;
  std::string indent;
  std::string item_separator = ", ", key_separator = ": ";
};
// As Python's json.dumps writes. Errors: invalid_argument for what JSON cannot hold; max_bytes bounds the text.
Result<std::string> to_json(const Value& value, const JsonStyle& style, size_t max_bytes);

}  // namespace redoubt::jinja
