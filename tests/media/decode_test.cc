// What decoding refuses, and what that costs.
#include "media/decode.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>

#include "tests/media/test_files.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;

TEST(Refusals, EveryBrokenFileGivesOneClearError) {
  // What the error must say, by the reason that the golden names.
  const std::map<std::string, std::vector<std::string>> texts = {
      {"empty", {"image is empty"}},
      {"unknown", {"image format is unknown"}},
      {"format", {"image format is not supported"}},
      {"pixels", {"image has too many pixels"}},
      {"side", {"image is too long or too wide"}},
      {"scans", {"image has too many progressive scans"}},
      {"depth", {"image has an unsupported sample depth"}},
      {"components", {"image has an unsupported number of colour components"}},
      {"metadata", {"image has too much compressed metadata"}},
      {"incomplete", {"image data is incomplete"}},
  };
  size_t count = 0;
  const auto refused = ReadJsonFile("refused.json");
  for (const auto& [file, golden] : refused["images"].items()) {
    SCOPED_TRACE(file);
    DecodeBudget budget;
    const auto image = DecodeImage(ReadPicture(file), DecodeLimits{}, budget);
    ++count;
    if (image.has_value()) {
      ADD_FAILURE() << "taken, " << golden.dump();
      continue;
    }
    EXPECT_EQ(image.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(image.error().field, "image");
    EXPECT_FALSE(image.error().limit.empty()) << image.error().Describe();
    EXPECT_FALSE(image.error().value.empty()) << image.error().Describe();
    if (const auto expected = texts.find(golden["why"].get<std::string>());
        expected != texts.end()) {
      EXPECT_THAT(expected->second, ::testing::Contains(std::string(image.error().what.view())))
          << image.error().Describe();
    }
    EXPECT_EQ(budget.in_use(), 0);
  }
  EXPECT_GT(count, 150u);
}

// A JPEG of 64 x 48 at fractions of its size: never below what is asked for, and near the mean of
// the pixels that one of the smaller picture covers.
TEST(ReducedJpeg, SidesAreDividedAndPixelsStayNear) {
  DecodeBudget budget;
  const auto file = ReadPicture("jpeg_s0_p1_64x48.jpg");
  const auto whole = DecodeImage(file, DecodeLimits{}, budget);
  ASSERT_TRUE(whole) << whole.error().Describe();
  struct Case {
    PictureSize least;
    int divisor;
  };
  for (const auto& [least, divisor] :
       {Case{{64, 48}, 1}, Case{{33, 1}, 1}, Case{{1, 25}, 1}, Case{{32, 24}, 2}, Case{{17, 12}, 2},
        Case{{16, 12}, 4}, Case{{9, 1}, 4}, Case{{8, 6}, 8}, Case{{1, 1}, 8}}) {
    SCOPED_TRACE(fmt::format("{} x {}", least.width, least.height));
    PictureSize asked;
    const auto image =
        DecodeImage(file, DecodeLimits{}, budget, {}, [&, size = least](int width, int height) {
          asked = {width, height};
          return size;
        });
    ASSERT_TRUE(image) << image.error().Describe();
    EXPECT_EQ(asked.width, 64);
    EXPECT_EQ(asked.height, 48);
    EXPECT_EQ(image->reduced_by, divisor);
    EXPECT_EQ(image->full.width, 64);
    EXPECT_EQ(image->full.height, 48);
    ASSERT_EQ(image->width, 64 / divisor);
    ASSERT_EQ(image->height, 48 / divisor);
    ASSERT_EQ(image->rgb.size(), size_t{3} * 64 * 48 / (divisor * divisor));
    double error = 0;
    for (int y = 0; y < image->height; ++y)
      for (int x = 0; x < image->width; ++x)
        for (int c = 0; c < 3; ++c) {
          double mean = 0;
          for (int i = 0; i < divisor * divisor; ++i) {
            const int at = (y * divisor + i / divisor) * 64 + x * divisor + i % divisor;
            mean += whole->rgb[static_cast<size_t>(3 * at + c)];
          }
          const int pixel = image->rgb[static_cast<size_t>(3 * (y * image->width + x) + c)];
          error += std::abs(mean / (divisor * divisor) - pixel);
        }
    EXPECT_LT(error / static_cast<double>(image->rgb.size()), 6.0);
    if (divisor == 1) {
      EXPECT_EQ(image->rgb, whole->rgb);
    }
  }
}

TEST(ReducedJpeg, OthersComeWhole) {
  DecodeBudget budget;
  const auto image =
      DecodeImage(ReadPicture("size_97x89.png"), DecodeLimits{}, budget, {}, [](int, int) {
        return PictureSize{1, 1};
      });
  ASSERT_TRUE(image) << image.error().Describe();
  EXPECT_EQ(image->reduced_by, 1);
  EXPECT_EQ(image->width, 97);
}

TEST(Refusals, LimitsAreCheckedBeforeAnythingIsTaken) {
  for (const char* file : {"bomb_40000.png", "bomb_2e9_1.png", "bomb_2e31.png", "bomb_grey1.png",
                           "side.png", "bomb_65500.jpg", "bomb_slow.jpg", "bomb_vp8x.webp",
                           "other.gif", "text_bomb.png", "icc_many.png"}) {
    DecodeBudget budget;
    EXPECT_FALSE(DecodeImage(ReadPicture(file), DecodeLimits{}, budget)) << file;
    EXPECT_EQ(budget.peak(), 0) << file;
    EXPECT_FALSE(ProbeImage(ReadPicture(file))) << file;
  }
}

TEST(Refusals, NameLimitAndValue) {
  DecodeBudget budget;
  const auto bomb = DecodeImage(ReadPicture("bomb_40000.png"), DecodeLimits{}, budget);
  ASSERT_FALSE(bomb);
  EXPECT_EQ(bomb.error().limit, "67108864 pixels");
  EXPECT_EQ(bomb.error().value, "1600000000 pixels");
  const auto gif = DecodeImage(ReadPicture("other.gif"), DecodeLimits{}, budget);
  ASSERT_FALSE(gif);
  EXPECT_EQ(gif.error().limit, "JPEG, PNG or WebP");
  EXPECT_EQ(gif.error().value, "GIF");
  for (const auto& [file, name] : {std::pair("other.bmp", "BMP"),
                                   {"other_le.tif", "TIFF"},
                                   {"other_be.tif", "TIFF"},
                                   {"other.heic", "HEIC"},
                                   {"other.avif", "AVIF"}}) {
    const auto other = DecodeImage(ReadPicture(file), DecodeLimits{}, budget);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().value, name);
  }
  const auto scans = DecodeImage(ReadPicture("scans_1000.jpg"), DecodeLimits{}, budget);
  ASSERT_FALSE(scans);
  EXPECT_EQ(scans.error().limit, "100 scans");
  EXPECT_EQ(scans.error().value, "101 scans or more");
}

