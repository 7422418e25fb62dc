// Whether the alternatives of a oneOf exclude each other.
//
// Large unions are told apart by a key whose constants differ, or by their own listed values, in one pass with a hash;
// only what that leaves together is compared two by two.

#include <algorithm>
#include <numeric>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

bool has_enum(const Json& schema) {
  return schema.contains("const") || (schema.contains("enum") && schema["enum"].is_array());
}

// Of enum or const, as texts.
std::vector<std::string> listed_values(const Json& schema) {
  std::vector<std::string> texts;
  if (schema.contains("const")) {
    texts.push_back(value_text(schema["const"]));
  } else {
    for (const Json& value : schema["enum"]) texts.push_back(value_text(value));
  }
  return texts;
}

// Of `properties`; of anything else there are none.
Members properties_of(const Json& schema) {
  const auto it = schema.find("properties");
  return it != schema.end() && it->is_object() ? members_of(*it) : Members();
}

std::set<std::string> required_of(const Json& schema) {
  std::set<std::string> out;
  if (schema.contains("required") && schema["required"].is_array())
    for (const Json& name : schema["required"])
      if (name.is_string()) out.insert(name.get<std::string>());
  return out;
}

// The values a key of an object may have, if the schema says so by enum or const.
bool fixed_values(const Members& properties, const std::string& key, std::vector<std::string>& values) {
  const auto found = properties.find(key);
  if (found == properties.end()) return false;
  const Json& property = *found->second;
  if (!property.is_object() || !has_enum(property)) return false;
  values = listed_values(property);
  return true;
}

bool share_a_value(const std::vector<std::string>& a, std::vector<std::string> b) {
  std::ranges::sort(b);
  return std::ranges::any_of(a, [&](const std::string& value) { return std::ranges::binary_search(b, value); });
}

// Whether no value can be an instance of both; flat schemas. False where it is not evident.
bool evidently_disjoint(const Json& a, const Json& b) {
  std::set<std::string> left = types_of(a), right = types_of(b);
  // Only a written type excludes others: keywords alone say nothing of values of another type.
  if (a.contains("type") && b.contains("type")) {
    const auto has_type = [](const std::set<std::string>& set, const std::string& type) {
      return set.contains(type) || (type == "integer" && set.contains("number"));
    };
    std::set<std::string> common;
    for (const std::string& type : kJsonTypes)
      if (type != "number" && has_type(left, type) && has_type(right, type)) common.insert(type);
    if (left.contains("number") && right.contains("number")) common.insert("number");
    if (common.empty()) return true;
    const bool numbers =
        std::all_of(common.begin(), common.end(), [](const std::string& t) { return t == "number" || t == "integer"; });
    const auto below = [](const Json& x, const Json& y) {  // x's highest is under y's lowest
      for (const char* high : {"maximum", "exclusiveMaximum"})
        for (const char* low : {"minimum", "exclusiveMinimum"})
          if (x.contains(high) && y.contains(low) &&
              (x[high] < y[low] || (x[high] == y[low] && (high[0] == 'e' || low[0] == 'e'))))
            return true;
      return false;
    };
    if (numbers && (below(a, b) || below(b, a))) return true;
    if (common == std::set<std::string>{"object"}) {
      const std::set<std::string> need_a = required_of(a), need_b = required_of(b);
      const Members of_a = properties_of(a), of_b = properties_of(b);
      for (const std::string& key : need_a) {
        std::vector<std::string> in_a, in_b;
        if (need_b.contains(key) && fixed_values(of_a, key, in_a) && fixed_values(of_b, key, in_b) &&
            !share_a_value(in_a, std::move(in_b)))
          return true;
      }
      const auto lacks = [](const Json& schema, const Members& properties, const std::set<std::string>& needed) {
        if (of_further_keys(schema) == nullptr || *of_further_keys(schema) != Json(false) ||
            schema.contains("patternProperties"))
          return false;
        return std::any_of(needed.begin(), needed.end(),
                           [&](const std::string& key) { return !properties.contains(key); });
      };
      if (lacks(a, of_a, need_b) || lacks(b, of_b, need_a)) return true;
    }
  }
  if (has_enum(a) && has_enum(b)) return !share_a_value(listed_values(a), listed_values(b));
  return false;
}

// What evidently_disjoint goes through of one side.
size_t compared_size(const Json& flat) {
  size_t size = 1;
  for (const char* keyword : {"required", "properties", "enum"})
    if (flat.contains(keyword)) size += flat[keyword].size();
  for (const auto& [key, property] : properties_of(flat))
    if (property->is_object() && property->contains("enum")) size += (*property)["enum"].size();
  return size;
}

using Texts = std::vector<std::string>;

class Separator {
 public:
  Separator(std::vector<Alternative>& alternatives, const std::function<Status(size_t)>& spend)
      : alternatives_(alternatives), spend_(spend), sides_(alternatives.size()) {}

  Status run() {
    std::vector<size_t> objects, listed, others;
    for (size_t i = 0; i < sides_.size(); ++i) {
      const Json& flat = alternatives_[i].whole;
      sides_[i].compared = compared_size(flat);
      REDOUBT_CHECK(spend_(sides_[i].compared));
      if (has_enum(flat)) {
        sides_[i].values = listed_values(flat);
        listed.push_back(i);
      } else if (types_of(flat) == std::set<std::string>{"object"}) {
        add_fixed_keys(i);
        objects.push_back(i);
      } else {
        others.push_back(i);
      }
    }
    REDOUBT_CHECK(separate_objects(objects));
    const auto values = [&](size_t i) { return &sides_[i].values; };
    for (const std::vector<size_t>& together : that_share(listed, values)) REDOUBT_CHECK(compare_all(together));
    REDOUBT_CHECK(compare_all(others));
    REDOUBT_CHECK(compare(others, objects));
    REDOUBT_CHECK(compare(others, listed));
    return compare(objects, listed);
  }

