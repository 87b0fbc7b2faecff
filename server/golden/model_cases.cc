#include "server/golden/model_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "server/engine/batch.h"
#include "server/golden/compare.h"
#include "server/golden/golden_file.h"
#include "server/golden/model_session.h"

namespace tessera::verify {
namespace {

using Json = nlohmann::ordered_json;

class Checker {
 public:
  Checker(const GoldenFile& golden, ModelSession& session, Report& report)
      : golden_(golden),
        spec_(golden.spec()),
        session_(session),
        report_(report),
        new_tokens_(spec_.value("max_new_tokens", 16)),
        stop_at_end_(!spec_.value("ignore_eos", true)) {}

  Result<void> MeasureYardsticks();
  Result<void> CheckCase(const Json& item);
  // Everybody at once: the words of each must be those it gets alone.
  Result<void> CheckCompany();
  void CompareWithAlone(const std::string& id, const char* stage, bool equal,
                        const std::string& detail);

 private:
  bool bf16() const { return session_.operands() == DType::kBF16; }
  Result<void> ComparePictures(const std::string& id, const SessionPrompt& prompt);
  Result<void> ComparePixels(const std::string& id, const SessionPrompt& prompt);
  Result<void> CompareCrossMask(const std::string& id, const SessionPrompt& prompt);
  Result<void> CompareVision(const std::string& id, const std::string& stage,
                             const SessionPrompt& prompt,
                             const std::vector<std::vector<float>>& got);
  Result<void> CompareAnswer(const std::string& id, const SessionPrompt& prompt,
                             const SessionAnswer& answer, const Probed& probed);
  Result<void> CompareInts(const std::string& id, const std::string& stage,
                           const std::vector<int64_t>& got);
  void CompareTensor(const std::string& id, const std::string& stage, const std::string& yardstick,
                     std::span<const float> got, std::span<const float> expected, std::string note);

