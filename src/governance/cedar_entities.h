// Entities: their attributes, their tags, and what they belong to. Built once, then read by any number of threads.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "governance/cedar_value.h"

namespace redoubt::cedar {

struct Entity {
  EntityName name;
  const RecordValue* attributes = nullptr;  // may be null: none
  const RecordValue* tags = nullptr;
  std::span<const EntityName* const> ancestors;  // parents, their parents, ...; ascending by hash

  bool is_within(const EntityName& other) const;
};

class Entities {
 public:
  struct Limits {
    size_t max_entities = 1'000'000;
    int max_depth = 64;  // of an attribute's sets and records
  };

  Entities() : arena_(std::make_unique<Arena>()) {}

  // In the JSON that Cedar's tools read: [{"uid": {"type", "id"}, "attrs": {}, "parents": [], "tags": {}}].
  // Errors: invalid_argument (which entity, which attribute): a float or null, a name twice, a circle of parents.
  static Result<Entities> from_json(const Json& list, const Limits& limits);
  static Result<Entities> from_json(const Json& list) { return from_json(list, Limits{}); }

  // For whoever builds one in memory. Names, attributes and tags lie in arena(). Then close(), once.
  Arena& arena() { return *arena_; }
  void add(const EntityName& name, const RecordValue* attributes, const RecordValue* tags,
           std::span<const EntityName> parents);
  Status close();

  const Entity* find(const EntityName& name) const;
  size_t size() const { return entities_.size(); }
  std::span<const Entity> all() const { return entities_; }

 private:
  struct ByHash {
    size_t operator()(const EntityName& name) const { return name.hash; }
  };
  std::unique_ptr<Arena> arena_;
  std::vector<Entity> entities_;
  std::vector<std::vector<const EntityName*>> parents_;  // of each entity, until close()
  std::unordered_map<EntityName, size_t, ByHash> index_;
};

// {"type": "User", "id": "alice"}, with or without {"__entity": ...} around it. Lies in the arena.
Result<EntityName> entity_from_json(const Json& json, Arena& arena);
// bool, whole number, string, list, object, {"__entity": {...}}, {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}.
Result<Value> value_from_json(const Json& json, Arena& arena, int max_depth = 64);
Json to_json(const Value& value);
Json to_json(const EntityName& name);
// User::"alice", as the language writes it. Lies in the arena.
Result<EntityName> entity_from_text(std::string_view text, Arena& arena);

}  // namespace redoubt::cedar
