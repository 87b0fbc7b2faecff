#include "media/resize.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <tuple>

#include "media/planes.h"
#include "tests/media/test_files.h"

namespace tessera {
namespace {

// As tools/golden/make_image_cases.py makes them.
std::vector<uint8_t> Pattern(int width, int height, int seed) {
  std::vector<uint8_t> out(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  auto state = static_cast<uint32_t>(seed);
  for (uint8_t& level : out) {
    state = state * 1664525u + 1013904223u;
    level = static_cast<uint8_t>(state >> 24);
    if (seed % 3 == 0) level = level >= 128 ? 255 : 0;
  }
  return out;
}

TEST(Resize, EqualsPillowBitForBit) {
  size_t count = 0;
  const auto golden = ReadJsonFile("resize.json");
  for (const auto& row : golden["cases"]) {
    const int width = row[0], height = row[1], seed = row[2], to_width = row[3], to_height = row[4];
    const auto pixels = Pattern(width, height, seed);
    for (const MediaTier tier : MediaTiers()) {
      const auto out =
          Resize({width, height, pixels}, to_width, to_height, *ResampleFromId(row[5]), tier);
      ASSERT_EQ(out.size(), size_t{3} * to_width * to_height);
      EXPECT_EQ(crc32(0, out.data(), static_cast<uInt>(out.size())), row[6].get<uint64_t>())
          << row.dump() << " tier " << static_cast<int>(tier);
    }
    ++count;
  }
  EXPECT_EQ(count, 300u);
}

TEST(Resize, OneColourStaysThatColour) {
  for (const int id : {0, 1, 2, 3, 4, 5}) {
    for (const auto& [width, height] : {std::pair(1, 1), {7, 300}, {640, 3}, {65535, 1}}) {
      std::vector<uint8_t> pixels(size_t{3} * width * height);
      for (size_t i = 0; i < pixels.size(); i += 3)
        pixels[i] = 255, pixels[i + 1] = 1, pixels[i + 2] = 77;
      for (const auto& [to_width, to_height] : {std::pair(1, 1), {13, 11}, {1, 1000}, {2240, 2}}) {
        const auto out = Resize({width, height, pixels}, to_width, to_height, *ResampleFromId(id));
        bool same = true;
        for (size_t i = 0; i < out.size(); i += 3)
          same &= out[i] == 255 && out[i + 1] == 1 && out[i + 2] == 77;
        EXPECT_TRUE(same) << id << ": " << width << "x" << height << " to " << to_width << "x"
                          << to_height;
      }
    }
  }
}

TEST(Resize, SameSizeIsACopy) {
  const auto pixels = Pattern(31, 17, 4);
  for (const int id : {0, 1, 2, 3, 4, 5})
    EXPECT_EQ(Resize({31, 17, pixels}, 31, 17, *ResampleFromId(id)), pixels);
}

// Sizes about the edges of every step: fewer columns than a group or a vector, one row more than a
// batch, as much shrinking as a permutation still reaches and more, heights that turn the order of
// the passes.
TEST(Resize, TiersAgree) {
  std::vector<std::tuple<int, int, int, int>> cases = {{1600, 1200, 1120, 840}, {400, 9, 93, 7},
                                                       {400, 9, 94, 7},         {425, 8, 100, 3},
                                                       {430, 5, 100, 4},        {50, 400, 40, 20}};
  for (int width = 1; width <= 26; width += 5) {
    for (int height = 1; height <= 9; ++height) {
      for (const auto& [to_width, to_height] :
           {std::pair(1, 1), {4, 4}, {5, 3}, {6, 5}, {21, 9}, {22, 8}, {23, 13}, {90, 2}})
        cases.emplace_back(width, height, to_width, to_height);
    }
  }
  for (const auto& [width, height, to_width, to_height] : cases) {
    const auto pixels = Pattern(width, height, 3 + width % 2);
    for (const int id : {1, 2, 3, 4, 5}) {
      const auto resample = *ResampleFromId(id);
      const auto plain =
          Resize({width, height, pixels}, to_width, to_height, resample, MediaTier::kPlain);
      for (const MediaTier tier : MediaTiers()) {
        EXPECT_EQ(Resize({width, height, pixels}, to_width, to_height, resample, tier), plain)
            << width << "x" << height << " to " << to_width << "x" << to_height << " filter " << id
            << " tier " << static_cast<int>(tier);
      }
    }
  }
}

TEST(Planes, EveryCountInEveryTier) {
  std::array<float, 256> values{};
  for (size_t level = 0; level < values.size(); ++level)
    values[level] = static_cast<float>(level) * 0.37f - 11;
  for (int count = 0; count <= 200; ++count) {
    const auto rgb = Pattern(count, 1, 4);
    const auto n = static_cast<size_t>(count);
    for (const MediaTier tier : MediaTiers()) {
      std::array<std::vector<uint8_t>, 3> planes;
      for (auto& plane : planes) plane.assign(n + 1, 77);
      std::vector<float> floats(3 * n + 1, 0.5f);
      media::SplitChannels(rgb.data(), n, planes[0].data(), planes[1].data(), planes[2].data(),
                           tier);
      media::LookUp(values, rgb.data(), 3 * n, floats.data(), tier);
      for (size_t i = 0; i < 3 * n; ++i) {
        ASSERT_EQ(planes[i % 3][i / 3], rgb[i]) << count << " tier " << static_cast<int>(tier);
        ASSERT_EQ(floats[i], values[rgb[i]]) << count << " tier " << static_cast<int>(tier);
      }
      for (const auto& plane : planes) EXPECT_EQ(plane[n], 77);
      EXPECT_EQ(floats[3 * n], 0.5f);
    }
  }
}

TEST(Resize, FilterNumbers) {
  EXPECT_FALSE(ResampleFromId(-1));
  EXPECT_FALSE(ResampleFromId(6));
  EXPECT_EQ(ResampleFromId(3), Resample::kBicubic);
}

}  // namespace
}  // namespace tessera
