#include "text/jinja_interpreter.h"

namespace tessera::jinja {

Value Interpreter::Eval(const Expr& e, Frame& frame) {
  rt_.budget().Step();
  if (e.kind == ExprKind::kConstant) return e.constant;
  if (e.kind == ExprKind::kName) return EvalName(e, frame);
  const Budget::Nesting nesting(rt_.budget());
  rt_.line = e.line;
  switch (e.kind) {
    case ExprKind::kTuple:
    case ExprKind::kList: return EvalSequence(e, frame);
    case ExprKind::kDict: return EvalDict(e, frame);
    case ExprKind::kAnd: {
      Value left = Eval(*e.operands[0], frame);
      return Truth(left) ? Eval(*e.operands[1], frame) : left;
    }
    case ExprKind::kOr: {
      Value left = Eval(*e.operands[0], frame);
      return Truth(left) ? left : Eval(*e.operands[1], frame);
    }
    case ExprKind::kNot: return Value::Bool(!Truth(Eval(*e.operands[0], frame)));
    case ExprKind::kNegate: return Negate(rt_, Eval(*e.operands[0], frame));
    case ExprKind::kPlus: return Plus(Eval(*e.operands[0], frame));
    case ExprKind::kBinary: return EvalBinary(e, frame);
    case ExprKind::kCompare: return EvalCompare(e, frame);
    case ExprKind::kConcat: return EvalConcat(e, frame);
    case ExprKind::kConditional: return EvalConditional(e, frame);
    case ExprKind::kAttribute: return GetAttribute(rt_, Eval(*e.operands[0], frame), e.name);
    case ExprKind::kItem: return EvalItem(e, frame);
    case ExprKind::kSlice: {
      // Only inside a tuple index, which nothing takes; an item with a slice alone is EvalItem's.
      auto* slice = rt_.heap().New<SliceObject>();
      return Value(Kind::kSlice, slice);
    }
    case ExprKind::kCall: return EvalCall(e, frame, nullptr);
    case ExprKind::kFilter: return EvalFilter(e, frame);
    case ExprKind::kTest: return EvalTest(e, frame);
    case ExprKind::kConstant:
    case ExprKind::kName:
    case ExprKind::kNamespaceRef: break;
  }
  Raise("this expression cannot be evaluated");
}

Value Interpreter::EvalName(const Expr& e, Frame& frame) {
  const Value& v = Slot(e.slot, frame);
  return v.missing() ? Value::Undefined(e.name) : v;
}

Value Interpreter::EvalSequence(const Expr& e, Frame& frame) {
  Values items;
  items.reserve(e.operands.size());
  for (const ExprPtr& item : e.operands) items.push_back(Eval(*item, frame));
  return rt_.heap().Sequence(e.kind == ExprKind::kList ? Kind::kList : Kind::kTuple,
                             std::move(items));
}

Value Interpreter::EvalDict(const Expr& e, Frame& frame) {
  auto* dict = rt_.heap().New<DictObject>();
  for (size_t i = 0; i < e.operands.size(); i += 2) {
    Value key = Eval(*e.operands[i], frame);
    dict->Set(std::move(key), Eval(*e.operands[i + 1], frame), rt_.budget());
  }
  return Value(Kind::kDict, dict);
}

Value Interpreter::EvalBinary(const Expr& e, Frame& frame) {
  const Value left = Eval(*e.operands[0], frame);
  const Value right = Eval(*e.operands[1], frame);
  rt_.line = e.line;
  return BinaryOperation(rt_, e.op, left, right);
}

Value Interpreter::EvalCompare(const Expr& e, Frame& frame) {
  Value left = Eval(*e.operands[0], frame);
  for (size_t i = 0; i < e.ops.size(); ++i) {
    Value right = Eval(*e.operands[i + 1], frame);
    bool holds = false;
    Budget& budget = rt_.budget();
    switch (e.ops[i]) {
      case CompareOp::kEq: holds = Equal(left, right, budget); break;
      case CompareOp::kNe: holds = !Equal(left, right, budget); break;
      case CompareOp::kLt: holds = Compare(left, right, Order::kLess, budget); break;
      case CompareOp::kLe: holds = Compare(left, right, Order::kLessEqual, budget); break;
      case CompareOp::kGt: holds = Compare(left, right, Order::kGreater, budget); break;
      case CompareOp::kGe: holds = Compare(left, right, Order::kGreaterEqual, budget); break;
      case CompareOp::kIn: holds = Contains(rt_.heap(), left, right); break;
      case CompareOp::kNotIn: holds = !Contains(rt_.heap(), left, right); break;
    }
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Interpreter::EvalConcat(const Expr& e, Frame& frame) {
  StrBuilder out(rt_.budget());
  for (const ExprPtr& part : e.operands) AppendStr(rt_, Eval(*part, frame), out);
  return Value(out.Finish());
}

Value Interpreter::EvalConditional(const Expr& e, Frame& frame) {
  if (Truth(Eval(*e.operands[0], frame))) return Eval(*e.operands[1], frame);
  if (e.operands[2]) return Eval(*e.operands[2], frame);
  return rt_.Undefined(
      "the inline if-expression evaluated to false and no else section was defined.");
}

Value Interpreter::EvalItem(const Expr& e, Frame& frame) {
  const Value object = Eval(*e.operands[0], frame);
  const Expr& index = *e.operands[1];
  if (index.kind != ExprKind::kSlice) return GetItem(rt_, object, Eval(index, frame));
  Value parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (index.operands[i]) parts[i] = Eval(*index.operands[i], frame);
  }
  return GetSlice(rt_, object, parts[0], parts[1], parts[2]);
}

CallArgs Interpreter::EvalArguments(const ArgumentExprs& args, Frame& frame) {
  CallArgs out;
  out.positional.reserve(args.positional.size());
  for (const ExprPtr& arg : args.positional) out.positional.push_back(Eval(*arg, frame));
  if (args.star) {
    for (Value& v : ToValues(rt_.heap(), Eval(*args.star, frame)))
      out.positional.push_back(std::move(v));
  }
  for (const auto& [name, value] : args.keywords)
    out.keywords.emplace_back(name, Eval(*value, frame));
  if (args.double_star) {
    const Value more = Eval(*args.double_star, frame);
    if (more.undefined()) RaiseUndefined(more);
    if (!more.is(Kind::kDict)) Raise("argument after ** must be a mapping, not {}", TypeName(more));
    for (const auto& [key, value] : more.as<DictObject>().items) {
      if (!key.string()) Raise("keywords must be strings");
      rt_.budget().Step(static_cast<int64_t>(out.keywords.size()));
      for (const auto& [name, v] : out.keywords) {
        if (name.view() == key.str().view())
          Raise("got multiple values for keyword argument '{}'", name.view());
      }
      out.keywords.emplace_back(key.str(), value);
    }
  }
  return out;
}

Value Interpreter::EvalCall(const Expr& e, Frame& frame, const Value* caller) {
  const Expr& callee = *e.operands[0];
  const Str caller_name("caller", Origin::kTemplate);
  auto arguments = [&] {
    CallArgs args = EvalArguments(e.args, frame);
    if (caller) args.keywords.emplace_back(caller_name, *caller);
    rt_.line = e.line;
    return args;
  };
  if (callee.kind != ExprKind::kAttribute) {
    const Value function = Eval(callee, frame);
    return Call(rt_, function, arguments());
  }
  // A method of a str, list or dict is called without making an object of it first.
  const Value object = Eval(*callee.operands[0], frame);
  if (HasMethod(object, callee.name.view()))
    return CallMethod(rt_, object, callee.name.view(), arguments());
  const Value function = GetAttribute(rt_, object, callee.name);
  return Call(rt_, function, arguments());
}

Value Interpreter::EvalFilter(const Expr& e, Frame& frame) {
  const Value value = e.operands[0] ? Eval(*e.operands[0], frame) : *block_text_;
  const CallArgs args = EvalArguments(e.args, frame);
  rt_.line = e.line;
  if (!e.filter) Raise("No filter named '{}' found.", e.name.view());
  return e.filter(rt_, value, args);
}

Value Interpreter::EvalTest(const Expr& e, Frame& frame) {
  const Value value = Eval(*e.operands[0], frame);
  const CallArgs args = EvalArguments(e.args, frame);
  rt_.line = e.line;
  if (!e.test) Raise("No test named '{}' found.", e.name.view());
  return Value::Bool(e.test(rt_, value, args));
}

}  // namespace tessera::jinja
