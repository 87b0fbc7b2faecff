#include "model/vision_schedule.h"

#include <algorithm>

#include "base/check.h"

namespace tessera {

VisionSchedule::VisionSchedule(const VisionConfig& v, const TextConfig& t, int kept_tiles,
                               int run_tiles, int64_t block, double unit_flops)
    : kept_tiles_(kept_tiles), run_tiles_(run_tiles), unit_flops_(unit_flops) {
  TESSERA_CHECK(kept_tiles <= run_tiles && run_tiles <= v.max_tiles,
                "run tiles: expected {}..{}, got {}", kept_tiles, v.max_tiles, run_tiles);
  const double hidden = v.hidden, width = double{1} * v.heads * v.head_dim;
  const auto keys = static_cast<double>(run_tiles) * v.padded_tokens();
  const double qkv = 2 * hidden * 3 * width;
  const double attention = 4 * keys * width + 2 * width * hidden + 4 * hidden * v.intermediate;
  const int64_t kept_tokens = int64_t{kept_tiles} * v.tokens();
  const int layers = v.layers + v.global_layers;

  Add(VisionStage::kEmbed, 0, run_tiles, 2.0 * v.patches() * v.patch_elements() * hidden, 1);
  for (int layer = 0; layer < layers; ++layer) {
    const int64_t rows = VisionRows(v, run_tiles, layer >= v.layers);
    if (layer == v.layers) Add(VisionStage::kLastNorm, 0, rows, 0, block);
    Add(VisionStage::kQkv, layer, rows, qkv, block);
    // After the last layer nobody reads the states of padding and of tiles that are not kept. Up to
    // there all tiles read all others.
    Add(VisionStage::kAttention, layer, layer == layers - 1 ? kept_tokens : rows, attention, block);
  }
  if (v.global_layers == 0) Add(VisionStage::kLastNorm, 0, kept_tokens, 0, block);
  Add(VisionStage::kProject, 0, kept_tokens, 2.0 * v.output_dim() * t.hidden, block);
  const double kv = 2.0 * t.hidden * 2 * t.kv_heads * t.head_dim;
  for (int cross = 0; cross < static_cast<int>(t.cross_layers.size()); ++cross) {
    Add(VisionStage::kCrossKv, cross, kept_tokens, kv, block);
  }

  double unit = 0;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const bool first_kv =
        steps_[i].stage == VisionStage::kCrossKv && steps_[i - 1].stage == VisionStage::kProject;
    if (i > 0 && (first_kv || unit + steps_[i].flops > unit_flops_)) {
      unit_ends_.push_back(i);
      unit = 0;
    }
    if (first_kv) cross_kv_begin_ = units();
    unit += steps_[i].flops;
    flops_ += steps_[i].flops;
  }
  unit_ends_.push_back(steps_.size());
}

void VisionSchedule::Add(VisionStage stage, int layer, int64_t rows, double flops_per_row,
                         int64_t block) {
  // Whole tiles of 16 rows where a block has that many
  int64_t step = block;
  if (flops_per_row > 0)
    step = std::min(step, std::max<int64_t>(1, static_cast<int64_t>(unit_flops_ / flops_per_row)));
  if (step > 16) step = step / 16 * 16;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t end = std::min(begin + step, rows);
    steps_.push_back({stage, layer, begin, end, flops_per_row * static_cast<double>(end - begin)});
  }
}

std::span<const VisionStep> VisionSchedule::Steps(int begin, int end) const {
  TESSERA_CHECK(begin >= 0 && begin <= end && end <= units(),
                "encode units: expected [0, {}], got [{}, {})", units(), begin, end);
  const size_t first = begin == 0 ? 0 : unit_ends_[static_cast<size_t>(begin) - 1];
  const size_t last = end == 0 ? 0 : unit_ends_[static_cast<size_t>(end) - 1];
  return std::span(steps_).subspan(first, last - first);
}

}  // namespace tessera
