// What a fallible function returns: Result<T> is a value or an Error; Status is "it worked" or an Error.
// Same verbs as std::expected, which is C++23. Our own code throws nothing; a foreign exception is caught in the one
// file that calls the library and becomes an Error.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace redoubt {

enum class ErrorCode : uint8_t {
  invalid_argument,  // the caller's input is wrong: HTTP 400
  unauthenticated,   // nobody we know: 401
  denied,            // 403
  not_found,         // 404
  conflict,          // it exists already, or changed meanwhile: 409
  corrupt_data,      // a file or message that breaks its format
  overloaded,        // try again later: 503
  unavailable,       // a database or a peer is away, slow, full or read-only: 503; what it was asked to do may be done
  unsupported,       // understood, but not built: 501
  context_length,    // prompt and limits exceed the context: 400, code context_length_exceeded
  cancelled,         // the caller left
  io,                // the operating system refused: file, socket, memory
  internal,          // ours
};

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  // one sentence: which thing, what was expected, what was found; never prompt text
  std::string param;    // the request field or option at fault, empty if none

  // Adds where on the way up: "layer 12: kv_b_proj: expected ...".
  Error within(std::string_view where) && {
    message = std::string(where) + ": " + message;
    return std::move(*this);
  }
};

[[noreturn]] inline void assertion_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "redoubt: broken invariant: %s (%s:%d)\n", what, file, line);
  std::abort();
}

// Stays on in release; must never be reachable from a request or a file.
#define REDOUBT_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::redoubt::assertion_failed(#condition, __FILE__, __LINE__))
#ifdef NDEBUG
#define REDOUBT_DEBUG_ASSERT(condition) static_cast<void>(0)
#else
#define REDOUBT_DEBUG_ASSERT(condition) REDOUBT_ASSERT(condition)
#endif

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& value() & { return REDOUBT_ASSERT(has_value()), std::get<0>(state_); }
  const T& value() const& { return REDOUBT_ASSERT(has_value()), std::get<0>(state_); }
  T&& value() && { return REDOUBT_ASSERT(has_value()), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { return REDOUBT_ASSERT(!has_value()), std::get<1>(state_); }
  const Error& error() const& { return REDOUBT_ASSERT(!has_value()), std::get<1>(state_); }
  Error&& error() && { return REDOUBT_ASSERT(!has_value()), std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<std::monostate>;
inline Status ok() { return std::monostate{}; }

inline Error invalid(std::string message, std::string param = {}) {
  return {ErrorCode::invalid_argument, std::move(message), std::move(param)};
}
inline Error corrupt(std::string message) { return {ErrorCode::corrupt_data, std::move(message), {}}; }
inline Error not_found(std::string message) { return {ErrorCode::not_found, std::move(message), {}}; }
inline Error conflict(std::string message, std::string param = {}) {
  return {ErrorCode::conflict, std::move(message), std::move(param)};
}
inline Error unavailable(std::string message) { return {ErrorCode::unavailable, std::move(message), {}}; }
inline Error unsupported(std::string message, std::string param = {}) {
  return {ErrorCode::unsupported, std::move(message), std::move(param)};
}
inline Error io_error(std::string message) { return {ErrorCode::io, std::move(message), {}}; }

#define REDOUBT_CAT_(a, b) a##b
#define REDOUBT_CAT(a, b) REDOUBT_CAT_(a, b)

// REDOUBT_TRY(auto config, parse_config(text));  -- binds the value, or returns the error to our caller.
#define REDOUBT_TRY(declaration, ...)                                                                      \
  auto REDOUBT_CAT(tried_, __LINE__) = (__VA_ARGS__);                                                      \
  if (!REDOUBT_CAT(tried_, __LINE__).has_value()) return std::move(REDOUBT_CAT(tried_, __LINE__)).error(); \
  declaration = std::move(REDOUBT_CAT(tried_, __LINE__)).value()

// REDOUBT_CHECK(config.validate());  -- returns the error, or goes on.
#define REDOUBT_CHECK(...)                                                                        \
  do {                                                                                            \
    if (auto checked_ = (__VA_ARGS__); !checked_.has_value()) return std::move(checked_).error(); \
  } while (false)

}  // namespace redoubt
