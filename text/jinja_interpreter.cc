#include "text/jinja_interpreter.h"

#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_loop.h"

namespace tessera::jinja {

namespace {

template <typename T>
class Restore {
 public:
  Restore(T& variable, T value) : variable_(variable), before_(variable) { variable = value; }
  ~Restore() { variable_ = before_; }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T& variable_;
  T before_;
};

}  // namespace

struct Macro : CallableObject {
  Macro(Interpreter* i, const Stmt* s, Frame* f) : interpreter(i), stmt(s), frame(f) {}
  Interpreter* interpreter;
  const Stmt* stmt;
  Frame* frame;

  Value Call(Runtime&, CallArgs args) override {
    return interpreter->CallMacro(*stmt, *frame, std::move(args));
  }
  Value Attribute(Runtime& rt, std::string_view name) override {
    const MacroInfo& macro = stmt->macro;
    if (name == "name") return macro.name.empty() ? Value::None() : Value(macro.name);
    if (name == "catch_kwargs") return Value::Bool(macro.kwargs_slot >= 0);
    if (name == "catch_varargs") return Value::Bool(macro.varargs_slot >= 0);
    if (name == "caller") return Value::Bool(macro.caller_slot >= 0 || macro.explicit_caller);
    if (name == "arguments") {
      Values names;
      for (const ExprPtr& parameter : macro.parameters) names.push_back(Value(parameter->name));
      return rt.heap().Tuple(std::move(names));
    }
    return Value();
  }
  std::string Describe() const override {
    if (stmt->macro.name.empty()) return "<Macro anonymous>";
    return fmt::format("<Macro '{}'>", stmt->macro.name.view());
  }
};

ProvenanceText Interpreter::Run() {
  StrBuilder out(rt_.budget());
  const Restore<StrBuilder*> to(out_, &out);
  auto* root = rt_.heap().New<Frame>();
  Enter(*root, nullptr, tree_.scope);
  Exec(tree_.body, *root);
  return out.FinishText();
}

void Interpreter::Enter(Frame& frame, Frame* parent, const ScopeInfo& info) {
  rt_.budget().Step(static_cast<int64_t>(info.slots.size()));
  frame.parent = parent;
  frame.slots.resize(info.slots.size());
  for (size_t i = 0; i < info.slots.size(); ++i) {
    const ScopeInfo::Slot& slot = info.slots[i];
    switch (slot.load) {
      case ScopeInfo::Load::kParameter:
      case ScopeInfo::Load::kUndefined: frame.slots[i] = Value(); break;
      case ScopeInfo::Load::kContext: frame.slots[i] = rt_.Lookup(slot.name.view()); break;
      case ScopeInfo::Load::kAlias: frame.slots[i] = Slot(slot.from, frame); break;
    }
  }
}

template <typename F>
auto Interpreter::InFrame(const ScopeInfo& info, Frame& parent, F run) {
  if (!info.captured) {
    Frame frame;
    Enter(frame, &parent, info);
    return run(frame);
  }
  rt_.heap().HoldValues(info.slots.size());
  auto* frame = rt_.heap().New<Frame>();
  Enter(*frame, &parent, info);
  return run(*frame);
}

Value& Interpreter::Slot(SlotRef ref, Frame& frame) {
  if (ref.slot < 0) Raise("a name was not resolved");
  Frame* f = &frame;
  for (int i = 0; i < ref.hops; ++i) f = f->parent;
  return f->slots[static_cast<size_t>(ref.slot)];
}

void Interpreter::Assign(const Expr& target, const Value& value, Frame& frame) {
  switch (target.kind) {
    case ExprKind::kName: Slot(target.slot, frame) = value; return;
    case ExprKind::kNamespaceRef: {
      const Value& space = Slot(target.slot, frame);
      if (!space.is(Kind::kNamespace)) Raise("cannot assign attribute on non-namespace object");
      CheckNamespaceName(target.attribute);
      space.as<NamespaceObject>().attributes->Set(Value(target.attribute), value, rt_.budget());
      return;
    }
    default: break;
  }
  const size_t n = target.operands.size();
  if (!Iterable(value)) Raise("cannot unpack non-iterable {} object", TypeName(value));
  Cursor cursor(rt_.heap(), value);
  Values parts;
  for (Value v; parts.size() < n && cursor.Next(&v);) parts.push_back(std::move(v));
  if (parts.size() < n) Raise("not enough values to unpack (expected {}, got {})", n, parts.size());
  if (Value extra; cursor.Next(&extra)) Raise("too many values to unpack (expected {})", n);
  for (size_t i = 0; i < n; ++i) Assign(*target.operands[i], parts[i], frame);
}

Value Interpreter::TargetValue(const Expr& target, Frame& frame) {
  if (target.kind != ExprKind::kTuple) return Slot(target.slot, frame);
  Values items;
  for (const ExprPtr& item : target.operands) items.push_back(TargetValue(*item, frame));
  return rt_.heap().Tuple(std::move(items));
}

Flow Interpreter::Exec(const Block& block, Frame& frame) {
  const Budget::Nesting nesting(rt_.budget());
  for (const StmtPtr& stmt : block) {
    rt_.budget().Step();
    rt_.line = stmt->line;
    const Flow flow = ExecStatement(*stmt, frame);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Flow Interpreter::ExecStatement(const Stmt& s, Frame& frame) {
  switch (s.kind) {
    case StmtKind::kOutput: ExecOutput(s, frame); break;
    case StmtKind::kFor: return ExecFor(s, frame);
    case StmtKind::kIf: return ExecIf(s, frame);
    case StmtKind::kSet: Assign(*s.target, Eval(*s.value, frame), frame); break;
    case StmtKind::kSetBlock:
    case StmtKind::kFilterBlock: return ExecCapture(s, frame);
    case StmtKind::kMacro: ExecMacro(s, frame); break;
    case StmtKind::kCallBlock: ExecCallBlock(s, frame); break;
    case StmtKind::kWith: return ExecWith(s, frame);
    case StmtKind::kGeneration: ExecGeneration(s, frame); break;
    case StmtKind::kBreak: return Flow::kBreak;
    case StmtKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNormal;
}

void Interpreter::ExecOutput(const Stmt& s, Frame& frame) {
  for (const ExprPtr& value : s.values) AppendStr(rt_, Eval(*value, frame), *out_);
}

Flow Interpreter::ExecIf(const Stmt& s, Frame& frame) {
  if (Truth(Eval(*s.test, frame))) return Exec(s.body, frame);
  for (const StmtPtr& branch : s.elifs) {
    rt_.line = branch->line;
    if (Truth(Eval(*branch->test, frame))) return Exec(branch->body, frame);
  }
  return Exec(s.else_body, frame);
}

Flow Interpreter::ExecFor(const Stmt& s, Frame& frame) {
  return RunLoop(s, frame, Eval(*s.value, frame), 0);
}

Flow Interpreter::RunLoop(const Stmt& s, Frame& outer, const Value& iterable, int64_t depth0) {
  Frame local;
  Frame* body = &local;
  if (s.scope.captured || s.recursive) {
    rt_.heap().HoldValues(s.scope.slots.size());
    body = rt_.heap().New<Frame>();
  }
  return RunRounds(s, outer, *body, iterable, depth0);
}

Flow Interpreter::RunRounds(const Stmt& s, Frame& outer, Frame& body, const Value& iterable,
                            int64_t depth0) {
  // The loop variable is an object of its own where the body uses it; else the source is read
  // directly.
  Loop* loop = nullptr;
  std::optional<LoopSource> source;
  if (s.loop_slot >= 0) {
    loop = rt_.heap().New<Loop>(*this, s, outer, iterable, depth0);
  } else {
    source.emplace(*this, s, outer, iterable);
  }
  // As in jinja2: else runs unless some round came to its end, so a round left by break or continue
  // does not count.
  bool completed = false;
  for (Value item; loop ? loop->Next(&item) : source->Next(&item);) {
    Enter(body, &outer, s.scope);
    if (loop) body.slots[static_cast<size_t>(s.loop_slot)] = Value(Kind::kLoop, loop);
    Assign(*s.target, item, body);
    const Flow flow = Exec(s.body, body);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNormal;
  }
  if (loop) loop->Detach();
  if (completed || s.else_body.empty()) return Flow::kNormal;
  return InFrame(s.else_scope, outer, [&](Frame& frame) { return Exec(s.else_body, frame); });
}

Flow Interpreter::ExecCapture(const Stmt& s, Frame& outer) {
  return InFrame(s.scope, outer, [&](Frame& frame) {
    StrBuilder captured(rt_.budget());
    Flow flow = Flow::kNormal;
    {
      const Restore<StrBuilder*> to(out_, &captured);
      flow = Exec(s.body, frame);
    }
    if (flow != Flow::kNormal) return flow;
    Value text(captured.Finish());
    if (s.value) {
      const Restore<const Value*> input(block_text_, &text);
      Value filtered = EvalFilter(*s.value, frame);
      text = std::move(filtered);
    }
    if (s.target) {
      Assign(*s.target, text, outer);
    } else {
      AppendStr(rt_, text, *out_);
    }
    return Flow::kNormal;
  });
}

Flow Interpreter::ExecWith(const Stmt& s, Frame& outer) {
  return InFrame(s.scope, outer, [&](Frame& frame) {
    for (size_t i = 0; i < s.targets.size(); ++i)
      Assign(*s.targets[i], Eval(*s.values[i], outer), frame);
    return Exec(s.body, frame);
  });
}

void Interpreter::ExecMacro(const Stmt& s, Frame& frame) {
  Slot(s.macro_slot, frame) = Value(Kind::kCallable, rt_.heap().New<Macro>(this, &s, &frame));
}

void Interpreter::ExecCallBlock(const Stmt& s, Frame& frame) {
  const Value caller(Kind::kCallable, rt_.heap().New<Macro>(this, &s, &frame));
  AppendStr(rt_, EvalCall(*s.value, frame, &caller), *out_);
}

void Interpreter::ExecGeneration(const Stmt& s, Frame& outer) {
  InFrame(s.scope, outer, [&](Frame& frame) {
    BindMacro(s, frame, {});
    return Exec(s.body, frame);
  });
}

Value Interpreter::CallMacro(const Stmt& s, Frame& outer, CallArgs args) {
  return InFrame(s.scope, outer, [&](Frame& frame) {
    BindMacro(s, frame, std::move(args));
    StrBuilder out(rt_.budget());
    const Restore<StrBuilder*> to(out_, &out);
    FillDefaults(s, frame);
    Exec(s.body, frame);
    return Value(out.Finish());
  });
}

void Interpreter::BindMacro(const Stmt& s, Frame& frame, CallArgs args) {
  const MacroInfo& macro = s.macro;
  const size_t count = macro.parameters.size();
  auto take = [&](std::string_view name) {
    rt_.budget().Step(static_cast<int64_t>(args.keywords.size()));
    const auto it = std::find_if(args.keywords.begin(), args.keywords.end(),
                                 [&](const auto& keyword) { return keyword.first.view() == name; });
    Value value;
    if (it != args.keywords.end()) {
      value = std::move(it->second);
      args.keywords.erase(it);
    }
    return value;
  };
  for (size_t i = 0; i < count; ++i) {
    const Expr& parameter = *macro.parameters[i];
    Value value = i < args.positional.size() ? args.positional[i] : take(parameter.name.view());
    Slot(parameter.slot, frame) = std::move(value);
  }
  if (macro.caller_slot >= 0) {
    Value caller = take("caller");
    if (caller.missing() || caller.is(Kind::kNone)) caller = rt_.Undefined("No caller defined");
    frame.slots[static_cast<size_t>(macro.caller_slot)] = std::move(caller);
  }
  if (macro.kwargs_slot >= 0) {
    auto* rest = rt_.heap().New<DictObject>();
    for (auto& [name, value] : args.keywords)
      rest->Set(Value(name), std::move(value), rt_.budget());
    frame.slots[static_cast<size_t>(macro.kwargs_slot)] = Value(Kind::kDict, rest);
  } else if (!args.keywords.empty()) {
    Raise("macro '{}' takes no keyword argument '{}'", macro.name.view(),
          args.keywords[0].first.view());
  }
  if (macro.varargs_slot >= 0) {
    Values rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    frame.slots[static_cast<size_t>(macro.varargs_slot)] = rt_.heap().Tuple(std::move(rest));
  } else if (args.positional.size() > count) {
    Raise("macro '{}' takes not more than {} argument(s)", macro.name.view(), count);
  }
}

void Interpreter::FillDefaults(const Stmt& s, Frame& frame) {
  const MacroInfo& macro = s.macro;
  const size_t first_default = macro.parameters.size() - macro.defaults.size();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Expr& parameter = *macro.parameters[i];
    if (!Slot(parameter.slot, frame).missing()) continue;
    Value value =
        i >= first_default
            ? Eval(*macro.defaults[i - first_default], frame)
            : rt_.Undefined(fmt::format("parameter '{}' was not provided", parameter.name.view()));
    Slot(parameter.slot, frame) = std::move(value);
  }
}

}  // namespace tessera::jinja
