// SHA-256 digests that name a processed picture: the key of the cross-attention cache and part of
// every prefix key.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/digest.h"

namespace tessera {

struct ProcessedImage;

// SHA-256 over fields, each preceded by its length, so that no two different lists of fields give
// the same bytes. Not thread-safe; one digest per instance.
class DigestBuilder {
 public:
  DigestBuilder();
  ~DigestBuilder();
  DigestBuilder(const DigestBuilder&) = delete;
  DigestBuilder& operator=(const DigestBuilder&) = delete;

  DigestBuilder& Add(std::string_view field);
  DigestBuilder& Add(std::span<const uint8_t> field);
  DigestBuilder& Add(int64_t field);  // as eight bytes, little end first
  Digest Finish();                    // once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The digest of one picture as one model of one tenant sees it. `salt` is the server's, derived
// from the tenant, never from the wire; `model` is the fingerprint of the loaded weights and
// configuration, `preprocessing` that of the image processor. Shapes are fields of their own:
// 30x100 and 100x30 of the same bytes differ.
Digest DigestOf(std::string_view salt, std::string_view model, const Digest& preprocessing,
                const ProcessedImage& image);

}  // namespace tessera
