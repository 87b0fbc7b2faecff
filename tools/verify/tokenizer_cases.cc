// Tokenizer goldens (docs/fidelity.md): encoding three ways, decoding two ways, and decoding as a
// stream.
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "text/streaming_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "tools/verify/cases.h"

namespace tessera::verify {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

std::optional<Ids> ReadIds(const Json& value) {
  if (!value.is_array()) return std::nullopt;
  Ids ids;
  for (const Json& id : value) {
    if (!id.is_number_integer()) return std::nullopt;
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

class Checker {
 public:
  Checker(std::shared_ptr<const Tokenizer> tokenizer, Report& report)
      : tokenizer_(std::move(tokenizer)), report_(report) {}

  // A golden field that is absent is not compared.
  void CompareIds(const std::string& id, const Json& item, const char* field, const Ids& got) {
    if (!item.contains(field)) return;
    const std::optional<Ids> expected = ReadIds(item[field]);
    if (!expected) return report_.Fail(id, field, "not a list of ids");
    if (*expected == got) return report_.Pass(id, field);
    size_t i = 0;
    while (i < got.size() && i < expected->size() && got[i] == (*expected)[i]) ++i;
    const auto show = [&](const Ids& ids) {
      return i < ids.size()
                 ? fmt::format("{} ({})", ids[i], EscapeForLog(tokenizer_->TokenText(ids[i]), 40))
                 : std::string("the end");
    };
    report_.Fail(id, field,
                 fmt::format("index {} of {}: expected {}, got {}", i, expected->size(),
                             show(*expected), show(got)));
  }

  void CompareDecoding(const std::string& id, const Json& item, const char* field, const Ids& ids,
                       bool skip_special) {
    if (!item.contains(field)) return;
    if (!item[field].is_string()) return report_.Fail(id, field, "not a string");
    const std::string& expected = item[field].get_ref<const std::string&>();
    CompareText(id, field, expected, tokenizer_->Decode(ids, skip_special));
    StreamingDecoder stream(tokenizer_, skip_special);
    std::string joined;
    for (const int32_t token : ids) {
      // A copy taken in the middle goes on like the original: sequences fork
      StreamingDecoder fork = stream;
      const std::string piece = stream.Push(token);
      if (!IsValidUtf8(piece) || fork.Push(token) != piece)
        return report_.Fail(id, std::string(field) + " stream",
                            fmt::format("piece \"{}\"", EscapeForLog(piece, 60)));
      joined += piece;
    }
    const std::string rest = stream.Flush();
    if (!IsValidUtf8(rest))
      return report_.Fail(id, std::string(field) + " stream", "the rest is not UTF-8");
    CompareText(id, std::string(field) + " stream", expected, joined + rest);
  }

 private:
  void CompareText(const std::string& id, const std::string& stage, const std::string& expected,
                   const std::string& got) {
    if (expected == got) return report_.Pass(id, stage);
    size_t i = 0;
    while (i < got.size() && i < expected.size() && got[i] == expected[i]) ++i;
    report_.Fail(id, stage,
                 fmt::format("byte {}: expected \"{}\", got \"{}\"", i,
                             EscapeForLog(std::string_view(expected).substr(i), 40),
                             EscapeForLog(std::string_view(got).substr(i), 40)));
  }

  const std::shared_ptr<const Tokenizer> tokenizer_;
  Report& report_;
};

}  // namespace

void CheckTokenizerCases(const std::filesystem::path& tokenizer_dir,
                         const std::filesystem::path& cases, Report& report) {
  const std::string name = cases.filename().string();
  auto tokenizer = Tokenizer::Load(tokenizer_dir);
  if (!tokenizer) return report.Fail(name, "load", tokenizer.error().Describe());
  std::ifstream file(cases, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const Json golden = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file || !golden.is_object() ||
      (!golden.contains("cases") && !golden.contains("decode_cases")))
    return report.Fail(name, "load", "not a file of tokenizer cases");

  Checker checker(*tokenizer, report);
  const auto list = [&](const char* key) { return golden.value(key, Json::array()); };
  size_t index = 0;
  for (const Json& item : list("cases")) {
    const bool object = item.is_object() && item.contains("text") && item["text"].is_string();
    const Json label = object ? item.value("id", Json()) : Json();
    const std::string id =
        label.is_string() ? label.get<std::string>() : fmt::format("case {}", index);
    ++index;
    if (!object) {
      report.Fail(id, "load", "no text");
      continue;
    }
    const std::string& input = item["text"].get_ref<const std::string&>();
    const Ids ids = (*tokenizer)->Encode(input, SpecialParsing::kParse, false);
    const Ids added = (*tokenizer)->Encode(input, SpecialParsing::kParse, true);
    checker.CompareIds(id, item, "ids", ids);
    checker.CompareIds(id, item, "ids_with_specials_added", added);
    checker.CompareIds(id, item, "ids_special_as_text",
                       (*tokenizer)->Encode(input, SpecialParsing::kAsText, false));
    // The golden's own ids, so that a wrong encoding does not hide a wrong decoding
    checker.CompareDecoding(id, item, "decode", ReadIds(item.value("ids", Json())).value_or(ids),
                            false);
    checker.CompareDecoding(id, item, "decode_skip_special",
                            ReadIds(item.value("ids_with_specials_added", Json())).value_or(added),
                            true);
  }
  index = 0;
  for (const Json& item : list("decode_cases")) {
    const std::string id = fmt::format("decode {}", index++);
    const std::optional<Ids> ids =
        item.is_object() ? ReadIds(item.value("ids", Json())) : std::nullopt;
    if (!ids) {
      report.Fail(id, "load", "no ids");
      continue;
    }
    checker.CompareDecoding(id, item, "decode", *ids, false);
    checker.CompareDecoding(id, item, "decode_skip_special", *ids, true);
  }
}

}  // namespace tessera::verify
