#include "media/resize.h"

#include <gtest/gtest.h>
#include <zlib.h>

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
    const auto out = Resize({width, height, pixels}, to_width, to_height, *ResampleFromId(row[5]));
    ASSERT_EQ(out.size(), size_t{3} * to_width * to_height);
    EXPECT_EQ(crc32(0, out.data(), static_cast<uInt>(out.size())), row[6].get<uint64_t>())
        << row.dump();
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

TEST(Resize, FilterNumbers) {
  EXPECT_FALSE(ResampleFromId(-1));
  EXPECT_FALSE(ResampleFromId(6));
  EXPECT_EQ(ResampleFromId(3), Resample::kBicubic);
}

}  // namespace
}  // namespace tessera
