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

// Of `properties`; of anything else there are none.
const Json::object_t& properties_of(const Json& schema) {
  static const Json::object_t none;
  const auto it = schema.find("properties");
  return it != schema.end() && it->is_object() ? it->get_ref<const Json::object_t&>() : none;
}

// Of equal texts equal numbers: what is compared is numbers, however long the texts are.
class Numbering {
 public:
  uint32_t of(std::string text) {
    const auto [it, is_new] = numbers_.emplace(std::move(text), static_cast<uint32_t>(texts_.size()));
    if (is_new) texts_.push_back(&it->first);
    return it->second;
  }
  const std::string& text(uint32_t number) const { return *texts_[number]; }

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<const std::string*> texts_;
};

using Numbers = std::vector<uint32_t>;  // sorted, each once

void sort_once(Numbers& numbers) {
  std::ranges::sort(numbers);
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
}

// Calls `visit` with what both have until it returns true.
template <class Visit>
bool any_shared(const Numbers& a, const Numbers& b, Visit visit) {
  for (size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i] == b[k] && visit(a[i])) return true;
    const bool is_left = a[i] <= b[k], is_right = b[k] <= a[i];
    i += is_left ? 1 : 0;
    k += is_right ? 1 : 0;
  }
  return false;
}
bool share_one(const Numbers& a, const Numbers& b) {
  return any_shared(a, b, [](uint32_t) { return true; });
}

// Sets of types as bits.
uint8_t type_bit(const std::string& type) {
  return static_cast<uint8_t>(1 << std::distance(kJsonTypes.begin(), kJsonTypes.find(type)));
}
const uint8_t kNumber = type_bit("number"), kInteger = type_bit("integer"), kObject = type_bit("object");

uint8_t type_bits(const Json& flat) {
  uint8_t bits = 0;
  for (const std::string& type : types_of(flat)) bits |= type_bit(type);
  return bits;
}

// What an alternative says that may exclude others, made once: pairs are compared by it alone.
struct Side {
  bool is_listed = false;  // enum or const
  Numbers values;          // then those
  bool has_type = false;   // a written one: keywords alone say nothing of values of another type
  uint8_t types = 0;
  Json maximum, exclusive_maximum, minimum, exclusive_minimum;  // null where there is none
  std::map<uint32_t, Numbers> fixed;                            // the values of its keys that have listed ones
  size_t num_fixed_values = 0;
  Numbers required;
  bool is_closed = false;  // it has no keys but `keys`
  Numbers keys;

  // What a comparison goes through.
  size_t size() const { return 1 + values.size() + required.size() + (is_closed ? keys.size() : 0) + num_fixed_values; }
};

// x's highest is under y's lowest.
bool is_below(const Side& x, const Side& y) {
  const auto before = [](const Json& high, const Json& low, bool is_exclusive) {
    return !high.is_null() && !low.is_null() && (high < low || (is_exclusive && high == low));
  };
  return before(x.maximum, y.minimum, false) || before(x.maximum, y.exclusive_minimum, true) ||
         before(x.exclusive_maximum, y.minimum, true) || before(x.exclusive_maximum, y.exclusive_minimum, true);
}

bool exclude_by_keys(const Side& a, const Side& b) {
  const auto have_different_values = [&](uint32_t key) {
    const auto in_a = a.fixed.find(key), in_b = b.fixed.find(key);
    return in_a != a.fixed.end() && in_b != b.fixed.end() && !share_one(in_a->second, in_b->second);
  };
  const auto lacks = [](const Side& side, const Numbers& needed) {
    return side.is_closed && !std::ranges::includes(side.keys, needed);
  };
  return any_shared(a.required, b.required, have_different_values) || lacks(a, b.required) || lacks(b, a.required);
}

// Whether no value can be an instance of both. False where it is not evident.
bool evidently_disjoint(const Side& a, const Side& b) {
  if (a.has_type && b.has_type) {
    const auto with_integers = [](uint8_t types) {
      return static_cast<uint8_t>((types & kNumber) != 0 ? types | kInteger : types);
    };
    const int common = with_integers(a.types) & with_integers(b.types);
    if (common == 0) return true;
    if ((common & ~(kNumber | kInteger)) == 0 && (is_below(a, b) || is_below(b, a))) return true;
    if (common == kObject && exclude_by_keys(a, b)) return true;
  }
  return a.is_listed && b.is_listed && !share_one(a.values, b.values);
}

