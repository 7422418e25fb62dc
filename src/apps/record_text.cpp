#include "apps/record_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

namespace redoubt {
namespace {

std::string cell(const std::string& name, const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_integer() && name.ends_with("_at")) {
    const std::time_t seconds = value.get<int64_t>();
    return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(seconds));
  }
  std::string text;
  const auto add = [&](const std::string& item) { text += (text.empty() ? "" : ", ") + item; };
  if (value.is_array()) {
    for (const Json& item : value) add(item.is_string() ? item.get<std::string>() : dump_json(item));
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.items())
      add(key + "=" + (item.is_string() ? item.get<std::string>() : dump_json(item)));
  } else {
    return dump_json(value);
  }
  return text.empty() ? "-" : text;
}

size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string padded(const std::string& text, size_t columns) {
  return text + std::string(columns - std::min(columns, width(text)), ' ');
}

}  // namespace

std::string record_text(const Json& record) {
  size_t longest = 0;
  for (const auto& [name, value] : record.items()) longest = std::max(longest, width(name));
  std::string text;
  for (const auto& [name, value] : record.items()) text += padded(name, longest + 2) + cell(name, value) + "\n";
  return text;
}

std::string table_text(const Json& records, const std::vector<std::string>& columns) {
  std::vector<std::vector<std::string>> rows(1, columns);
  for (const Json& record : records) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const std::string& column : columns)
      row.push_back(record.contains(column) ? cell(column, record[column]) : "-");
  }
  std::vector<size_t> widths(columns.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += padded(row[i], widths[i] + 2);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string json_lines(const Json& records) {
  std::string text;
  for (const Json& record : records) text += dump_json(record) + "\n";
  return text;
}

Result<int64_t> parse_seconds(std::string_view text, const std::string& option) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const int64_t scale = unit == "d" ? 86'400 : unit == "h" ? 3600 : unit == "m" ? 60 : unit == "s" ? 1 : 0;
  if (error != std::errc() || scale == 0 || count < 0 || count > INT64_MAX / 86'400)
    return invalid(option + ": expected a time like 90d, 12h, 30m or 45s", option);
  return count * scale;
}

}  // namespace redoubt
