#include "text/json_schema.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/utf8.h"
#include "text/grammar_program.h"

namespace redoubt {
namespace grammar {
namespace {

constexpr size_t kMaxSchemaBytes = size_t{4} << 20;  // of all schemas met, each spelled out once
constexpr size_t kMaxFlattened = 20'000;             // references and allOf parts followed
constexpr int kMaxFlattenDepth = 40;
// Weights (weight_of) gone through while schemas are joined or compared, two at a time; and while they are copied to be
// worked on, as often as references lead to them.
constexpr size_t kMaxJoined = 1'000'000;
constexpr size_t kMaxCopied = 4'000'000;
constexpr size_t kMaxAlternatives = 500;

Json without(const Json& schema, const std::string& keyword) {
  Json out = schema;
  out.erase(keyword);
  return out;
}

constexpr size_t kMaxShownPlace = 512;  // bytes of a place in an error; of a longer one the end says most

// Each rule that waits keeps its place, and a name may be as long as the schema: a place says so much and no more.
std::string cut_place(std::string place) {
  constexpr size_t kMaxPlaceBytes = 4096;
  if (place.size() > kMaxPlaceBytes) place.resize(utf8_head(place, kMaxPlaceBytes).size());
  return place;
}

// As OpenAPI 3.0 says it: beside a type, whose values null joins; where values are listed it has to be one of them.
Status allow_null(Json& schema) {
  const auto type = schema.find("type");
  if (type == schema.end() || !type->is_string())
    return unsupported("schema: nullable without a type beside it is not enforced", "nullable");
  *type = Json::array({*type, "null"});
  return ok();
}

// Tuples of drafts 4 to 7 say `items` for prefixItems, and additionalItems for items; beside anything else that one
// says nothing.
Status read_tuple(Json& schema) {
  const Json further = schema.value("additionalItems", Json());
  schema.erase("additionalItems");
  const auto items = schema.find("items");
  if (items == schema.end() || !items->is_array()) return ok();
  if (schema.contains("prefixItems"))
    return unsupported("schema: items: a list beside prefixItems is not enforced", "items");
  Json places = std::move(*items);
  schema.erase("items");
  if (!further.is_null()) schema["items"] = further;
  if (!places.empty()) schema["prefixItems"] = std::move(places);
  return ok();
}

// A list of types names each once, so that whatever goes through it meets seven at most.
void name_types_once(Json& schema) {
  const auto type = schema.find("type");
  if (type == schema.end() || !type->is_array()) return;
  std::set<std::string_view> known;
  Json once = Json::array();
  for (const Json& name : *type)
    if (known.insert(name.get_ref<const std::string&>()).second) once.push_back(name);
  if (once.size() < type->size()) *type = std::move(once);
}

Error too_many_alternatives(const std::string& keyword) {
  return unsupported("schema: " + keyword + ": more than 500 alternatives", keyword);
}

}  // namespace

// A name as a part of a JSON pointer (RFC 6901).
std::string pointer_part(std::string_view name) {
  std::string out = "/";
  for (const char c : name) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

std::string place_of(std::string_view at, std::string_view name) {
  return cut_place(std::string(at) + pointer_part(name.substr(0, 1024)));
}
std::string place_of(std::string_view at, std::string_view keyword, std::string_view name) {
  return place_of(place_of(at, keyword), name);
}

Error placed(Error error, std::string_view at) {
  if (error.param.starts_with('/') || (error.param.empty() && at.empty())) return error;
  error.param = error.param.empty() ? std::string(at) : std::string(at) + pointer_part(error.param);
  return error;
}

// Many references may point into one large object, which is indexed once.
const Json* SchemaCompiler::member_of(const Json& object, const std::string& key) const {
  constexpr size_t kSmall = 16;
  if (object.size() <= kSmall) {
    const auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
  }
  auto index = indexed_.find(&object);
  if (index == indexed_.end()) index = indexed_.emplace(&object, members_of(object)).first;
  const auto it = index->second.find(key);
  return it == index->second.end() ? nullptr : it->second;
}

// Local JSON pointers only: nothing is fetched.
Result<const Json*> SchemaCompiler::resolve(const std::string& reference) const {
  if (reference.empty() || reference[0] != '#')
    return unsupported("schema: $ref: only references into the schema itself (#/...) are followed", "$ref");
  const Json* at = &root_;
  size_t i = 1;
  if (i < reference.size() && reference[i] != '/')
    return unsupported("schema: $ref: anchors are not followed, only #/...", "$ref");
  while (i < reference.size()) {
    const size_t end = std::min(reference.find('/', i + 1), reference.size());
    std::string key;
    for (size_t j = i + 1; j < end; ++j) {
      if (reference[j] == '~' && j + 1 < end) {
        key += reference[++j] == '1' ? '/' : '~';
      } else if (reference[j] == '%' && j + 2 < end) {
        const auto hex = [](char c) {
          return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 0;
        };
        key += static_cast<char>(hex(reference[j + 1]) * 16 + hex(reference[j + 2]));
        j += 2;
      } else {
        key += reference[j];
      }
    }
    i = end;
    if (const Json* member = at->is_object() ? member_of(*at, key) : nullptr; member != nullptr) {
      at = member;
    } else if (at->is_array() && !key.empty() && key.size() < 7 &&
               key.find_first_not_of("0123456789") == std::string::npos && std::stoul(key) < at->size()) {
      at = &(*at)[std::stoul(key)];
    } else {
      return invalid("schema: $ref: nothing stands where it points", "$ref");
    }
  }
  return at;
}

Result<Json> SchemaCompiler::flatten(const Json& schema, const std::string& at, int depth) {
  auto flat = flatten_here(schema, at, depth);
  if (!flat) return placed(std::move(flat.error()), at);
  return flat;
}

// What joining two schemas goes through: all of both, once more each time, so that many parts cost the square of their
// number.
Status SchemaCompiler::spend_joining(size_t weight, const std::string& keyword) {
  joined_ += weight;
  if (joined_ > kMaxJoined) return invalid("schema: too much to join or compare in " + keyword, keyword);
  return ok();
}

Status SchemaCompiler::spend_copying(size_t weight) {
  copied_ += weight;
  if (copied_ > kMaxCopied) return invalid("schema: too large with all that its references bring in");
  return ok();
}

Result<Json> SchemaCompiler::joined(const Json& a, const Json& b, const std::string& keyword) {
  if (a.empty() || b.empty()) {
    const Json& one = a.empty() ? b : a;
    REDOUBT_CHECK(spend_copying(weight_of(one)));
    return one;
  }
  REDOUBT_CHECK(spend_joining(weight_of(a) + weight_of(b), keyword));
  // What one says of further keys is copied to each key of the other.
  const auto copies = [](const Json& further, const Json& named) {
    const auto names = named.find("properties");
    const Json* of_further = of_further_keys(further);
    return of_further != nullptr && names != named.end() ? names->size() * weight_of(*of_further) : 0;
  };
  REDOUBT_CHECK(spend_copying(copies(a, b) + copies(b, a)));
  return merge_schemas(a, b);
}

Result<Json> SchemaCompiler::flatten_here(const Json& schema, const std::string& at, int depth) {
  if (++flattened_ > kMaxFlattened || depth > kMaxFlattenDepth)
    return invalid("schema: references refer to themselves, or allOf nests too deep", "$ref");
  if (schema == Json(true)) return Json::object();
  if (is_never(schema)) return Json(false);
  if (!schema.is_object()) return invalid("schema: expected an object, true or false");
  REDOUBT_CHECK(check_keywords(schema, at));
  Json out = Json::object();
  size_t weight = schema.size();
  for (const auto& [keyword, value] : schema.items())
    if (!is_annotation(keyword) && keyword != "$ref" && keyword != "allOf" && keyword != "nullable")
      out[keyword] = bare_value(keyword, value, weight);
  REDOUBT_CHECK(spend_copying(weight));
  name_types_once(out);
  if (schema.value("nullable", Json()) == true) REDOUBT_CHECK(allow_null(out));
  REDOUBT_CHECK(read_tuple(out));
  if (const auto it = schema.find("$ref"); it != schema.end()) {
    if (!it->is_string()) return invalid("schema: $ref: expected a string", "$ref");
    REDOUBT_TRY(const Json* target, resolve(it->get<std::string>()));
    REDOUBT_TRY(const Json flat, flatten(*target, cut_place(it->get<std::string>().substr(1)), depth + 1));
    REDOUBT_TRY(out, joined(flat, out, "$ref"));
  }
  if (const auto it = schema.find("allOf"); it != schema.end()) {
    for (size_t i = 0; i < it->size(); ++i) {
      REDOUBT_TRY(const Json flat, flatten((*it)[i], place_of(at, "allOf", std::to_string(i)), depth + 1));
      REDOUBT_TRY(out, joined(out, flat, "allOf"));
    }
  }
  return out;
}

// Joined schemas stand nowhere in what the client wrote: such a place ends where it leaves the document.
Error SchemaCompiler::written_place(Error error) const {
  const size_t last = error.param.rfind('/');
  if (last == std::string::npos) return error;
  std::string at = error.param.substr(0, last);
  while (!at.empty() && !resolve("#" + at)) at.resize(at.rfind('/'));
  error.param = at + error.param.substr(last);
  if (error.param.size() > kMaxShownPlace) {
    size_t from = error.param.size() - kMaxShownPlace;
    while ((static_cast<unsigned char>(error.param[from]) & 0xc0) == 0x80) ++from;  // not within a character
    error.param = "/…" + error.param.substr(from);
  }
  return error;
}

uint32_t SchemaCompiler::new_rule(std::string name) {
  rules_.push_back({std::move(name), pool_.nothing()});
  return static_cast<uint32_t>(rules_.size() - 1);
}

Result<ExprId> SchemaCompiler::schema(const Json& schema, std::string at) {
  if (schema == Json(true)) return any_value();
  std::string text = dump_json(schema);
  REDOUBT_CHECK(spend_copying(weight_of_text(text.size())));
  const auto it = known_.find(text);
  if (it != known_.end()) return pool_.call(it->second);
  schema_bytes_ += text.size();
  if (schema_bytes_ > kMaxSchemaBytes || rules_.size() > limits_.max_rules || pool_.size() > limits_.max_expressions)
    return invalid("schema: too large");
  const uint32_t rule = new_rule("schema");
  known_.emplace(std::move(text), rule);
  open_.push_back({rule, schema, std::move(at)});
  return pool_.call(rule);
}

// The rule of what a reference points to: many point to the same.
Result<ExprId> SchemaCompiler::referenced(const Json& target, std::string at) {
  if (const auto it = targets_.find(&target); it != targets_.end()) return it->second;
  size_t weight = 0;
  const Json bare = bare_schema(target, weight);
  REDOUBT_CHECK(spend_copying(weight));
  REDOUBT_TRY(const ExprId rule, schema(bare, std::move(at)));
  targets_.emplace(&target, rule);
  return rule;
}

// `source` is bare (bare_schema).
Result<ExprId> SchemaCompiler::body(const Json& source, const std::string& at) {
  if (source.is_object() && source.size() == 1 && source.contains("$ref")) {
    if (!source["$ref"].is_string()) return invalid("schema: $ref: expected a string", "$ref");
    const auto& reference = source["$ref"].get_ref<const std::string&>();
    REDOUBT_TRY(const Json* target, resolve(reference));
    return referenced(*target, cut_place(reference.substr(1)));
  }
  REDOUBT_TRY(const Json flat, flatten(source, at));
  if (is_never(flat)) return pool_.nothing();
  if (flat.contains("anyOf")) return alternatives(flat, at);
  if (flat.contains("oneOf")) return exclusive_alternatives(flat, at);
  if (flat.contains("enum") || flat.contains("const")) return enumeration(flat);
  return typed(flat, at);
}

Result<ExprId> SchemaCompiler::alternatives(const Json& flat, const std::string& at) {
  const Json& list = flat["anyOf"];
  if (list.size() > kMaxAlternatives) return too_many_alternatives("anyOf");
  const Json rest = without(flat, "anyOf");
  std::vector<ExprId> parts;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string branch_at = place_of(at, "anyOf", std::to_string(i));
    Json branch = list[i];
    if (!rest.empty()) {
      REDOUBT_TRY(const Json alone, flatten(branch, branch_at));
      REDOUBT_TRY(branch, joined(rest, alone, "anyOf"));
      if (is_never(branch)) continue;
    }
    REDOUBT_TRY(const ExprId part, schema(branch, branch_at));
    parts.push_back(part);
  }
  return pool_.choice(std::move(parts));
}

// The alternatives of `list`, joined with what stands beside it; a oneOf or an anyOf in the place of one is followed.
Status SchemaCompiler::expand(const Json& flat, const ListedAt& list, std::vector<Alternative>& out, int depth) {
  if (depth > kMaxFlattenDepth) return invalid("schema: oneOf: references refer to themselves", "oneOf");
  const Json rest = without(flat, list.keyword);
  const Json& branches = flat[list.keyword];
  for (size_t i = 0; i < branches.size(); ++i) {
    std::string at = place_of(list.at, list.keyword, std::to_string(i));
    REDOUBT_TRY(const Json alone, flatten(branches[i], at));
    REDOUBT_TRY(Json whole, joined(rest, alone, list.keyword));
    if (is_never(whole)) continue;
    // All are kept until they were told apart.
    const size_t kept = weight_of(whole) + (rest.empty() ? weight_of(branches[i]) : 0);
    REDOUBT_CHECK(spend_joining(kept, list.keyword));
    const bool has_any = whole.contains("anyOf"), has_one = whole.contains("oneOf");
    if (has_one != has_any && (has_any || list.group == 0)) {
      const std::string keyword = has_any ? "anyOf" : "oneOf";
      const size_t group = has_any && list.group == 0 ? out.size() + 1 : list.group;
      REDOUBT_CHECK(expand(whole, {keyword, at, group}, out, depth + 1));
      continue;
    }
    if (out.size() == kMaxAlternatives) return too_many_alternatives(list.keyword);
    const size_t group = list.group == 0 ? out.size() + 1 : list.group;
    out.push_back({rest.empty() ? branches[i] : Json(), std::move(whole), std::move(at), group});
  }
  return ok();
}

Result<ExprId> SchemaCompiler::exclusive_alternatives(const Json& flat, const std::string& at) {
  if (flat["oneOf"].size() > kMaxAlternatives) return too_many_alternatives("oneOf");
  std::vector<Alternative> list;
  REDOUBT_CHECK(expand(flat, {"oneOf", at}, list, 0));
  REDOUBT_CHECK(tell_apart(list, [this](size_t weight) { return spend_joining(weight, "oneOf"); }));
  std::vector<ExprId> parts;
  for (const Alternative& one : list) {
    REDOUBT_TRY(const ExprId part, schema(one.written.is_null() ? one.whole : one.written, one.at));
    parts.push_back(part);
  }
  return pool_.choice(std::move(parts));
}

// A value of an enum, with the white space that any JSON of ours may have.
ExprId SchemaCompiler::written(const Json& value) {
  if (!value.is_structured() || value.empty()) return pool_.literal(dump_json(value));
  std::vector<ExprId> parts{pool_.literal(value.is_array() ? "[" : "{"), white_space()};
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!first) {
      parts.push_back(pool_.literal(","));
      parts.push_back(white_space());
    }
    first = false;
    if (value.is_object()) {
      parts.push_back(pool_.literal(dump_json(Json(key))));
      parts.push_back(colon());
    }
    parts.push_back(written(member));
  }
  parts.push_back(white_space());
  parts.push_back(pool_.literal(value.is_array() ? "]" : "}"));
  return pool_.sequence(std::move(parts));
}

