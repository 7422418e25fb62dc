#include "server/router.h"

#include <algorithm>
#include <set>
#include <utility>

#include "server/http_parse.h"

namespace redoubt {
namespace {

size_t literal_length(std::string_view pattern) {
  size_t count = 0;
  bool literal = true;
  for (const char c : pattern) {
    if (c == '{') literal = false;
    if (literal) ++count;
    if (c == '}') literal = true;
  }
  return count;
}

}  // namespace

bool match_path(std::string_view pattern, std::string_view path, std::map<std::string, std::string>& params) {
  params.clear();
  while (!pattern.empty()) {
    if (pattern.front() != '{') {
      if (path.empty() || path.front() != pattern.front()) return false;
      path.remove_prefix(1);
      pattern.remove_prefix(1);
      continue;
    }
    const size_t close = pattern.find('}');
    if (close == std::string_view::npos) return false;
    const std::string_view name = pattern.substr(1, close - 1);
    pattern.remove_prefix(close + 1);
    const size_t taken = pattern.empty() ? path.size() : std::min(path.find('/'), path.size());
    if (taken == 0) return false;
    std::string value(path.substr(0, taken));
    std::ranges::replace(value, kEscapedSlash, '/');
    params.emplace(name, std::move(value));
    path.remove_prefix(taken);
  }
  return path.empty();
}

std::string path_param(const std::map<std::string, std::string>& params, const std::string& name) {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

Router::Router(std::vector<Route> routes) : routes_(std::move(routes)) {
  std::stable_sort(routes_.begin(), routes_.end(),
                   [](const Route& a, const Route& b) { return literal_length(a.path) > literal_length(b.path); });
}

Router::Match Router::find(std::string_view method, std::string_view path) const {
  Match match;
  std::set<std::string> methods;
  std::map<std::string, std::string> params;
  for (const Route& route : routes_) {
    if (!match_path(route.path, path, params)) continue;
    methods.insert(route.method);
    if (match.route == nullptr && (route.method == method || (method == "HEAD" && route.method == "GET"))) {
      match.route = &route;
      match.params = params;
    }
  }
  if (methods.empty()) return match;
  if (methods.contains("GET")) methods.insert("HEAD");
  methods.insert("OPTIONS");
  for (const std::string& name : methods) match.allow += (match.allow.empty() ? "" : ", ") + name;
  return match;
}

}  // namespace redoubt
