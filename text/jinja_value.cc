#include "text/jinja_value.h"

#include <bit>
#include <cmath>
#include <functional>

namespace tessera::jinja {

namespace {

ViewObject& View(const Value& v) { return v.as<ViewObject>(); }

Value ViewItem(Heap& heap, const ViewObject& view, size_t i) {
  auto& [key, value] = view.dict->items[i];
  switch (view.what) {
    case ViewObject::What::kKeys: return key;
    case ViewObject::What::kValues: return value;
    case ViewObject::What::kItems: break;
  }
  return heap.Tuple({key, value});
}

}  // namespace

Value Heap::Sequence(Kind kind, Values items) {
  auto* list = New<ListObject>();
  HoldValues(items.size());
  list->items = std::move(items);
  return Value(kind, list);
}

Value Heap::Iterator(const char* type, Values items) {
  auto* iterator = New<IteratorObject>();
  HoldValues(items.size());
  iterator->type = type;
  iterator->items = std::move(items);
  return Value(Kind::kIterator, iterator);
}

Value* DictObject::Find(const Value& key, Budget& budget) {
  const size_t hash = Hash(key, budget);
  if (items.size() < kIndexFrom) {
    for (auto& [k, v] : items) {
      budget.Step();
      if (Equal(k, key, budget)) return &v;
    }
    return nullptr;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    budget.Step();
    auto& [k, v] = items[it->second];
    if (Equal(k, key, budget)) return &v;
  }
  return nullptr;
}

void DictObject::Set(Value key, Value value, Budget& budget) {
  if (Value* old = Find(key, budget)) {
    *old = std::move(value);
    return;
  }
  budget.Hold(2 * sizeof(Value) + 32);
  items.emplace_back(std::move(key), std::move(value));
  if (items.size() == kIndexFrom) {
    for (size_t i = 0; i < items.size(); ++i) index_.emplace(Hash(items[i].first, budget), i);
  } else if (items.size() > kIndexFrom) {
    index_.emplace(Hash(items.back().first, budget), items.size() - 1);
  }
}

bool Iterable(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kView:
    case Kind::kIterator:
    case Kind::kLoop: return true;
    default: return false;
  }
}

Cursor::Cursor(Heap& heap, const Value& iterable) : heap_(heap), source_(iterable) {
  // A loop context is its own iterator in Python; going through it here would skip rounds of the
  // loop around it.
  if (!Iterable(iterable) || iterable.is(Kind::kLoop))
    Raise("'{}' object is not iterable", TypeName(iterable));
}

bool Cursor::Next(Value* out) {
  heap_.budget().Step();
  switch (source_.kind()) {
    case Kind::kList:
    case Kind::kTuple: {
      const Values& items = source_.as<ListObject>().items;
      if (i_ >= items.size()) return false;
      *out = items[i_++];
      return true;
    }
    case Kind::kDict: {
      const auto& items = source_.as<DictObject>().items;
      if (i_ >= items.size()) return false;
      *out = items[i_++].first;
      return true;
    }
    case Kind::kView:
      if (i_ >= View(source_).dict->items.size()) return false;
      *out = ViewItem(heap_, View(source_), i_++);
      return true;
    case Kind::kRange: {
      const auto& range = source_.as<RangeObject>();
      if (static_cast<int64_t>(i_) >= range.size) return false;
      *out = range.At(static_cast<int64_t>(i_++));
      return true;
    }
    case Kind::kString: {
      const Str& s = source_.str();
      if (i_ >= s.size()) return false;
      const size_t begin = i_;
      DecodeUtf8(s.view(), &i_);
      StrBuilder b(heap_.budget());
      b.Append(s, begin, i_);
      *out = Value(b.Finish());
      return true;
    }
    case Kind::kIterator: {
      auto& iterator = source_.as<IteratorObject>();
      if (iterator.next >= iterator.items.size()) {
        if (iterator.error) {
          const TemplateError error = *iterator.error;
          iterator.error.reset();
          throw error;
        }
        return false;
      }
      *out = iterator.items[iterator.next++];
      return true;
    }
    default: return false;
  }
}

Values ToValues(Heap& heap, const Value& iterable) {
  Values out;
  Cursor cursor(heap, iterable);
  for (Value v; cursor.Next(&v);) out.push_back(std::move(v));
  return out;
}

int64_t LengthOrMinusOne(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return v.str().length();
    case Kind::kList:
    case Kind::kTuple: return static_cast<int64_t>(v.as<ListObject>().items.size());
    case Kind::kDict: return static_cast<int64_t>(v.as<DictObject>().items.size());
    case Kind::kRange: return v.as<RangeObject>().size;
    case Kind::kView: return static_cast<int64_t>(View(v).dict->items.size());
    default: return -1;
  }
}

int64_t Length(const Value& v) {
  const int64_t n = LengthOrMinusOne(v);
  if (n < 0) Raise("object of type '{}' has no len()", TypeName(v));
  return n;
}

bool Truth(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return v.integer() != 0;
    case Kind::kFloat: return v.real() != 0;
    case Kind::kIterator:
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kSlice:
    case Kind::kCallable: return true;
    default: return LengthOrMinusOne(v) != 0;
  }
}

std::string_view TypeName(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return v.markup() ? "Markup" : "str";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kDict: return "dict";
    case Kind::kRange: return "range";
    case Kind::kView:
      return View(v).what == ViewObject::What::kKeys     ? "dict_keys"
             : View(v).what == ViewObject::What::kValues ? "dict_values"
                                                         : "dict_items";
    case Kind::kIterator: return v.as<IteratorObject>().type;
    case Kind::kNamespace: return "Namespace";
    case Kind::kLoop: return "LoopContext";
    case Kind::kCallable: return "function";
    case Kind::kSlice: return "slice";
  }
  return "object";
}

void RaiseUndefined(const Value& v) {
  const std::string_view text = v.str().view();
  if (v.hint()) Raise("{}", text);
  if (v.undefined_of()) Raise("'{}' has no attribute '{}'", v.undefined_of(), text);
  Raise("'{}' is undefined", text);
}

Origin Both(const Value& a, const Value& b) {
  return a.origin() == Origin::kTemplate && b.origin() == Origin::kTemplate ? Origin::kTemplate
                                                                            : Origin::kUser;
}

}  // namespace tessera::jinja