// Whether a listed value also meets the keywords beside the list.
Result<bool> SchemaCompiler::admits(const Json& flat, const Json& value, std::optional<Automaton>& body) {
  const std::set<std::string> types = types_of(flat);
  const bool whole =
      value.is_number_integer() ||
      (value.is_number_float() &&
       value.get<double>() == static_cast<double>(static_cast<int64_t>(std::clamp(value.get<double>(), -9e15, 9e15))));
  const std::string type = value.is_null()      ? "null"
                           : value.is_boolean() ? "boolean"
                           : value.is_number()  ? (whole ? "integer" : "number")
                           : value.is_string()  ? "string"
                           : value.is_array()   ? "array"
                                                : "object";
  if (flat.contains("type") && !types.contains(type) && !(type == "integer" && types.contains("number"))) return false;
  for (const auto& [keyword, bound] : flat.items()) {
    if (keyword == "type" || keyword == "enum" || keyword == "const") continue;
    if (value.is_number()) {
      if ((keyword == "minimum" && value < bound) || (keyword == "maximum" && value > bound) ||
          (keyword == "exclusiveMinimum" && value <= bound) || (keyword == "exclusiveMaximum" && value >= bound))
        return false;
      if (keyword == "multipleOf") return unsupported("schema: multipleOf beside enum is not enforced", keyword);
    }
    if (value.is_structured())
      return unsupported("schema: `" + keyword + "` beside an enum of objects or arrays is not enforced", keyword);
  }
  if (value.is_string()) {
    if (!body) {
      REDOUBT_TRY(body, string_body(flat));
    }
    const std::string text = dump_json(value);
    return matches(*body, std::string_view(text).substr(1, text.size() - 2), budget_);
  }
  return true;
}

