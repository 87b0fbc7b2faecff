#include "media/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/check.h"
#include "media/image_processor.h"

namespace tessera {

struct DigestBuilder::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
  void Update(const void* data, size_t size) {
    TESSERA_CHECK(EVP_DigestUpdate(context, data, size) == 1, "SHA-256 update failed");
  }
};

DigestBuilder::DigestBuilder() : impl_(std::make_unique<Impl>()) {
  TESSERA_CHECK(
      impl_->context != nullptr && EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1,
      "SHA-256 is not available");
}
DigestBuilder::~DigestBuilder() = default;

DigestBuilder& DigestBuilder::Add(std::span<const uint8_t> field) {
  std::array<uint8_t, 8> length;
  for (size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<uint8_t>(uint64_t{field.size()} >> (8 * i));
  impl_->Update(length.data(), length.size());
  if (!field.empty()) impl_->Update(field.data(), field.size());
  return *this;
}

DigestBuilder& DigestBuilder::Add(std::string_view field) {
  return Add(std::span(reinterpret_cast<const uint8_t*>(field.data()), field.size()));
}

DigestBuilder& DigestBuilder::Add(int64_t field) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(static_cast<uint64_t>(field) >> (8 * i));
  return Add(std::span<const uint8_t>(bytes));
}

Digest DigestBuilder::Finish() {
  Digest digest;
  unsigned size = 0;
  TESSERA_CHECK(EVP_DigestFinal_ex(impl_->context, digest.bytes.data(), &size) == 1 &&
                    size == digest.bytes.size(),
                "SHA-256 failed");
  return digest;
}

Digest DigestOf(std::string_view salt, std::string_view model, const Digest& preprocessing,
                const ProcessedImage& image) {
  return DigestBuilder()
      .Add("tessera picture 1")
      .Add(salt)
      .Add(model)
      .Add(std::span<const uint8_t>(preprocessing.bytes))
      .Add(int64_t{image.tile_width})
      .Add(int64_t{image.tile_height})
      .Add(int64_t{3})
      .Add(int64_t{image.tiles_wide})
      .Add(int64_t{image.tiles_high})
      .Add(int64_t{image.aspect_ratio_id})
      .Add(std::span<const uint8_t>(image.tiles))
      .Finish();
}

}  // namespace tessera
