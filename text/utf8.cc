#include "text/utf8.h"

#include <cstring>

namespace tessera {
namespace {

// Length that a lead byte announces and the range that its second byte must be in; length 0: not a
// lead byte.
struct Lead {
  uint8_t length, low, high;
};

constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// How many bytes at the start are a prefix of a valid character, and whether it is whole.
struct Sequence {
  uint32_t length;
  bool whole;
};

Sequence SequenceAt(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = LeadOf(byte(0));
  if (lead.length == 0) return {0, false};
  for (uint32_t i = 1; i < lead.length; ++i) {
    if (i >= text.size()) return {i, false};
    const uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {i, false};
  }
  return {lead.length, true};
}

}  // namespace

size_t ValidUtf8Prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    while (i + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + i, 8);
      if (word & 0x8080808080808080u) break;
      i += 8;
    }
    if (i >= text.size()) break;
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Sequence sequence = SequenceAt(text.substr(i, 4));
    if (!sequence.whole) return i;
    i += sequence.length;
  }
  return i;
}

bool IsValidUtf8(std::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

DecodedChar DecodeUtf8(std::string_view text) {
  const uint8_t first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1};
  const Sequence sequence = SequenceAt(text.substr(0, 4));
  if (!sequence.whole) return {kReplacementCharacter, sequence.length == 0 ? 1 : sequence.length};
  char32_t code_point = first & (0x7F >> sequence.length);
  for (uint32_t i = 1; i < sequence.length; ++i) code_point = (code_point << 6) | (text[i] & 0x3F);
  return {code_point, sequence.length};
}

bool IsIncompleteUtf8(std::string_view text) {
  if (text.empty() || text.size() > 3) return false;
  const Sequence sequence = SequenceAt(text);
  return !sequence.whole && sequence.length == text.size();
}

void AppendUtf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace tessera
