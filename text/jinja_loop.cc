#include "text/jinja_loop.h"

namespace tessera::jinja {

bool LoopSource::Next(Value* out) {
  if (!stmt_.test) return cursor_.Next(out);
  if (!test_frame_) {
    test_frame_ = interpreter_.rt_.heap().New<Frame>();
    interpreter_.Enter(*test_frame_, &outer_, stmt_.test_scope);
  }
  for (Value item; cursor_.Next(&item);) {
    interpreter_.Assign(*stmt_.test_target, item, *test_frame_);
    if (!Truth(interpreter_.Eval(*stmt_.test, *test_frame_))) continue;
    *out = interpreter_.TargetValue(*stmt_.test_target, *test_frame_);
    return true;
  }
  return false;
}

bool Loop::Read(Value* out) {
  if (!rest_) return !(detached_ && stmt_.test) && source_.Next(out);
  if (rest_at_ >= rest_->size()) return false;
  *out = (*rest_)[rest_at_++];
  return true;
}

bool Loop::Next(Value* out) {
  if (!after_.missing()) {
    *out = std::move(after_);
    after_ = Value();
  } else if (!Read(out)) {
    return false;
  }
  ++index0_;
  before_ = std::move(current_);
  current_ = *out;
  return true;
}

bool Loop::PeekNext() {
  if (Value next; after_.missing() && Read(&next)) after_ = std::move(next);
  return !after_.missing();
}

int64_t Loop::Length() {
  if (length_) return *length_;
  const int64_t known = stmt_.test ? -1 : LengthOrMinusOne(iterable_);
  if (known >= 0) {
    length_ = known;
  } else {
    Values rest;
    for (Value v; Read(&v);) rest.push_back(std::move(v));
    length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + !after_.missing();
    rest_ = std::move(rest);
    rest_at_ = 0;
  }
  return *length_;
}

Value Loop::Cycle(const CallArgs& args) const {
  if (!args.keywords.empty()) Raise("cycle() takes no keyword arguments");
  if (args.positional.empty()) Raise("no items for cycling given");
  return args.positional[static_cast<size_t>(index0_) % args.positional.size()];
}

Value Loop::Changed(Runtime& rt, const CallArgs& args) {
  if (!args.keywords.empty()) Raise("changed() takes no keyword arguments");
  const Values& now = args.positional;
  bool same = last_changed_ && last_changed_->size() == now.size();
  for (size_t i = 0; same && i < now.size(); ++i)
    same = Equal((*last_changed_)[i], now[i], rt.budget());
  if (!same) last_changed_ = now;
  return Value::Bool(!same);
}

Value Loop::Attribute(Runtime& rt, std::string_view name) {
  if (name == "index") return Value::Integer(index0_ + 1);
  if (name == "index0") return Value::Integer(index0_);
  if (name == "first") return Value::Bool(index0_ == 0);
  if (name == "last") return Value::Bool(!PeekNext());
  if (name == "length") return Value::Integer(Length());
  if (name == "revindex") return Value::Integer(Length() - index0_);
  if (name == "revindex0") return Value::Integer(Length() - index0_ - 1);
  if (name == "depth") return Value::Integer(depth0_ + 1);
  if (name == "depth0") return Value::Integer(depth0_);
  if (name == "previtem") return index0_ == 0 ? rt.Undefined("there is no previous item") : before_;
  if (name == "nextitem") return PeekNext() ? after_ : rt.Undefined("there is no next item");
  if (name == "cycle") {
    return MakeFunction(
        rt, [this](Runtime&, CallArgs args) { return Cycle(args); }, "cycle");
  }
  if (name == "changed") {
    return MakeFunction(
        rt, [this](Runtime& r, CallArgs args) { return Changed(r, args); }, "changed");
  }
  return Value();
}

Value Loop::Recurse(Runtime& rt, const Value& iterable) {
  if (!stmt_.recursive)
    Raise("The loop must have the 'recursive' marker to be called recursively.");
  StrBuilder out(rt.budget());
  StrBuilder* const before = interpreter_.out_;
  interpreter_.out_ = &out;
  interpreter_.RunLoop(stmt_, outer_, iterable, depth0_ + 1);
  interpreter_.out_ = before;
  return Value(out.Finish());
}

}  // namespace tessera::jinja
