// What Python's operators do to values: + - * / // % ** ~, comparisons, in, attributes, subscripts, slices, iteration.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/utf8.h"
#include "text/jinja_eval.h"

namespace redoubt::jinja {
namespace {

std::string_view spelling(Op op) {
  static constexpr std::string_view kSpellings[] = {"+",  "-",  "*", "/",  "//", "%", "**",
                                                    "==", "!=", "<", "<=", ">",  ">="};
  return kSpellings[static_cast<size_t>(op)];
}

Value add_sequences(Evaluator& ev, const Value& a, const Value& b) {
  std::vector<Value> all = a.items();
  all.insert(all.end(), b.items().begin(), b.items().end());
  return ev.list(std::move(all), a.container().kind);
}

Value repeat(Evaluator& ev, const Value& value, Integer times) {
  const auto size = static_cast<Integer>(value.is_text() ? value.text().size() : value.items().size());
  times = std::max<Integer>(times, 0);
  if (size != 0 && times > static_cast<Integer>(ev.limits().max_output_bytes) / size)
    return value.is_text() ? ev.fail_too_long() : ev.fail("the chat template repeats a value too often");
  if (size == 0) times = std::min<Integer>(times, 1);
  if (!ev.charge(static_cast<size_t>(times * size / 16 + times))) return {};
  if (value.is_text()) {
    OriginText all;
    for (Integer i = 0; i < times; ++i) all.append(value.text());
    return ev.text(std::move(all));
  }
  if (!ev.charge(static_cast<size_t>(times * size))) return {};
  std::vector<Value> all;
  for (Integer i = 0; i < times; ++i) all.insert(all.end(), value.items().begin(), value.items().end());
  return ev.list(std::move(all), value.container().kind);
}

Value integer_power(Evaluator& ev, Integer base, Integer exponent) {
  if (exponent < 0) return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  Integer result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return ev.fail("an integer is out of range");
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return ev.fail("an integer is out of range");
  }
  return Value(result);
}

Value integer_arithmetic(Evaluator& ev, Op op, Integer a, Integer b) {
  Integer result = 0;
  bool overflow = false;
  switch (op) {
    case Op::add:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Op::sub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::mul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::div:
      return b == 0 ? ev.fail("division by zero") : Value(static_cast<double>(a) / static_cast<double>(b));
    case Op::floordiv:
    case Op::mod: {
      if (b == 0) return ev.fail("integer division or modulo by zero");
      if (b == -1) return op == Op::mod ? Value(0) : integer_arithmetic(ev, Op::sub, 0, a);
      const Integer rest = a % b;
      const bool lower = rest != 0 && (rest < 0) != (b < 0);  // Python rounds down
      result = op == Op::mod ? (lower ? rest + b : rest) : a / b - (lower ? 1 : 0);
      break;
    }
    default:
      return integer_power(ev, a, b);
  }
  return overflow ? ev.fail("an integer is out of range") : Value(result);
}

Value float_arithmetic(Evaluator& ev, Op op, double a, double b) {
  switch (op) {
    case Op::add:
      return Value(a + b);
    case Op::sub:
      return Value(a - b);
    case Op::mul:
      return Value(a * b);
    case Op::div:
      return b == 0 ? ev.fail("float division by zero") : Value(a / b);
    case Op::floordiv:
      return b == 0 ? ev.fail("float floor division by zero") : Value(std::floor(a / b));
    case Op::mod: {
      if (b == 0) return ev.fail("float modulo");
      const double rest = std::fmod(a, b);
      return Value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    default:
      return Value(std::pow(a, b));
  }
}

}  // namespace

Value Evaluator::arithmetic(Op op, const Value& a, const Value& b) {
  if (a.is_undefined()) return attribute(a, "");
  if (b.is_undefined() && !(a.is_text() && op == Op::mod)) return attribute(b, "");
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? float_arithmetic(*this, op, a.number(), b.number())
                                        : integer_arithmetic(*this, op, a.integer(), b.integer());
  }
  if (op == Op::add && a.is_text()) {
    if (!b.is_text()) return fail(fmt::format("can only concatenate str (not \"{}\") to str", type_name(b)));
    OriginText sum;
    sum.append(a.text());
    sum.append(b.text());
    return text(std::move(sum));
  }
  if (op == Op::add && a.is_list()) {
    if (b.is_list() && a.is_tuple() == b.is_tuple()) return add_sequences(*this, a, b);
    return fail(fmt::format("can only concatenate {} (not \"{}\") to {}", type_name(a), type_name(b), type_name(a)));
  }
  if (op == Op::mod && a.is_text()) return format_percent(*this, a.text(), b);
  if (op == Op::mul && (a.is_text() || a.is_list()) && (b.is_integer() || b.is_bool()))
    return repeat(*this, a, b.integer());
  if (op == Op::mul && (b.is_text() || b.is_list()) && (a.is_integer() || a.is_bool()))
    return repeat(*this, b, a.integer());
  return fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                          op == Op::pow ? "** or pow()" : spelling(op), type_name(a), type_name(b)));
}

