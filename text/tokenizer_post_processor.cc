#include "text/tokenizer_post_processor.h"

#include <fmt/format.h>

namespace tessera {
namespace {

constexpr size_t kMaxIds = 1024;

// ["</s>", 2]
Result<int32_t> TokenPair(const JsonNode& node, std::string_view key, int32_t id_limit) {
  const TokenizerJson* pair = node.Find(key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 || !(*pair)[0].is_string() ||
      !(*pair)[1].is_number_integer() || (*pair)[1].get<int64_t>() < 0 ||
      (*pair)[1].get<int64_t>() >= id_limit)
    return node.Wrong(key, fmt::format("[token, id below {}]", id_limit));
  return (*pair)[1].get<int32_t>();
}

Result<void> AppendSpecial(const JsonNode& node, const JsonNode& piece, int32_t id_limit,
                           std::vector<int32_t>& out) {
  TESSERA_TRY(const JsonNode special, piece.Object("SpecialToken"));
  TESSERA_TRY(const std::string name, special.String("id"));
  TESSERA_TRY(const JsonNode tokens, node.Object("special_tokens"));
  TESSERA_TRY(const JsonNode token, tokens.Object(name));
  TESSERA_TRY(const auto ids, token.Array("ids"));
  for (const JsonNode& id : ids) {
    if (!id.json().is_number_integer() || id.json().get<int64_t>() < 0 ||
        id.json().get<int64_t>() >= id_limit)
      return Invalid("wrong id", {.field = id.path(),
                                  .limit = fmt::format("a whole number below {}", id_limit),
                                  .value = id.json().dump(
                                      -1, ' ', false, TokenizerJson::error_handler_t::replace)});
    if (out.size() >= kMaxIds)
      return Invalid("too many ids",
                     {.field = node.path(), .limit = std::to_string(kMaxIds), .value = "more"});
    out.push_back(id.json().get<int32_t>());
  }
  return {};
}

Result<void> Add(const JsonNode& node, int32_t id_limit, PostProcessor& out, int depth) {
  TESSERA_TRY(const std::string type, node.String("type"));
  std::vector<int32_t> prefix, suffix;
  if (type == "Sequence") {
    if (depth > 4)
      return Invalid("nested too deep", {.field = node.path(), .limit = "4", .value = "more"});
    TESSERA_TRY(const auto parts, node.Array("processors"));
    for (const JsonNode& part : parts) TESSERA_RETURN_IF_ERROR(Add(part, id_limit, out, depth + 1));
    return {};
  }
  if (type == "ByteLevel") return {};
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    TESSERA_TRY(const int32_t cls, TokenPair(node, "cls", id_limit));
    TESSERA_TRY(const int32_t sep, TokenPair(node, "sep", id_limit));
    prefix = {cls};
    suffix = {sep};
  } else if (type == "TemplateProcessing") {
    TESSERA_TRY(const auto pieces, node.Array("single"));
    int sequences = 0;
    for (const JsonNode& piece : pieces) {
      if (piece.Find("Sequence") != nullptr) {
        TESSERA_TRY(const JsonNode sequence, piece.Object("Sequence"));
        TESSERA_TRY(const std::string id, sequence.String("id"));
        if (id != "A" || ++sequences > 1) return sequence.Wrong("id", "A, once");
      } else {
        TESSERA_RETURN_IF_ERROR(
            AppendSpecial(node, piece, id_limit, sequences == 0 ? prefix : suffix));
      }
    }
    if (sequences != 1) return node.Wrong("single", "a template with one sequence A");
  } else {
    return node.Wrong("type",
                      "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel, Sequence");
  }
  out.prefix.insert(out.prefix.begin(), prefix.begin(), prefix.end());
  out.suffix.insert(out.suffix.end(), suffix.begin(), suffix.end());
  if (out.prefix.size() + out.suffix.size() > kMaxIds)
    return Invalid("too many ids",
                   {.field = node.path(), .limit = std::to_string(kMaxIds), .value = "more"});
  return {};
}

}  // namespace

Result<PostProcessor> PostProcessor::FromJson(const JsonNode& root, int32_t id_limit) {
  PostProcessor out;
  if (root.Find("post_processor") == nullptr) return out;
  TESSERA_TRY(const JsonNode node, root.Object("post_processor"));
  TESSERA_RETURN_IF_ERROR(Add(node, id_limit, out, 0));
  return out;
}

}  // namespace tessera
