// Where callers show no key, a page that somebody opened in a browser on this machine could speak with models as they
// can: by a request to another origin, or by a name of its own that it lets point to 127.0.0.1 (DNS rebinding). Its
// browser tells of the first in Origin and of the second in Host (Fetch Standard §3.1, RFC 9110 §7.2).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/http.h"
#include "server/http_parse.h"

namespace redoubt {

// The refusal of a request that came to a server which asks nobody for a key: 421 for a Host that is neither loopback
// (localhost, *.localhost, 127.0.0.0/8, ::1) nor one of `host_names`, 403 for an Origin that is neither the page's of
// that very Host nor one of `cors_origins`. HTTP/1.0 may leave Host out; no browser does.
std::optional<ApiError> refuse_foreign_page(const HeaderList& headers, const std::vector<std::string>& host_names,
                                            const std::vector<std::string>& cors_origins);

}  // namespace redoubt
