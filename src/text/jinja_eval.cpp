#include "text/jinja_eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace redoubt::jinja {
namespace {

constexpr int64_t kValueBytes = 64;  // what an element of a container is charged
constexpr int64_t kTextBytes = 96;   // what a text is charged beside its bytes

}  // namespace

Value* Scope::find(int name) {
  for (auto& [variable, value] : variables) {
    if (variable == name) return &value;
  }
  return nullptr;
}

void Scope::set(int name, Value value) {
  if (Value* present = find(name)) {
    *present = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Evaluator::Evaluator(const Template& parsed, const RenderLimits& limits)
    : template_(parsed), limits_(limits), steps_left_(limits.max_steps), scope_(std::make_shared<Scope>()) {}

Evaluator::~Evaluator() {
  // Containers and scopes that may hold themselves, directly or through others, are emptied while all are held.
  for (const auto& container : mutated_) {
    container->keys.clear();
    container->values.clear();
  }
  for (const ScopePtr& scope : captured_) scope->variables.clear();
}

Value Evaluator::fail(std::string message) { return fail(invalid(std::move(message))); }

Value Evaluator::fail(Error error) {
  if (!failed_) error_ = std::move(error);
  failed_ = true;
  return {};
}

Value Evaluator::fail_too_long() {
  return fail(Error{ErrorCode::context_length,
                    fmt::format("the chat template made a text of more than {} bytes", limits_.max_output_bytes),
                    {}});
}

bool Evaluator::charge(size_t work) {
  steps_left_ -= static_cast<int64_t>(work);
  if (steps_left_ < 0) fail(fmt::format("the chat template took more than {} steps", limits_.max_steps));
  return !failed_;
}

Value Evaluator::text(OriginText text) {
  charge(text.size() / kBytesAStep);
  if (text.size() > limits_.max_output_bytes) return fail_too_long();
  auto held = std::make_shared<Text>();
  held->charge.add(&meter_,
                   static_cast<int64_t>(text.size() + text.ranges().size() * sizeof(MarkedText::Range)) + kTextBytes);
  held->text = std::move(text);
  if (meter_.live_bytes > 4 * static_cast<int64_t>(limits_.max_output_bytes))
    fail("the chat template holds too much memory");
  return Value(Value::TextPtr(std::move(held)));
}

int Evaluator::depth_of(const Value& value) const {
  const auto* container = std::get_if<Value::ContainerPtr>(&value.data);
  return container ? (*container)->depth : 0;
}

bool Evaluator::prepare_change(const Value& value, size_t added, int depth) {
  Container& container = value.container();
  if (!container.mutated) {
    container.mutated = true;
    mutated_.push_back(std::get<Value::ContainerPtr>(value.data));
  }
  container.depth = std::max(container.depth, depth + 1);
  container.charge.add(&meter_, static_cast<int64_t>(added) * kValueBytes);
  if (container.depth > kMaxValueDepth) fail("values are nested too deep");
  if (meter_.live_bytes > 4 * static_cast<int64_t>(limits_.max_output_bytes))
    fail("the chat template holds too much memory");
  return charge(added) && !failed_;
}

Value Evaluator::list(std::vector<Value> items, Container::Kind kind) {
  auto container = std::make_shared<Container>();
  container->kind = kind;
  for (const Value& item : items) container->depth = std::max(container->depth, depth_of(item) + 1);
  container->charge.add(&meter_, static_cast<int64_t>(items.size() + 1) * kValueBytes);
  charge(items.size());
  if (container->depth > kMaxValueDepth) return fail("values are nested too deep");
  if (meter_.live_bytes > 4 * static_cast<int64_t>(limits_.max_output_bytes))
    return fail("the chat template holds too much memory");
  container->values = std::move(items);
  return Value(std::move(container));
}

Value Evaluator::dict(std::vector<std::pair<Value, Value>> entries, Container::Kind kind) {
  auto container = std::make_shared<Container>();
  container->kind = kind;
  container->charge.add(&meter_, static_cast<int64_t>(entries.size() + 1) * 2 * kValueBytes);
  charge(entries.size());
  for (auto& [key, value] : entries) {
    if (!is_hashable(key)) return fail(fmt::format("unhashable type: '{}'", type_name(key)));
    container->depth = std::max(container->depth, depth_of(value) + 1);
    container->set(std::move(key), std::move(value));
  }
  if (container->depth > kMaxValueDepth) return fail("values are nested too deep");
  return Value(std::move(container));
}

Value Evaluator::from_json(const Json& json, bool is_markup, int depth) {
  if (depth > kMaxValueDepth - 1) return fail("the context is nested too deep");
  const auto make_text = [&](const std::string& bytes) {
    auto held = std::make_shared<Text>();
    held->text = is_markup ? OriginText::markup(bytes) : OriginText::data(bytes);
    return Value(Value::TextPtr(std::move(held)));
  };
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(static_cast<Integer>(json.get<int64_t>()));
    case Json::value_t::number_unsigned:
      return Value(static_cast<Integer>(json.get<uint64_t>()));
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return make_text(json.get_ref<const std::string&>());
    case Json::value_t::array:
    case Json::value_t::object: {
      auto container = std::make_shared<Container>();
      container->kind = json.is_array() ? Container::Kind::list : Container::Kind::dict;
      container->values.reserve(json.size());
      for (auto entry = json.begin(); entry != json.end() && !failed_; ++entry) {
        Value value = from_json(*entry, is_markup, depth + 1);
        container->depth = std::max(container->depth, depth_of(value) + 1);
        if (json.is_object()) container->keys.push_back(make_text(entry.key()));
        container->values.push_back(std::move(value));
      }
      return Value(std::move(container));
    }
    default:
      return Value(None{});
  }
}

Result<OriginText> Evaluator::run(const Json& context, const std::map<std::string, std::string>& markup_globals) {
  if (!context.is_object()) return invalid("chat template: expected an object as context");
  set_globals();
  for (size_t i = 0; i < template_.names.size() && !failed_; ++i) {
    const int name = static_cast<int>(i);
    if (const auto found = markup_globals.find(template_.names[i]); found != markup_globals.end()) {
      scope_->set(name, from_json(Json(found->second), /*is_markup=*/true));
    } else if (const auto entry = context.find(template_.names[i]); entry != context.end()) {
      scope_->set(name, from_json(*entry));
    }
  }
  const ScopePtr root = inner_scope();  // assignments leave the context as it is
  OriginText out = capture(template_.body, root);
  if (failed_) return std::move(error_);
  return out;
}

OriginText Evaluator::capture(const Body& body, ScopePtr scope) {
  OriginText text;
  OriginText* const outer_out = std::exchange(out_, &text);
  std::swap(scope_, scope);
  execute(body);
  std::swap(scope_, scope);
  out_ = outer_out;
  return text;
}

void Evaluator::print(const Value& value) {
  if (failed_) return;
  if (value.is_text()) {
    charge(value.text().size() / kBytesAStep);
    out_->append(value.text());
  } else {
    out_->append(to_text(value));
  }
  if (out_->size() > limits_.max_output_bytes) fail_too_long();
}

OriginText Evaluator::to_text(const Value& value) {
  if (value.is_text()) return value.text();
  std::string bytes;
  if (!append_repr(bytes, value, limits_.max_output_bytes)) fail_too_long();
  charge(bytes.size() / 16);
  return OriginText::data(std::move(bytes));
}

Value Evaluator::make_macro(const MacroNode& macro) {
  if (!scope_->captured) {
    scope_->captured = true;
    captured_.push_back(scope_);
  }
  auto callable = std::make_shared<Callable>();
  callable->name = macro.name;
  callable->charge.add(&meter_, 4 * kValueBytes);
  callable->call = [&macro, definition = scope_](Evaluator& evaluator, Arguments& arguments) {
    return evaluator.call_macro(macro, definition, arguments);
  };
  return Value(std::move(callable));
}

bool Evaluator::bind_parameters(const MacroNode& macro, Scope& scope, Arguments& arguments) {
  const size_t count = macro.parameters.size();
  std::vector<Value> varargs;
  std::vector<std::pair<Value, Value>> kwargs;
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < count) {
      scope.set(macro.parameters[i].name, arguments.positional[i]);
    } else if (macro.uses_varargs) {
      varargs.push_back(arguments.positional[i]);
    } else {
      fail(fmt::format("macro '{}' takes not more than {} argument(s)", macro.name, count));
      return false;
    }
  }
  for (auto& [name, value] : arguments.keywords) {
    const auto parameter = std::find_if(macro.parameters.begin(), macro.parameters.end(),
                                        [&name = name](const Parameter& p) { return p.spelling == name; });
    const auto known = std::find(template_.names.begin(), template_.names.end(), name);
    if (parameter != macro.parameters.end()) {
      scope.set(parameter->name, value);
    } else if (name == "caller") {
      if (known != template_.names.end()) scope.set(static_cast<int>(known - template_.names.begin()), value);
    } else if (macro.uses_kwargs) {
      kwargs.emplace_back(data(name), value);
    } else {
      fail(fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, name));
      return false;
    }
  }
  const auto set_special = [&](std::string_view name, Value value) {
    const auto known = std::find(template_.names.begin(), template_.names.end(), name);
    scope.set(static_cast<int>(known - template_.names.begin()), std::move(value));
  };
  if (macro.uses_varargs) set_special("varargs", tuple(std::move(varargs)));
  if (macro.uses_kwargs) set_special("kwargs", dict(std::move(kwargs)));
  return !failed_;
}

