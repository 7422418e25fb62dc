// The tree of a parsed template. Names are interned: a name is an index into Template::names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace redoubt::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

enum class Op : uint8_t { add, sub, mul, div, floordiv, mod, pow, eq, ne, lt, le, gt, ge, in, not_in };

struct Expr {
  enum class Kind : uint8_t {
    constant,     // value
    name,         // name
    list,         // children
    tuple,        // children
    dict,         // children: key, value, key, value ...
    attribute,    // children[0] . text
    item,         // children[0] [ children[1] ]
    slice,        // children[0] [ children[1] : children[2] : children[3] ], each of the last three may be null
    call,         // children[0] ( the other children, keywords, star arguments )
    filter,       // children[0] | text ( the other children, ... ); children[0] is null in a filter block
    test,         // children[0] is text ( the other children )
    negative,     // - children[0]
    positive,     // + children[0]
    logical_not,  // not children[0]
    logical_and,  // children, left to right
    logical_or,
    arithmetic,   // children joined by ops, left to right
    compare,      // children joined by ops, as a chain
    concat,       // children joined by ~
    conditional,  // children: test, then, else (may be null)
  };
  Kind kind = Kind::constant;
  int line = 0;
  int height = 1;
  int name = -1;
  std::string text;
  Value value;
  std::vector<ExprPtr> children;
  std::vector<Op> ops;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr star_arguments, star_keywords;
};

// What an assignment writes to: a name, ns.attribute, or a tuple of targets.
struct Target {
  int name = -1;
  std::string attribute;      // not empty: of the namespace called `name`
  std::vector<Target> parts;  // not empty: unpacking
};

struct Parameter {
  int name = -1;
  std::string spelling;
  ExprPtr fallback;  // null: none
};

// The signature and body of a macro, and of the caller that a call block makes.
struct MacroNode {
  std::string name;
  std::vector<Parameter> parameters;
  bool uses_varargs = false, uses_kwargs = false;
  Body body;
};

struct Stmt {
  enum class Kind : uint8_t {
    output,        // text
    print,         // expression
    for_loop,      // target in expression [if condition], body, otherwise
    if_else,       // branches, otherwise
    set,           // target = expression
    block_set,     // target = body | filter (expression, may be null)
    macro,         // macro
    call_block,    // expression (a call), macro: the caller
    filter_block,  // expression (filters over null), body
    with,          // assignments, body
    scope,         // body; assignments inside do not leave it
    evaluate,      // {% do expression %}
    loop_break,
    loop_continue,
  };
  Kind kind = Kind::output;
  int line = 0;
  OriginText text;
  ExprPtr expression, condition;
  Target target;
  bool recursive = false;
  Body body, otherwise;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<Target, ExprPtr>> assignments;
  std::unique_ptr<MacroNode> macro;
};

struct Template {
  std::vector<std::string> names;
  Body body;
};

}  // namespace redoubt::jinja
