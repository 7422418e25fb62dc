#include "governance/cedar_entities.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "governance/cedar_builder.h"
#include "governance/cedar_expression_parser.h"
#include "governance/cedar_extensions.h"
#include "governance/cedar_lexer.h"

namespace redoubt::cedar {

bool Entity::is_within(const EntityName& other) const {
  auto at = std::lower_bound(ancestors.begin(), ancestors.end(), other.hash,
                             [](const EntityName* name, uint64_t hash) { return name->hash < hash; });
  for (; at != ancestors.end() && (*at)->hash == other.hash; ++at) {
    if (**at == other) return true;
  }
  return false;
}

const Entity* Entities::find(const EntityName& name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : &entities_[at->second];
}

void Entities::add(const EntityName& name, const RecordValue* attributes, const RecordValue* tags,
                   std::span<const EntityName> parents) {
  entities_.push_back({.name = name, .attributes = attributes, .tags = tags});
  auto& own = parents_.emplace_back();
  for (const EntityName& parent : parents) own.push_back(arena_->put(parent));
}

// Ancestors of each entity, its parents' before its own: a walk with a stack of its own, since a chain may be long.
Status Entities::close() {
  for (size_t i = 0; i < entities_.size(); ++i) {
    if (!index_.emplace(entities_[i].name, i).second) {
      return invalid(fmt::format("entities: {} is there twice", to_text(entities_[i].name)));
    }
  }
  enum class State : uint8_t { unseen, open, done };
  std::vector<State> state(entities_.size(), State::unseen);
  struct Visit {
    size_t entity, next_parent;
  };
  std::vector<Visit> stack;
  const auto finish = [&](size_t i) {
    std::vector<const EntityName*> all = parents_[i];
    for (const EntityName* parent : parents_[i]) {
      if (const Entity* known = find(*parent)) all.insert(all.end(), known->ancestors.begin(), known->ancestors.end());
    }
    std::sort(all.begin(), all.end(), [](const EntityName* a, const EntityName* b) {
      return a->hash != b->hash ? a->hash < b->hash : a->type != b->type ? a->type < b->type : a->id < b->id;
    });
    all.erase(std::unique(all.begin(), all.end(), [](const EntityName* a, const EntityName* b) { return *a == *b; }),
              all.end());
    const auto own = arena_->array<const EntityName*>(all.size());
    std::copy(all.begin(), all.end(), own.begin());
    entities_[i].ancestors = own;
    state[i] = State::done;
  };
  for (size_t root = 0; root < entities_.size(); ++root) {
    if (state[root] != State::unseen) continue;
    state[root] = State::open;
    stack.push_back({root, 0});
    while (!stack.empty()) {
      Visit& visit = stack.back();
      if (visit.next_parent == parents_[visit.entity].size()) {
        finish(visit.entity);
        stack.pop_back();
        continue;
      }
      const auto known = index_.find(*parents_[visit.entity][visit.next_parent++]);
      if (known == index_.end() || state[known->second] == State::done) continue;
      if (state[known->second] == State::open) {
        return invalid(fmt::format("entities: {} belongs to itself", to_text(entities_[known->second].name)));
      }
      state[known->second] = State::open;
      stack.push_back({known->second, 0});
    }
  }
  parents_.clear();
  return ok();
}

namespace {

Result<Value> extension_from_json(const Json& json, Arena& arena) {
  if (!json.is_object() || !json.contains("fn") || !json["fn"].is_string() || !json.contains("arg") ||
      !json["arg"].is_string()) {
    return invalid(R"(__extn: expected {"fn": ..., "arg": ...}, both strings)");
  }
  const auto& function = json["fn"].get_ref<const std::string&>();
  const auto& text = json["arg"].get_ref<const std::string&>();
  const auto kind = extension_kind(function);
  if (!kind)
    return invalid(fmt::format("__extn: expected ip, decimal, datetime or duration, found {}", in_quotes(function)));
  const auto value = parse_extension(*kind, text, arena);
  if (!value) return invalid(fmt::format("{}: {} is no such text", function, in_quotes(text)));
  return *value;
}

bool is_escape(const Json& json, const char* key) { return json.is_object() && json.size() == 1 && json.contains(key); }

Result<Value> record_from_json(const Json& json, Arena& arena, int max_depth) {
  std::vector<Field> fields;
  for (const auto& [key, value] : json.items()) {
    auto made = value_from_json(value, arena, max_depth - 1);
    if (!made) return std::move(made).error().within(in_quotes(key));
    fields.push_back({arena.copy(key), *made});
  }
  return arena.record(fields);
}

Result<const RecordValue*> fields_from_json(const Json& entity, const char* key, Arena& arena, int max_depth) {
  if (!entity.contains(key)) return nullptr;
  if (!entity[key].is_object()) return invalid(fmt::format("{}: expected an object", key));
  auto record = record_from_json(entity[key], arena, max_depth);
  if (!record) return std::move(record).error().within(key);
  return record->record;
}

}  // namespace

Result<EntityName> entity_from_json(const Json& json, Arena& arena) {
  if (is_escape(json, "__entity")) return entity_from_json(json["__entity"], arena);
  if (json.is_string()) return entity_from_text(json.get_ref<const std::string&>(), arena);
  if (!json.is_object() || !json.contains("type") || !json["type"].is_string() || !json.contains("id") ||
      !json["id"].is_string()) {
    return invalid(R"(an entity: expected {"type": ..., "id": ...}, both strings)");
  }
  return entity_name(arena.copy(json["type"].get_ref<const std::string&>()),
                     arena.copy(json["id"].get_ref<const std::string&>()));
}

Result<EntityName> entity_from_text(std::string_view text, Arena& arena) {
  REDOUBT_TRY(const std::vector<Token> list, tokenize(text));
  TokenStream tokens(text, list);
  Builder builder(text, 1, arena);
  const auto name = ExpressionParser(tokens, builder, 1).entity();
  if (!name || tokens.peek().kind != Token::Kind::end) {
    return invalid(fmt::format(R"(expected an entity such as User::"alice", found {})", in_quotes(text.substr(0, 80))));
  }
  return entity_name(arena.copy((*name)->type), (*name)->id);
}

Result<Value> value_from_json(const Json& json, Arena& arena, int max_depth) {
  if (max_depth <= 0) return invalid("values are nested too deep");
  if (json.is_boolean()) return Value::of(json.get<bool>());
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return invalid("a whole number beyond 64 bits");
  }
  if (json.is_number_integer()) return Value::of(json.get<int64_t>());
  if (json.is_string()) return arena.string(json.get_ref<const std::string&>());
  if (json.is_array()) {
    std::vector<Value> items;
    for (const Json& item : json) {
      REDOUBT_TRY(const Value value, value_from_json(item, arena, max_depth - 1));
      items.push_back(value);
    }
    return arena.set(items);
  }
  if (is_escape(json, "__entity")) {
    REDOUBT_TRY(const EntityName name, entity_from_json(json["__entity"], arena));
    return Value::of(arena.put(name));
  }
  if (is_escape(json, "__extn")) return extension_from_json(json["__extn"], arena);
  if (json.is_object()) return record_from_json(json, arena, max_depth);
  return invalid("expected a bool, a whole number, a string, a list or an object");
}

