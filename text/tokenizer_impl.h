// What a Tokenizer holds; for text/tokenizer.cc and text/streaming_decoder.cc only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_added_tokens.h"
#include "text/tokenizer_decoder.h"
#include "text/tokenizer_normalizer.h"
#include "text/tokenizer_post_processor.h"

namespace tessera {

struct Tokenizer::Impl {
  Bpe model;
  TextNormalizer normalizer;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  PostProcessor post;
  int32_t vocab_size = 0;
  std::optional<NamedToken> bos, eos, pad, unk;

  std::optional<int32_t> IdOf(std::string_view token) const;
  std::string_view TokenText(int32_t id) const;
  bool IsSpecial(int32_t id) const;
  // `origins`: one byte per byte of the text, or empty: then `parsing` counts.
  void Encode(std::string_view text, std::string_view origins, SpecialParsing parsing,
              bool add_special_tokens, std::vector<int32_t>& out) const;
  // What the decoder is given.
  std::string_view DecodedText(int32_t id) const {
    const AddedToken* token = added.ById(id);
    return token != nullptr ? std::string_view(token->decoded) : model.TokenOf(id);
  }
  void Push(DecoderState& state, int32_t id, bool skip_special, std::string& out) const {
    const AddedToken* token = added.ById(id);
    if (skip_special && token != nullptr && token->skipped) return;
    const std::string_view text = token != nullptr ? token->decoded : model.TokenOf(id);
    if (!text.empty()) decoder.Push(state, text, out);
  }
};

}  // namespace tessera
