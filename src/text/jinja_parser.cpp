#include "text/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

namespace redoubt::jinja {
namespace {

class StatementParser {
 public:
  explicit StatementParser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  Result<Template> run() {
    Template parsed;
    parsed.body = body_until({});
    if (tokens_.failed()) return tokens_.error();
    parsed.names = tokens_.release_names();
    return parsed;
  }

 private:
  StmtPtr make(Stmt::Kind kind) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = tokens_.current().line;
    return stmt;
  }

  // Statements up to a block whose first word is one of `ends` (the word is then current); without ends: all.
  Body body_until(std::initializer_list<std::string_view> ends) {
    Body body;
    if (++depth_ > kMaxHeight / 2) tokens_.fail("blocks are nested too deep");
    while (!tokens_.failed()) {
      const Token& token = tokens_.current();
      if (token.kind == Token::Kind::end) {
        if (ends.size() > 0) tokens_.fail(fmt::format("unexpected end of template, expected '{}'", *(ends.end() - 1)));
        break;
      }
      if (token.kind == Token::Kind::output) {
        StmtPtr output = make(Stmt::Kind::output);
        output->text = OriginText::markup(tokens_.take().text);
        body.push_back(std::move(output));
      } else if (token.kind == Token::Kind::variable_begin) {
        tokens_.take();
        StmtPtr print = make(Stmt::Kind::print);
        print->expression = expressions_.tuple();
        tokens_.expect(Token::Kind::variable_end, "'}}'");
        body.push_back(std::move(print));
      } else {
        tokens_.take();
        const Token& word = tokens_.current();
        if (word.kind == Token::Kind::name && std::find(ends.begin(), ends.end(), word.text) != ends.end()) break;
        if (StmtPtr stmt = statement()) body.push_back(std::move(stmt));
      }
    }
    --depth_;
    return body;
  }

  void close_block() { tokens_.expect(Token::Kind::block_end, "'%}'"); }

  // {% endX %}, whose word is current.
  void end_block() {
    tokens_.take();
    close_block();
  }

  StmtPtr statement() {
    const std::string word = tokens_.expect_name();
    if (word == "for") return for_loop();
    if (word == "if") return if_else();
    if (word == "set") return set();
    if (word == "macro") return macro();
    if (word == "call") return call_block();
    if (word == "filter") return filter_block();
    if (word == "with") return with();
    if (word == "generation") return scope("endgeneration");
    if (word == "do") {
      StmtPtr stmt = make(Stmt::Kind::evaluate);
      stmt->expression = expressions_.tuple();
      close_block();
      return stmt;
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) tokens_.fail(fmt::format("'{}' outside a loop", word));
      StmtPtr stmt = make(word == "break" ? Stmt::Kind::loop_break : Stmt::Kind::loop_continue);
      close_block();
      return stmt;
    }
    tokens_.fail(fmt::format("Encountered unknown tag '{}'.", word.substr(0, 64)));
    return nullptr;
  }

  Target target_name() {
    Target target;
    target.name = tokens_.intern(tokens_.expect_name());
    return target;
  }

  Target target_item(bool with_namespace) {
    if (tokens_.skip_op("(")) {
      if (++depth_ > kMaxHeight / 2) tokens_.fail("targets are nested too deep");
      Target target = target_list(with_namespace);
      --depth_;
      tokens_.expect_op(")");
      return target;
    }
    Target target = target_name();
    if (with_namespace && tokens_.skip_op(".")) target.attribute = tokens_.expect_name();
    return target;
  }

  Target target_list(bool with_namespace) {
    Target first = target_item(with_namespace);
    if (!tokens_.current().is_op(",")) return first;
    Target all;
    all.parts.push_back(std::move(first));
    while (tokens_.skip_op(",") && (tokens_.current().kind == Token::Kind::name || tokens_.current().is_op("(")) &&
           !tokens_.current().is_name("in")) {
      all.parts.push_back(target_item(with_namespace));
    }
    return all;
  }

  StmtPtr for_loop() {
    StmtPtr loop = make(Stmt::Kind::for_loop);
    loop->target = target_list(false);
    if (!tokens_.skip_name("in")) tokens_.fail("expected 'in'");
    loop->expression = expressions_.tuple(/*with_conditional=*/false);
    if (tokens_.skip_name("if")) loop->condition = expressions_.expression();
    loop->recursive = tokens_.skip_name("recursive");
    close_block();
    ++loops_;
    loop->body = body_until({"else", "endfor"});
    --loops_;
    if (tokens_.current().is_name("else")) {
      end_block();
      loop->otherwise = body_until({"endfor"});
    }
    end_block();
    return loop;
  }

  StmtPtr if_else() {
    StmtPtr stmt = make(Stmt::Kind::if_else);
    for (bool more = true; more && !tokens_.failed();) {
      ExprPtr condition = expressions_.tuple(/*with_conditional=*/false);
      close_block();
      Body body = body_until({"elif", "else", "endif"});
      stmt->branches.emplace_back(std::move(condition), std::move(body));
      more = tokens_.skip_name("elif");
    }
    if (tokens_.current().is_name("else")) {
      end_block();
      stmt->otherwise = body_until({"endif"});
    }
    end_block();
    return stmt;
  }

