#include "tests/support/fake_runner.h"

#include <algorithm>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "base/check.h"

namespace tessera::testing {
namespace {

// splitmix64's finaliser over a running value.
uint64_t Mix(uint64_t h, uint64_t value) {
  uint64_t x = h * 0x9E3779B97F4A7C15ull + value + 0x632BE59BD9B4E019ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  return x == 0 ? 1 : x;
}

uint64_t TileValue(const MediaPixels& pixels, int tile) {
  uint64_t h = Mix(static_cast<uint64_t>(tile), static_cast<uint64_t>(pixels.aspect_ratio_id));
  for (uint8_t byte : pixels.tiles) h = Mix(h, byte);
  return h;
}

uint64_t SlotValue(uint64_t before, int32_t token, int32_t position, uint64_t seen) {
  return Mix(Mix(Mix(before, static_cast<uint64_t>(token)), static_cast<uint64_t>(position)), seen);
}

// `mlp` distinguishes rows that see a picture from those that attend to everything.
uint64_t SeenValue(const std::vector<uint64_t>& tiles, bool mlp) {
  uint64_t h = mlp ? 17 : 18;
  for (uint64_t tile : tiles) h = Mix(h, tile);
  return h;
}

SampleResult Draw(uint64_t history, const SampleRow& row, const FakeModel& model) {
  const int vocab = model.vocab;
  uint64_t h = history;
  if (row.temperature > 0) h = Mix(Mix(Mix(h, row.seed), row.choice), row.position);
  if (row.repetition_penalty != 1 || row.frequency_penalty != 0 || row.presence_penalty != 0) {
    uint64_t sum = 0;  // the order of the counts does not matter
    for (const TokenCount& count : row.counts) {
      sum += Mix(Mix(static_cast<uint64_t>(count.id), static_cast<uint64_t>(count.in_prompt)),
                 static_cast<uint64_t>(count.in_output));
    }
    h = Mix(h, sum);
  }
  SampleResult result;
  result.id = static_cast<int32_t>(h % static_cast<uint64_t>(vocab));
  if (model.answers > 0)
    result.id = 30 + static_cast<int32_t>(h % static_cast<uint64_t>(model.answers));
  while (std::find(row.banned.begin(), row.banned.end(), result.id) != row.banned.end())
    result.id = (result.id + 1) % vocab;
  if (row.logprobs >= 0) {
    result.logprob = -static_cast<float>(h % 1000) / 100;
    result.alternatives = std::min(row.logprobs, kMaxLogprobs);
    for (int i = 0; i < result.alternatives; ++i) {
      result.top[i] = {
          static_cast<int32_t>((h + static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab)),
          -static_cast<float>(i)};
    }
  }
  return result;
}

class Decoder final : public TextDecoder {
 public:
  explicit Decoder(bool skip_special) : skip_special_(skip_special) {}
  std::string Push(int32_t id) override {
    if (id <= 1 && skip_special_) return {};  // 0 and the end id are special
    std::string out;
    if (id == 38) {
      out = Flush();
      half_ = true;
      return out;
    }
    if (id == 39) {
      out = half_ ? "\xC3\xA9" : "\xEF\xBF\xBD";
      half_ = false;
      return out;
    }
    out = Flush();
    if (id < 26) return out + static_cast<char>('a' + id);
    if (id < 36) return out + static_cast<char>('0' + id - 26);
    if (id == 36) return out + ' ';
    if (id == 37) return out + "\xC3\xA9";
    return out + "[" + std::to_string(id) + "]";
  }
  std::string Flush() override {
    const bool half = std::exchange(half_, false);
    return half ? "\xEF\xBF\xBD" : "";
  }

