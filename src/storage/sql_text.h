// SQL as we write it, once for both databases (README.md, "One SQL"): parameters are `?`, and what else the two read
// differently is put right here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace redoubt {

// PostgreSQL's form: `?` outside of quotes and comments becomes $1, $2, …
std::string postgres_sql(std::string_view sql);

// SQLite's form: a `FOR UPDATE` at the end goes, because a transaction there holds the whole database already.
std::string sqlite_sql(std::string_view sql);

// The statements of a script, parted at `;` outside of quotes and comments; empty ones are left out.
std::vector<std::string> split_statements(std::string_view script);

}  // namespace redoubt
