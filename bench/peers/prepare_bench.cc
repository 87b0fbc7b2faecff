// What a request costs before the engine sees it, on one thread: tokenising a text, and a picture
// file to pixel values. Prints one JSON object with the CPU seconds of each repetition and digests
// of the results, by which bench/peers checks that Hugging Face's libraries made the same.

#include <fmt/format.h>
#include <zlib.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "media/decode.h"
#include "media/decode_budget.h"
#include "media/image_processor.h"
#include "text/tokenizer.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;
struct Options {
  std::string model, text, picture;
  int repetitions = 5;
  bool approximate_jpeg = false;
  bool fresh = false;
};

// CPU seconds of the process so far: with one thread the time it takes, whatever else runs.
double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// CRC-32 over the little-endian bytes of 32-bit values, as Python's zlib computes it.
template <typename T>
std::string DigestOf(const std::vector<T>& values) {
  static_assert(sizeof(T) == 4);
  const uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(values.data()), values.size() * 4);
  return fmt::format("{:08x}", crc);
}

Result<Json> BenchTokenizer(const Options& options) {
  const std::string text = ReadAll(options.text);
  TESSERA_TRY(const auto tokenizer, Tokenizer::Load(options.model));
  Json seconds = Json::array();
  std::vector<int32_t> ids;
  for (int i = 0; i < options.repetitions; ++i) {
    const double begin = CpuSeconds();
    ids = tokenizer->Encode(text, SpecialParsing::kAsText, /*add_special_tokens=*/false);
    seconds.push_back(CpuSeconds() - begin);
  }
  return Json{{"seconds", seconds},
              {"bytes", text.size()},
              {"tokens", ids.size()},
              {"digest", DigestOf(ids)}};
}

Result<Json> BenchPicture(const Options& options) {
  const std::string file = ReadAll(options.picture);
  const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
  TESSERA_TRY(const auto processor, LoadImageProcessor(options.model));
  DecodeBudget budget(int64_t{1} << 30);
  Json seconds = Json::array();
  std::vector<float> values;
  for (int i = 0; i < options.repetitions; ++i) {
    const double begin = CpuSeconds();
    const LeastSize least = [&](int width, int height) {
      const auto layout = processor->LayoutOf(width, height);
      return layout ? PictureSize{.width = layout->resized_width, .height = layout->resized_height}
                    : PictureSize{.width = width, .height = height};
    };
    TESSERA_TRY(const DecodedImage image,
                DecodeImage(bytes, {}, budget, {}, options.approximate_jpeg ? least : LeastSize{}));
    TESSERA_TRY(const TileLayout layout, processor->LayoutOf(image.full.width, image.full.height));
    const ProcessedImage processed = processor->Process(
        {.width = image.width, .height = image.height, .pixels = image.rgb}, layout);
    if (options.fresh) values = {};
    values.resize(size_t{3} * static_cast<size_t>(processed.max_tiles) *
                  static_cast<size_t>(processed.tile_height) *
                  static_cast<size_t>(processed.tile_width));
    processed.PixelValues(values);
    seconds.push_back(CpuSeconds() - begin);
  }
  return Json{{"seconds", seconds}, {"values", values.size()}, {"digest", DigestOf(values)}};
}

Result<void> Run(const Options& options) {
  Json out = Json::object();
  if (!options.text.empty()) {
    TESSERA_TRY(out["tokenize"], BenchTokenizer(options));
  }
  if (!options.picture.empty()) {
    TESSERA_TRY(out["preprocess"], BenchPicture(options));
  }
  fmt::print("{}\n", out.dump());
  return {};
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::Options options;
  CLI::App app("Times of tokenizer and image processor on one thread", "tessera-bench-prepare");
  app.add_option("--model", options.model, "Hugging Face directory")->required();
  app.add_option("--text", options.text, "file to tokenise, as user text");
  app.add_option("--picture", options.picture, "file to decode and process");
  app.add_flag("--approximate-jpeg", options.approximate_jpeg, "as the server's flag");
  app.add_flag("--fresh", options.fresh, "new memory for the pixel values of each repetition");
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  const tessera::Result<void> done = tessera::Run(options);
  if (!done) {
    fmt::print(stderr, "tessera-bench-prepare: {}\n", done.error().Describe());
    return 1;
  }
  return 0;
}