 private:
  const bool skip_special_;
  bool half_ = false;  // the first byte of an e acute is waiting for the second
};

}  // namespace

FakeRunner::FakeRunner(const FakeModel& model)
    : model_(model),
      self_(static_cast<size_t>(model.self_pages) * kKvBlockTokens, 0),
      cross_(model.cross_pages, 0),
      nan_(static_cast<size_t>(model.self_pages) * kKvBlockTokens, false) {
  info_.family = "fake";
  info_.vocab_size = model.vocab;
  info_.embedding_rows = model.vocab + 8;
  info_.max_context = model.max_context;
  info_.self_kv = {.layers = 1, .kv_heads = 1, .head_dim = 1, .page_tokens = kKvBlockTokens};
  info_.cross_kv = {.layers = 1, .kv_heads = 1, .head_dim = 1, .page_tokens = 5};
  info_.max_tiles = model.max_tiles;
  info_.image_token_id = model.vocab;
  info_.unseen_rows = model.unseen_rows;
  info_.flops_per_token = model.flops_per_token;
  if (model.behind) thread_ = std::make_unique<StepThread>();
}

EncodePlan FakeRunner::PlanEncode(const MediaPixels& pixels) const {
  return {.units = model_.encode_units,
          .flops_per_unit = model_.flops_per_unit,
          .cross_kv_begin = model_.encode_units - 1,
          .kept_tiles =
              model_.unseen_rows == UnseenRows::kAttend ? model_.max_tiles : pixels.used_tiles};
}

StepHandle FakeRunner::Submit(const Step& step) {
  TESSERA_CHECK(flights_.size() <= (model_.behind ? 1 : 0), "steps in flight");
  std::future<StepResult> flight;
  if (thread_ != nullptr) {
    flight = thread_->Run([this, &step] { return Run(step); });
  } else {
    std::promise<StepResult> done;
    done.set_value(Run(step));
    flight = done.get_future();
  }
  flights_.emplace_back(++last_, std::move(flight));
  return last_;
}

StepResult FakeRunner::Wait(StepHandle handle) {
  TESSERA_CHECK(!flights_.empty() && flights_.front().first == handle, "waited out of order");
  std::future<StepResult> flight = std::move(flights_.front().second);
  flights_.pop_front();
  return flight.get();
}

StepResult FakeRunner::Run(const Step& step) {
  const std::vector<SampleResult> drawn = std::exchange(last_samples_, {});
  if (before_step) before_step(step);
  TESSERA_CHECK(step.batch.rows() <= model_.max_rows &&
                static_cast<int>(step.batch.logits_rows.size()) <= model_.max_logits_rows);
  StepResult result;
  ++steps;
  rows += step.batch.rows();
  for (const EncodeSlice& slice : step.encode) {
    Encode(slice);
    result.encode_seconds.push_back(0.25);
    result.cross_kv_seconds.push_back(0.125);
  }
  Batch batch = step.batch;
  for (const DrawnToken& token : step.drawn) {
    if (static_cast<size_t>(token.draw) >= drawn.size()) throw std::runtime_error("never drawn");
    batch.tokens[static_cast<size_t>(token.row)] =
        std::max(0, drawn[static_cast<size_t>(token.draw)].id);
  }
  Forward(batch);
  for (const SampleRow& row : step.sample) result.samples.push_back(Sample(row, batch));
  last_samples_ = result.samples;
  result.forward_seconds = 0.5;
  result.error = error;
  return result;
}

void FakeRunner::Encode(const EncodeSlice& slice) {
  if (slice.unit_begin == 0) {
    encoding_ = slice.pixels;
    units_done_ = 0;
  }
  TESSERA_CHECK(encoding_ == slice.pixels && units_done_ == slice.unit_begin &&
                    slice.unit_end > slice.unit_begin,
                "units {}..{} after {}", slice.unit_begin, slice.unit_end, units_done_);
  units_done_ = slice.unit_end;
  if (units_done_ < model_.encode_units) return;
  TESSERA_CHECK(static_cast<int>(slice.cross_pages.size()) == PlanEncode(*slice.pixels).kept_tiles);
  for (size_t tile = 0; tile < slice.cross_pages.size(); ++tile) {
    cross_[slice.cross_pages[tile]] = TileValue(*slice.pixels, static_cast<int>(tile));
  }
  encoding_ = nullptr;
  ++pictures;
}

void FakeRunner::Forward(const Batch& batch) {
  for (const PageCopy& copy : batch.page_copies) {
    TESSERA_CHECK(copy.from != copy.to);
    for (int i = 0; i < kKvBlockTokens; ++i) {
      self_[copy.to * kKvBlockTokens + i] = self_[copy.from * kKvBlockTokens + i];
      nan_[copy.to * kKvBlockTokens + i] = nan_[copy.from * kKvBlockTokens + i];
    }
  }
  std::vector<uint64_t> seen(batch.tokens.size(), 0);
  int32_t last_row = -1;
  for (const CrossRowInput& cross : batch.cross_rows) {
    TESSERA_CHECK(cross.row > last_row && cross.tiles_begin < cross.tiles_end);
    last_row = cross.row;
    std::vector<uint64_t> tiles;
    for (int32_t i = cross.tiles_begin; i < cross.tiles_end; ++i) {
      const uint64_t value = cross_[batch.cross_tile_pages[i]];
      TESSERA_CHECK(value != 0, "a tile is read before it was written");
      tiles.push_back(value);
    }
    seen[cross.row] = SeenValue(tiles, cross.mlp);
  }
  std::unordered_set<int64_t> written;
  int32_t next_row = 0;
  for (const SequenceRows& rows : batch.sequences) {
    TESSERA_CHECK(rows.row_begin == next_row && rows.row_count > 0);
    next_row += rows.row_count;
    const auto slot_of = [&](int32_t position) {
      return int64_t{batch.self_pages[rows.page_begin + position / kKvBlockTokens]} *
                 kKvBlockTokens +
             position % kKvBlockTokens;
    };
    for (int32_t i = 0; i < rows.row_count; ++i) {
      const int32_t row = rows.row_begin + i;
      const int32_t position = rows.first_position + i;
      const int32_t token = batch.tokens[row];
      TESSERA_CHECK(batch.positions[row] == position && batch.self_slots[row] == slot_of(position));
      TESSERA_CHECK(written.insert(slot_of(position)).second, "a slot is written twice in a step");
      if (token == model_.throw_token) throw std::runtime_error("injected");
      const uint64_t before = position == 0 ? 1 : self_[slot_of(position - 1)];
      TESSERA_CHECK(before != 0, "K/V are read before they were written");
      self_[slot_of(position)] = SlotValue(before, token, position, seen[row]);
      nan_[slot_of(position)] =
          token == model_.nan_token || (position > 0 && nan_[slot_of(position - 1)]);
    }
  }
  TESSERA_CHECK(next_row == batch.rows());
}

SampleResult FakeRunner::Sample(const SampleRow& sample, const Batch& batch) const {
  const int32_t row = batch.logits_rows[sample.logits_row];
  for (const SequenceRows& rows : batch.sequences) {
    if (row < rows.row_begin || row >= rows.row_begin + rows.row_count) continue;
    uint64_t history = 0;
    for (int32_t position = 0; position <= batch.positions[row]; ++position) {
      const int64_t slot =
          int64_t{batch.self_pages[rows.page_begin + position / kKvBlockTokens]} * kKvBlockTokens +
          position % kKvBlockTokens;
      history = Mix(history, self_[slot]);
      if (nan_[slot]) return {.invalid = true};
    }
    return Draw(history, sample, model_);
  }
  TESSERA_CHECK(false, "a drawn row of no sequence");
}

std::vector<int32_t> FakeAnswer(const FakeModel& model, const PreparedRequest& request,
                                int choice) {
  std::vector<int32_t> tokens = request.prompt;
  std::vector<int32_t> ends = request.end_ids;
  ends.insert(ends.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
  std::vector<int32_t> answer;
  uint64_t value = 1;
  uint64_t history = 0;
  int32_t done = 0;
  while (static_cast<int>(answer.size()) < request.max_tokens) {
    for (; done < static_cast<int32_t>(tokens.size()); ++done) {
      // Pictures seen: back from the last mark at or before this row, over adjacent marks.
      std::vector<int> pictures;
      for (int i = static_cast<int>(request.media.size()) - 1; i >= 0; --i) {
        const int32_t mark = request.media[i].mark;
        if (mark > done) continue;
        if (!pictures.empty() && mark + 1 != request.media[i + 1].mark) break;
        pictures.insert(pictures.begin(), i);
      }
      std::vector<uint64_t> tiles;
      for (int i : pictures) {
        const MediaPixels& pixels = *request.media[i].pixels;
        for (int t = 0; t < pixels.used_tiles; ++t) tiles.push_back(TileValue(pixels, t));
      }
      uint64_t seen = 0;
      if (!tiles.empty()) {
        seen = SeenValue(tiles, true);
      } else if (!request.media.empty() && model.unseen_rows == UnseenRows::kAttend) {
        for (const Media& media : request.media) {
          for (int t = 0; t < media.pixels->used_tiles; ++t)
            tiles.push_back(TileValue(*media.pixels, t));
        }
        for (const Media& media : request.media) {
          for (int t = media.pixels->used_tiles; t < model.max_tiles; ++t)
            tiles.push_back(TileValue(*media.pixels, t));
        }
        seen = SeenValue(tiles, false);
      }
      value = SlotValue(value, tokens[done], done, seen);
      history = Mix(history, value);
    }
    const SamplingParams& sampling = request.sampling;
    SampleRow row{.temperature = sampling.temperature,
                  .repetition_penalty = sampling.repetition_penalty,
                  .frequency_penalty = sampling.frequency_penalty,
                  .presence_penalty = sampling.presence_penalty,
                  .seed = sampling.seed,
                  .choice = static_cast<uint32_t>(choice),
                  .position = static_cast<uint32_t>(tokens.size()),
                  .logprobs = sampling.logprobs};
    std::vector<TokenCount> counts;
    for (int32_t id = 0; id < model.vocab + 8; ++id) {
      const auto in_prompt = std::count(request.prompt.begin(), request.prompt.end(), id);
      const auto in_output = std::count(answer.begin(), answer.end(), id);
      if (in_prompt + in_output > 0)
        counts.push_back({id, static_cast<int32_t>(in_prompt), static_cast<int32_t>(in_output)});
    }
    row.counts = counts;
    if (static_cast<int>(answer.size()) < request.min_tokens) row.banned = ends;
    const int32_t id = Draw(history, row, model).id;
    answer.push_back(id);
    tokens.push_back(id);
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) break;
  }
  return answer;
}

TextDecoderFactory FakeDecoders() {
  return [](bool skip_special) { return std::make_unique<Decoder>(skip_special); };
}

std::string FakeText(const std::vector<int32_t>& ids) {
  Decoder decoder(true);
  std::string text;
  for (int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Flush();
}

Digest FakeDigest(uint64_t seed) {
  Digest digest;
  for (size_t i = 0; i < digest.bytes.size(); i += 8) {
    seed = Mix(seed, i);
    std::memcpy(&digest.bytes[i], &seed, 8);
  }
  return digest;
}

Media FakePicture(uint64_t seed, int tiles, int32_t mark) {
  auto pixels = std::make_shared<MediaPixels>();
  pixels->used_tiles = tiles;
  pixels->aspect_ratio_id = tiles;
  for (int i = 0; i < 8; ++i)
    pixels->tiles.push_back(static_cast<uint8_t>(Mix(seed, static_cast<uint64_t>(i))));
  return {.digest = FakeDigest(seed * 8 + static_cast<uint64_t>(tiles)),
          .pixels = std::move(pixels),
          .mark = mark};
}

std::shared_ptr<PreparedRequest> FakeRequest(uint64_t seed, int prompt_length) {
  auto request = std::make_shared<PreparedRequest>();
  request->id = std::to_string(seed);
  for (int i = 0; i < prompt_length; ++i) {
    request->prompt.push_back(static_cast<int32_t>(2 + Mix(seed, static_cast<uint64_t>(i)) % 50));
  }
  request->sampling.temperature = 0;
  request->max_tokens = 16;
  request->end_ids = {kFakeEnd};
  request->arrival = TimePoint(std::chrono::hours(1));
  request->deadline = TimePoint(std::chrono::hours(1000));
  return request;
}

}  // namespace tessera::testing