TEST(Limits, AreInclusive) {
  DecodeBudget budget;
  const auto file = ReadPicture("size_97x89.png");
  EXPECT_TRUE(DecodeImage(file, {.max_pixels = 97 * 89}, budget));
  EXPECT_FALSE(DecodeImage(file, {.max_pixels = 97 * 89 - 1}, budget));
  EXPECT_TRUE(DecodeImage(file, {.max_side = 97}, budget));
  EXPECT_FALSE(DecodeImage(file, {.max_side = 96}, budget));
  const auto slow = ReadPicture("jpeg_slow.jpg");  // libjpeg writes ten scans
  EXPECT_TRUE(DecodeImage(slow, {.max_progressive_scans = 10}, budget));
  EXPECT_FALSE(DecodeImage(slow, {.max_progressive_scans = 9}, budget));
  // Two scans of all three components, eight of one: 2 + 8 / 3 passes over 64 x 64 pixels, rounded
  // down scan by scan.
  const int64_t scanned = 2 * 4096 + 8 * (4096 / 3);
  EXPECT_TRUE(DecodeImage(slow, {.max_scanned_pixels = scanned}, budget));
  const auto over = DecodeImage(slow, {.max_scanned_pixels = scanned - 1}, budget);
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().what.view(), "image has too many progressive scans for its size");
}

