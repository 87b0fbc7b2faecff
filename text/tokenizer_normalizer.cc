#include "text/tokenizer_normalizer.h"

#include <algorithm>

#include "text/provenance_text.h"
#include "text/unicode_byte_level.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr char kTemplateByte = static_cast<char>(Origin::kTemplate);
constexpr char kUserByte = static_cast<char>(Origin::kUser);

// Builds a new text from pieces of an old one.
class Rewriter {
 public:
  explicit Rewriter(AttributedText& text) : source_(text) {
    out_.attributed = text.attributed;
    out_.at_start = text.at_start;
  }

  std::string& text() { return out_.text; }
  // What was appended to text() since the last call came from the bytes [begin, end) of the source.
  void Attribute(size_t begin, size_t end) {
    if (!out_.attributed) return;
    const bool user = source_.origins.find(kUserByte, begin) < end;
    out_.origins.resize(out_.text.size(), user ? kUserByte : kTemplateByte);
  }
  void Copy(size_t begin, size_t end) {
    out_.text.append(source_.text, begin, end - begin);
    if (out_.attributed) out_.origins.append(source_.origins, begin, end - begin);
  }
  // The first character of the source is gone, or what stands for it comes from a later one.
  void StartsLater() { out_.at_start = false; }
  void Done() { source_ = std::move(out_); }

 private:
  AttributedText& source_;
  AttributedText out_;
};

std::shared_ptr<const std::vector<char32_t>> LowercaseTable() {
  auto table = std::make_shared<std::vector<char32_t>>();
  for (const MappingRun& run : LowercaseRuns()) {
    if (table->size() <= run.last) table->resize(run.last + 1);
    for (uint32_t c = run.first; c <= run.last; c += run.stride)
      (*table)[c] = c + static_cast<uint32_t>(run.delta);
  }
  return table;
}

}  // namespace

