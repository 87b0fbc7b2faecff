#include "text/tokenizer_json.h"

#include <fmt/format.h>

#include "text/utf8.h"

namespace tessera {
namespace {

using Json = TokenizerJson;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxEntries = size_t{1} << 24;

// Receives the parser's events: a tree for most of the file, flat lists for model.vocab and
// model.merges. (A tree of 128,000 members would cost either a linear search per member or a node
// each.)
class DocumentHandler : public nlohmann::json_sax<Json> {
 public:
  DocumentHandler(TokenizerDocument& document, bool flat) : document_(document), flat_(flat) {}

  bool null() override { return Value(nullptr); }
  bool boolean(bool value) override { return Value(value); }
  bool number_integer(number_integer_t value) override { return Number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    return Number(value > static_cast<uint64_t>(INT64_MAX) ? INT64_MAX
                                                           : static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (mode_ == Mode::kVocab) return BadId(text);
    return Value(value);
  }
  bool binary(binary_t&) override { return false; }

  bool string(string_t& value) override {
    if (mode_ == Mode::kMerges) return MergeLine(value);
    if (mode_ == Mode::kMergePair) {
      if (parts_ < 2) (parts_ == 0 ? pair_.first : pair_.second) = std::move(value);
      ++parts_;
      return true;
    }
    return Value(std::move(value));
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (flat_ && mode_ == Mode::kTree && stack_.size() == 2 && AtModel() && key_ == "vocab") {
      if (document_.has_vocab) return Bad("duplicate member", "model.vocab", "one", "");
      document_.has_vocab = true;
      mode_ = Mode::kVocab;
      return true;
    }
    return Open(Json::object());
  }
  bool end_object() override {
    if (mode_ == Mode::kVocab) {
      mode_ = Mode::kTree;
      return true;
    }
    stack_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kMergePair;
      parts_ = 0;
      return true;
    }
    if (flat_ && mode_ == Mode::kTree && stack_.size() == 2 && AtModel() && key_ == "merges") {
      mode_ = Mode::kMerges;
      document_.merges.clear();
      return true;
    }
    return Open(Json::array());
  }
  bool end_array() override {
    if (mode_ == Mode::kMergePair) {
      mode_ = Mode::kMerges;
      if (parts_ != 2) return BadMerge(fmt::format("{} parts", parts_));
      return AddMerge(std::move(pair_.first), std::move(pair_.second));
    }
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kTree;
      return true;
    }
    stack_.pop_back();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Bad("not valid JSON", fmt::format("byte {}", position), "JSON in UTF-8", error.what());
  }

  const std::optional<Error>& error() const { return error_; }

 private:
  enum class Mode { kTree, kVocab, kMerges, kMergePair };

  bool AtModel() const { return root_key_ == "model" && stack_.back()->is_object(); }

  bool Bad(Literal what, std::string field, std::string limit, std::string value) {
    if (!error_)
      error_ = Error{ErrorCode::kInvalidArgument,
                     what,
                     std::move(field),
                     std::move(limit),
                     std::move(value),
                     {}};
    return false;
  }
  bool BadId(std::string value) {
    return Bad("wrong token id", "model.vocab." + key_,
               fmt::format("a whole number from 0 to {}", kMaxTokenId), std::move(value));
  }
  bool BadMerge(std::string value) {
    return Bad("wrong merge", fmt::format("model.merges[{}]", document_.merges.size()), "two parts",
               std::move(value));
  }

  bool Number(int64_t value) {
    if (mode_ != Mode::kVocab) return Value(value);
    if (value < 0 || value > kMaxTokenId) return BadId(std::to_string(value));
    if (document_.vocab.size() >= kMaxEntries)
      return Bad("too many tokens", "model.vocab", std::to_string(kMaxEntries), "more");
    document_.vocab.emplace_back(key_, static_cast<int32_t>(value));
    return true;
  }

  bool MergeLine(const std::string& line) {
    if (line.starts_with("#version")) return true;
    const size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos)
      return BadMerge(line);
    return AddMerge(line.substr(0, space), line.substr(space + 1));
  }
  bool AddMerge(std::string left, std::string right) {
    if (document_.merges.size() >= kMaxEntries)
      return Bad("too many merges", "model.merges", std::to_string(kMaxEntries), "more");
    document_.merges.emplace_back(std::move(left), std::move(right));
    return true;
  }

