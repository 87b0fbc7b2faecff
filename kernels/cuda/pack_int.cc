// Sources of any float type, or codes as a checkpoint has them, to codes, scales and minima in the
// layout of matmul_int.h.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "kernels/code_source.h"
#include "kernels/cuda/int_matrix.h"
#include "kernels/factory.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kQuantAlign = 32;  // K is padded to it before scales are chosen, as on the CPU

// Rows of one item: whole strips, and what the quantiser takes side by side.
constexpr int64_t kItemRows = kQuantLanes;
static_assert(kItemRows % kIntStrip == 0);

// Rows `row` .. of the stack as fp32 [kItemRows][stored]; rows beyond the last are zero.
void LoadRows(std::span<const SourceMatrix> sources, int64_t row, int64_t stored, float* to) {
  std::fill_n(to, kItemRows * stored, 0.0f);
  for (int64_t i = 0; i < kItemRows; ++i) {
    int64_t in_source = row + i;
    size_t s = 0;
    while (s < sources.size() && in_source >= sources[s].rows) in_source -= sources[s++].rows;
    if (s < sources.size()) LoadSourceRows(sources[s], in_source, 1, to + i * stored);
  }
}

// One thread's item, row-major: codes [kItemRows][stored], scales and minima [kItemRows][groups].
struct ItemCodes {
  std::vector<uint8_t> codes = {};
  std::vector<float> scales = {}, minima = {};
  std::vector<float> numbers = {};     // before they are codes
  std::vector<uint8_t> row = {};       // of a source,
  std::vector<float> row_scales = {};  // which has groups of its own
  std::vector<uint16_t> row_zeros = {};
};

struct Item {
  std::span<const SourceMatrix> sources;
  const IntLayout& layout;
  const QuantFormat& format;
  int64_t stored = 0;
  bool kept = false;  // the sources are codes of this format
  std::span<const float> importance;
  std::atomic<bool>& too_large;  // for fp16, which weights of groups become

  // Returns the bad row of the item, or -1.
  int64_t Pack(int64_t first, uint8_t* to, ItemCodes& item) const {
    const int64_t groups = format.groups(stored);
    item.codes.assign(static_cast<size_t>(kItemRows * stored), 0);
    item.scales.assign(static_cast<size_t>(kItemRows * groups), 0.0f);
    item.minima.assign(format.minimum ? item.scales.size() : 0, 0.0f);
    if (kept) {
      Read(first, item);
    } else {
      item.numbers.resize(item.codes.size());
      LoadRows(sources, first, stored, item.numbers.data());
      const int64_t bad = QuantizeRows(
          format, item.numbers.data(), kItemRows, stored, importance,
          {item.codes.data(), item.scales.data(), format.minimum ? item.minima.data() : nullptr});
      if (bad >= 0) return bad;
    }
    LayOut(first, item, to);
    return -1;
  }

  // The sources' own codes. A group of theirs may be several of the format's, with one scale.
  void Read(int64_t first, ItemCodes& item) const {
    const int64_t groups = format.groups(stored);
    for (int64_t i = 0; i < kItemRows; ++i) {
      int64_t in_source = first + i;
      size_t s = 0;
      while (s < sources.size() && in_source >= sources[s].rows) in_source -= sources[s++].rows;
      if (s == sources.size()) return;
      const CodeSource& from = *sources[s].codes;
      item.row.resize(static_cast<size_t>(from.columns()));
      item.row_scales.resize(static_cast<size_t>(from.groups()));
      item.row_zeros.resize(item.row_scales.size());
      from.Read(in_source, 1, item.row.data(), item.row_scales.data(), item.row_zeros.data());
      const auto end = std::copy(item.row.begin(), item.row.end(), item.codes.begin() + i * stored);
      std::fill(end, item.codes.begin() + (i + 1) * stored, static_cast<uint8_t>(format.offset()));
      for (int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<size_t>(i * groups + g);
        const auto theirs = static_cast<size_t>(
            format.group == 0 ? 0 : std::min(g * format.group / from.group(), from.groups() - 1));
        item.scales[at] = item.row_scales[theirs];
        if (format.minimum)
          item.minima[at] = -item.scales[at] * static_cast<float>(item.row_zeros[theirs]);
      }
    }
  }

