// Jinja's tests: what stands behind "is".
#include <fmt/format.h>

#include <unordered_map>

#include "text/jinja_eval.h"

namespace redoubt::jinja {
namespace {

using Predicate = bool (*)(Evaluator&, const Value&, const Value* argument);

template <Op op>
bool compares(Evaluator& ev, const Value& value, const Value* argument) {
  return argument ? ev.compare(op, value, *argument) : (ev.fail("a test lacks its argument"), false);
}

bool has_remainder(Evaluator& ev, const Value& value, Integer divisor, Integer rest) {
  if (!value.is_integer() && !value.is_bool()) {
    ev.fail(fmt::format("unsupported operand type(s) for %: '{}' and 'int'", type_name(value)));
    return false;
  }
  const Value remainder = ev.arithmetic(Op::mod, value, Value(divisor));
  return !ev.stopped() && remainder.integer() == rest;
}

const std::unordered_map<std::string_view, Predicate>& predicates() {
  static const std::unordered_map<std::string_view, Predicate> table{
      {"defined", [](Evaluator&, const Value& v, const Value*) { return !v.is_undefined(); }},
      {"undefined", [](Evaluator&, const Value& v, const Value*) { return v.is_undefined(); }},
      {"none", [](Evaluator&, const Value& v, const Value*) { return v.is_none(); }},
      {"boolean", [](Evaluator&, const Value& v, const Value*) { return v.is_bool(); }},
      {"true", [](Evaluator&, const Value& v, const Value*) { return v.is_bool() && is_true(v); }},
      {"false", [](Evaluator&, const Value& v, const Value*) { return v.is_bool() && !is_true(v); }},
      {"integer", [](Evaluator&, const Value& v, const Value*) { return v.is_integer(); }},
      {"float", [](Evaluator&, const Value& v, const Value*) { return v.is_float(); }},
      {"number", [](Evaluator&, const Value& v, const Value*) { return v.is_number(); }},
      {"string", [](Evaluator&, const Value& v, const Value*) { return v.is_text(); }},
      {"mapping", [](Evaluator&, const Value& v, const Value*) { return v.is_dict(); }},
      {"sequence", [](Evaluator&, const Value& v,
                      const Value*) { return v.is_text() || v.is_list() || v.is_dict() || v.is_undefined(); }},
      {"iterable", [](Evaluator&, const Value& v,
                      const Value*) { return v.is_text() || v.is_list() || v.is_dict() || v.is_undefined(); }},
      {"callable", [](Evaluator&, const Value& v, const Value*) { return v.is_callable(); }},
      {"even", [](Evaluator& ev, const Value& v, const Value*) { return has_remainder(ev, v, 2, 0); }},
      {"odd", [](Evaluator& ev, const Value& v, const Value*) { return has_remainder(ev, v, 2, 1); }},
      {"divisibleby",
       [](Evaluator& ev, const Value& v, const Value* a) {
         return a && a->is_integer() ? has_remainder(ev, v, a->integer(), 0)
                                     : (ev.fail("divisibleby: expected an integer"), false);
       }},
      {"lower",
       [](Evaluator& ev, const Value& v, const Value*) {
         return is_true(Value(lower(ev.to_text(v)).bytes() == ev.to_text(v).bytes() &&
                              upper(ev.to_text(v)).bytes() != ev.to_text(v).bytes()));
       }},
      {"upper",
       [](Evaluator& ev, const Value& v, const Value*) {
         return is_true(Value(upper(ev.to_text(v)).bytes() == ev.to_text(v).bytes() &&
                              lower(ev.to_text(v)).bytes() != ev.to_text(v).bytes()));
       }},
      {"sameas",
       [](Evaluator& ev, const Value& v, const Value* a) {
         if (!a || v.data.index() != a->data.index()) return false;
         const auto* container = std::get_if<Value::ContainerPtr>(&v.data);
         return container ? *container == std::get<Value::ContainerPtr>(a->data) : ev.equals(v, *a);
       }},
      {"filter", [](Evaluator&, const Value&, const Value*) { return true; }},
      {"in", compares<Op::in>},
      {"eq", compares<Op::eq>},
      {"equalto", compares<Op::eq>},
      {"==", compares<Op::eq>},
      {"ne", compares<Op::ne>},
      {"!=", compares<Op::ne>},
      {"lt", compares<Op::lt>},
      {"lessthan", compares<Op::lt>},
      {"<", compares<Op::lt>},
      {"le", compares<Op::le>},
      {"<=", compares<Op::le>},
      {"gt", compares<Op::gt>},
      {"greaterthan", compares<Op::gt>},
      {">", compares<Op::gt>},
      {"ge", compares<Op::ge>},
      {">=", compares<Op::ge>},
  };
  return table;
}

}  // namespace

bool Evaluator::test(const std::string& name, const Value& input, Arguments& arguments) {
  const auto found = predicates().find(name);
  if (found == predicates().end()) {
    fail(fmt::format("No test named '{}'.", name.substr(0, 64)));
    return false;
  }
  const Value* argument = !arguments.positional.empty() ? &arguments.positional[0]
                          : !arguments.keywords.empty() ? &arguments.keywords[0].second
                                                        : nullptr;
  return found->second(*this, input, argument) && !failed_;
}

}  // namespace redoubt::jinja