bool Evaluator::equals(const Value& a, const Value& b) {
  if (a.is_text() && b.is_text()) return a.bytes() == b.bytes();
  const bool result = equal(a, b, steps_left_);
  charge(0);
  return result;
}

int Evaluator::order(const Value& a, const Value& b, std::string_view sign) {
  if (a.is_undefined() || b.is_undefined()) return attribute(a.is_undefined() ? a : b, ""), 0;
  const int result = jinja::compare(a, b, steps_left_);
  charge(0);
  if (result == 2)
    fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", sign, type_name(a), type_name(b)));
  return result == 2 ? 0 : result;
}

bool Evaluator::compare(Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::eq:
      return equals(a, b);
    case Op::ne:
      return !equals(a, b);
    case Op::in:
      return contains(b, a);
    case Op::not_in:
      return !contains(b, a);
    case Op::lt:
      return order(a, b, "<") < 0 && !failed_;
    case Op::le:
      return order(a, b, "<=") <= 0 && !failed_;
    case Op::gt:
      return order(a, b, ">") > 0 && !failed_;
    default:
      return order(a, b, ">=") >= 0 && !failed_;
  }
}

bool Evaluator::contains(const Value& container, const Value& element) {
  if (container.is_undefined()) return false;
  if (container.is_text()) {
    if (!element.is_text()) {
      fail(fmt::format("'in <string>' requires string as left operand, not {}", type_name(element)));
      return false;
    }
    charge(container.text().size() / 64);
    return container.bytes().find(element.bytes()) != std::string::npos;
  }
  if (container.is_dict()) {
    if (!is_hashable(element)) return fail(fmt::format("unhashable type: '{}'", type_name(element))), false;
    return container.container().find(element) != nullptr;
  }
  if (!container.is_list())
    return fail(fmt::format("argument of type '{}' is not iterable", type_name(container))), false;
  for (const Value& item : container.items()) {
    if (!charge(1)) return false;
    if (equals(item, element)) return true;
  }
  return false;
}

bool Evaluator::iterate(const Value& value, std::vector<Value>& items) {
  if (value.is_undefined()) return !failed_;
  if (value.is_text()) {
    const std::vector<size_t> offsets = character_offsets(value.bytes());
    if (!charge(offsets.size())) return false;
    for (size_t i = 0; i + 1 < offsets.size() && !failed_; ++i)
      items.push_back(text(value.text().slice(offsets[i], offsets[i + 1])));
    return !failed_;
  }
  if (value.is_dict() || value.is_list()) {
    const std::vector<Value>& all = value.is_dict() ? value.container().keys : value.items();
    if (!charge(all.size())) return false;
    items.insert(items.end(), all.begin(), all.end());
    return !failed_;
  }
  fail(fmt::format("'{}' object is not iterable", type_name(value)));
  return false;
}

Value Evaluator::attribute(const Value& object, std::string_view name) {
  if (failed_) return {};
  if (const auto* undefined = std::get_if<Undefined>(&object.data)) {
    return fail(undefined->why ? *undefined->why : std::string("a value is undefined"));
  }
  if (std::holds_alternative<Value::LoopPtr>(object.data)) return loop_attribute(object, name);
  if (has_method(object, name)) {
    auto bound = std::make_shared<Callable>();
    bound->name = name;
    bound->charge.add(&meter_, 256);
    bound->call = [object, method_name = std::string(name)](Evaluator& ev, Arguments& arguments) {
      return ev.method(object, method_name, arguments);
    };
    return Value(std::move(bound));
  }
  if (object.is_dict() || object.is_namespace()) {
    if (const Value* found = object.container().find(name)) return *found;
  }
  if (object.is_callable() && name == "name") return data(std::get<Value::CallablePtr>(object.data)->name);
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_type_repr(object), name));
}