  void LayOut(int64_t first, const ItemCodes& item, uint8_t* to) const {
    const int64_t groups = format.groups(stored);
    auto* halves = reinterpret_cast<uint16_t*>(to + layout.words_at());
    auto* of_rows = reinterpret_cast<float*>(to + layout.scales_at());
    const int64_t rows = std::min<int64_t>(kItemRows, layout.strips() * kIntStrip - first);
    // The quantiser never uses the code that has no opposite.
    const float most_code = layout.bits == 4 ? 15.0f : kept ? 128.0f : 127.0f;
    for (int64_t i = 0; i < rows; ++i) {
      const auto row = static_cast<int32_t>(first + i);
      for (int32_t c = 0; c < layout.k; ++c) {
        const uint8_t code = item.codes[static_cast<size_t>(i * stored + c)];
        const int64_t at = layout.code_at(row, c);
        if (layout.bits == 8) {
          to[at] = code;
        } else {
          to[at / 2] = static_cast<uint8_t>(to[at / 2] | code << at % 2 * 4);
        }
      }
      for (int64_t g = 0; g < groups; ++g) {
        const auto from = static_cast<size_t>(i * groups + g);
        if (layout.group == 0) {
          of_rows[row] = item.scales[from];
          continue;
        }
        const int64_t at = layout.scale_at(row, static_cast<int32_t>(g));
        halves[at] = FloatToBF16(item.scales[from]);
        float most = std::fabs(item.scales[from]) * most_code;
        if (format.minimum) {
          halves[at + 1] = FloatToBF16(item.minima[from]);
          most += std::fabs(item.minima[from]);
        }
        if (most >= 65520.0f) too_large = true;
      }
    }
  }
};

}  // namespace

Result<PackedInts> PackInts(std::span<const SourceMatrix> sources, const PackSpec& spec, int64_t n,
                            int64_t k, DType activations) {
  const std::optional<QuantFormat> kept = FormatKept(sources, spec);
  QuantFormat format;
  if (kept) {
    format = *kept;
  } else {
    TESSERA_TRY(format, QuantFormatOf(spec));
  }
  TESSERA_CHECK(spec.importance.empty() || std::ssize(spec.importance) == k,
                "Pack: importance: expected {} columns, got {}", k, spec.importance.size());
  PackedInts packed{.layout = {.n = static_cast<int32_t>(n),
                               .k = static_cast<int32_t>(k),
                               .bits = format.bits,
                               .group = format.group,
                               .minimum = format.minimum ? 1 : 0},
                    .bytes = {}};
  const IntLayout& layout = packed.layout;
  packed.bytes.resize(static_cast<size_t>(layout.bytes()));
  const int64_t stored = (k + kQuantAlign - 1) / kQuantAlign * kQuantAlign;
  std::vector<float> importance(spec.importance.begin(), spec.importance.end());
  if (!importance.empty()) importance.resize(static_cast<size_t>(stored), 0.0f);
  std::atomic<bool> too_large{false};
  const Item item{sources, layout, format, stored, kept.has_value(), importance, too_large};

  const int64_t items = (n + kItemRows - 1) / kItemRows;
  std::atomic<int64_t> next{0}, bad_row{-1};
  const auto work = [&] {
    ItemCodes codes;
    for (int64_t i = next++; i < items; i = next++) {
      const int64_t bad = item.Pack(i * kItemRows, packed.bytes.data(), codes);
      if (bad >= 0) bad_row = i * kItemRows + bad;
    }
  };
  {
    // Matrices of a few items are not worth a thread.
    const int64_t threads = std::min<int64_t>(UsableCpuCount(), n * k / (1 << 16) + 1);
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
  }
  if (bad_row >= 0)
    return Invalid("a weight that is to be quantised is not finite or too large",
                   {.field = "weights",
                    .limit = "magnitudes up to 1e37",
                    .value = fmt::format("row {}", bad_row.load())});
  if (too_large && activations == DType::kF16)
    return Invalid("a weight is too large for fp16",
                   {.field = "weights",
                    .limit = "magnitudes below 65520, or activations of bf16",
                    .value = std::string(Name(spec.format))});
  return packed;
}

}  // namespace tessera::cuda
