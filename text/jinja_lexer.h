// Template source to tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::jinja {

enum class Token : uint8_t {
  kData,           // text between tags
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // text is the operator
  kEnd,
};

struct LexedToken {
  Token type = Token::kEnd;
  int line = 1;
  std::string text;  // data; a string's value, escapes resolved; a number's digits without '_'
};

// Throws TemplateError with a line. `source` must be UTF-8.
std::vector<LexedToken> Lex(std::string_view source);

}  // namespace tessera::jinja
