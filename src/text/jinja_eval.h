// Runs a template's tree over a context.
//
// Errors stick: the first one ends the run, every later operation returns at once (stopped()), and what they return is
// not looked at. So filters and methods read like the Python they mirror. Limits: steps (each node, and work in
// proportion to the bytes or elements it touches), bytes of one text, bytes held alive, depth of evaluation.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/chat_template.h"
#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace redoubt::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;
  bool captured = false;  // by a macro: it may hold itself, and is emptied at the end

  Value* find(int name);
  void set(int name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

class Evaluator {
 public:
  Evaluator(const Template& parsed, const RenderLimits& limits);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  Result<OriginText> run(const Json& context, const std::map<std::string, std::string>& markup_globals);

  // For filters, tests, methods and functions.
  Value fail(std::string message);
  Value fail(Error error);
  Value fail_too_long();  // a text beyond limits().max_output_bytes
  bool stopped() const { return failed_; }
  bool charge(size_t work);  // false if that was too much
  const RenderLimits& limits() const { return limits_; }

  Value text(OriginText text);
  Value data(std::string bytes) { return text(OriginText::data(std::move(bytes))); }
  Value list(std::vector<Value> items, Container::Kind kind = Container::Kind::list);
  Value tuple(std::vector<Value> items) { return list(std::move(items), Container::Kind::tuple); }
  Value dict(std::vector<std::pair<Value, Value>> entries, Container::Kind kind = Container::Kind::dict);
  Value from_json(const Json& json, bool is_markup = false, int depth = 0);
  // Before a container changes: `added` elements, the deepest of `depth`.
  bool prepare_change(const Value& container, size_t added, int depth);

  bool iterate(const Value& value, std::vector<Value>& items);
  OriginText to_text(const Value& value);                       // str()
  Value attribute(const Value& object, std::string_view name);  // object.name
  Value item(const Value& object, const Value& key);            // object[key]
  Value slice(const Value& object, const Value& begin, const Value& end, const Value& step);
  Value arithmetic(Op op, const Value& a, const Value& b);
  bool compare(Op op, const Value& a, const Value& b);
  bool contains(const Value& container, const Value& element);
  bool equals(const Value& a, const Value& b);
  int order(const Value& a, const Value& b, std::string_view sign);  // -1, 0, 1; fails where there is none
  Value call(const Value& callee, Arguments& arguments);
  Value method(const Value& object, const std::string& name, Arguments& arguments);
  Value filter(const std::string& name, const Value& input, Arguments& arguments);
  bool test(const std::string& name, const Value& input, Arguments& arguments);
  int depth_of(const Value& value) const;

 private:
  enum class Flow : uint8_t { normal, leave_loop, next_round };
  // Counts nested evaluations: a recursive macro ends at kMaxDepth, with stack to spare.
  static constexpr int kMaxDepth = 900;
  static constexpr size_t kBytesAStep = 256;  // copying so many bytes counts as one step
  class Depth {
   public:
    explicit Depth(Evaluator& evaluator) : evaluator_(evaluator) {
      if (++evaluator.depth_ > kMaxDepth) evaluator.fail("the chat template recurses too deep");
    }
    ~Depth() { --evaluator_.depth_; }

   private:
    Evaluator& evaluator_;
  };

  Value evaluate(const Expr& expr);
  Value evaluate_arithmetic(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_logic(const Expr& expr);
  Value evaluate_concat(const Expr& expr);
  Value evaluate_call(const Expr& expr, Arguments arguments);
  Value evaluate_container(const Expr& expr);
  Value evaluate_slice(const Expr& expr);
  Value evaluate_sign(const Expr& expr);
  Value evaluate_filter(const Expr& expr, const Value* block_input);
  Arguments evaluate_arguments(const Expr& expr);
  Value lookup(const Expr& expr);

  Flow execute(const Body& body);
  Flow execute(const Stmt& stmt);
  Flow execute_if(const Stmt& stmt);
  Flow execute_for(const Stmt& stmt);
  void run_loop(const Stmt& stmt, const Value& iterable, int depth0);
  bool select_items(const Stmt& stmt, const Value& iterable, std::vector<Value>& items);
  void execute_call_block(const Stmt& stmt);
  void execute_block_set(const Stmt& stmt);
  Flow execute_with(const Stmt& stmt);
  void assign(const Target& target, const Value& value);
  void print(const Value& value);
  OriginText capture(const Body& body, ScopePtr scope);
  ScopePtr inner_scope() const { return std::make_shared<Scope>(Scope{scope_, {}, false}); }

  Value make_macro(const MacroNode& macro);
  Value call_macro(const MacroNode& macro, const ScopePtr& definition, Arguments& arguments);
  bool bind_parameters(const MacroNode& macro, Scope& scope, Arguments& arguments);
  Value loop_attribute(const Value& object, std::string_view name);
  void set_globals();

  const Template& template_;
  const RenderLimits& limits_;
  Meter meter_;  // outlives every value below
  int64_t steps_left_;
  int depth_ = 0;
  bool failed_ = false;
  Error error_;
  ScopePtr scope_;
  OriginText* out_ = nullptr;
  std::vector<Value::ContainerPtr> mutated_;
  std::vector<ScopePtr> captured_;
};

// Arguments matched to a function's parameter names; null where not given. On a mismatch the evaluator has failed and
// all are null.
class Bound {
 public:
  Bound(Evaluator& evaluator, std::string_view function, const Arguments& arguments,
        std::initializer_list<std::string_view> names);
  const Value* operator[](size_t i) const { return values_[i]; }
  bool flag(size_t i, bool fallback) const { return values_[i] ? is_true(*values_[i]) : fallback; }
  int64_t integer(size_t i, int64_t fallback) const;
  const std::string* text(size_t i) const;  // null if absent or None; fails on another type

 private:
  Evaluator& evaluator_;
  std::string_view function_;
  std::vector<const Value*> values_;
};

// "%s of %d" % values
Value format_percent(Evaluator& evaluator, const OriginText& format, const Value& values);

// The methods that values of this kind have (jinja_methods).
bool has_method(const Value& object, std::string_view name);

}  // namespace redoubt::jinja
