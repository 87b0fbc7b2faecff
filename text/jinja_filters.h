// The filters, one function each, by file: text, sequences, and the rest with the table in
// jinja_filters.cc.
#pragma once

#include <vector>

#include "text/jinja_builtins.h"
#include "text/jinja_runtime.h"

namespace tessera::jinja {

#define TESSERA_FILTER(name) \
  Value name##Filter(Runtime& rt, const Value& value, const CallArgs& args)

// jinja_filters_text.cc
TESSERA_FILTER(Capitalize);
TESSERA_FILTER(Center);
TESSERA_FILTER(Escape);
TESSERA_FILTER(ForceEscape);
TESSERA_FILTER(Format);
TESSERA_FILTER(Indent);
TESSERA_FILTER(Join);
TESSERA_FILTER(Lower);
TESSERA_FILTER(Replace);
TESSERA_FILTER(Safe);
TESSERA_FILTER(String);
TESSERA_FILTER(Title);
TESSERA_FILTER(ToJson);
TESSERA_FILTER(Trim);
TESSERA_FILTER(Truncate);
TESSERA_FILTER(Upper);
TESSERA_FILTER(WordCount);

// jinja_filters_sequence.cc
TESSERA_FILTER(Batch);
TESSERA_FILTER(DictSort);
TESSERA_FILTER(First);
TESSERA_FILTER(GroupBy);
TESSERA_FILTER(Items);
TESSERA_FILTER(Last);
TESSERA_FILTER(List);
TESSERA_FILTER(Map);
TESSERA_FILTER(Max);
TESSERA_FILTER(Min);
TESSERA_FILTER(Reject);
TESSERA_FILTER(RejectAttr);
TESSERA_FILTER(Reverse);
TESSERA_FILTER(Select);
TESSERA_FILTER(SelectAttr);
TESSERA_FILTER(Slice);
TESSERA_FILTER(Sort);
TESSERA_FILTER(Sum);
TESSERA_FILTER(Unique);

// Follows a path like "address.0.city" through items, by the rules of a['b'].
class AttributeGetter {
 public:
  // A string path, an integer, or None or missing for the item itself.
  AttributeGetter(Runtime& rt, const Value& attribute, Value default_value = Value(),
                  bool ignore_case = false);
  Value operator()(Value item) const;

 private:
  Runtime& rt_;
  Values parts_;
  Value default_;
  bool ignore_case_;
};

}  // namespace tessera::jinja