Result<Entities> Entities::from_json(const Json& list, const Limits& limits) {
  if (!list.is_array()) return invalid("entities: expected a list");
  if (list.size() > limits.max_entities) return invalid(fmt::format("entities: more than {}", limits.max_entities));
  Entities entities;
  Arena& arena = entities.arena();
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& entity = list[i];
    const std::string where = fmt::format("entities[{}]", i);
    if (!entity.is_object() || !entity.contains("uid")) return invalid(where + ": expected an object with a uid");
    for (const auto& [key, unused] : entity.items()) {
      if (key != "uid" && key != "attrs" && key != "parents" && key != "tags") {
        return invalid(fmt::format("{}: expected uid, attrs, parents, tags, found {}", where, in_quotes(key)));
      }
    }
    auto name = entity_from_json(entity["uid"], arena);
    if (!name) return std::move(name).error().within(where);
    auto attributes = fields_from_json(entity, "attrs", arena, limits.max_depth);
    if (!attributes) return std::move(attributes).error().within(to_text(*name));
    auto tags = fields_from_json(entity, "tags", arena, limits.max_depth);
    if (!tags) return std::move(tags).error().within(to_text(*name));
    std::vector<EntityName> parents;
    if (entity.contains("parents")) {
      if (!entity["parents"].is_array()) return invalid(to_text(*name) + ": parents: expected a list");
      for (const Json& parent : entity["parents"]) {
        auto made = entity_from_json(parent, arena);
        if (!made) return std::move(made).error().within(to_text(*name) + ": parents");
        parents.push_back(*made);
      }
    }
    entities.add(*name, *attributes, *tags, parents);
  }
  REDOUBT_CHECK(entities.close());
  return entities;
}

Json to_json(const EntityName& name) { return {{"type", std::string(name.type)}, {"id", std::string(name.id)}}; }

Json to_json(const Value& value) {
  const auto extension = [](const char* function, std::string argument) {
    return Json{{"__extn", {{"fn", function}, {"arg", std::move(argument)}}}};
  };
  switch (value.kind) {
    case Kind::boolean:
      return value.boolean;
    case Kind::integer:
      return value.integer;
    case Kind::string:
      return std::string(value.string());
    case Kind::entity:
      return Json{{"__entity", to_json(*value.entity)}};
    case Kind::ip:
      return extension("ip", ip_text(*value.ip));
    case Kind::decimal:
      return extension("decimal", decimal_text(value.integer));
    case Kind::datetime:
      return extension("datetime", datetime_text(value.integer));
    case Kind::duration:
      return extension("duration", duration_text(value.integer));
    case Kind::set: {
      Json list = Json::array();
      for (const Value& item : value.set->items) list.push_back(to_json(item));
      return list;
    }
    case Kind::record: {
      Json object = Json::object();
      for (const Field& field : value.record->fields) object[std::string(field.key)] = to_json(field.value);
      return object;
    }
  }
  return nullptr;
}

}  // namespace redoubt::cedar