// Those of enum or const that the keywords beside them admit.
Result<Json> SchemaCompiler::listed(const Json& flat) {
  Json values = Json::array();
  if (flat.contains("const")) {
    const bool listed = !flat.contains("enum") ||
                        std::find(flat["enum"].begin(), flat["enum"].end(), flat["const"]) != flat["enum"].end();
    if (listed) values.push_back(flat["const"]);
  } else {
    values = flat["enum"];
  }
  const bool bare = std::all_of(flat.items().begin(), flat.items().end(), [](const auto& item) {
    return item.key() == "enum" || item.key() == "const" || item.key() == "type";
  });
  Json fitting = Json::array();
  std::optional<Automaton> body;  // what the string keywords ask for, once a string is there
  for (const Json& value : values) {
    // Strings are only measured where something measures them.
    bool fits = true;
    if (bare && value.is_string()) {
      fits = !flat.contains("type") || types_of(flat).contains("string");
    } else {
      REDOUBT_TRY(fits, admits(flat, value, body));
    }
    if (fits) fitting.push_back(value);
  }
  return fitting;
}

Result<ExprId> SchemaCompiler::enumeration(const Json& flat) {
  REDOUBT_TRY(const Json values, listed(flat));
  std::vector<ExprId> parts;
  for (const Json& value : values) parts.push_back(written(value));
  return pool_.choice(std::move(parts));
}

