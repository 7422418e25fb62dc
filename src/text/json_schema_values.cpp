// Strings, numbers, arrays and objects of a schema, each as an expression.

#include <algorithm>
#include <optional>

#include "text/json_schema.h"
#include "text/regex_grammar.h"

namespace redoubt::grammar {
namespace {

constexpr int64_t kMaxCount = 10'000;  // of characters or elements that a schema may count
constexpr int kMaxIndent = 32;         // spaces after a line's end
constexpr char kHexDigits[] = "[0-9a-fA-F]";

std::string format_pattern(const std::string& format) {
  const std::string year = "(000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})";
  const std::string date =
      "(" + year +
      "-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"
      "|(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)";
  const std::string time = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
  const std::string hex = kHexDigits;
  const std::string octet = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  const std::string atom = "[A-Za-z0-9_+-]{1,30}";
  const std::string label = "[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,20}){0,2}";
  if (format == "date") return "^" + date + "$";
  if (format == "time") return "^" + time + "$";
  if (format == "date-time") return "^" + date + "T" + time + "$";
  if (format == "uuid") return "^" + hex + "{8}-" + hex + "{4}-" + hex + "{4}-" + hex + "{4}-" + hex + "{12}$";
  if (format == "ipv4") return "^" + octet + "(\\." + octet + "){3}$";
  if (format == "email") return "^" + atom + "(\\." + atom + ")?@(" + label + "\\.){1,4}[A-Za-z]{2,20}$";
  if (format == "hostname") return "^" + label + "(\\." + label + "){0,4}$";
  if (format == "uri" || format == "uri-reference")
    return "^https?://(" + label +
           "\\.){1,4}[A-Za-z]{2,20}(:[1-9]\\d{1,3})?(/[A-Za-z0-9_.~-]{1,60}){0,12}/?"
           "(\\?[A-Za-z0-9_.~=&+-]{1,200})?(#[A-Za-z0-9_.~-]{1,60})?$";
  if (format == "duration") {
    const std::string number = "(0|[1-9]\\d{0,5})";
    const std::string hours = number + "H(" + number + "M)?(" + number + "S)?",
                      minutes = number + "M(" + number + "S)?";
    return "^P(" + number + "D(T(" + hours + "|" + minutes + "|" + number + "S))?|T(" + hours + "|" + minutes + "|" +
           number + "S))$";
  }
  if (format == "ipv6") {  // all eight groups, or one gap
    const std::string group = hex + "{1,4}";
    std::string forms = "(" + group + ":){7}" + group + "|::(" + group + "(:" + group + "){0,5})?";
    for (int before = 1; before <= 6; ++before) {
      forms += "|(" + group + ":){" + std::to_string(before) + "}";
      forms += before == 6 ? ":" + group : "(:" + group + "){1," + std::to_string(7 - before) + "}";
    }
    return "^(" + forms + "|(" + group + ":){1,7}:)$";
  }
  if (format == "byte") return "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
  return {};
}

// What says for whom a string is, not what it holds.
bool is_free_format(const std::string& format) {
  constexpr std::string_view kFree[] = {"password", "binary", "path", "file-path", "directory-path"};
  return std::ranges::find(kFree, format) != std::end(kFree);
}

// The automaton of what stands between quotes (which holds no bare quote), with them.
Automaton quoted(Automaton body) {
  const auto end = static_cast<uint32_t>(body.states.size()) + 1;
  Automaton out;
  out.states.resize(1);
  out.states[0].bytes.push_back({'"', '"', 1});
  for (Automaton::State& state : body.states) {
    for (ByteEdge& e : state.bytes) ++e.target;
    if (state.accepting) state.bytes.push_back({'"', '"', end});
    state.accepting = false;
    out.states.push_back(std::move(state));
  }
  out.states.emplace_back().accepting = true;
  return out;
}

struct Lengths {
  int64_t shortest, longest;
};

// Of the texts of a trimmed automaton, in characters; nothing where some character is not one byte, or without end.
std::optional<Lengths> lengths_of(const Automaton& automaton) {
  const size_t n = automaton.states.size();
  std::vector<size_t> before(n, 0);  // edges that lead here from states not yet in order
  for (const Automaton::State& state : automaton.states) {
    for (const ByteEdge& e : state.bytes) {
      if (e.first < ' ' || e.last > '~' || (e.first <= '\\' && '\\' <= e.last)) return std::nullopt;
      ++before[e.target];
    }
  }
  if (n == 0 || before[0] > 0) return std::nullopt;
  std::vector<Lengths> to(n, {INT64_MAX, 0});
  to[0] = {0, 0};
  Lengths all{INT64_MAX, 0};
  std::vector<uint32_t> order{0};
  for (size_t i = 0; i < order.size(); ++i) {
    const Lengths here = to[order[i]];
    const Automaton::State& state = automaton.states[order[i]];
    if (state.accepting) all = {std::min(all.shortest, here.shortest), std::max(all.longest, here.longest)};
    for (const ByteEdge& e : state.bytes) {
      Lengths& next = to[e.target];
      next = {std::min(next.shortest, here.shortest + 1), std::max(next.longest, here.longest + 1)};
      if (--before[e.target] == 0) order.push_back(e.target);
    }
  }
  if (order.size() < n) return std::nullopt;  // a circle
  return all;
}

// A keyword that counts: absent, or a whole number from 0.
Result<std::optional<int64_t>> counted(const Json& flat, const char* keyword) {
  const auto it = flat.find(keyword);
  if (it == flat.end()) return std::optional<int64_t>();
  double value = it->is_number() ? it->get<double>() : -1;
  if (value < 0 || value != static_cast<double>(static_cast<int64_t>(std::min(value, 9e15))))
    return invalid(std::string("schema: ") + keyword + ": expected a whole number from 0", keyword);
  if (value > static_cast<double>(kMaxCount))
    return unsupported(std::string("schema: ") + keyword + ": at most 10,000 can be enforced", keyword);
  return std::optional<int64_t>(static_cast<int64_t>(value));
}

}  // namespace

ExprId SchemaCompiler::white_space() {
  const auto [it, inserted] = shared_.try_emplace("white space", 0);
  if (inserted) {
    const uint32_t rule = new_rule("white space");
    rules_[rule].body = pool_.choice(
        {pool_.empty(), pool_.literal(" "),
         pool_.sequence({pool_.literal("\n"), pool_.choice({pool_.repeat(pool_.literal(" "), 0, kMaxIndent),
                                                            pool_.repeat(pool_.literal("\t"), 1, 8)})})});
    it->second = pool_.call(rule);
  }
  return it->second;
}

ExprId SchemaCompiler::colon() { return pool_.sequence({pool_.literal(":"), pool_.optional(pool_.literal(" "))}); }

// One code point as JSON writes it: itself, a short escape, \uXXXX, or two of them for a pair of surrogates.
const Automaton& SchemaCompiler::string_character() {
  if (character_) return *character_;
  const ExprId hex = pool_.choice({pool_.byte_range('0', '9'), pool_.byte_range('a', 'f'), pool_.byte_range('A', 'F')});
  const ExprId d = pool_.choice({pool_.literal("d"), pool_.literal("D")});
  const auto one_of = [&](std::string_view characters) {
    std::vector<ExprId> parts;
    for (const char c : characters) parts.push_back(pool_.literal(std::string_view(&c, 1)));
    return pool_.choice(std::move(parts));
  };
  const ExprId not_d = one_of("0123456789abcefABCEF");
  const ExprId alone = pool_.sequence(
      {pool_.literal("\\u"),
       pool_.choice({pool_.sequence({not_d, hex}), pool_.sequence({d, pool_.byte_range('0', '7')})}), hex, hex});
  const ExprId pair = pool_.sequence(
      {pool_.literal("\\u"), d, one_of("89abAB"), hex, hex, pool_.literal("\\u"), d, one_of("cdefCDEF"), hex, hex});
  const ExprId character =
      pool_.choice({pool_.code_points({{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, 0x10ffff}}),
                    pool_.sequence({pool_.literal("\\"), one_of("\"\\/bfnrt")}), alone, pair});
  AutomatonBudget own;  // always the same few states
  character_ = *build_automaton(pool_, character, own);
  merge_equal_states(*character_);
  return *character_;
}

// Copies of the character's automaton in a row, the end of each the start of the next: deterministic as it is made.
Result<Automaton> SchemaCompiler::characters_counted(int64_t min, int64_t max) {
  const Automaton& character = string_character();
  const int64_t copies = max < 0 ? min + 1 : max;
  Automaton out;
  std::vector<uint32_t> place(character.states.size());
  uint32_t inner = 0;  // states of a copy: all but the ends
  for (size_t s = 0; s < character.states.size(); ++s) place[s] = character.states[s].accepting ? 0 : inner++;
  for (int64_t copy = 0; copy < copies; ++copy) {
    REDOUBT_CHECK(budget_.spend_states(inner));
    const auto base = static_cast<uint32_t>(copy) * inner;
    const bool loops = max < 0 && copy == min;
    for (size_t s = 0; s < character.states.size(); ++s) {
      if (character.states[s].accepting) continue;
      Automaton::State& state = out.states.emplace_back();
      state.accepting = s == 0 && copy >= min;
      state.bytes = character.states[s].bytes;
      REDOUBT_CHECK(budget_.spend_edges(state.bytes.size()));
      for (ByteEdge& e : state.bytes)
        e.target = character.states[e.target].accepting ? (loops ? base : base + inner) : base + place[e.target];
    }
  }
  if (max >= 0) out.states.emplace_back().accepting = true;
  return out;
}

ExprId SchemaCompiler::any_string() {
  const auto [it, inserted] = shared_.try_emplace("string", 0);
  if (inserted) {
    const uint32_t rule = new_rule("string");
    rules_[rule].body = pool_.automaton(quoted(*characters_counted(0, -1)));  // a few states: within any budget
    it->second = pool_.call(rule);
  }
  return it->second;
}

// JSON of any kind. The choice calls a rule for each kind, and only the containers call back: one frame a nesting.
ExprId SchemaCompiler::any_value() {
  if (const auto it = shared_.find("value"); it != shared_.end()) return it->second;
  const uint32_t rule = new_rule("value"), array = new_rule("array"), number = new_rule("number");
  shared_["value"] = pool_.call(rule);
  rules_[number].body = *number_in_range(pool_, {}, budget_);  // cannot fail without bounds
  const ExprId value = pool_.call(rule), ws = white_space();
  const ExprId more = pool_.sequence({pool_.literal(","), ws, value});
  rules_[array].body = pool_.sequence(
      {pool_.literal("["), ws,
       pool_.choice({pool_.literal("]"), pool_.sequence({value, pool_.repeat(more, 0, -1), ws, pool_.literal("]")})})});
  rules_[rule].body = pool_.choice({pool_.literal("null"), pool_.literal("true"), pool_.literal("false"),
                                    pool_.call(number), any_string(), pool_.call(array), any_object()});
  return pool_.call(rule);
}

ExprId SchemaCompiler::any_object() {
  if (const auto it = shared_.find("object"); it != shared_.end()) return it->second;
  const uint32_t rule = new_rule("object");
  shared_["object"] = pool_.call(rule);
  const ExprId ws = white_space();
  const ExprId member = pool_.sequence({any_string(), colon(), any_value()});
  const ExprId more = pool_.sequence({pool_.literal(","), ws, member});
  rules_[rule].body =
      pool_.sequence({pool_.literal("{"), ws,
                      pool_.choice({pool_.literal("}"),
                                    pool_.sequence({member, pool_.repeat(more, 0, -1), ws, pool_.literal("}")})})});
  return pool_.call(rule);
}

Result<Automaton> SchemaCompiler::string_body(const Json& flat) {
  REDOUBT_TRY(std::optional<int64_t> min, counted(flat, "minLength"));
  REDOUBT_TRY(std::optional<int64_t> max, counted(flat, "maxLength"));
  if (max && *max < min.value_or(0)) return Automaton{};
  std::optional<Automaton> body;
  const auto also = [&](Result<Automaton> next) -> Status {
    REDOUBT_TRY(Automaton automaton, std::move(next));
    if (body) {
      REDOUBT_TRY(automaton, intersect(*body, automaton, budget_));
    }
    body = std::move(automaton);
    return ok();
  };
  const auto matching = [&](const std::string& pattern) -> Result<Automaton> {
    REDOUBT_TRY(const ExprId expr, parse_regex(pattern, RegexText::json_string, RegexMatch::search, pool_));
    return build_automaton(pool_, expr, budget_);
  };
  if (const auto it = flat.find("pattern"); it != flat.end()) {
    if (!it->is_string()) return invalid("schema: pattern: expected a string", "pattern");
    auto automaton = matching(it->get<std::string>());
    if (!automaton.has_value()) {
      automaton.error().param = "pattern";
      return std::move(automaton.error()).within("schema: pattern");
    }
    REDOUBT_CHECK(also(std::move(automaton)));
  }
  if (const auto it = flat.find("format"); it != flat.end()) {
    const std::string format = it->is_string() ? it->get<std::string>() : std::string();
    const std::string pattern = format_pattern(format);
    // Beside a pattern a library's own format (cuid, e164, starts_with) says once more what the pattern says.
    if (pattern.empty() && !is_free_format(format) && !flat.contains("pattern"))
      return unsupported(
          "schema: this format is not enforced (date, time, date-time, duration, uuid, ipv4, ipv6, hostname, uri, "
          "email, byte are)",
          "format");
    if (!pattern.empty()) REDOUBT_CHECK(also(matching(pattern)));
  }
  // What a format keeps anyway need not be counted: a URL's states times 2,083 characters would be too many.
  if (const auto lengths = body && (min || max) ? lengths_of(*body) : std::nullopt) {
    if (min && *min <= lengths->shortest) min.reset();
    if (max && *max >= lengths->longest) max.reset();
  }
  if (!body || min || max) {
    REDOUBT_CHECK(also(characters_counted(min.value_or(0), max.value_or(-1))));
  }
  return *std::move(body);
}

Result<ExprId> SchemaCompiler::string(const Json& flat) {
  bool free = true;
  for (const char* keyword : {"minLength", "maxLength", "pattern", "format"}) free = free && !flat.contains(keyword);
  if (free) return any_string();
  REDOUBT_TRY(Automaton body, string_body(flat));
  if (body.states.empty()) return pool_.nothing();
  return pool_.automaton(quoted(std::move(body)));
}

namespace {

// What OpenAPI's formats of integers allow at least and at most.
std::optional<std::pair<Json, Json>> integer_format(const std::string& format) {
  if (format == "int32") return {{INT32_MIN, INT32_MAX}};
  if (format == "int8") return {{INT8_MIN, INT8_MAX}};
  if (format == "int16") return {{INT16_MIN, INT16_MAX}};
  if (format == "uint8") return {{0, UINT8_MAX}};
  if (format == "uint16") return {{0, UINT16_MAX}};
  if (format == "uint") return {{0, INT64_MAX}};
  if (format == "int64") return {{INT64_MIN, INT64_MAX}};
  if (format == "uint32") return {{0, UINT32_MAX}};
  if (format == "uint64") return {{0, UINT64_MAX}};
  return std::nullopt;
}

}  // namespace

Result<ExprId> SchemaCompiler::number(const Json& schema, bool integer) {
  Json flat = schema;
  if (const auto it = schema.find("format"); it != schema.end()) {
    const std::string format = it->is_string() ? it->get<std::string>() : std::string();
    if (const auto range = integer_format(format)) {
      integer = true;
      if (!flat.contains("minimum") || flat["minimum"] < range->first) flat["minimum"] = range->first;
      if (!flat.contains("maximum") || flat["maximum"] > range->second) flat["maximum"] = range->second;
    } else if (format != "float" && format != "double" && format_pattern(format).empty()) {  // a string's binds strings
      return unsupported("schema: this format is not enforced (int8 to int64, uint8 to uint64, float, double are)",
                         "format");
    }
  }
  std::optional<Decimal> step;
  if (const auto it = flat.find("multipleOf"); it != flat.end()) {
    step = to_decimal(*it);
    integer = integer || step->exponent >= static_cast<int>(step->digits.size());
    if (*it == 1) step.reset();
  }
  std::optional<Bound> low, high;
  for (const char* keyword : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
    const auto it = flat.find(keyword);
    if (it == flat.end()) continue;
    if (!it->is_number()) return invalid(std::string("schema: ") + keyword + ": expected a number", keyword);
    const bool exclusive = keyword[0] == 'e', is_low = std::string_view(keyword).ends_with("inimum");
    const char* other = is_low ? "minimum" : "maximum";
    // Of two bounds on one side the narrower counts; where they are equal, the exclusive one.
    if (exclusive && flat.contains(other) && (is_low ? flat[other] > *it : flat[other] < *it)) continue;
    (is_low ? low : high) = Bound{to_decimal(*it), exclusive};
  }
  return number_in_range(pool_, {low ? &*low : nullptr, high ? &*high : nullptr, integer, step ? &*step : nullptr},
                         budget_);
}

Result<ExprId> SchemaCompiler::array(const Json& flat, const std::string& at) {
  REDOUBT_TRY(const std::optional<int64_t> min_items, counted(flat, "minItems"));
  REDOUBT_TRY(const std::optional<int64_t> max_items, counted(flat, "maxItems"));
  const int64_t min = min_items.value_or(0), max = max_items.value_or(-1);
  const bool may_repeat = max < 2 && max >= 0;
  if (flat.value("uniqueItems", Json()) == true && !may_repeat) return array_of_different(flat, at, min, max);
  std::vector<ExprId> prefix;
  const bool is_old_tuple = !resolve("#" + at + "/prefixItems");  // as the client wrote it
  if (const auto it = flat.find("prefixItems"); it != flat.end()) {
    if (!it->is_array() || it->size() > 500)
      return invalid("schema: prefixItems: expected up to 500 schemas", "prefixItems");
    for (size_t i = 0; i < it->size(); ++i) {
      const std::string place = place_of(at, is_old_tuple ? "items" : "prefixItems", std::to_string(i));
      REDOUBT_TRY(const ExprId made, schema((*it)[i], place));
      prefix.push_back(made);
    }
  }
  ExprId rest = pool_.nothing();
  if (const auto it = flat.find("items"); it != flat.end()) {
    const bool is_further = is_old_tuple && !prefix.empty();
    REDOUBT_TRY(rest, schema(*it, place_of(at, is_further ? "additionalItems" : "items")));
  } else if (prefix.empty() || min > static_cast<int64_t>(prefix.size())) {
    rest = any_value();
  }
  const auto places = static_cast<int64_t>(prefix.size());
  const auto element = [&](int64_t i, ExprId item) {
    return i == 0 ? item : pool_.sequence({pool_.literal(","), white_space(), item});
  };
  // From the back: what may follow when i elements are there.
  ExprId tail = 0;
  const ExprId further = element(1, rest);
  if (places > 0) {
    const auto more_max = max < 0 ? -1 : std::max<int64_t>(0, max - places);
    tail = more_max >= 0 && more_max < min - places
               ? pool_.nothing()
               : pool_.repeat(further, static_cast<int32_t>(std::max<int64_t>(0, min - places)),
                              static_cast<int32_t>(more_max));
  } else if ((max >= 0 && max < min) || max == 0) {
    tail = pool_.nothing();
  } else {
    tail = pool_.sequence({rest, pool_.repeat(further, static_cast<int32_t>(std::max<int64_t>(0, min - 1)),
                                              static_cast<int32_t>(max < 0 ? -1 : max - 1))});
  }
  for (int64_t i = places - 1; i >= 0; --i) {
    const bool full = max >= 0 && i >= max;
    tail = full ? pool_.nothing() : pool_.sequence({element(i, prefix[static_cast<size_t>(i)]), tail});
    if (i >= min && i > 0) tail = pool_.optional(tail);
  }
  // The empty array apart: white space twice in a row would read as empty lines.
  const ExprId filled = pool_.sequence({tail, white_space(), pool_.literal("]")});
  const bool may_be_empty = min == 0;
  return pool_.sequence(
      {pool_.literal("["), white_space(), may_be_empty ? pool_.choice({pool_.literal("]"), filled}) : filled});
}

}  // namespace redoubt::grammar
