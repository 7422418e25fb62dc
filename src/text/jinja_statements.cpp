// What the statements of a template do: conditions, assignments, loops, call blocks.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_eval.h"

namespace redoubt::jinja {

Evaluator::Flow Evaluator::execute(const Body& body) {
  for (const StmtPtr& stmt : body) {
    const Flow flow = execute(*stmt);
    if (failed_ || flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Stmt& stmt) {
  const Depth depth(*this);
  if (!charge(1)) return Flow::normal;
  switch (stmt.kind) {
    case Stmt::Kind::output:
      charge(stmt.text.size() / kBytesAStep);
      out_->append(stmt.text);
      if (out_->size() > limits_.max_output_bytes) fail_too_long();
      break;
    case Stmt::Kind::print:
      print(evaluate(*stmt.expression));
      break;
    case Stmt::Kind::for_loop:
      return execute_for(stmt);
    case Stmt::Kind::if_else:
      return execute_if(stmt);
    case Stmt::Kind::set:
      assign(stmt.target, evaluate(*stmt.expression));
      break;
    case Stmt::Kind::block_set:
      execute_block_set(stmt);
      break;
    case Stmt::Kind::macro:
      scope_->set(stmt.target.name, make_macro(*stmt.macro));
      break;
    case Stmt::Kind::call_block:
      execute_call_block(stmt);
      break;
    case Stmt::Kind::filter_block: {
      const Value inside = text(capture(stmt.body, inner_scope()));
      if (!failed_) print(evaluate_filter(*stmt.expression, &inside));
      break;
    }
    case Stmt::Kind::with:
      return execute_with(stmt);
    case Stmt::Kind::scope:
      print(text(capture(stmt.body, inner_scope())));
      break;
    case Stmt::Kind::evaluate:
      evaluate(*stmt.expression);
      break;
    case Stmt::Kind::loop_break:
      return Flow::leave_loop;
    case Stmt::Kind::loop_continue:
      return Flow::next_round;
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute_if(const Stmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    const bool chosen = is_true(evaluate(*condition));
    if (failed_) return Flow::normal;
    if (chosen) return execute(body);
  }
  return execute(stmt.otherwise);
}

void Evaluator::assign(const Target& target, const Value& value) {
  if (failed_) return;
  if (!target.parts.empty()) {
    std::vector<Value> items;
    if (!iterate(value, items)) return;
    if (items.size() != target.parts.size()) {
      fail(items.size() < target.parts.size()
               ? fmt::format("not enough values to unpack (expected {}, got {})", target.parts.size(), items.size())
               : fmt::format("too many values to unpack (expected {})", target.parts.size()));
      return;
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
    return;
  }
  if (target.attribute.empty()) return scope_->set(target.name, value);
  Value* object = nullptr;
  for (Scope* scope = scope_.get(); scope && !object; scope = scope->parent.get()) object = scope->find(target.name);
  if (!object || !object->is_namespace()) {
    fail("cannot assign attribute on non-namespace object");
    return;
  }
  Container& attributes = object->container();
  const size_t position = attributes.position(std::string_view(target.attribute));
  if (!prepare_change(*object, position == attributes.keys.size() ? 1 : 0, depth_of(value))) return;
  if (position < attributes.keys.size()) {
    attributes.values[position] = value;
  } else {
    attributes.set(data(target.attribute), value);
  }
}

void Evaluator::execute_block_set(const Stmt& stmt) {
  Value inside = text(capture(stmt.body, inner_scope()));
  if (stmt.expression && !failed_) inside = evaluate_filter(*stmt.expression, &inside);
  assign(stmt.target, inside);
}

Evaluator::Flow Evaluator::execute_with(const Stmt& stmt) {
  const ScopePtr inner = inner_scope();
  std::vector<Value> values;
  for (const auto& assignment : stmt.assignments) values.push_back(evaluate(*assignment.second));
  ScopePtr outer = std::exchange(scope_, inner);
  for (size_t i = 0; i < values.size(); ++i) assign(stmt.assignments[i].first, values[i]);
  const Flow flow = execute(stmt.body);
  scope_ = std::move(outer);
  return flow;
}

Evaluator::Flow Evaluator::execute_for(const Stmt& stmt) {
  const Value iterable = evaluate(*stmt.expression);
  if (!failed_) run_loop(stmt, iterable, 0);
  return Flow::normal;
}

bool Evaluator::select_items(const Stmt& stmt, const Value& iterable, std::vector<Value>& items) {
  if (!iterate(iterable, items)) return false;
  if (!stmt.condition) return true;
  std::vector<Value> kept;
  ScopePtr outer = std::exchange(scope_, inner_scope());
  for (Value& item : items) {
    assign(stmt.target, item);
    if (is_true(evaluate(*stmt.condition))) kept.push_back(std::move(item));
    if (failed_) break;
  }
  scope_ = std::move(outer);
  items = std::move(kept);
  return !failed_;
}

void Evaluator::run_loop(const Stmt& stmt, const Value& iterable, int depth0) {
  auto state = std::make_shared<LoopState>();
  state->depth0 = depth0;
  if (!select_items(stmt, iterable, state->items)) return;
  if (state->items.empty()) {
    ScopePtr outer = std::exchange(scope_, inner_scope());
    execute(stmt.otherwise);
    scope_ = std::move(outer);
    return;
  }
  static constexpr std::string_view kLoop = "loop";
  const auto loop_name = std::find(template_.names.begin(), template_.names.end(), kLoop);
  if (stmt.recursive) {
    auto recurse = std::make_shared<Callable>();
    recurse->name = "loop";
    recurse->call = [this, &stmt, depth0, scope = std::weak_ptr<Scope>(scope_)](Evaluator&, Arguments& arguments) {
      const ScopePtr definition = scope.lock();
      if (!definition || arguments.positional.size() != 1) return fail("loop() takes one argument, inside its loop");
      const Depth depth(*this);
      if (failed_) return Value();
      OriginText inside;
      OriginText* const outer_out = std::exchange(out_, &inside);
      ScopePtr outer = std::exchange(scope_, definition);
      run_loop(stmt, arguments.positional[0], depth0 + 1);
      scope_ = std::move(outer);
      out_ = outer_out;
      return text(std::move(inside));
    };
    state->recurse = Value(std::move(recurse));
  }
  const ScopePtr outer = scope_;
  ScopePtr inner;
  for (state->index0 = 0; state->index0 < state->items.size() && !failed_; ++state->index0) {
    if (inner && inner.use_count() == 1) {
      inner->variables.clear();
    } else {
      inner = inner_scope();
    }
    scope_ = inner;
    if (loop_name != template_.names.end()) {
      inner->set(static_cast<int>(loop_name - template_.names.begin()), Value(state));
    }
    assign(stmt.target, state->items[state->index0]);
    const Flow flow = execute(stmt.body);
    scope_ = outer;
    if (flow == Flow::leave_loop) break;
  }
  scope_ = outer;
  state->over = true;
  state->last_changed.clear();  // what it holds may hold the loop
}

void Evaluator::execute_call_block(const Stmt& stmt) {
  Arguments arguments = evaluate_arguments(*stmt.expression);
  arguments.keywords.emplace_back("caller", make_macro(*stmt.macro));
  if (!failed_) print(evaluate_call(*stmt.expression, std::move(arguments)));
}

}  // namespace redoubt::jinja
