// The connections on which somebody was recognised, by whom: so that no caller, nor a key that has ended since, keeps
// all others out by holding connections. One thread's.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>

namespace redoubt {

class HttpConnection;
struct Principal;

// Whose connections are counted together; "": somebody of whom there may be many (keys of a file, `auth: off`), whose
// share has no bound.
std::string caller_name(const Principal& principal);

class KnownCallers {
 public:
  // A request of theirs begins on it: it is theirs from now on, and the one used last. False, and nothing changes: they
  // hold `most` others already.
  bool use(HttpConnection* connection, const std::string& who, int64_t most);
  void forget(HttpConnection* connection);  // it is a stranger's again or gone; one that is not here is no error
  int64_t size() const { return static_cast<int64_t>(places_.size()); }

  // The one to give way when all are taken: of the caller with most of them the one unused longest, on which no answer
  // is under way; then of the next caller. Null: there is none.
  HttpConnection* leaves(bool (*may_leave)(const HttpConnection&)) const;

 private:
  using Connections = std::list<HttpConnection*>;  // the one unused longest first
  struct Place {
    std::string who;
    Connections::iterator at;
  };
  std::unordered_map<std::string, Connections> of_caller_;
  std::unordered_map<HttpConnection*, Place> places_;
};

}  // namespace redoubt
