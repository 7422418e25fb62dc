// A connection to PostgreSQL by libpq's asynchronous calls, so that every call has a time limit.
#pragma once

#include <memory>
#include <string>

#include "core/result.h"
#include "storage/connection.h"

namespace redoubt {

// `url` may name several hosts: they are tried in turn, each with its share of the time, until one takes writes.
// `statement_ms`: what the server itself ends a statement after, so that none goes on there when we have given it up.
Result<std::unique_ptr<Connection>> connect_postgres(const std::string& url, int statement_ms, Deadline deadline);

// Does any of its hosts lie beyond this machine (no socket's folder, no loopback address)?
bool is_beyond_this_machine(const std::string& url);

// What a URL beyond this machine must say of encryption: libpq's own default goes on in clear where it finds none.
// Errors: invalid_argument. True: it says itself that everything goes in clear (sslmode=disable).
Result<bool> check_postgres_encryption(const std::string& url);

// A secret of its own, so that whatever holds the URL must be kept like one.
bool holds_password(const std::string& url);

// "postgresql host1,host2 database": the URL without user and password, to be shown.
std::string postgres_name(const std::string& url);

}  // namespace redoubt
