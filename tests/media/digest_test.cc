#include "media/digest.h"

#include <gtest/gtest.h>

#include <set>

#include "media/image_processor.h"

namespace tessera {
namespace {

TEST(Digest, IsSha256OfLengthPrefixedFields) {
  // printf '\x03\0\0\0\0\0\0\0abc' | sha256sum
  EXPECT_EQ(DigestBuilder().Add("abc").Finish().Hex(),
            "ce91dc5eec0139adf091900d225971d6ad246a845bad791b5693a9d0d55dd391");
  EXPECT_EQ(DigestBuilder().Finish().Hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Digest, FieldsDoNotRunTogether) {
  const auto of = [](std::string_view a, std::string_view b) {
    return DigestBuilder().Add(a).Add(b).Finish();
  };
  EXPECT_NE(of("ab", "c"), of("a", "bc"));
  EXPECT_NE(of("ab", ""), of("", "ab"));
  EXPECT_EQ(of("ab", "c"), of("ab", "c"));
}

ProcessedImage Image(int tile_height, int tile_width, int tiles_high, int tiles_wide) {
  ProcessedImage image;
  image.tile_height = tile_height;
  image.tile_width = tile_width;
  image.tiles_high = tiles_high;
  image.tiles_wide = tiles_wide;
  image.tiles.assign(size_t{3} * tile_height * tile_width * tiles_high * tiles_wide, 7);
  return image;
}

TEST(Digest, EverythingThatCountsChangesIt) {
  const Digest processor = DigestBuilder().Add("processor").Finish();
  std::set<Digest> all;
  all.insert(DigestOf("tenant", "model", processor, Image(30, 100, 1, 2)));
  all.insert(DigestOf("tenant", "model", processor, Image(100, 30, 1, 2)));
  all.insert(DigestOf("tenant", "model", processor, Image(30, 100, 2, 1)));
  all.insert(DigestOf("tenant2", "model", processor, Image(30, 100, 1, 2)));
  all.insert(DigestOf("", "tenantmodel", processor, Image(30, 100, 1, 2)));
  all.insert(DigestOf("tenant", "model2", processor, Image(30, 100, 1, 2)));
  all.insert(
      DigestOf("tenant", "model", DigestBuilder().Add("other").Finish(), Image(30, 100, 1, 2)));
  ProcessedImage pixel = Image(30, 100, 1, 2);
  pixel.tiles.back() ^= 1;
  all.insert(DigestOf("tenant", "model", processor, pixel));
  EXPECT_EQ(all.size(), 8u);
  EXPECT_EQ(DigestOf("tenant", "model", processor, Image(30, 100, 1, 2)),
            DigestOf("tenant", "model", processor, Image(30, 100, 1, 2)));
  std::hash<Digest> hash;
  EXPECT_NE(hash(*all.begin()), hash(*all.rbegin()));
}

}  // namespace
}  // namespace tessera