  Json* Place(Json value) {
    if (stack_.empty()) {
      document_.root = std::move(value);
      return &document_.root;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    if (stack_.size() == 1) root_key_ = key_;
    Json& slot = parent[key_];
    slot = std::move(value);
    return &slot;
  }

  bool Value(Json value) {
    if (mode_ == Mode::kVocab)
      return BadId(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    if (mode_ == Mode::kMerges || mode_ == Mode::kMergePair) return BadMerge(value.type_name());
    if (++values_ > kMaxEntries)
      return Bad("too many values", "", std::to_string(kMaxEntries), "more");
    // ordered_json searches a member among its siblings one by one
    if (!stack_.empty() && stack_.back()->is_object() && stack_.back()->size() >= 20000)
      return Bad("too many members", root_key_, "20000", "more");
    Place(std::move(value));
    return true;
  }

  bool Open(Json value) {
    if (mode_ != Mode::kTree)
      return mode_ == Mode::kVocab ? BadId(value.type_name()) : BadMerge(value.type_name());
    if (stack_.size() >= kMaxDepth)
      return Bad("nested too deep", root_key_, std::to_string(kMaxDepth), "more");
    if (++values_ > kMaxEntries)
      return Bad("too many values", "", std::to_string(kMaxEntries), "more");
    stack_.push_back(Place(std::move(value)));
    return true;
  }

  TokenizerDocument& document_;
  const bool flat_;
  Mode mode_ = Mode::kTree;
  std::vector<Json*>
      stack_;  // open containers; a child's address is stable while it is open: only it grows
  std::string key_, root_key_;
  std::pair<std::string, std::string> pair_;
  int parts_ = 0;
  size_t values_ = 0;
  std::optional<Error> error_;
};

Result<TokenizerDocument> Parse(std::string_view text, std::string_view name, bool flat) {
  TokenizerDocument document;
  DocumentHandler handler(document, flat);
  if (!Json::sax_parse(text.begin(), text.end(), &handler)) {
    Error error = handler.error().value_or(
        Error{ErrorCode::kInvalidArgument, "not valid JSON", "", "", "", ""});
    if (error.what.view() == "not valid JSON") error.detail = std::exchange(error.value, "");
    error.field =
        error.field.empty() ? std::string(name) : fmt::format("{}: {}", name, error.field);
    return tl::unexpected<Error>(std::move(error));
  }
  if (!document.root.is_object())
    return Invalid(
        "wrong type",
        {.field = std::string(name), .limit = "an object", .value = document.root.type_name()});
  return document;
}

}  // namespace

Result<TokenizerDocument> ParseTokenizerDocument(std::string_view text) {
  return Parse(text, "tokenizer.json", true);
}

Result<TokenizerJson> ParseSmallJson(std::string_view text, std::string_view name) {
  TESSERA_TRY(TokenizerDocument document, Parse(text, name, false));
  return std::move(document.root);
}

const TokenizerJson* JsonNode::Find(std::string_view key) const {
  if (!json_->is_object()) return nullptr;
  const auto it = json_->find(std::string(key));
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}

tl::unexpected<Error> JsonNode::Wrong(std::string_view key, std::string_view allowed) const {
  const Json* found = Find(key);
  std::string value =
      found == nullptr ? "nothing" : found->dump(-1, ' ', false, Json::error_handler_t::replace);
  return Invalid("wrong value in tokenizer file",
                 {.field = PathOf(key), .limit = std::string(allowed), .value = std::move(value)});
}

Result<std::string> JsonNode::String(std::string_view key) const {
  const Json* found = Find(key);
  if (found == nullptr || !found->is_string()) return Wrong(key, "a string");
  return found->get<std::string>();
}

Result<std::optional<std::string>> JsonNode::OptionalString(std::string_view key) const {
  if (Find(key) == nullptr) return std::nullopt;
  TESSERA_TRY(std::string value, String(key));
  return value;
}

Result<bool> JsonNode::Bool(std::string_view key, std::optional<bool> fallback) const {
  const Json* found = Find(key);
  if (found == nullptr && fallback) return *fallback;
  if (found == nullptr || !found->is_boolean()) return Wrong(key, "true or false");
  return found->get<bool>();
}

Result<int64_t> JsonNode::Int(std::string_view key, int64_t low, int64_t high,
                              std::optional<int64_t> fallback) const {
  const Json* found = Find(key);
  if (found == nullptr && fallback) return *fallback;
  if (found == nullptr || !found->is_number_integer() || found->get<int64_t>() < low ||
      found->get<int64_t>() > high)
    return Wrong(key, fmt::format("a whole number from {} to {}", low, high));
  return found->get<int64_t>();
}

Result<char32_t> JsonNode::Char(std::string_view key, std::optional<char32_t> fallback) const {
  const Json* found = Find(key);
  if (found == nullptr && fallback) return *fallback;
  if (found != nullptr && found->is_string()) {
    const std::string& text = found->get_ref<const std::string&>();
    if (!text.empty() && IsValidUtf8(text)) {
      const DecodedChar decoded = DecodeUtf8(text);
      if (decoded.length == text.size()) return decoded.code_point;
    }
  }
  return Wrong(key, "a string of one character");
}

Result<JsonNode> JsonNode::Object(std::string_view key) const {
  const Json* found = Find(key);
  if (found == nullptr || !found->is_object()) return Wrong(key, "an object");
  return JsonNode(*found, PathOf(key));
}

Result<std::vector<JsonNode>> JsonNode::Array(std::string_view key) const {
  const Json* found = Find(key);
  if (found == nullptr || !found->is_array()) return Wrong(key, "an array");
  std::vector<JsonNode> nodes;
  nodes.reserve(found->size());
  for (size_t i = 0; i < found->size(); ++i)
    nodes.emplace_back((*found)[i], fmt::format("{}[{}]", PathOf(key), i));
  return nodes;
}

}  // namespace tessera