  StmtPtr set() {
    StmtPtr stmt = make(Stmt::Kind::set);
    stmt->target = target_list(true);
    if (tokens_.skip_op("=")) {
      stmt->expression = expressions_.tuple();
      close_block();
      return stmt;
    }
    stmt->kind = Stmt::Kind::block_set;
    if (tokens_.current().is_op("|")) stmt->expression = expressions_.filters(nullptr, false);
    close_block();
    stmt->body = body_until({"endset"});
    end_block();
    return stmt;
  }

  void signature(MacroNode& macro) {
    tokens_.expect_op("(");
    while (!tokens_.failed() && !tokens_.current().is_op(")")) {
      if (!macro.parameters.empty()) tokens_.expect_op(",");
      Parameter parameter;
      parameter.spelling = tokens_.expect_name();
      parameter.name = tokens_.intern(parameter.spelling);
      if (tokens_.skip_op("=")) {
        parameter.fallback = expressions_.expression();
      } else if (!macro.parameters.empty() && macro.parameters.back().fallback) {
        tokens_.fail("non-default argument follows default argument");
      }
      macro.parameters.push_back(std::move(parameter));
    }
    tokens_.expect_op(")");
  }

  void macro_body(MacroNode& macro, std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    const int varargs = tokens_.intern("varargs"), kwargs = tokens_.intern("kwargs");
    close_block();
    macro.body = body_until({end});
    end_block();
    loops_ = outer_loops;
    macro.uses_varargs = body_mentions(macro.body, varargs);
    macro.uses_kwargs = body_mentions(macro.body, kwargs);
  }

  StmtPtr macro() {
    StmtPtr stmt = make(Stmt::Kind::macro);
    stmt->macro = std::make_unique<MacroNode>();
    stmt->macro->name = tokens_.expect_name();
    stmt->target.name = tokens_.intern(stmt->macro->name);
    signature(*stmt->macro);
    macro_body(*stmt->macro, "endmacro");
    return stmt;
  }

  StmtPtr call_block() {
    StmtPtr stmt = make(Stmt::Kind::call_block);
    stmt->macro = std::make_unique<MacroNode>();
    stmt->macro->name = "caller";
    if (tokens_.current().is_op("(")) signature(*stmt->macro);
    stmt->expression = expressions_.expression();
    if (!tokens_.failed() && stmt->expression->kind != Expr::Kind::call) tokens_.fail("expected call");
    macro_body(*stmt->macro, "endcall");
    return stmt;
  }

  StmtPtr filter_block() {
    StmtPtr stmt = make(Stmt::Kind::filter_block);
    stmt->expression = expressions_.filters(nullptr, true);
    close_block();
    stmt->body = body_until({"endfilter"});
    end_block();
    return stmt;
  }

  StmtPtr with() {
    StmtPtr stmt = make(Stmt::Kind::with);
    while (!tokens_.failed() && tokens_.current().kind != Token::Kind::block_end) {
      if (!stmt->assignments.empty()) tokens_.expect_op(",");
      Target target = target_item(false);
      tokens_.expect_op("=");
      stmt->assignments.emplace_back(std::move(target), expressions_.expression());
    }
    close_block();
    stmt->body = body_until({"endwith"});
    end_block();
    return stmt;
  }

  StmtPtr scope(std::string_view end) {
    StmtPtr stmt = make(Stmt::Kind::scope);
    close_block();
    stmt->body = body_until({end});
    end_block();
    return stmt;
  }

  static bool mentions(const ExprPtr& expr, int name) {
    if (!expr) return false;
    if (expr->kind == Expr::Kind::name && expr->name == name) return true;
    const auto in = [&](const auto& child) { return mentions(child, name); };
    return std::any_of(expr->children.begin(), expr->children.end(), in) ||
           std::any_of(expr->keywords.begin(), expr->keywords.end(), [&](const auto& k) { return in(k.second); }) ||
           in(expr->star_arguments) || in(expr->star_keywords);
  }

  static bool body_mentions(const Body& body, int name) {
    return std::any_of(body.begin(), body.end(), [&](const StmtPtr& stmt) {
      return mentions(stmt->expression, name) || mentions(stmt->condition, name) || body_mentions(stmt->body, name) ||
             body_mentions(stmt->otherwise, name) || (stmt->macro && body_mentions(stmt->macro->body, name)) ||
             std::any_of(stmt->branches.begin(), stmt->branches.end(),
                         [&](const auto& b) { return mentions(b.first, name) || body_mentions(b.second, name); }) ||
             std::any_of(stmt->assignments.begin(), stmt->assignments.end(),
                         [&](const auto& a) { return mentions(a.second, name); });
    });
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Result<Template> parse_template(std::string_view source) {
  REDOUBT_TRY(std::vector<Token> tokens, tokenize_template(source));
  return StatementParser(std::move(tokens)).run();
}

}  // namespace redoubt::jinja