Value Evaluator::call_macro(const MacroNode& macro, const ScopePtr& definition, Arguments& arguments) {
  const Depth depth(*this);
  if (failed_) return {};
  const auto inner = std::make_shared<Scope>(Scope{definition, {}, false});
  if (!bind_parameters(macro, *inner, arguments)) return {};
  ScopePtr outer = std::exchange(scope_, inner);
  for (const Parameter& parameter : macro.parameters) {
    if (inner->find(parameter.name)) continue;
    inner->set(parameter.name, parameter.fallback ? evaluate(*parameter.fallback)
                                                  : Value::undefined(fmt::format("parameter '{}' was not provided",
                                                                                 parameter.spelling)));
  }
  scope_ = std::move(outer);
  OriginText inside = capture(macro.body, inner);
  return failed_ ? Value() : text(std::move(inside));
}

Value Evaluator::lookup(const Expr& expr) {
  for (Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
    if (const Value* found = scope->find(expr.name)) return *found;
  }
  return Value::undefined(fmt::format("'{}' is undefined", expr.text));
}

Value Evaluator::evaluate(const Expr& expr) {
  const Depth depth(*this);
  if (!charge(1)) return {};
  switch (expr.kind) {
    case Expr::Kind::constant:
      return expr.value;
    case Expr::Kind::name:
      return lookup(expr);
    case Expr::Kind::list:
    case Expr::Kind::tuple:
    case Expr::Kind::dict:
      return evaluate_container(expr);
    case Expr::Kind::attribute:
      return attribute(evaluate(*expr.children[0]), expr.text);
    case Expr::Kind::item: {
      const Value object = evaluate(*expr.children[0]);
      return item(object, evaluate(*expr.children[1]));
    }
    case Expr::Kind::slice:
      return evaluate_slice(expr);
    case Expr::Kind::call:
      return evaluate_call(expr, evaluate_arguments(expr));
    case Expr::Kind::filter:
      return evaluate_filter(expr, nullptr);
    case Expr::Kind::test: {
      const Value input = evaluate(*expr.children[0]);
      Arguments arguments = evaluate_arguments(expr);
      return failed_ ? Value() : Value(test(expr.text, input, arguments));
    }
    case Expr::Kind::negative:
    case Expr::Kind::positive:
      return evaluate_sign(expr);
    case Expr::Kind::logical_not:
      return Value(!is_true(evaluate(*expr.children[0])));
    case Expr::Kind::logical_and:
    case Expr::Kind::logical_or:
      return evaluate_logic(expr);
    case Expr::Kind::arithmetic:
      return evaluate_arithmetic(expr);
    case Expr::Kind::compare:
      return evaluate_compare(expr);
    case Expr::Kind::concat:
      return evaluate_concat(expr);
    case Expr::Kind::conditional: {
      const bool chosen = is_true(evaluate(*expr.children[0]));
      if (failed_) return {};
      if (chosen) return evaluate(*expr.children[1]);
      if (expr.children[2]) return evaluate(*expr.children[2]);
      return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
    }
  }
  return {};
}

