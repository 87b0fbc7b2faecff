// What one render may use, and the error that ends a render or a parse.
//
// Inside text/jinja_* errors travel as the exception TemplateError: an interpreter's evaluation is
// a deep recursion, and the exception ends at ChatTemplate, which returns Result. Nothing outside
// text/jinja_* sees it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace tessera::jinja {

class TemplateError : public std::runtime_error {
 public:
  explicit TemplateError(const std::string& message, int line = 0)
      : std::runtime_error(message), line_(line) {}
  int line() const { return line_; }  // 0: not known where it was thrown

 private:
  int line_;
};

template <typename... Args>
[[noreturn]] void Raise(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError(fmt::format(format, std::forward<Args>(args)...));
}

class Budget {
 public:
  Budget(int64_t steps, int64_t string_bytes, int64_t memory_bytes, int depth)
      : steps_(steps),
        string_bytes_(string_bytes),
        memory_bytes_(memory_bytes),
        depth_limit_(depth) {}

  static constexpr int64_t kBytesPerStep = 64;

  void Step(int64_t n = 1) {
    used_steps_ += n;
    if (used_steps_ > steps_) [[unlikely]]
      Raise("the template takes more than {} steps", steps_);
  }
  // Reading or writing `bytes` bytes of text.
  void Touch(size_t bytes) { Step(static_cast<int64_t>(bytes) / kBytesPerStep); }
  void CheckStringSize(size_t bytes) const {
    if (static_cast<int64_t>(bytes) > string_bytes_) [[unlikely]]
      Raise("a text of the template grows beyond {} bytes", string_bytes_);
  }
  // Memory held until the render ends (lists, dicts), and memory of strings, which is given back.
  void Hold(size_t bytes) {
    *live_bytes_ += static_cast<int64_t>(bytes);
    CheckMemory();
  }
  void CheckMemory() const {
    if (*live_bytes_ > memory_bytes_) [[unlikely]]
      Raise("the template holds more than {} bytes", memory_bytes_);
  }
  // Before `bytes` bytes are allocated that Hold() will count.
  void CheckRoom(size_t bytes) const {
    if (static_cast<int64_t>(bytes) > memory_bytes_ - *live_bytes_) [[unlikely]]
      Raise("the template holds more than {} bytes", memory_bytes_);
  }
  const std::shared_ptr<int64_t>& live_bytes() const { return live_bytes_; }

  // Nested evaluation, freed by the guard.
  class Nesting {
   public:
    explicit Nesting(Budget& budget) : budget_(budget) {
      if (++budget_.depth_ > budget_.depth_limit_) {
        --budget_.depth_;
        Raise("the template nests deeper than {} levels", budget_.depth_limit_);
      }
    }
    ~Nesting() { --budget_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Budget& budget_;
  };

 private:
  int64_t steps_, string_bytes_, memory_bytes_;
  int depth_limit_;
  int64_t used_steps_ = 0;
  int depth_ = 0;
  std::shared_ptr<int64_t> live_bytes_ = std::make_shared<int64_t>(0);
};

}  // namespace tessera::jinja
