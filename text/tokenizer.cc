#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_added_tokens.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_normalizer.h"
#include "text/tokenizer_post_processor.h"

namespace tessera {
namespace {

constexpr size_t kMaxFile = size_t{256} << 20;

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    return Fail(
        ErrorCode::kNotFound, "no such file",
        {.field = path.filename().string(), .limit = "", .value = "", .detail = path.string()});
  std::ifstream file(path, std::ios::binary);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<int64_t>(file.tellg());
  if (!file || size < 0 || static_cast<size_t>(size) > kMaxFile)
    return Invalid("cannot read file", {.field = path.filename().string(),
                                        .limit = fmt::format("{} bytes", kMaxFile),
                                        .value = std::to_string(size),
                                        .detail = path.string()});
  std::string content(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(content.data(), size))
    return Invalid(
        "cannot read file",
        {.field = path.filename().string(), .limit = "", .value = "", .detail = path.string()});
  return content;
}

Result<std::string> ReadOptionalFile(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string("{}");
  return ReadFile(path);
}

Result<Bpe> ReadModel(const JsonNode& root, TokenizerDocument& document) {
  TESSERA_TRY(const JsonNode model, root.Object("model"));
  TESSERA_TRY(const auto type, model.OptionalString("type"));
  if ((type && *type != "BPE") || (!type && !document.has_vocab)) return model.Wrong("type", "BPE");
  if (!document.has_vocab) return model.Wrong("vocab", "an object of tokens and ids");
  if (const TokenizerJson* dropout = model.Find("dropout");
      dropout != nullptr && (!dropout->is_number() || dropout->get<double>() != 0))
    return model.Wrong("dropout", "null");
  BpeOptions options;
  TESSERA_TRY(options.unk_token, model.OptionalString("unk_token"));
  TESSERA_TRY(const auto prefix, model.OptionalString("continuing_subword_prefix"));
  TESSERA_TRY(const auto suffix, model.OptionalString("end_of_word_suffix"));
  options.continuing_subword_prefix = prefix.value_or("");
  options.end_of_word_suffix = suffix.value_or("");
  TESSERA_TRY(options.fuse_unk, model.Bool("fuse_unk", false));
  TESSERA_TRY(options.byte_fallback, model.Bool("byte_fallback", false));
  TESSERA_TRY(options.ignore_merges, model.Bool("ignore_merges", false));
  return Bpe::Build(std::move(document.vocab), std::move(document.merges), std::move(options));
}

// A token of tokenizer_config.json: a string, or an object with `content`.
Result<std::optional<std::string>> NamedTokenText(const JsonNode& config, std::string_view key) {
  const TokenizerJson* found = config.Find(key);
  if (found == nullptr) return std::nullopt;
  if (found->is_object()) {
    TESSERA_TRY(const JsonNode node, config.Object(key));
    TESSERA_TRY(std::string content, node.String("content"));
    return content;
  }
  return config.OptionalString(key);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::filesystem::path& dir) {
  TESSERA_TRY(const std::string tokenizer, ReadFile(dir / "tokenizer.json"));
  TESSERA_TRY(const std::string config, ReadOptionalFile(dir / "tokenizer_config.json"));
  TESSERA_TRY(const std::string specials, ReadOptionalFile(dir / "special_tokens_map.json"));
  return FromJson(tokenizer, config, specials);
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(
    std::string_view tokenizer_json, std::string_view tokenizer_config_json,
    std::string_view special_tokens_map_json) {
  TESSERA_TRY(TokenizerDocument document, ParseTokenizerDocument(tokenizer_json));
  const JsonNode root(document.root, "");
  auto impl = std::make_unique<Impl>();
  TESSERA_TRY(impl->model, ReadModel(root, document));
  TESSERA_TRY(impl->normalizer, TextNormalizer::FromJson(root));
  TESSERA_TRY(impl->added, AddedTokens::FromJson(root, impl->model, impl->normalizer));
  TESSERA_TRY(impl->pre_tokenizer, PreTokenizer::FromJson(root));
  TESSERA_TRY(impl->decoder, TokenDecoder::FromJson(root));
  impl->vocab_size = impl->model.id_limit();
  for (const AddedToken& token : impl->added.tokens())
    impl->vocab_size = std::max(impl->vocab_size, token.id + 1);
  if (impl->vocab_size == 0)
    return Invalid("empty vocabulary",
                   {.field = "model.vocab", .limit = "at least one token", .value = "0"});
  TESSERA_TRY(impl->post, PostProcessor::FromJson(root, impl->vocab_size));

  TESSERA_TRY(const TokenizerJson config,
              ParseSmallJson(tokenizer_config_json, "tokenizer_config.json"));
  TESSERA_TRY(const TokenizerJson specials,
              ParseSmallJson(special_tokens_map_json, "special_tokens_map.json"));
  const auto named = [&](std::string_view key, std::optional<NamedToken>& out) -> Result<void> {
    TESSERA_TRY(auto text, NamedTokenText(JsonNode(config, "tokenizer_config.json:"), key));
    if (!text) {
      TESSERA_TRY(text, NamedTokenText(JsonNode(specials, "special_tokens_map.json:"), key));
    }
    if (text) out = NamedToken{*text, impl->IdOf(*text)};
    return {};
  };
  TESSERA_RETURN_IF_ERROR(named("bos_token", impl->bos));
  TESSERA_RETURN_IF_ERROR(named("eos_token", impl->eos));
  TESSERA_RETURN_IF_ERROR(named("pad_token", impl->pad));
  TESSERA_RETURN_IF_ERROR(named("unk_token", impl->unk));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

std::optional<int32_t> Tokenizer::Impl::IdOf(std::string_view token) const {
  if (const AddedToken* added_token = added.ByContent(token)) return added_token->id;
  return model.IdOf(token);
}

std::string_view Tokenizer::Impl::TokenText(int32_t id) const {
  if (const AddedToken* token = added.ById(id)) return token->content;
  return model.TokenOf(id);
}

bool Tokenizer::Impl::IsSpecial(int32_t id) const {
  const AddedToken* token = added.ById(id);
  return token != nullptr && token->special;
}

void Tokenizer::Impl::Encode(std::string_view text, std::string_view origins,
                             SpecialParsing parsing, bool add_special_tokens,
                             std::vector<int32_t>& out) const {
  if (add_special_tokens) out.insert(out.end(), post.prefix.begin(), post.prefix.end());
  Bpe::Scratch scratch;
  AttributedText segment;
  const PreTokenizer::PieceFunction encode_piece = [&](std::string_view piece) {
    model.Encode(piece, scratch, out);
  };
  const auto part = [&](std::string_view whole, size_t begin, size_t end) {
    return whole.empty() ? std::string_view() : whole.substr(begin, end - begin);
  };
  added.Match(
      false, text, origins, parsing, [&](size_t begin, size_t end, const AddedToken* token) {
        if (token != nullptr) {
          out.push_back(token->id);
          return;
        }
        segment.text = part(text, begin, end);
        segment.origins = part(origins, begin, end);
        segment.attributed = !origins.empty();
        segment.at_start = begin == 0;
        normalizer.Apply(segment);
        added.Match(true, segment.text, segment.origins, parsing,
                    [&](size_t from, size_t to, const AddedToken* inner) {
                      if (inner != nullptr) {
                        out.push_back(inner->id);
                        return;
                      }
                      pre_tokenizer.ForEachPiece(part(segment.text, from, to),
                                                 segment.at_start && from == 0, encode_piece);
                    });
      });
  if (add_special_tokens) out.insert(out.end(), post.suffix.begin(), post.suffix.end());
}

std::vector<int32_t> Tokenizer::Encode(const ProvenanceText& text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  // A text of one writer needs no account of its bytes
  const std::string_view origins = text.origins();
  const bool user = origins.find(static_cast<char>(Origin::kTemplate)) == std::string_view::npos;
  const bool all_template = text.FromTemplate(0, text.size());
  impl_->Encode(text.text(), user || all_template ? std::string_view() : origins,
                user && !text.empty() ? SpecialParsing::kAsText : SpecialParsing::kParse,
                add_special_tokens, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, SpecialParsing parsing,
                                       bool add_special_tokens) const {
  std::vector<int32_t> ids;
  impl_->Encode(text, {}, parsing, add_special_tokens, ids);
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  DecoderState state = impl_->decoder.Start();
  for (const int32_t id : ids) impl_->Push(state, id, skip_special, text);
  impl_->decoder.Finish(state, text);
  return text;
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view token) const { return impl_->IdOf(token); }
std::string Tokenizer::TokenText(int32_t id) const { return std::string(impl_->TokenText(id)); }
bool Tokenizer::IsSpecial(int32_t id) const { return impl_->IsSpecial(id); }
int32_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
const std::optional<NamedToken>& Tokenizer::bos() const { return impl_->bos; }
const std::optional<NamedToken>& Tokenizer::eos() const { return impl_->eos; }
const std::optional<NamedToken>& Tokenizer::pad() const { return impl_->pad; }
const std::optional<NamedToken>& Tokenizer::unk() const { return impl_->unk; }
std::span<const int32_t> Tokenizer::prefix_ids() const { return impl_->post.prefix; }
std::span<const int32_t> Tokenizer::suffix_ids() const { return impl_->post.suffix; }

bool Tokenizer::adds_bos() const {
  return impl_->bos && impl_->bos->id && !impl_->post.prefix.empty() &&
         impl_->post.prefix[0] == *impl_->bos->id;
}

std::string Tokenizer::TokenBytes(int32_t id) const {
  const std::string_view text = impl_->DecodedText(id);
  return text.empty() ? std::string() : impl_->decoder.Bytes(text);
}

std::vector<int32_t> Tokenizer::SpecialIds() const {
  std::vector<int32_t> ids;
  for (const AddedToken& token : impl_->added.tokens())
    if (token.special) ids.push_back(token.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace tessera
