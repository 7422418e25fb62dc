// What goes into a statement and what comes out of it.
// Columns are BIGINT, TEXT, BYTEA or DOUBLE PRECISION; a flag is a BIGINT of 0 or 1, a time is seconds or milliseconds
// since 1970 in a BIGINT.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace redoubt {

using Blob = std::vector<uint8_t>;
using SqlValue = std::variant<std::monostate, int64_t, double, std::string, Blob>;  // monostate: NULL

struct SqlRows {
  std::vector<std::vector<SqlValue>> rows;
  int64_t changed = 0;  // rows that an INSERT, UPDATE or DELETE touched
};

inline SqlValue to_sql(std::nullptr_t) { return std::monostate{}; }
template <std::integral T>
SqlValue to_sql(T value) {
  return static_cast<int64_t>(value);
}
inline SqlValue to_sql(double value) { return value; }
inline SqlValue to_sql(std::string_view text) { return std::string(text); }
inline SqlValue to_sql(const char* text) { return std::string(text); }
inline SqlValue to_sql(const std::string& text) { return text; }
inline SqlValue to_sql(const Blob& bytes) { return bytes; }
inline SqlValue to_sql(std::span<const uint8_t> bytes) { return Blob(bytes.begin(), bytes.end()); }
template <class T>
SqlValue to_sql(const std::optional<T>& value) {
  return value ? to_sql(*value) : SqlValue(std::monostate{});
}

// The value as a T (int64_t, double, std::string, Blob, or std::optional of one for a column that may be NULL), or
// nothing if it is of another type.
template <class T>
struct FromSql {
  static std::optional<T> from(const SqlValue& value) {
    const T* found = std::get_if<T>(&value);
    return found != nullptr ? std::optional<T>(*found) : std::nullopt;
  }
};
template <>
struct FromSql<double> {
  static std::optional<double> from(const SqlValue& value) {
    if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
    const double* found = std::get_if<double>(&value);
    return found != nullptr ? std::optional<double>(*found) : std::nullopt;
  }
};
template <class T>
struct FromSql<std::optional<T>> {
  static std::optional<std::optional<T>> from(const SqlValue& value) {
    if (std::holds_alternative<std::monostate>(value)) return std::optional<T>();
    if (auto inner = FromSql<T>::from(value)) return inner;
    return std::nullopt;
  }
};

}  // namespace redoubt
