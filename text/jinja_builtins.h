// The filters, tests and global functions that a template finds by name.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"

namespace tessera::jinja {

// Null if there is none of that name.
FilterFunction FindFilter(std::string_view name);
TestFunction FindTest(std::string_view name);
// A filter of jinja2 that is left out on purpose.
bool IsUnsupportedFilter(std::string_view name);

// Global functions and classes (range, dict, namespace, cycler, joiner, raise_exception,
// strftime_now), missing if there is none of that name.
Value FindGlobal(Runtime& rt, std::string_view name);
// transformers' namespace refuses names that begin with "_".
void CheckNamespaceName(const Str& name);

}  // namespace tessera::jinja
