#include "server/engine/prefix_key.h"

#include <openssl/evp.h>

#include <string_view>

#include "base/check.h"
#include "kernels/kv_view.h"

namespace tessera {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    TESSERA_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
  }
  ~Sha256() { EVP_MD_CTX_free(context_); }
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Add(const void* data, size_t bytes) {
    TESSERA_CHECK(EVP_DigestUpdate(context_, data, bytes) == 1);
  }
  void Add(const Digest& digest) { Add(digest.bytes.data(), digest.bytes.size()); }
  void Add(uint32_t value) {
    const uint8_t bytes[4] = {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
                              static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 24)};
    Add(bytes, sizeof bytes);
  }
  Digest Finish() {
    Digest out;
    unsigned int length = 0;
    TESSERA_CHECK(EVP_DigestFinal_ex(context_, out.bytes.data(), &length) == 1 &&
                  length == out.bytes.size());
    return out;
  }

 private:
  EVP_MD_CTX* const context_;
};

}  // namespace

PrefixKeys::PrefixKeys(const PreparedRequest& request, UnseenRows unseen_rows) {
  for (const Media& media : request.media) marks_.push_back({media.mark, media.digest});
  Sha256 hash;
  constexpr std::string_view kDomain = "tessera prefix 1";
  hash.Add(kDomain.data(), kDomain.size());
  hash.Add(request.cache_salt);
  hash.Add(unseen_rows == UnseenRows::kAttend ? 1u : 0u);
  if (unseen_rows == UnseenRows::kAttend) {
    hash.Add(static_cast<uint32_t>(marks_.size()));
    for (const Mark& mark : marks_) hash.Add(mark.digest);
  }
  root_ = hash.Finish();
}

void PrefixKeys::Extend(std::span<const int32_t> tokens) {
  const size_t pages = tokens.size() / kKvBlockTokens;
  while (keys_.size() < pages) {
    const size_t begin = keys_.size() * kKvBlockTokens;
    const size_t end = begin + kKvBlockTokens;
    Sha256 hash;
    hash.Add(keys_.empty() ? root_ : keys_.back());
    for (size_t i = begin; i < end; ++i) hash.Add(static_cast<uint32_t>(tokens[i]));
    for (const Mark& mark : marks_) {
      if (mark.position < static_cast<int64_t>(begin) || mark.position >= static_cast<int64_t>(end))
        continue;
      hash.Add(static_cast<uint32_t>(mark.position));
      hash.Add(mark.digest);
    }
    keys_.push_back(hash.Finish());
  }
}

}  // namespace tessera