Value Evaluator::evaluate_container(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.children.size());
  for (const ExprPtr& child : expr.children) items.push_back(evaluate(*child));
  if (failed_) return {};
  if (expr.kind != Expr::Kind::dict) {
    return list(std::move(items), expr.kind == Expr::Kind::tuple ? Container::Kind::tuple : Container::Kind::list);
  }
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i + 1 < items.size(); i += 2) entries.emplace_back(std::move(items[i]), std::move(items[i + 1]));
  return dict(std::move(entries));
}

Value Evaluator::evaluate_slice(const Expr& expr) {
  const Value object = evaluate(*expr.children[0]);
  Value bounds[3] = {Value(None{}), Value(None{}), Value(None{})};
  for (size_t i = 0; i < 3; ++i) {
    if (expr.children[i + 1]) bounds[i] = evaluate(*expr.children[i + 1]);
  }
  return failed_ ? Value() : slice(object, bounds[0], bounds[1], bounds[2]);
}

Value Evaluator::evaluate_sign(const Expr& expr) {
  const Value value = evaluate(*expr.children[0]);
  if (failed_) return {};
  if (value.is_undefined()) return attribute(value, "");
  const bool negative = expr.kind == Expr::Kind::negative;
  if (!value.is_number())
    return fail(fmt::format("bad operand type for unary {}: '{}'", negative ? '-' : '+', type_name(value)));
  if (value.is_float()) return Value(negative ? -value.number() : value.number());
  return negative ? arithmetic(Op::sub, Value(0), value) : Value(value.integer());
}