Result<void> TextNormalizer::Add(const JsonNode& node, std::vector<Step>& steps, int depth) {
  TESSERA_TRY(const std::string name, node.String("type"));
  const std::string_view type = name;
  Step step{.kind = Kind::kUnicode,
            .unicode = {},
            .pattern = {},
            .content = {},
            .regex = {},
            .set = {},
            .lower = {}};
  if (type == "Sequence") {
    if (depth > 4)
      return Invalid("nested too deep", {.field = node.path(), .limit = "4", .value = "more"});
    TESSERA_TRY(const auto parts, node.Array("normalizers"));
    for (const JsonNode& part : parts) TESSERA_RETURN_IF_ERROR(Add(part, steps, depth + 1));
    return {};
  }
  if (type == "NFC") {
    step.unicode = std::make_shared<UnicodeNormalizer>(NormalForm::kNfc);
  } else if (type == "NFD") {
    step.unicode = std::make_shared<UnicodeNormalizer>(NormalForm::kNfd);
  } else if (type == "NFKC") {
    step.unicode = std::make_shared<UnicodeNormalizer>(NormalForm::kNfkc);
  } else if (type == "NFKD") {
    step.unicode = std::make_shared<UnicodeNormalizer>(NormalForm::kNfkd);
  } else if (type == "Lowercase") {
    step.kind = Kind::kLowercase;
    step.lower = LowercaseTable();
  } else if (type == "Replace") {
    TESSERA_TRY(const JsonNode pattern, node.Object("pattern"));
    TESSERA_TRY(step.content, node.String("content"));
    if (pattern.Find("Regex") != nullptr) {
      TESSERA_TRY(const std::string source, pattern.String("Regex"));
      if (step.content.find('$') != std::string::npos)
        return node.Wrong("content", "text without $ beside a Regex");
      TESSERA_TRY(step.regex, TokenRegex::Compile(source, pattern.PathOf("Regex")));
      step.kind = Kind::kReplaceRegex;
    } else {
      TESSERA_TRY(step.pattern, pattern.String("String"));
      if (step.pattern.empty()) return pattern.Wrong("String", "a string that is not empty");
      step.kind = Kind::kReplace;
    }
  } else if (type == "Prepend") {
    TESSERA_TRY(step.content, node.String("prepend"));
    step.kind = Kind::kPrepend;
  } else if (type == "Strip") {
    TESSERA_TRY(step.left, node.Bool("strip_left", true));
    TESSERA_TRY(step.right, node.Bool("strip_right", true));
    step.set = std::make_shared<CodePointBits>(TableSet("#whitespace"));
    step.kind = Kind::kStrip;
  } else if (type == "StripAccents") {
    step.set = std::make_shared<CodePointBits>(TableSet("#combining"));
    step.kind = Kind::kStripAccents;
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else {
    return node.Wrong("type",
                      "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip, "
                      "StripAccents, ByteLevel");
  }
  steps.push_back(std::move(step));
  return {};
}

Result<TextNormalizer> TextNormalizer::FromJson(const JsonNode& root) {
  TextNormalizer normalizer;
  if (root.Find("normalizer") == nullptr) return normalizer;
  TESSERA_TRY(const JsonNode node, root.Object("normalizer"));
  TESSERA_RETURN_IF_ERROR(Add(node, normalizer.steps_, 0));
  return normalizer;
}

void TextNormalizer::Run(const Step& step, AttributedText& text) {
  Rewriter out(text);
  const std::string_view source = text.text;
  switch (step.kind) {
    case Kind::kUnicode: {
      // Where the writer changes, cut if normalisation allows it, so that each side keeps its
      // origin
      size_t begin = 0;
      if (text.attributed) {
        for (size_t i = 1; i < source.size(); ++i) {
          if (text.origins[i] == text.origins[i - 1] ||
              (static_cast<uint8_t>(source[i]) & 0xC0) == 0x80)
            continue;
          if (!UnicodeNormalizer::CanCutBefore(DecodeUtf8(source.substr(i)).code_point)) continue;
          step.unicode->Append(source.substr(begin, i - begin), out.text());
          out.Attribute(begin, i);
          begin = i;
        }
      }
      step.unicode->Append(source.substr(begin), out.text());
      out.Attribute(begin, source.size());
      break;
    }
    case Kind::kLowercase:
    case Kind::kStripAccents: {
      for (size_t i = 0; i < source.size();) {
        const DecodedChar c = DecodeUtf8(source.substr(i));
        if (step.kind == Kind::kStripAccents) {
          if (!step.set->Contains(c.code_point))
            out.Copy(i, i + c.length);
          else if (i == 0)
            out.StartsLater();
        } else if (c.code_point == 0x130) {  // the one that becomes two
          out.text() += "i\xCC\x87";
          out.Attribute(i, i + c.length);
        } else if (c.code_point < step.lower->size() && (*step.lower)[c.code_point] != 0) {
          AppendUtf8(out.text(), (*step.lower)[c.code_point]);
          out.Attribute(i, i + c.length);
        } else {
          out.Copy(i, i + c.length);
        }
        i += c.length;
      }
      break;
    }
    case Kind::kReplace: {
      size_t i = 0;
      for (size_t found; (found = source.find(step.pattern, i)) != std::string_view::npos;
           i = found + step.pattern.size()) {
        out.Copy(i, found);
        if (found == 0 && (step.content.empty() || DecodeUtf8(source).length < step.pattern.size()))
          out.StartsLater();
        out.text() += step.content;
        out.Attribute(found, found + step.pattern.size());
      }
      out.Copy(i, source.size());
      break;
    }
    case Kind::kReplaceRegex:
      step.regex->ForEachPiece(source, [&](size_t begin, size_t end, bool is_match) {
        if (!is_match) return out.Copy(begin, end);
        if (begin == 0 && end > 0 && (step.content.empty() || DecodeUtf8(source).length < end))
          out.StartsLater();
        out.text() += step.content;
        out.Attribute(begin, std::max(end, begin + 1));
      });
      break;
    case Kind::kPrepend:
      if (source.empty()) return;
      out.text() += step.content;
      out.Attribute(0, 1);
      out.Copy(0, source.size());
      break;
    case Kind::kStrip: {
      size_t begin = 0, end = source.size();
      while (step.left && begin < end) {
        const DecodedChar c = DecodeUtf8(source.substr(begin));
        if (!step.set->Contains(c.code_point)) break;
        begin += c.length;
      }
      while (step.right && end > begin) {
        size_t last = end - 1;
        while (last > begin && (static_cast<uint8_t>(source[last]) & 0xC0) == 0x80) --last;
        if (!step.set->Contains(DecodeUtf8(source.substr(last)).code_point)) break;
        end = last;
      }
      if (begin > 0) out.StartsLater();
      out.Copy(begin, end);
      break;
    }
    case Kind::kByteLevel:
      for (size_t i = 0; i < source.size(); ++i) {
        AppendByteLevel(out.text(), source.substr(i, 1));
        out.Attribute(i, i + 1);
      }
      break;
  }
  out.Done();
}

void TextNormalizer::Apply(AttributedText& text) const {
  for (const Step& step : steps_) Run(step, text);
}

std::string TextNormalizer::Apply(std::string_view text) const {
  AttributedText out;
  out.text = text;
  Apply(out);
  return std::move(out.text);
}

}  // namespace tessera
