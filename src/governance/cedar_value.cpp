#include "governance/cedar_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "governance/cedar_extensions.h"

namespace redoubt::cedar {

uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  // A product and a fold for each eight bytes. Names come from administrators, and equal hashes only cost a comparison.
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
  uint64_t hash = seed ^ (bytes.size() * kOdd);
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 29;
  };
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    mix(word);
  }
  uint64_t rest = 0;
  if (at < bytes.size()) std::memcpy(&rest, bytes.data() + at, bytes.size() - at);
  mix(rest);
  return hash;
}

EntityName entity_name(std::string_view type, std::string_view id) {
  return {type, id, hash_bytes(id, hash_bytes(type, 1))};
}

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "long";
    case Kind::string:
      return "string";
    case Kind::entity:
      return "entity";
    case Kind::set:
      return "set";
    case Kind::record:
      return "record";
    case Kind::ip:
      return "ipaddr";
    case Kind::decimal:
      return "decimal";
    case Kind::datetime:
      return "datetime";
    case Kind::duration:
      return "duration";
  }
  return "?";
}

const Value* RecordValue::find(std::string_view key) const {
  const auto at = std::lower_bound(fields.begin(), fields.end(), key,
                                   [](const Field& field, std::string_view wanted) { return field.key < wanted; });
  return at != fields.end() && at->key == key ? &at->value : nullptr;
}

namespace {

template <class T>
int order(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int order_of(std::string_view a, std::string_view b) { return a.compare(b); }

int compare_sets(const SetValue& a, const SetValue& b) {
  if (const int by_size = order(a.items.size(), b.items.size())) return by_size;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (const int by_item = compare(a.items[i], b.items[i])) return by_item;
  }
  return 0;
}

int compare_records(const RecordValue& a, const RecordValue& b) {
  if (const int by_size = order(a.fields.size(), b.fields.size())) return by_size;
  for (size_t i = 0; i < a.fields.size(); ++i) {
    if (const int by_key = order_of(a.fields[i].key, b.fields[i].key)) return by_key;
    if (const int by_value = compare(a.fields[i].value, b.fields[i].value)) return by_value;
  }
  return 0;
}

int compare_ips(const IpRange& a, const IpRange& b) {
  if (const int by_family = order(a.is_v6, b.is_v6)) return by_family;
  if (const int by_bytes = order(a.bytes, b.bytes)) return by_bytes;
  return order(a.prefix, b.prefix);
}

}  // namespace

int compare(const Value& a, const Value& b) {
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  switch (a.kind) {
    case Kind::boolean:
      return order(a.boolean, b.boolean);
    case Kind::string:
      return order_of(a.string(), b.string());
    case Kind::entity: {
      if (a.entity == b.entity || *a.entity == *b.entity) return 0;
      const int by_type = order_of(a.entity->type, b.entity->type);
      return by_type != 0 ? by_type : order_of(a.entity->id, b.entity->id);
    }
    case Kind::set:
      return compare_sets(*a.set, *b.set);
    case Kind::record:
      return compare_records(*a.record, *b.record);
    case Kind::ip:
      return compare_ips(*a.ip, *b.ip);
    default:
      return order(a.integer, b.integer);
  }
}

std::string_view Arena::copy(std::string_view text) {
  if (text.empty()) return {"", 0};
  char* bytes = static_cast<char*>(memory_.allocate(text.size(), 1));
  std::memcpy(bytes, text.data(), text.size());
  return {bytes, text.size()};
}

const EntityName* Arena::entity(std::string_view type, std::string_view id) {
  return put(entity_name(copy(type), copy(id)));
}

Value Arena::set(std::span<const Value> items) {
  const std::span<Value> own = array<Value>(items.size());
  std::copy(items.begin(), items.end(), own.begin());
  std::sort(own.begin(), own.end(), [](const Value& a, const Value& b) { return compare(a, b) < 0; });
  const auto end = std::unique(own.begin(), own.end(), [](const Value& a, const Value& b) { return equal(a, b); });
  return Value::of(put(SetValue{own.first(static_cast<size_t>(end - own.begin()))}));
}

Value Arena::record(std::span<const Field> fields) {
  const std::span<Field> own = array<Field>(fields.size());
  std::copy(fields.begin(), fields.end(), own.begin());
  std::sort(own.begin(), own.end(), [](const Field& a, const Field& b) { return a.key < b.key; });
  return Value::of(put(RecordValue{own}));
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\0':
        out += "\\0";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

std::string to_text(const EntityName& name) { return fmt::format("{}::{}", name.type, in_quotes(name.id)); }

std::string to_text(const Value& value) {
  switch (value.kind) {
    case Kind::boolean:
      return value.boolean ? "true" : "false";
    case Kind::integer:
      return std::to_string(value.integer);
    case Kind::string:
      return in_quotes(value.string());
    case Kind::entity:
      return to_text(*value.entity);
    case Kind::ip:
      return fmt::format("ip(\"{}\")", ip_text(*value.ip));
    case Kind::decimal:
      return fmt::format("decimal(\"{}\")", decimal_text(value.integer));
    case Kind::datetime:
      return fmt::format("datetime(\"{}\")", datetime_text(value.integer));
    case Kind::duration:
      return fmt::format("duration(\"{}\")", duration_text(value.integer));
    case Kind::set: {
      std::string out = "[";
      for (const Value& item : value.set->items) out += (out.size() > 1 ? ", " : "") + to_text(item);
      return out + "]";
    }
    case Kind::record: {
      std::string out = "{";
      for (const Field& field : value.record->fields) {
        out += (out.size() > 1 ? ", " : "") + in_quotes(field.key) + ": " + to_text(field.value);
      }
      return out + "}";
    }
  }
  return "?";
}

}  // namespace redoubt::cedar