Value Evaluator::evaluate_logic(const Expr& expr) {
  Value value;
  for (const ExprPtr& child : expr.children) {
    value = evaluate(*child);
    if (failed_ || is_true(value) == (expr.kind == Expr::Kind::logical_or)) break;
  }
  return value;
}

Value Evaluator::evaluate_arithmetic(const Expr& expr) {
  Value value = evaluate(*expr.children[0]);
  for (size_t i = 0; i < expr.ops.size() && !failed_; ++i) {
    const Value right = evaluate(*expr.children[i + 1]);
    if (!failed_) value = arithmetic(expr.ops[i], value, right);
  }
  return value;
}

Value Evaluator::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.children[0]);
  for (size_t i = 0; i < expr.ops.size() && !failed_; ++i) {
    Value right = evaluate(*expr.children[i + 1]);
    if (failed_ || !compare(expr.ops[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::evaluate_concat(const Expr& expr) {
  OriginText all;
  for (const ExprPtr& child : expr.children) {
    const Value value = evaluate(*child);
    if (failed_) return {};
    all.append(to_text(value));
    if (all.size() > limits_.max_output_bytes) return fail_too_long();
  }
  return text(std::move(all));
}

Arguments Evaluator::evaluate_arguments(const Expr& expr) {
  Arguments arguments;
  for (size_t i = 1; i < expr.children.size() && !failed_; ++i)
    arguments.positional.push_back(evaluate(*expr.children[i]));
  for (const auto& [name, child] : expr.keywords) arguments.keywords.emplace_back(name, evaluate(*child));
  if (expr.star_arguments && !failed_) {
    std::vector<Value> items;
    iterate(evaluate(*expr.star_arguments), items);
    for (Value& value : items) arguments.positional.push_back(std::move(value));
  }
  if (expr.star_keywords && !failed_) {
    const Value more = evaluate(*expr.star_keywords);
    if (!more.is_dict()) {
      fail("argument after ** must be a mapping");
      return arguments;
    }
    for (size_t i = 0; i < more.container().keys.size() && !failed_; ++i) {
      const Value& key = more.container().keys[i];
      if (key.is_text()) {
        arguments.keywords.emplace_back(key.bytes(), more.container().values[i]);
      } else {
        fail("keywords must be strings");
      }
    }
  }
  return arguments;
}

Value Evaluator::evaluate_call(const Expr& expr, Arguments arguments) {
  const Expr& callee = *expr.children[0];
  if (failed_) return {};
  if (callee.kind == Expr::Kind::attribute) {
    const Value object = evaluate(*callee.children[0]);
    if (failed_) return {};
    if (has_method(object, callee.text)) return method(object, callee.text, arguments);
    const Value target = attribute(object, callee.text);
    return failed_ ? Value() : call(target, arguments);
  }
  const Value target = evaluate(callee);
  return failed_ ? Value() : call(target, arguments);
}

Value Evaluator::call(const Value& callee, Arguments& arguments) {
  if (callee.is_undefined()) return attribute(callee, "");
  if (const auto* loop = std::get_if<Value::LoopPtr>(&callee.data); loop && (*loop)->recurse.is_callable()) {
    const Value recurse = (*loop)->recurse;
    return call(recurse, arguments);
  }
  if (!callee.is_callable()) return fail(fmt::format("'{}' object is not callable", type_name(callee)));
  const Value::CallablePtr callable = std::get<Value::CallablePtr>(callee.data);
  return callable->call(*this, arguments);
}

Value Evaluator::evaluate_filter(const Expr& expr, const Value* block_input) {
  // The innermost filter of a filter block has no input of its own.
  const Value input = !expr.children[0] ? *block_input
                      : block_input && expr.children[0]->kind == Expr::Kind::filter
                          ? evaluate_filter(*expr.children[0], block_input)
                          : evaluate(*expr.children[0]);
  if (failed_) return {};
  Arguments arguments = evaluate_arguments(expr);
  return failed_ ? Value() : filter(expr.text, input, arguments);
}

}  // namespace redoubt::jinja
