// The values of the policy language and the memory they lie in.
//
// A Value is 16 bytes, copied freely, and owns nothing: what it points to lies in an Arena (that of a policy set, of an
// entity store, of a request, or of one evaluation) that outlives it. So an evaluation counts no references and frees
// nothing piece by piece.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace redoubt::cedar {

// The name of an entity: User::"alice". The hash is kept so that names compare by one number first.
struct EntityName {
  std::string_view type, id;
  uint64_t hash = 0;

  bool operator==(const EntityName& other) const { return hash == other.hash && id == other.id && type == other.type; }
};
EntityName entity_name(std::string_view type, std::string_view id);  // borrows both
uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0);

// An address, or a range of addresses: the first `prefix` bits count. IPv4 uses the first four bytes.
struct IpRange {
  std::array<uint8_t, 16> bytes{};
  uint8_t prefix = 0;
  bool is_v6 = false;
};

enum class Kind : uint8_t { boolean, integer, string, entity, set, record, ip, decimal, datetime, duration };
std::string_view kind_name(Kind kind);

struct SetValue;
struct RecordValue;

struct Value {
  Kind kind = Kind::boolean;
  uint32_t size = 0;  // bytes of a string
  union {
    bool boolean;
    int64_t integer = 0;  // also decimal (ten-thousandths), datetime (ms since 1970) and duration (ms)
    const char* text;
    const EntityName* entity;
    const SetValue* set;
    const RecordValue* record;
    const IpRange* ip;
  };

  std::string_view string() const { return {text, size}; }

  static Value of(bool value) {
    return make(Kind::boolean, [&](Value& v) { v.boolean = value; });
  }
  static Value of(int64_t value) { return number(Kind::integer, value); }
  static Value of(std::string_view borrowed) {
    return make(Kind::string,
                [&](Value& v) { v.text = borrowed.data(), v.size = static_cast<uint32_t>(borrowed.size()); });
  }
  static Value of(const EntityName* name) {
    return make(Kind::entity, [&](Value& v) { v.entity = name; });
  }
  static Value of(const SetValue* set) {
    return make(Kind::set, [&](Value& v) { v.set = set; });
  }
  static Value of(const RecordValue* record) {
    return make(Kind::record, [&](Value& v) { v.record = record; });
  }
  static Value of(const IpRange* ip) {
    return make(Kind::ip, [&](Value& v) { v.ip = ip; });
  }
  static Value of(const char*) = delete;  // would become a bool
  static Value number(Kind kind, int64_t value) {
    return make(kind, [&](Value& v) { v.integer = value; });
  }

 private:
  template <class Fill>
  static Value make(Kind kind, Fill fill) {
    Value value;
    value.kind = kind;
    fill(value);
    return value;
  }
};

struct SetValue {
  std::span<const Value> items;  // ascending by compare(), each once
};
struct Field {
  std::string_view key;
  Value value;
};
struct RecordValue {
  std::span<const Field> fields;  // ascending by key
  const Value* find(std::string_view key) const;
};

// A total order: kinds apart, then contents. Equal is what the language calls ==.
int compare(const Value& a, const Value& b);
inline bool equal(const Value& a, const Value& b) { return a.kind == b.kind && compare(a, b) == 0; }

// Memory that is freed as a whole. All that lies in it is trivially destructible. Not thread-safe while it grows.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::span<std::byte> first) : memory_(first.data(), first.size()) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::string_view copy(std::string_view text);
  template <class T>
  const T* put(const T& value) {
    return new (memory_.allocate(sizeof(T), alignof(T))) T(value);
  }
  template <class T>
  std::span<T> array(size_t count) {
    T* first = static_cast<T*>(memory_.allocate(count * sizeof(T), alignof(T)));
    std::uninitialized_default_construct_n(first, count);
    return {first, count};
  }

  const EntityName* entity(std::string_view type, std::string_view id);  // copies both
  Value string(std::string_view text) { return Value::of(copy(text)); }
  Value set(std::span<const Value> items);      // sorts, drops what comes twice
  Value record(std::span<const Field> fields);  // sorts; keys are borrowed and must differ

 private:
  std::pmr::monotonic_buffer_resource memory_;
};

// As the language writes it: User::"alice", [1, 2], {"a": true}, ip("10.0.0.0/8").
std::string to_text(const Value& value);
std::string to_text(const EntityName& name);
std::string in_quotes(std::string_view text);

}  // namespace redoubt::cedar
