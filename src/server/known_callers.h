// The connections on which somebody was recognised, by whom: so that no caller, nor a key that has ended since, keeps
// all others out by holding connections. One that is worked on is never given up, and whatever a few callers want, the
// last eighth goes to others, one to each. One thread's.
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

// Who holds so much of `most` has all that one caller may, when so much is left: four times what is left, or anything
// while no more than an eighth is.
bool has_share(int64_t theirs, int64_t left, int64_t most);

class KnownCallers {
 public:
  // `most`: connections of all of them together.
  explicit KnownCallers(int64_t most) : most_(most) {}

  enum class Use : uint8_t {
    taken,
    too_many,  // they work on as many others as one caller may: four times as many as nobody works on, and on none
               // of the last eighth if they have one
    full,      // all are worked on
  };
  // A request of theirs begins on it: it is theirs from now on, and worked on until rest(). Otherwise nothing changes.
  // Where it made them more than the most, surplus() is to be cut.
  Use use(HttpConnection* connection, const std::string& who);
  void rest(HttpConnection* connection);    // its answer is over; one that is not here is no error
  void forget(HttpConnection* connection);  // it is a stranger's again or gone; nor is it here
  int64_t size() const { return static_cast<int64_t>(places_.size()); }

  // Beyond the most: of the caller with most connections among those who have one that rests, the one resting longest,
  // rather one that waits. Null: there are not too many.
  HttpConnection* surplus(bool (*waits)(const HttpConnection&)) const;

 private:
  struct Caller {
    std::list<HttpConnection*> busy, resting;  // the one resting longest first
    int64_t size() const { return static_cast<int64_t>(busy.size() + resting.size()); }
  };
  struct Place {
    std::string who;
    bool is_busy = true;
    std::list<HttpConnection*>::iterator at;
  };
  int64_t most_;
  int64_t busy_ = 0;
  std::unordered_map<std::string, Caller> callers_;
  std::unordered_map<HttpConnection*, Place> places_;
};

}  // namespace redoubt
