// Which route a method and a path belong to. The table is fixed when the server starts.
//
// A parameter in the middle of a template takes one segment, one at the end takes the rest ("/v1/models/{id}" also
// matches ids with a slash). Where two templates match, the one with more literal characters wins.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/http.h"

namespace redoubt {

class Router {
 public:
  explicit Router(std::vector<Route> routes);

  struct Match {
    const Route* route = nullptr;  // null: no such path, or not with this method
    std::map<std::string, std::string> params;
    std::string allow;  // value for the Allow header; empty: no such path
  };
  // HEAD finds the GET route.
  Match find(std::string_view method, std::string_view path) const;

  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;  // the most literal first
};

// Of a match's parameters; "" if there is none of that name.
std::string path_param(const std::map<std::string, std::string>& params, const std::string& name);

// The template's parameters if it matches. Exposed for tests.
bool match_path(std::string_view pattern, std::string_view path, std::map<std::string, std::string>& params);

}  // namespace redoubt
