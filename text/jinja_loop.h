// What a for statement reads from, and its `loop` variable (jinja2.runtime.LoopContext).
#pragma once

#include <optional>

#include "text/jinja_interpreter.h"

namespace tessera::jinja {

// The items of a for statement, through its `if` where it has one. Lazy, as Python's.
class LoopSource {
 public:
  LoopSource(Interpreter& interpreter, const Stmt& stmt, Frame& outer, const Value& iterable)
      : interpreter_(interpreter),
        stmt_(stmt),
        outer_(outer),
        cursor_(interpreter.rt_.heap(), iterable) {}
  bool Next(Value* out);

 private:
  Interpreter& interpreter_;
  const Stmt& stmt_;
  Frame& outer_;
  Cursor cursor_;
  Frame* test_frame_ = nullptr;
};

struct Loop : LoopObject {
  Loop(Interpreter& interpreter, const Stmt& stmt, Frame& outer, const Value& iterable,
       int64_t depth0)
      : interpreter_(interpreter),
        stmt_(stmt),
        outer_(outer),
        iterable_(iterable),
        source_(interpreter, stmt, outer, iterable),
        depth0_(depth0) {}

  bool Next(Value* out);
  // The loop has ended. A filter must not run any more for who kept the variable: its frame is
  // gone.
  void Detach() { detached_ = true; }
  Value Attribute(Runtime& rt, std::string_view name) override;
  Value Recurse(Runtime& rt, const Value& iterable) override;
  int64_t Length() override;

 private:
  bool Read(Value* out);
  bool PeekNext();
  Value Cycle(const CallArgs& args) const;
  Value Changed(Runtime& rt, const CallArgs& args);

  Interpreter& interpreter_;
  const Stmt& stmt_;
  Frame& outer_;
  Value iterable_;
  LoopSource source_;
  int64_t depth0_;
  int64_t index0_ = -1;
  bool detached_ = false;
  std::optional<int64_t> length_;
  Value after_, current_, before_;  // missing: none
  std::optional<Values> last_changed_;
  // Items read ahead to know the length of something that has none.
  std::optional<Values> rest_;
  size_t rest_at_ = 0;
};

}  // namespace tessera::jinja