 private:
  struct Side {
    size_t compared = 0;
    Texts values;                                  // of the alternative itself, listed
    std::unordered_map<std::string, Texts> fixed;  // of its keys that have listed values
    std::set<std::string> required;
  };

  void add_fixed_keys(size_t i) {
    for (const auto& [key, property] : properties_of(alternatives_[i].whole))
      if (property->is_object() && has_enum(*property))
        sides_[i].fixed.emplace(std::string(key), listed_values(*property));
    sides_[i].required = required_of(alternatives_[i].whole);
  }

  bool is_one_group(const std::vector<size_t>& members) const {
    return std::ranges::all_of(
        members, [&](size_t i) { return alternatives_[i].group == alternatives_[members.front()].group; });
  }

  // The parts of `members` between which no value is shared, those that are more than one group.
  template <class ValuesOf>
  std::vector<std::vector<size_t>> parts_by(const std::vector<size_t>& members, ValuesOf values_of) const {
    std::vector<size_t> leader(members.size());
    std::iota(leader.begin(), leader.end(), size_t{0});
    const auto find = [&](size_t m) {
      while (leader[m] != m) m = leader[m] = leader[leader[m]];
      return m;
    };
    std::unordered_map<std::string_view, size_t> first;
    for (size_t m = 0; m < members.size(); ++m)
      for (const std::string& value : *values_of(members[m]))
        if (const auto [it, is_new] = first.emplace(value, m); !is_new) leader[find(m)] = find(it->second);
    std::unordered_map<size_t, std::vector<size_t>> parts;
    for (size_t m = 0; m < members.size(); ++m) parts[find(m)].push_back(members[m]);
    std::vector<std::vector<size_t>> out;
    for (auto& [m, part] : parts) out.push_back(std::move(part));
    return out;
  }
  template <class ValuesOf>
  std::vector<std::vector<size_t>> that_share(const std::vector<size_t>& members, ValuesOf values_of) const {
    auto parts = parts_by(members, values_of);
    std::erase_if(parts, [&](const std::vector<size_t>& part) { return is_one_group(part); });
    return parts;
  }

  // By the key that makes the most parts; of equal ones by one that is required already. A text has the key then, and
  // one of its own alternative's values, which are none of the others'.
  Status separate_objects(const std::vector<size_t>& members) {
    if (members.empty() || is_one_group(members)) return ok();
    std::pair<size_t, bool> most{1, true};
    std::string best;
    std::vector<std::vector<size_t>> parts;
    for (const auto& [key, unused] : sides_[members.front()].fixed) {
      size_t num_values = 0;
      bool is_in_all = true, is_required = true;
      for (const size_t i : members) {
        const auto found = sides_[i].fixed.find(key);
        num_values += found == sides_[i].fixed.end() ? 1 : found->second.size();
        is_in_all = is_in_all && found != sides_[i].fixed.end();
        is_required = is_required && sides_[i].required.contains(key);
      }
      REDOUBT_CHECK(spend_(num_values));
      if (!is_in_all) continue;
      auto made = parts_by(members, [&, &name = key](size_t i) { return &sides_[i].fixed.at(name); });
      const std::pair<size_t, bool> rank{made.size(), is_required};
      if (rank > most || (rank == most && !best.empty() && key < best)) {
        most = rank;
        best = key;
        parts = std::move(made);
      }
    }
    if (parts.empty()) return compare_all(members);
    for (const size_t i : members) require(i, best);
    for (const std::vector<size_t>& part : parts) REDOUBT_CHECK(separate_objects(part));
    return ok();
  }

  void require(size_t i, const std::string& key) {
    if (!sides_[i].required.insert(key).second) return;
    Json& required = alternatives_[i].whole["required"];
    if (!required.is_array()) required = Json::array();
    required.push_back(key);
    alternatives_[i].written = nullptr;
  }

  Status compare(size_t i, size_t k) {
    if (alternatives_[i].group == alternatives_[k].group) return ok();
    REDOUBT_CHECK(spend_(sides_[i].compared + sides_[k].compared));
    if (evidently_disjoint(alternatives_[i].whole, alternatives_[k].whole)) return ok();
    return unsupported(
        "schema: oneOf: it is not evident that its alternatives exclude each other (anyOf says what is enforced)",
        "oneOf");
  }
  Status compare_all(const std::vector<size_t>& members) {
    for (size_t m = 0; m < members.size(); ++m)
      for (size_t n = 0; n < m; ++n) REDOUBT_CHECK(compare(members[n], members[m]));
    return ok();
  }
  Status compare(const std::vector<size_t>& some, const std::vector<size_t>& others) {
    for (const size_t i : some)
      for (const size_t k : others) REDOUBT_CHECK(compare(i, k));
    return ok();
  }

  std::vector<Alternative>& alternatives_;
  const std::function<Status(size_t)>& spend_;
  std::vector<Side> sides_;
};

}  // namespace

Status tell_apart(std::vector<Alternative>& alternatives, const std::function<Status(size_t)>& spend) {
  return Separator(alternatives, spend).run();
}

}  // namespace redoubt::grammar
