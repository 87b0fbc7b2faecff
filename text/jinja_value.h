// Values of the template interpreter: what Python objects are to jinja2.
//
// Scalars live in the Value, strings are reference-counted (they cannot form cycles), everything
// else is an Object owned by the render's Heap and freed with it, so that cycles (a namespace that
// holds itself) cost nothing and destruction is flat. Scalars carry an origin like strings do:
// digits printed from a user's number are a user's bytes.
//
// Thread safety: constants of a compiled template (None, numbers, strings) are read from any
// thread; the rest belongs to one render.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja_budget.h"
#include "text/jinja_string.h"

namespace tessera::jinja {

// Python integers, as far as 128 bits go; beyond is an error.
using Int = __int128;

enum class Kind : uint8_t {
  kMissing,  // an unset variable or argument; never seen by a template
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,      // dict.keys(), .values(), .items()
  kIterator,  // what generators, map, select, reversed give: one pass, no length
  kNamespace,
  kLoop,
  kCallable,
  kSlice,
};

struct Object {
  virtual ~Object() = default;
};

class Value {
 public:
  Value() = default;  // missing
  explicit Value(Str s) : kind_(Kind::kString), s_(std::move(s)) {}
  Value(Kind kind, Object* object) : kind_(kind) { object_ = object; }

  static Value None(Origin origin = Origin::kTemplate) { return Scalar(Kind::kNone, origin); }
  static Value Bool(bool b, Origin origin = Origin::kTemplate) {
    Value v = Scalar(Kind::kBool, origin);
    v.int_ = b;
    return v;
  }
  static Value Integer(Int i, Origin origin = Origin::kTemplate) {
    Value v = Scalar(Kind::kInt, origin);
    v.int_ = i;
    return v;
  }
  static Value Float(double d, Origin origin = Origin::kTemplate) {
    Value v = Scalar(Kind::kFloat, origin);
    v.float_ = d;
    return v;
  }
  static Value Markup(Str s) {
    Value v(std::move(s));
    v.flag_ = true;
    return v;
  }
  // `text` is the name, or the whole message (hint). `of` names the type of the object that lacks
  // the attribute.
  static Value Undefined(Str text, const char* of = nullptr, bool hint = false) {
    Value v(std::move(text));
    v.kind_ = Kind::kUndefined;
    v.flag_ = hint;
    v.type_name_ = of;
    return v;
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool missing() const { return kind_ == Kind::kMissing; }
  bool undefined() const { return kind_ == Kind::kUndefined; }
  bool string() const { return kind_ == Kind::kString; }
  bool integral() const {
    return kind_ == Kind::kInt || kind_ == Kind::kBool;
  }  // isinstance(x, int)
  bool number() const { return integral() || kind_ == Kind::kFloat; }
  bool markup() const { return kind_ == Kind::kString && flag_; }
  bool hint() const { return flag_; }
  Origin origin() const { return kind_ == Kind::kString ? s_.CommonOrigin() : origin_; }

  const Str& str() const { return s_; }
  Int integer() const { return int_; }  // kInt, kBool
  bool boolean() const { return int_ != 0; }
  double real() const { return kind_ == Kind::kFloat ? float_ : static_cast<double>(int_); }
  Object* object() const { return object_; }
  const char* undefined_of() const { return type_name_; }
  template <typename T>
  T& as() const {
    return *static_cast<T*>(object_);
  }

 private:
  static Value Scalar(Kind kind, Origin origin) {
    Value v;
    v.kind_ = kind;
    v.origin_ = origin;
    return v;
  }

  Kind kind_ = Kind::kMissing;
  Origin origin_ = Origin::kTemplate;
  bool flag_ = false;  // string: Markup; undefined: str() is the whole message
  union {
    Int int_ = 0;
    double float_;
    Object* object_;
    const char* type_name_;
  };
  Str s_;
};

using Values = std::vector<Value>;

struct ListObject : Object {  // kList, kTuple
  Values items;
  bool group = false;  // groupby's named tuple (grouper, list)
};

// Insertion-ordered, keyed by Python equality (1 == 1.0 == True).
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> items;
  // Found key's value, or null. Charges the budget for probes.
  Value* Find(const Value& key, Budget& budget);
  void Set(Value key, Value value, Budget& budget);

 private:
  static constexpr size_t kIndexFrom = 8;
  std::unordered_multimap<size_t, uint32_t> index_;
};

struct RangeObject : Object {
  Int start = 0, stop = 0, step = 1;
  int64_t size = 0;
  Value At(int64_t i) const { return Value::Integer(start + step * i); }
};

struct ViewObject : Object {
  enum class What { kKeys, kValues, kItems } what = What::kKeys;
  DictObject* dict = nullptr;
};

struct IteratorObject : Object {
  const char* type = "generator";
  Values items;
  size_t next = 0;
  // What stopped the generator after `items`: raised when a reader comes that far, as a lazy one
  // would.
  std::optional<TemplateError> error;
};

struct NamespaceObject : Object {
  DictObject* attributes = nullptr;
};

struct SliceObject : Object {
  Value start, stop, step;
};

// Owns the objects of one render.
class Heap {
 public:
  explicit Heap(Budget& budget) : budget_(budget) {}
  Budget& budget() { return budget_; }

  template <typename T, typename... Args>
  T* New(Args&&... args) {
    budget_.Hold(sizeof(T) + 16);
    auto owned = std::make_unique<T>(std::forward<Args>(args)...);
    T* raw = owned.get();
    objects_.push_back(std::move(owned));
    return raw;
  }
  Value List(Values items) { return Sequence(Kind::kList, std::move(items)); }
  Value Tuple(Values items) { return Sequence(Kind::kTuple, std::move(items)); }
  Value Iterator(const char* type, Values items);
  Value Sequence(Kind kind, Values items);
  // Counts `n` more values held by some container.
  void HoldValues(size_t n) { budget_.Hold(n * sizeof(Value)); }

 private:
  Budget& budget_;
  std::vector<std::unique_ptr<Object>> objects_;
};

// A Python iterator over any iterable. Raises "'int' object is not iterable" where Python does.
class Cursor {
 public:
  Cursor(Heap& heap, const Value& iterable);
  bool Next(Value* out);

 private:
  Heap& heap_;
  Value source_;
  size_t i_ = 0;
};
bool Iterable(const Value& v);
Values ToValues(Heap& heap, const Value& iterable);

// Python's len(), or -1 where it raises TypeError.
int64_t LengthOrMinusOne(const Value& v);
int64_t Length(const Value& v);
bool Truth(const Value& v);
// type(v).__name__.
std::string_view TypeName(const Value& v);
[[noreturn]] void RaiseUndefined(const Value& v);

bool Equal(const Value& a, const Value& b, Budget& budget);
// Raises where Python raises TypeError.
enum class Order { kLess, kLessEqual, kGreater, kGreaterEqual };
bool Compare(const Value& a, const Value& b, Order order, Budget& budget);
inline bool Less(const Value& a, const Value& b, Budget& budget) {
  return Compare(a, b, Order::kLess, budget);
}
// Raises "unhashable type" where Python does.
size_t Hash(const Value& v, Budget& budget, int depth = 0);
bool Contains(Heap& heap, const Value& item, const Value& container);

Origin Both(const Value& a, const Value& b);  // kTemplate only if both are

}  // namespace tessera::jinja
