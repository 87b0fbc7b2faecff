// Runs a compiled template in a Runtime.
#pragma once

#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_runtime.h"

namespace tessera::jinja {

// The variables of one entered scope. Lives on the stack unless a macro inside may outlive it.
struct Frame : Object {
  Frame* parent = nullptr;
  Values slots;
};

enum class Flow : uint8_t { kNormal, kBreak, kContinue };

class Interpreter {
 public:
  Interpreter(const TemplateTree& tree, Runtime& rt) : tree_(tree), rt_(rt) {}

  // Throws TemplateError.
  ProvenanceText Run();

 private:
  friend class LoopSource;
  friend struct Loop;
  friend struct Macro;

  // jinja_interpreter.cc: statements
  Flow Exec(const Block& block, Frame& frame);
  Flow ExecStatement(const Stmt& s, Frame& frame);
  void ExecOutput(const Stmt& s, Frame& frame);
  Flow ExecIf(const Stmt& s, Frame& frame);
  Flow ExecFor(const Stmt& s, Frame& frame);
  // A whole loop over `iterable`; depth0 counts recursive calls.
  Flow RunLoop(const Stmt& s, Frame& outer, const Value& iterable, int64_t depth0);
  Flow RunRounds(const Stmt& s, Frame& outer, Frame& body, const Value& iterable, int64_t depth0);
  Flow ExecCapture(const Stmt& s, Frame& frame);
  Flow ExecWith(const Stmt& s, Frame& frame);
  void ExecMacro(const Stmt& s, Frame& frame);
  void ExecCallBlock(const Stmt& s, Frame& frame);
  void ExecGeneration(const Stmt& s, Frame& frame);
  Value CallMacro(const Stmt& s, Frame& outer, CallArgs args);
  void BindMacro(const Stmt& s, Frame& frame, CallArgs args);
  void FillDefaults(const Stmt& s, Frame& frame);

  void Enter(Frame& frame, Frame* parent, const ScopeInfo& info);
  // Calls `run` with a frame of the scope, on the heap where it may be captured.
  template <typename F>
  auto InFrame(const ScopeInfo& info, Frame& parent, F run);
  void Assign(const Expr& target, const Value& value, Frame& frame);
  Value& Slot(SlotRef ref, Frame& frame);
  Value TargetValue(const Expr& target, Frame& frame);

  // jinja_evaluate.cc: expressions
  Value Eval(const Expr& e, Frame& frame);
  Value EvalName(const Expr& e, Frame& frame);
  Value EvalSequence(const Expr& e, Frame& frame);
  Value EvalDict(const Expr& e, Frame& frame);
  Value EvalBinary(const Expr& e, Frame& frame);
  Value EvalCompare(const Expr& e, Frame& frame);
  Value EvalConcat(const Expr& e, Frame& frame);
  Value EvalConditional(const Expr& e, Frame& frame);
  Value EvalItem(const Expr& e, Frame& frame);
  Value EvalCall(const Expr& e, Frame& frame, const Value* caller);
  Value EvalFilter(const Expr& e, Frame& frame);
  Value EvalTest(const Expr& e, Frame& frame);
  CallArgs EvalArguments(const ArgumentExprs& args, Frame& frame);

  const TemplateTree& tree_;
  Runtime& rt_;
  StrBuilder* out_ = nullptr;
  const Value* block_text_ = nullptr;  // what a filter without operand is applied to
};

}  // namespace tessera::jinja