  const GoldenFile& golden_;
  const Json& spec_;
  ModelSession& session_;
  Report& report_;
  const int new_tokens_;
  const bool stop_at_end_;
  std::map<std::string, Yardstick> yardsticks_;
  struct Done {
    std::string id;
    SessionPrompt prompt;
    SessionAnswer answer;
  };
  std::vector<Done> done_;
};

Result<void> Checker::MeasureYardsticks() {
  if (!bf16()) return {};
  for (const Json& item : spec_["cases"]) {
    for (const char* stage : {"vision_hidden", "projected", "logits"}) {
      const std::string name = item.value("id", "") + "." + stage;
      if (!golden_.Has(name) || !golden_.Has(name + "_bf16")) continue;
      TESSERA_TRY(const std::vector<float> exact, golden_.Floats(name));
      TESSERA_TRY(const std::vector<float> rough, golden_.Floats(name + "_bf16"));
      if (exact.size() != rough.size())
        return Invalid("a golden and its bf16 run differ in size", {.field = name});
      yardsticks_[stage].Add(Measure(rough, exact));
    }
  }
  return {};
}

void Checker::CompareTensor(const std::string& id, const std::string& stage,
                            const std::string& yardstick, std::span<const float> got,
                            std::span<const float> expected, std::string note) {
  if (got.size() != expected.size()) {
    report_.Fail(id, stage, fmt::format("expected {} values, got {}", expected.size(), got.size()));
    return;
  }
  if (bf16() && !yardsticks_.contains(yardstick)) {
    report_.Skip(id, stage, "the golden has no " + yardstick + "_bf16 to measure by");
    return;
  }
  const Deviation deviation = Measure(got, expected);
  const bool pass = bf16() ? WithinBf16(deviation, yardsticks_[yardstick]) : WithinFloat(deviation);
  Row row{.case_id = id,
          .stage = stage,
          .outcome = pass ? Row::Outcome::kPass : Row::Outcome::kFail,
          .detail = std::move(note),
          .max_abs_error = deviation.max_abs,
          .relative_error = deviation.max_relative,
          .bound = bf16() ? kBf16MaxFactor * yardsticks_[yardstick].max_relative : kFloatBound};
  if (deviation.worst >= 0) {
    const auto worst = static_cast<size_t>(deviation.worst);
    row.detail = fmt::format("worst at {} of {}: {:.6g}, golden {:.6g}", worst, got.size(),
                             got[worst], expected[worst]) +
                 (row.detail.empty() ? "" : "; ") + row.detail;
    if (bf16()) {
      row.detail += fmt::format("; mean {:.3g} (bound {:.3g})", deviation.mean_relative,
                                kBf16MeanFactor * yardsticks_[yardstick].mean_relative);
    }
  }
  report_.Add(std::move(row));
}

Result<void> Checker::CompareInts(const std::string& id, const std::string& stage,
                                  const std::vector<int64_t>& got) {
  const std::string name = id + "." + stage;
  if (!golden_.Has(name)) return {};
  TESSERA_TRY(const std::vector<int64_t> expected, golden_.Ints(name));
  const auto [e, g] = std::mismatch(expected.begin(), expected.end(), got.begin(), got.end());
  if (e == expected.end() && g == got.end()) {
    report_.Pass(id, stage);
  } else if (e == expected.end() || g == got.end()) {
    report_.Fail(id, stage, fmt::format("expected {} values, got {}", expected.size(), got.size()));
  } else {
    report_.Fail(id, stage,
                 fmt::format("at {}: expected {}, got {}", e - expected.begin(), *e, *g));
  }
  return {};
}

// pixel_values [images, tiles, 3, H, W], padding tiles 0.0.
Result<void> Checker::ComparePixels(const std::string& id, const SessionPrompt& prompt) {
  const std::string name = id + ".pixel_values";
  if (!golden_.Has(name)) return {};
  TESSERA_TRY(const std::vector<float> expected, golden_.Floats(name));
  const size_t images = prompt.media.size();
  if (images == 0 || expected.size() % images != 0) {
    report_.Fail(id, "pixel_values",
                 fmt::format("{} values for {} pictures", expected.size(), images));
    return {};
  }
  const size_t each = expected.size() / images;
  float worst = 0;
  size_t worst_at = 0, beyond = 0;  // beyond: further off than four levels
  bool lossy = false;
  for (size_t image = 0; image < images; ++image) {
    const MediaPixels& pixels = *prompt.media[image].pixels;
    const size_t plane = static_cast<size_t>(pixels.height) * static_cast<size_t>(pixels.width);
    if (each % (3 * plane) != 0 || pixels.tiles.size() > each) {
      report_.Fail(id, "pixel_values",
                   fmt::format("expected {} values a picture, tiles are {}x{}", each, pixels.height,
                               pixels.width));
      return {};
    }
    lossy = lossy || prompt.lossy[image];
    for (size_t i = 0; i < each; ++i) {
      const size_t channel = i / plane % 3;
      const float got = i < pixels.tiles.size() ? pixels.lut[channel][pixels.tiles[i]] : 0.0f;
      const float error = std::fabs(got - expected[image * each + i]);
      if (!(error <= worst)) {
        worst = error;
        worst_at = image * each + i;
      }
      beyond += !(error <= 4 * std::fabs(pixels.lut[channel][1] - pixels.lut[channel][0]) + 1e-5f);
    }
  }
  const bool equal = worst <= 1e-5f;
  // A lossy picture may be decoded a little differently by another release of its library.
  const bool near =
      lossy && static_cast<double>(beyond) <= 0.01 * static_cast<double>(expected.size());
  Row row{.case_id = id,
          .stage = "pixel_values",
          .outcome = equal || near ? Row::Outcome::kPass : Row::Outcome::kFail,
          .detail = fmt::format("max abs error {:.3g} at {}", worst, worst_at)};
  if (!equal && near) row.detail += ", a lossy picture decoded within four levels";
  report_.Add(std::move(row));
  return {};
}

// [T, images, tiles]: the used tiles of the pictures that a row sees.
Result<void> Checker::CompareCrossMask(const std::string& id, const SessionPrompt& prompt) {
  if (prompt.media.empty()) return {};
  std::vector<MediaState> media;
  for (const Media& picture : prompt.media) {
    media.push_back({.digest = picture.digest,
                     .plan = {},
                     .used_tiles = picture.pixels->used_tiles,
                     .mark = picture.mark});
  }
  const int tiles = session_.info().max_tiles;
  std::vector<int64_t> mask;
  for (int32_t row = 0; row < static_cast<int32_t>(prompt.ids.size()); ++row) {
    const MediaInterval seen = VisibleMedia(media, row);
    for (int32_t image = 0; image < static_cast<int32_t>(media.size()); ++image) {
      const bool sees = image >= seen.begin && image < seen.end;
      for (int tile = 0; tile < tiles; ++tile)
        mask.push_back(sees && tile < media[static_cast<size_t>(image)].used_tiles);
    }
  }
  return CompareInts(id, "cross_attention_mask", mask);
}

Result<void> Checker::ComparePictures(const std::string& id, const SessionPrompt& prompt) {
  TESSERA_RETURN_IF_ERROR(ComparePixels(id, prompt));
  std::vector<int64_t> ids, mask;
  for (const Media& media : prompt.media) {
    ids.push_back(media.pixels->aspect_ratio_id);
    for (int tile = 0; tile < session_.info().max_tiles; ++tile)
      mask.push_back(tile < media.pixels->used_tiles);
  }
  TESSERA_RETURN_IF_ERROR(CompareInts(id, "aspect_ratio_ids", ids));
  TESSERA_RETURN_IF_ERROR(CompareInts(id, "aspect_ratio_mask", mask));
  return CompareCrossMask(id, prompt);
}

// Golden [images, tiles, P, C]; ours: the kept tiles of each picture that was encoded, each
// different one once.
Result<void> Checker::CompareVision(const std::string& id, const std::string& stage,
                                    const SessionPrompt& prompt,
                                    const std::vector<std::vector<float>>& got) {
  const std::string name = id + "." + stage;
  if (!golden_.Has(name)) return {};
  TESSERA_TRY(const std::vector<float> golden, golden_.Floats(name));
  const std::vector<int64_t> shape = golden_.Shape(name);
  if (shape.size() != 4 || shape[0] != static_cast<int64_t>(prompt.media.size())) {
    report_.Fail(id, stage,
                 fmt::format("the golden has {} pictures, the prompt {}",
                             shape.empty() ? 0 : shape[0], prompt.media.size()));
    return {};
  }
  const size_t tile_size = static_cast<size_t>(shape[2] * shape[3]);
  const size_t picture_size = static_cast<size_t>(shape[1]) * tile_size;
  std::vector<float> ours, expected;
  std::map<Digest, size_t> order;
  size_t left_out = 0;
  for (size_t image = 0; image < prompt.media.size(); ++image) {
    const size_t taken = order.try_emplace(prompt.media[image].digest, order.size()).first->second;
    if (taken >= got.size() || got[taken].size() % tile_size != 0 ||
        got[taken].size() > picture_size) {
      report_.Fail(id, stage,
                   fmt::format("picture {}: expected up to {} values, got {}", image, picture_size,
                               taken < got.size() ? got[taken].size() : 0));
      return {};
    }
    const std::vector<float>& values = got[taken];
    ours.insert(ours.end(), values.begin(), values.end());
    const auto begin = golden.begin() + static_cast<int64_t>(image * picture_size);
    expected.insert(expected.end(), begin, begin + static_cast<int64_t>(values.size()));
    left_out += (picture_size - values.size()) / tile_size;
  }
  CompareTensor(id, stage, stage, ours, expected,
                left_out > 0
                    ? fmt::format("{} padding tiles that nothing reads are left out", left_out)
                    : "");
  return {};
}

Result<void> Checker::CompareAnswer(const std::string& id, const SessionPrompt& prompt,
                                    const SessionAnswer& answer, const Probed& probed) {
  const auto vocab = static_cast<size_t>(session_.info().vocab_size);
  const size_t rows = prompt.ids.size();
  double logits_std = 1;
  if (golden_.Has(id + ".logits")) {
    TESSERA_TRY(const std::vector<float> expected, golden_.Floats(id + ".logits"));
    const size_t prompt_values = std::min(rows * vocab, probed.logits.size());
    CompareTensor(id, "logits", "logits", std::span(probed.logits).first(prompt_values), expected,
                  "");
    if (expected.size() == prompt_values) logits_std = Measure(expected, expected).golden_std;
  }
  if (!golden_.Has(id + ".greedy_ids")) return {};
  TESSERA_TRY(const std::vector<int64_t> greedy, golden_.Ints(id + ".greedy_ids"));
  std::vector<float> margins(greedy.size(), 0.0f);
  if (golden_.Has(id + ".greedy_margin")) {
    TESSERA_TRY(margins, golden_.Floats(id + ".greedy_margin"));
  }
  if (answer.ids.size() != greedy.size() || margins.size() != greedy.size()) {
    report_.Fail(id, "greedy_ids",
                 fmt::format("expected {} ids, got {}", greedy.size(), answer.ids.size()));
    return {};
  }
  const double excused =
      bf16() ? kBf16MarginFactor * yardsticks_["logits"].max_relative * logits_std : kFloatMargin;
  const GreedyVerdict verdict = CompareGreedy(answer.ids, greedy, margins, excused);
  if (verdict.first_difference < 0) {
    report_.Pass(id, "greedy_ids", fmt::format("{} ids", greedy.size()));
  } else {
    const auto at = static_cast<size_t>(verdict.first_difference);
    const std::string detail =
        fmt::format("at {}: expected {}, got {}, margin {:.3g} (excused below {:.3g})", at,
                    greedy[at], answer.ids[at], verdict.margin, excused);
    verdict.pass ? report_.Pass(id, "greedy_ids", detail) : report_.Fail(id, "greedy_ids", detail);
  }
  const bool same_before = verdict.first_difference < 0 ||
                           static_cast<size_t>(verdict.first_difference) + 1 == greedy.size();
  if (!golden_.Has(id + ".greedy_last_logits") || !same_before) return {};
  TESSERA_TRY(const std::vector<float> last, golden_.Floats(id + ".greedy_last_logits"));
  const size_t expected_rows = rows + greedy.size() - 1;
  if (probed.logits.size() != expected_rows * vocab) {
    report_.Fail(id, "greedy_last_logits",
                 fmt::format("expected {} rows of logits, got {}", expected_rows,
                             probed.logits.size() / vocab));
    return {};
  }
  CompareTensor(id, "greedy_last_logits", "logits", std::span(probed.logits).last(vocab), last, "");
  return {};
}

Result<void> Checker::CheckCase(const Json& item) {
  const std::string id = item.value("id", "");
  Result<SessionPrompt> prompt = session_.Prepare(item, spec_, golden_.directory(), id);
  if (!prompt) {
    report_.Fail(id, "prompt", prompt.error().Describe());
    return {};
  }
  if (item.contains("rendered") && prompt->rendered) {
    const std::string expected = item["rendered"].get<std::string>();
    const auto at = std::mismatch(expected.begin(), expected.end(), prompt->rendered->begin(),
                                  prompt->rendered->end())
                        .first -
                    expected.begin();
    if (expected == *prompt->rendered) {
      report_.Pass(id, "rendered");
    } else {
      report_.Fail(
          id, "rendered",
          fmt::format("differs from byte {} on: expected \"{}\", got \"{}\"", at,
                      EscapeForLog(std::string_view(expected).substr(static_cast<size_t>(at)), 40),
                      EscapeForLog(std::string_view(*prompt->rendered)
                                       .substr(std::min<size_t>(static_cast<size_t>(at),
                                                                prompt->rendered->size())),
                                   40)));
    }
  }
  TESSERA_RETURN_IF_ERROR(CompareInts(id, "input_ids", {prompt->ids.begin(), prompt->ids.end()}));
  TESSERA_RETURN_IF_ERROR(ComparePictures(id, *prompt));
  Probed probed;
  Result<SessionAnswer> answer = session_.RunProbed(*prompt, new_tokens_, stop_at_end_, id, probed);
  if (!answer) {
    report_.Fail(id, "run", answer.error().Describe());
    return {};
  }
  TESSERA_RETURN_IF_ERROR(CompareVision(id, "vision_hidden", *prompt, probed.vision_hidden));
  TESSERA_RETURN_IF_ERROR(CompareVision(id, "projected", *prompt, probed.projected));
  TESSERA_RETURN_IF_ERROR(CompareAnswer(id, *prompt, *answer, probed));

  // Again, from the caches.
  Result<std::vector<SessionAnswer>> again =
      session_.Run({&*prompt}, new_tokens_, stop_at_end_, id);
  if (!again) {
    report_.Fail(id, "from the caches", again.error().Describe());
  } else {
    const SessionAnswer& second = again->front();
    const bool equal = second.ids == answer->ids && second.logprobs == answer->logprobs;
    const bool cached =
        prompt->ids.size() <= static_cast<size_t>(kKvBlockTokens) || second.usage.cached_tokens > 0;
    const std::string detail =
        fmt::format("{} of {} tokens cached, {} pictures encoded", second.usage.cached_tokens,
                    prompt->ids.size(), second.usage.images_encoded);
    if (!cached || second.usage.images_encoded != 0) {
      report_.Fail(id, "from the caches", detail);
    } else {
      CompareWithAlone(id, "from the caches", equal, detail);
    }
  }
  done_.push_back({id, *std::move(prompt), *std::move(answer)});
  return {};
}

// Equal bits are demanded only of a backend that promises them.
void Checker::CompareWithAlone(const std::string& id, const char* stage, bool equal,
                               const std::string& detail) {
  if (equal) {
    report_.Pass(id, stage, detail);
  } else if (session_.batch_invariant()) {
    report_.Fail(id, stage, "other words or log-probabilities than alone; " + detail);
  } else {
    report_.Skip(id, stage, "other bits than alone, which --batch-invariant would not give");
  }
}

Result<void> Checker::CheckCompany() {
  if (done_.size() < 2) return {};
  std::vector<const SessionPrompt*> prompts;
  for (const Done& done : done_) prompts.push_back(&done.prompt);
  Result<std::vector<SessionAnswer>> answers =
      session_.Run(prompts, new_tokens_, stop_at_end_, "company");
  if (!answers) {
    report_.Fail("all", "in company", answers.error().Describe());
    return {};
  }
  for (size_t i = 0; i < done_.size(); ++i) {
    const bool equal = (*answers)[i].ids == done_[i].answer.ids &&
                       (*answers)[i].logprobs == done_[i].answer.logprobs;
    CompareWithAlone(done_[i].id, "in company", equal, "");
  }
  return {};
}

}  // namespace

Result<void> CheckModelCases(const ModelCaseOptions& options, Report& report) {
  const std::filesystem::path directory = options.golden.empty() ? options.model : options.golden;
  TESSERA_TRY(const GoldenFile golden, GoldenFile::Open(directory));
  const Json& spec = golden.spec();
  ModelSettings settings{
      .model = options.model, .backend = options.backend, .weights = options.weights};
  if (spec.value("unseen_rows", "attend") == "zero") settings.unseen_rows = UnseenRows::kZero;
  const int new_tokens = spec.value("max_new_tokens", 16);
  for (const Json& item : spec["cases"]) {
    const std::string ids = item.value("id", "") + ".input_ids";
    const int64_t prompt = golden.Has(ids) && !golden.Shape(ids).empty()
                               ? golden.Shape(ids)[0]
                               : item.value("prompt_tokens", 512);
    settings.longest = std::max(settings.longest, static_cast<int>(prompt) + new_tokens + 1);
    if (item.contains("images") && item["images"].is_array()) {
      settings.most_pictures =
          std::max(settings.most_pictures, static_cast<int>(item["images"].size()));
    }
  }
  settings.cases = static_cast<int>(spec["cases"].size());
  TESSERA_TRY(const std::unique_ptr<ModelSession> session, ModelSession::Start(settings));
  Checker checker(golden, *session, report);
  TESSERA_RETURN_IF_ERROR(checker.MeasureYardsticks());
  for (const Json& item : spec["cases"]) TESSERA_RETURN_IF_ERROR(checker.CheckCase(item));
  return checker.CheckCompany();
}

}  // namespace tessera::verify