Result<ExprId> SchemaCompiler::typed(const Json& flat, const std::string& at) {
  const std::set<std::string> types = types_of(flat);
  if (flat.empty()) return any_value();
  std::vector<ExprId> parts;
  if (types.contains("null")) parts.push_back(pool_.literal("null"));
  if (types.contains("boolean")) {
    parts.push_back(pool_.literal("true"));
    parts.push_back(pool_.literal("false"));
  }
  const auto add = [&](Result<ExprId> made) -> Status {
    REDOUBT_TRY(const ExprId part, std::move(made));
    parts.push_back(part);
    return ok();
  };
  if (types.contains("number"))
    REDOUBT_CHECK(add(number(flat, false)));
  else if (types.contains("integer"))
    REDOUBT_CHECK(add(number(flat, true)));
  if (types.contains("string")) REDOUBT_CHECK(add(string(flat)));
  if (types.contains("array")) REDOUBT_CHECK(add(array(flat, at)));
  if (types.contains("object")) REDOUBT_CHECK(add(object(flat, at)));
  return pool_.choice(std::move(parts));
}

Result<GrammarPtr> SchemaCompiler::link(uint32_t root) {
  auto program = link_program(pool_, rules_, root, limits_, budget_);
  if (!program.has_value()) return std::move(program.error()).within("schema");
  (*program)->compile_cost += joined_ + copied_ / (kMaxCopied / kMaxJoined);
  return GrammarPtr(std::move(program).value());
}

Result<GrammarPtr> SchemaCompiler::run() {
  REDOUBT_TRY(const ExprId root, referenced(root_, ""));
  while (!open_.empty()) {
    const OpenRule open = std::move(open_.front());
    open_.pop_front();
    auto made = body(open.source, open.at);
    if (!made) return written_place(placed(std::move(made.error()), open.at));
    rules_[open.rule].body = *made;
  }
  return link(pool_[root].index);
}

Result<GrammarPtr> SchemaCompiler::run_any_object() {
  any_value();
  return link(pool_[any_object()].index);
}

}  // namespace grammar

Result<GrammarPtr> grammar_from_json_schema(const Json& schema, SchemaNumbers numbers) {
  return grammar::SchemaCompiler(schema, numbers).run();
}

Result<GrammarPtr> grammar_for_json_object() {
  const Json unused;
  return grammar::SchemaCompiler(unused).run_any_object();
}

}  // namespace redoubt
