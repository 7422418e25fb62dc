#include "storage/sql_text.h"

#include <cctype>

namespace redoubt {
namespace {

// The end of the quoted text or comment that begins at `i`, or `i` if none does.
size_t skip_quoted(std::string_view sql, size_t i) {
  if (sql[i] == '\'' || sql[i] == '"') {
    const size_t end = sql.find(sql[i], i + 1);  // a doubled quote is two quoted texts side by side
    return end == std::string_view::npos ? sql.size() : end + 1;
  }
  if (sql.substr(i, 2) == "--") {
    const size_t end = sql.find('\n', i);
    return end == std::string_view::npos ? sql.size() : end;
  }
  return i;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string postgres_sql(std::string_view sql) {
  std::string out;
  int parameters = 0;
  for (size_t i = 0; i < sql.size();) {
    if (const size_t end = skip_quoted(sql, i); end != i) {
      out += sql.substr(i, end - i);
      i = end;
    } else if (sql[i] == '?') {
      out += '$' + std::to_string(++parameters);
      ++i;
    } else {
      out += sql[i++];
    }
  }
  return out;
}

std::string sqlite_sql(std::string_view sql) {
  constexpr std::string_view kForUpdate = " FOR UPDATE";
  sql = trimmed(sql);
  if (sql.ends_with(kForUpdate)) sql.remove_suffix(kForUpdate.size());
  return std::string(sql);
}

std::vector<std::string> split_statements(std::string_view script) {
  std::vector<std::string> statements;
  std::string current;
  const auto close = [&] {
    if (const std::string_view text = trimmed(current); !text.empty()) statements.emplace_back(text);
    current.clear();
  };
  for (size_t i = 0; i < script.size();) {
    if (const size_t end = skip_quoted(script, i); end != i) {
      if (script[i] != '-') current += script.substr(i, end - i);
      i = end;
    } else if (script[i] == ';') {
      close();
      ++i;
    } else {
      current += script[i++];
    }
  }
  close();
  return statements;
}

}  // namespace redoubt