Value Evaluator::item(const Value& object, const Value& key) {
  if (failed_) return {};
  if (object.is_undefined()) return attribute(object, "");
  if (object.is_dict()) {
    if (const Value* found = is_hashable(key) ? object.container().find(key) : nullptr) return *found;
  } else if ((object.is_list() || object.is_text()) && (key.is_integer() || key.is_bool())) {
    Integer index = key.integer();
    if (object.is_list()) {
      const auto size = static_cast<Integer>(object.items().size());
      if (index < 0) index += size;
      if (index >= 0 && index < size) return object.items()[static_cast<size_t>(index)];
    } else {
      charge(object.text().size() / 64);
      const auto size = static_cast<Integer>(count_characters(object.bytes()));
      if (index < 0) index += size;
      if (index >= 0 && index < size) return slice(object, Value(index), Value(index + 1), Value(None{}));
    }
  }
  if (key.is_text()) return attribute(object, key.bytes());
  std::string key_repr;
  append_repr(key_repr, key, 256, 1);
  return Value::undefined(fmt::format("{} has no element {}", object_type_repr(object), key_repr));
}

Value Evaluator::slice(const Value& object, const Value& begin, const Value& end, const Value& step_value) {
  if (object.is_undefined()) return attribute(object, "");
  if (!object.is_list() && !object.is_text()) {
    return Value::undefined(fmt::format("{} has no element slice", object_type_repr(object)));
  }
  for (const Value* bound : {&begin, &end, &step_value}) {
    if (!bound->is_none() && !bound->is_integer() && !bound->is_bool()) {
      return fail("slice indices must be integers or None or have an __index__ method");
    }
  }
  const Integer step = step_value.is_none() ? 1 : step_value.integer();
  if (step == 0) return fail("slice step cannot be zero");
  std::vector<size_t> offsets;
  const bool ascii = object.is_text() && is_ascii(object.bytes());
  if (object.is_text()) charge(object.text().size() / 64);
  if (object.is_text() && !ascii) offsets = character_offsets(object.bytes());
  const auto size = static_cast<Integer>(object.is_list() ? object.items().size()
                                         : ascii          ? object.text().size()
                                                          : offsets.size() - 1);
  const auto clamp = [&](const Value& bound, Integer fallback) {
    if (bound.is_none()) return fallback;
    Integer at = bound.integer();
    if (at < 0) at = at < -size ? Integer{-1} : at + size;
    if (at == -1 && bound.integer() < -size) return step > 0 ? Integer{0} : Integer{-1};
    return std::min(at, step > 0 ? size : size - 1);
  };
  const Integer from = clamp(begin, step > 0 ? Integer{0} : size - 1), to = clamp(end, step > 0 ? size : Integer{-1});
  const auto offset = [&](Integer at) { return ascii ? static_cast<size_t>(at) : offsets[static_cast<size_t>(at)]; };
  if (object.is_text() && step == 1) return from < to ? text(object.text().slice(offset(from), offset(to))) : text({});
  OriginText part;
  std::vector<Value> items;
  for (Integer i = from; step > 0 ? i < to : i > to;) {
    if (!charge(1)) return {};
    if (object.is_list()) {
      items.push_back(object.items()[static_cast<size_t>(i)]);
    } else {
      part.append(object.text(), offset(i), offset(i + 1));
    }
    if (step > 0 ? step >= to - i : step <= to - i) break;  // also keeps i in range for a giant step
    i += step;
  }
  return object.is_list() ? list(std::move(items), object.container().kind) : text(std::move(part));
}

Bound::Bound(Evaluator& evaluator, std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names)
    : evaluator_(evaluator), function_(function), values_(names.size(), nullptr) {
  const auto refuse = [&](std::string message) {
    evaluator.fail(std::move(message));
    std::fill(values_.begin(), values_.end(), nullptr);
  };
  if (arguments.positional.size() > names.size()) {
    refuse(
        fmt::format("{}() takes at most {} arguments ({} given)", function, names.size(), arguments.positional.size()));
    return;
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      refuse(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
      return;
    }
    values_[static_cast<size_t>(found - names.begin())] = &value;
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  if (!values_[i] || values_[i]->is_none()) return fallback;
  if (!values_[i]->is_integer() && !values_[i]->is_bool()) {
    evaluator_.fail(fmt::format("{}(): expected an integer, got '{}'", function_, type_name(*values_[i])));
    return fallback;
  }
  return static_cast<int64_t>(std::clamp<Integer>(values_[i]->integer(), INT64_MIN / 4, INT64_MAX / 4));
}

const std::string* Bound::text(size_t i) const {
  if (!values_[i] || values_[i]->is_none()) return nullptr;
  if (values_[i]->is_text()) return &values_[i]->bytes();
  evaluator_.fail(fmt::format("{}(): expected a string, got '{}'", function_, type_name(*values_[i])));
  return nullptr;
}

}  // namespace redoubt::jinja