TEST(Decode, EveryCutOfAFileIsRefusedOrWhole) {
  for (const char* name :
       {"orient_6.jpg", "jpeg_s2_p1_17x13.jpg", "jpeg_cmyk_p0_8x8.jpg", "png_c6_d16_i1_13x11.png",
        "png_many_idat.png", "png_apng.png", "webp_lossy_rgba_33x21.webp",
        "webp_lossless_rgb_16x16.webp", "webp_animated.webp"}) {
    SCOPED_TRACE(name);
    const auto file = ReadPicture(name);
    DecodeBudget budget;
    const auto whole = DecodeImage(file, DecodeLimits{}, budget);
    ASSERT_TRUE(whole);
    for (size_t size = 0; size < file.size(); ++size) {
      const auto cut = DecodeImage(std::span(file).first(size), DecodeLimits{}, budget);
      if (!cut) {
        EXPECT_EQ(cut.error().code, ErrorCode::kInvalidArgument);
        continue;
      }
      // Only what stands after the last pixel may be missing.
      EXPECT_TRUE(cut->rgb == whole->rgb) << size;
    }
  }
}

TEST(Decode, ProbeAgrees) {
  DecodeBudget budget;
  const auto decoded = ReadJsonFile("decoded.json");
  for (const auto& [file, golden] : decoded["images"].items()) {
    SCOPED_TRACE(file);
    const auto bytes = ReadPicture(file);
    const int64_t before = budget.in_use();
    const auto info = ProbeImage(bytes);
    const auto image = DecodeImage(bytes, DecodeLimits{}, budget);
    ASSERT_TRUE(info && image);
    EXPECT_EQ(info->width, image->width);
    EXPECT_EQ(info->height, image->height);
    EXPECT_EQ(info->format, image->format);
    EXPECT_EQ(info->animated, image->animated);
    EXPECT_EQ(info->orientation, image->orientation);
    EXPECT_EQ(image->rgb.size(), size_t{3} * image->width * image->height);
    EXPECT_EQ(image->memory.bytes(), static_cast<int64_t>(image->rgb.size()));
    EXPECT_EQ(budget.in_use() - before, image->memory.bytes());
    EXPECT_GE(info->decode_bytes, image->memory.bytes());
    EXPECT_EQ(ImageFormatName(image->format), golden["format"].get<std::string>() == "MPO"
                                                  ? "JPEG"
                                                  : golden["format"].get<std::string>());
    if (golden.contains("animated")) {
      EXPECT_EQ(image->animated, golden["animated"].get<bool>());
    }
  }
  EXPECT_EQ(budget.in_use(), 0);
}

TEST(Decode, HighByteOf16Bits) {
  DecodeBudget budget;
  // Grey ramp 0x0000, 0x1234, 0xffff in a stored deflate block.
  const auto image = DecodeImage(ReadPicture("png_c0_d16_i0_3x9.png"), DecodeLimits{}, budget);
  ASSERT_TRUE(image);
  int least = 255, most = 0;
  for (const uint8_t level : image->rgb) {
    least = std::min<int>(least, level);
    most = std::max<int>(most, level);
  }
  // Random 16-bit samples: clipped to 8 bits, as Pillow does, nearly all would be 255.
  EXPECT_LT(least, 40);
  EXPECT_GT(most, 215);
  size_t white = 0;
  for (const uint8_t level : image->rgb) white += level == 255;
  EXPECT_LT(white, image->rgb.size() / 4);
}

TEST(Decode, BudgetTooSmallIsNamed) {
  DecodeBudget budget(1000);
  const auto image = DecodeImage(ReadPicture("size_97x89.png"), DecodeLimits{}, budget);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(image.error().limit, "1000 bytes");
}

TEST(Decode, StopsWhenAsked) {
  std::stop_source stop;
  stop.request_stop();
  DecodeBudget budget;
  const auto image =
      DecodeImage(ReadPicture("jpeg_slow.jpg"), DecodeLimits{}, budget, {.stop = stop.get_token()});
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, ErrorCode::kCancelled);
}

TEST(Decode, VersionsAreNamed) {
  const auto versions = CodecVersions();
  ASSERT_EQ(versions.size(), 3u);
  EXPECT_THAT(versions[0], HasSubstr("libjpeg-turbo "));
  EXPECT_THAT(versions[1], HasSubstr("libpng 1."));
  EXPECT_THAT(versions[2], HasSubstr("libwebp 1."));
}

}  // namespace
}  // namespace tessera
