// Programmer errors. A failed check prints the place and what was expected, then aborts: the
// process state is no longer understood. Nothing that a client, a file or a flag can cause may end
// here; use base/error.h for that.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace tessera {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition,
                                     const std::string& message) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s%s%s\n", file, line, condition,
               message.empty() ? "" : ": ", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace tessera

// TESSERA_CHECK(condition) or TESSERA_CHECK(condition, "op {}: expected {}, got {}", ...).
#define TESSERA_CHECK(condition, ...)                               \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::tessera::CheckFailed(__FILE__, __LINE__, #condition,        \
                             ::tessera::CheckMessage(__VA_ARGS__)); \
  } while (false)

namespace tessera {
inline std::string CheckMessage() { return {}; }
template <typename... Args>
std::string CheckMessage(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace tessera