class Separator {
 public:
  Separator(std::vector<Alternative>& alternatives, const std::function<Status(size_t)>& spend)
      : alternatives_(alternatives), spend_(spend), sides_(alternatives.size()) {}

  Status run() {
    std::vector<size_t> objects, listed, others;
    for (size_t i = 0; i < sides_.size(); ++i) {
      REDOUBT_CHECK(spend_(weight_of(alternatives_[i].whole)));
      sides_[i] = side_of(alternatives_[i].whole);
      (sides_[i].is_listed ? listed : sides_[i].types == kObject ? objects : others).push_back(i);
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
  Numbers listed_values(const Json& schema) {
    Numbers values;
    if (schema.contains("const")) {
      values.push_back(values_.of(value_text(schema["const"])));
    } else {
      for (const Json& value : schema["enum"]) values.push_back(values_.of(value_text(value)));
      sort_once(values);
    }
    return values;
  }

  Side side_of(const Json& flat) {
    Side side;
    side.is_listed = has_enum(flat);
    if (side.is_listed) side.values = listed_values(flat);
    side.has_type = flat.contains("type");
    side.types = type_bits(flat);
    side.maximum = flat.value("maximum", Json());
    side.exclusive_maximum = flat.value("exclusiveMaximum", Json());
    side.minimum = flat.value("minimum", Json());
    side.exclusive_minimum = flat.value("exclusiveMinimum", Json());
    const Json* further = of_further_keys(flat);
    side.is_closed = further != nullptr && *further == Json(false) && !flat.contains("patternProperties");
    for (const auto& [name, property] : properties_of(flat)) {
      const bool is_fixed = property.is_object() && has_enum(property);
      if (!is_fixed && !side.is_closed) continue;
      const uint32_t key = keys_.of(name);
      side.keys.push_back(key);
      if (!is_fixed) continue;
      const Numbers& values = side.fixed.emplace(key, listed_values(property)).first->second;
      side.num_fixed_values += values.size();
    }
    sort_once(side.keys);
    if (const auto it = flat.find("required"); it != flat.end() && it->is_array())
      for (const Json& name : *it)
        if (name.is_string()) side.required.push_back(keys_.of(name.get<std::string>()));
    sort_once(side.required);
    return side;
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
    std::unordered_map<uint32_t, size_t> first;
    for (size_t m = 0; m < members.size(); ++m)
      for (const uint32_t value : *values_of(members[m]))
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
    uint32_t best = 0;
    std::vector<std::vector<size_t>> parts;
    for (const auto& [key, unused] : sides_[members.front()].fixed) {
      size_t num_values = 0;
      bool is_in_all = true, is_required = true;
      for (const size_t i : members) {
        const auto found = sides_[i].fixed.find(key);
        num_values += found == sides_[i].fixed.end() ? 1 : found->second.size();
        is_in_all = is_in_all && found != sides_[i].fixed.end();
        is_required = is_required && std::ranges::binary_search(sides_[i].required, key);
      }
      REDOUBT_CHECK(spend_(num_values));
      if (!is_in_all) continue;
      auto made = parts_by(members, [&, number = key](size_t i) { return &sides_[i].fixed.at(number); });
      const std::pair<size_t, bool> rank{made.size(), is_required};
      if (rank > most || (rank == most && !parts.empty() && keys_.text(key) < keys_.text(best))) {
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

  void require(size_t i, uint32_t key) {
    Numbers& numbers = sides_[i].required;
    const auto at = std::ranges::lower_bound(numbers, key);
    if (at != numbers.end() && *at == key) return;
    numbers.insert(at, key);
    Json& required = alternatives_[i].whole["required"];
    if (!required.is_array()) required = Json::array();
    required.push_back(keys_.text(key));
    alternatives_[i].written = nullptr;
  }

  Status compare(size_t i, size_t k) {
    if (alternatives_[i].group == alternatives_[k].group) return ok();
    REDOUBT_CHECK(spend_(sides_[i].size() + sides_[k].size()));
    if (evidently_disjoint(sides_[i], sides_[k])) return ok();
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
  Numbering keys_, values_;
};

}  // namespace

Status tell_apart(std::vector<Alternative>& alternatives, const std::function<Status(size_t)>& spend) {
  return Separator(alternatives, spend).run();
}

}  // namespace redoubt::grammar
