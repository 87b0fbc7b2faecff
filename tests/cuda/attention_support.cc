#include "tests/cuda/attention_support.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace tessera::cuda_test {
namespace {

using cuda::AttentionItem;
using cuda::AttentionLaunch;
using cuda::AttentionParams;
using cuda::AttentionPlan;
using cuda::kKeyBlock;
using cuda::kPageBlock;

uint64_t Mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint16_t BitsOf(RowType type, float value) {
  return type == RowType::kF16 ? FloatToF16(value) : FloatToBF16(value);
}

cuda::AttentionType TypeOf(const HeadShape& shape) {
  return shape.type == RowType::kF16 ? cuda::AttentionType::kF16 : cuda::AttentionType::kBf16;
}

float Scale(const HeadShape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

// One query vector over keys that it sees. The kernels' arithmetic, term by term: a score is off by
// its dot product in fp32 (D + 1 roundings, doubled for tensor cores, which truncate), its scaling
// and the exponential; P is rounded to the storage type in the numerator and, the same P, in the
// sum; fp16 also loses what is below its smallest subnormal; sums over keys and splits are fp32.
std::vector<Bounded> Attend(const HeadShape& shape, const std::vector<float>& q, int keys,
                            const std::function<std::vector<float>(Part, int)>& value,
                            const std::function<bool(int)>& sees) {
  using ops_test::kU;
  const auto dim = static_cast<size_t>(shape.head_dim);
  const double scale = Scale(shape);
  std::vector<double> score(static_cast<size_t>(keys));
  double max = -std::numeric_limits<double>::infinity(), score_error = 0, most = 0;
  int seen = 0;
  for (int j = 0; j < keys; ++j) {
    if (!sees(j)) continue;
    const std::vector<float> k = value(Part::kKey, j);
    double sum = 0, absolute = 0;
    for (size_t d = 0; d < dim; ++d) {
      sum += double{q[d]} * k[d];
      absolute += std::fabs(double{q[d]} * k[d]);
    }
    score[static_cast<size_t>(j)] = sum * scale;
    max = std::max(max, sum * scale);
    most = std::max(most, std::fabs(sum * scale));
    score_error = std::max(score_error, 2 * (static_cast<double>(dim) + 1) * kU * absolute * scale);
    ++seen;
  }
  std::vector<Bounded> out(dim);
  if (seen == 0) return out;
  std::vector<double> absolute(dim, 0.0), largest(dim, 0.0);
  double sum = 0;
  for (int j = 0; j < keys; ++j) {
    if (!sees(j)) continue;
    const double p = std::exp(score[static_cast<size_t>(j)] - max);
    const std::vector<float> v = value(Part::kValue, j);
    sum += p;
    for (size_t d = 0; d < dim; ++d) {
      out[d].value += p * v[d];
      absolute[d] += p * std::fabs(v[d]);
      largest[d] = std::max(largest[d], std::fabs(double{v[d]}));
    }
  }
  const double blocks = keys / 64.0 + 1;
  const double weight = 2 * score_error + (8 + 8 * most) * kU + 6 * blocks * kU;
  const double rounding = shape.type == RowType::kF16 ? 0x1p-11 : 0x1p-8;
  const double tiny = shape.type == RowType::kF16 ? 0x1p-25 : 0;
  for (size_t d = 0; d < dim; ++d) {
    out[d].value /= sum;
    out[d].bound = (2 * weight + rounding + 4 * (seen + blocks) * kU) * absolute[d] / sum +
                   2 * tiny * seen * largest[d] / sum + 1e-37;
    out[d] = Stored(shape.type, out[d]);
  }
  return out;
}

// What the launches of one op share.
struct Call {
  AttentionParams p;
  AttentionPlan plan;
  std::unique_ptr<DeviceArray<AttentionItem>> items;
  std::unique_ptr<DeviceArray<int32_t>> table;
};

Call Begin(const HeadShape& shape, const DeviceRows& q, const DeviceRows& out) {
  Call call;
  call.p = {.q = q.data(),
            .out = out.data(),
            .q_stride = q.stride(),
            .out_stride = out.stride(),
            .kv_heads = shape.kv_heads,
            .head_dim = shape.head_dim,
            .group = shape.group(),
            .scale_log2 = Scale(shape) * static_cast<float>(M_LOG2E),
            .vectors = shape.head_dim % 8 == 0 && q.stride() % 8 == 0 && out.stride() % 8 == 0};
  return call;
}

void Finish(Call& call, const std::string& what,
            const std::function<cuda::LaunchStatus(int, const AttentionParams&)>& launch) {
  call.items = std::make_unique<DeviceArray<AttentionItem>>(call.plan.items);
  for (const AttentionLaunch& part : call.plan.launches) {
    AttentionParams p = call.p;
    const auto vectors = static_cast<size_t>(part.partial_vectors * p.kv_heads);
    const auto nan = std::numeric_limits<float>::quiet_NaN();
    const DeviceArray<float> partial(
        std::vector<float>(vectors * static_cast<size_t>(cuda::InstanceHeadDim(p.head_dim)), nan));
    const DeviceArray<float> sums(std::vector<float>(vectors * 2, nan));
    const DeviceArray<uint32_t> counters(
        std::vector<uint32_t>(static_cast<size_t>(part.counters * p.kv_heads), 0));
    p.partial = partial.get();
    p.partial_sum = sums.get();
    p.counters = counters.get();
    p.items = call.items->get() + part.item_begin;
    p.item_count = part.item_count;
    p.partial_vectors = part.partial_vectors;
    ExpectRan(launch(part.tile_vectors, p), what);
  }
}

cuda::PlanLimits Limits(const HeadShape& shape, int max_partial_vectors = -1) {
  return {
      .group = shape.group(),
      .prefill_vectors = cuda::PrefillTileVectors(shape.head_dim),
      .max_partial_vectors = max_partial_vectors < 0 ? 1024 * shape.group() : max_partial_vectors};
}

Floats Heads(const HeadShape& shape, Part part, int sequence, int row, int heads) {
  Floats values;
  for (int head = 0; head < heads; ++head) {
    const std::vector<float> one = HeadValues(shape, part, sequence, row, head);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

void Append(Floats& to, const Floats& from) { to.insert(to.end(), from.begin(), from.end()); }
void Append(std::vector<Bounded>& to, const std::vector<Bounded>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

std::vector<float> HeadValues(const HeadShape& shape, Part part, int sequence, int row, int head) {
  uint64_t seed = Mix(static_cast<uint64_t>(part) * 1000003 + static_cast<uint64_t>(sequence));
  seed = Mix(seed ^ (static_cast<uint64_t>(row) << 20) ^ static_cast<uint64_t>(head));
  std::vector<float> values(static_cast<size_t>(shape.head_dim));
  const float size = part == Part::kQuery ? 3.0f : 1.0f;
  for (float& value : values) {
    seed = Mix(seed);
    value = RoundTo(shape.type, size * (static_cast<float>(seed >> 40) * 0x1p-23f - 1.0f));
  }
  return values;
}

PagePool::PagePool(const HeadShape& shape, int page_tokens, int pages)
    : shape_(shape),
      page_tokens_(page_tokens),
      blocks_per_page_((page_tokens + kPageBlock - 1) / kPageBlock),
      k_(static_cast<size_t>(pages * blocks_per_page_ * kPageBlock * shape.kv_heads *
                             shape.head_dim),
         0xffff),
      v_(k_) {}

void PagePool::Put(int page, int token, int sequence, int key) {
  const int block = page * blocks_per_page_ + token / kPageBlock;
  for (int head = 0; head < shape_.kv_heads; ++head) {
    const auto at = static_cast<size_t>(
        ((block * shape_.kv_heads + head) * kPageBlock + token % kPageBlock) * shape_.head_dim);
    const std::vector<float> k = HeadValues(shape_, Part::kKey, sequence, key, head);
    const std::vector<float> v = HeadValues(shape_, Part::kValue, sequence, key, head);
    for (size_t d = 0; d < k.size(); ++d) {
      k_[at + d] = BitsOf(shape_.type, k[d]);
      v_[at + d] = BitsOf(shape_.type, v[d]);
    }
  }
}

void PagePool::Upload() {
  k_device_ = std::make_unique<DeviceArray<uint16_t>>(k_);
  v_device_ = std::make_unique<DeviceArray<uint16_t>>(v_);
}

void PagePool::Fill(AttentionParams& p) const {
  p.k = k_device_->get();
  p.v = v_device_->get();
  p.k_stride = int64_t{shape_.kv_heads} * kPageBlock * shape_.head_dim;
  p.blocks_per_page = blocks_per_page_;
}

Floats RunSelf(const SelfProblem& problem, const std::string& what) {
  const HeadShape& shape = problem.shape;
  const int64_t columns = int64_t{shape.heads} * shape.head_dim;
  int pages = 0, rows = 0;
  for (const SelfSequence& s : problem.sequences) {
    pages += (s.cached + s.rows + problem.page_tokens - 1) / problem.page_tokens;
    rows += s.rows;
  }
  // Pages from the end of the pool, so that no two neighbours are in order.
  PagePool pool(shape, problem.page_tokens, pages + 2);
  std::vector<int32_t> table;
  std::vector<SequenceRows> sequences;
  Floats q;
  int row = 0;
  for (const SelfSequence& s : problem.sequences) {
    sequences.push_back({.row_begin = row,
                         .row_count = s.rows,
                         .first_position = s.cached,
                         .page_begin = static_cast<int32_t>(table.size())});
    for (int key = 0; key < s.cached + s.rows; ++key) {
      if (key % problem.page_tokens == 0)
        table.push_back(pages - static_cast<int32_t>(table.size()));
      pool.Put(table.back(), key % problem.page_tokens, s.sequence, key);
    }
    for (int r = 0; r < s.rows; ++r)
      Append(q, Heads(shape, Part::kQuery, s.sequence, s.cached + r, shape.heads));
    row += s.rows;
  }
  pool.Upload();
  const DeviceRows q_rows(shape.type, rows, columns, problem.gap, 0, q),
      out(shape.type, rows, columns, problem.gap);
  Call call = Begin(shape, q_rows, out);
  pool.Fill(call.p);
  call.plan = cuda::PlanSelfAttention(sequences, Limits(shape, problem.max_partial_vectors));
  call.table = std::make_unique<DeviceArray<int32_t>>(table);
  call.p.table = call.table->get();
  Finish(call, what, [&](int tile_vectors, const AttentionParams& p) {
    return tile_vectors == 0 ? cuda::LaunchSelfPrefill(TypeOf(shape), p, TestStream())
                             : cuda::LaunchSelfDecode(TypeOf(shape), tile_vectors, p, TestStream());
  });
  out.CheckGuards(what);
  return out.Get();
}

std::vector<Bounded> WantSelf(const SelfProblem& problem) {
  const HeadShape& shape = problem.shape;
  std::vector<Bounded> want;
  for (const SelfSequence& s : problem.sequences)
    for (int r = 0; r < s.rows; ++r)
      for (int head = 0; head < shape.heads; ++head)
        Append(want, Attend(
                         shape, HeadValues(shape, Part::kQuery, s.sequence, s.cached + r, head),
                         s.cached + r + 1,
                         [&](Part part, int key) {
                           return HeadValues(shape, part, s.sequence, key, head / shape.group());
                         },
                         [](int) { return true; }));
  return want;
}

Floats RunCross(const CrossProblem& problem, const std::string& what) {
  const HeadShape& shape = problem.shape;
  const auto rows = static_cast<int>(problem.rows.size());
  int tiles = 0;
  for (const std::vector<int>& row : problem.rows)
    for (int tile : row) tiles = std::max(tiles, tile + 1);
  PagePool pool(shape, problem.tile_keys, tiles + 1);  // tile t lies in page tiles - t
  for (int tile = 0; tile < tiles; ++tile)
    for (int key = 0; key < problem.tile_keys; ++key) pool.Put(tiles - tile, key, tile, key);
  pool.Upload();
  std::vector<CrossRow> ranges;
  std::vector<int32_t> table;
  Floats q;
  for (int r = 0; r < rows; ++r) {
    const auto at = static_cast<size_t>(r);
    Append(q, Heads(shape, Part::kQuery, 1000, r, shape.heads));
    if (r > 0 && problem.rows[at] == problem.rows[at - 1]) {
      ranges.push_back(ranges.back());
      continue;
    }
    const auto begin = static_cast<int32_t>(table.size());
    for (int tile : problem.rows[at]) table.push_back(tiles - tile);
    ranges.push_back({begin, static_cast<int32_t>(table.size())});
  }
  const int64_t columns = int64_t{shape.heads} * shape.head_dim;
  const DeviceRows q_rows(shape.type, rows, columns, problem.gap, 0, q),
      out(shape.type, rows, columns, problem.gap);
  Call call = Begin(shape, q_rows, out);
  pool.Fill(call.p);
  call.p.tile_keys = problem.tile_keys;
  call.p.tile_blocks = (problem.tile_keys + kKeyBlock - 1) / kKeyBlock;
  call.plan = cuda::PlanCrossAttention(ranges, call.p.tile_blocks, Limits(shape));
  call.table = std::make_unique<DeviceArray<int32_t>>(table);
  call.p.table = call.table->get();
  Finish(call, what, [&](int tile_vectors, const AttentionParams& p) {
    return tile_vectors == 0
               ? cuda::LaunchCrossPrefill(TypeOf(shape), p, TestStream())
               : cuda::LaunchCrossDecode(TypeOf(shape), tile_vectors, p, TestStream());
  });
  out.CheckGuards(what);
  return out.Get();
}

std::vector<Bounded> WantCross(const CrossProblem& problem) {
  const HeadShape& shape = problem.shape;
  std::vector<Bounded> want;
  for (int r = 0; r < static_cast<int>(problem.rows.size()); ++r) {
    const std::vector<int>& tiles = problem.rows[static_cast<size_t>(r)];
    for (int head = 0; head < shape.heads; ++head)
      Append(want, Attend(
                       shape, HeadValues(shape, Part::kQuery, 1000, r, head),
                       static_cast<int>(tiles.size()) * problem.tile_keys,
                       [&](Part part, int key) {
                         return HeadValues(shape, part,
                                           tiles[static_cast<size_t>(key / problem.tile_keys)],
                                           key % problem.tile_keys, head / shape.group());
                       },
                       [](int) { return true; }));
  }
  return want;
}

Floats RunDense(const DenseProblem& problem, const std::string& what) {
  const HeadShape& shape = problem.shape;
  Floats q, k, v;
  for (int r = 0; r < problem.rows; ++r)
    Append(q, Heads(shape, Part::kQuery, 0, problem.row_begin + r, shape.heads));
  for (int key = 0; key < problem.keys; ++key) {
    Append(k, Heads(shape, Part::kKey, 0, key, shape.kv_heads));
    Append(v, Heads(shape, Part::kValue, 0, key, shape.kv_heads));
  }
  const int64_t columns = int64_t{shape.heads} * shape.head_dim,
                kv_columns = int64_t{shape.kv_heads} * shape.head_dim;
  const DeviceRows q_rows(shape.type, problem.rows, columns, problem.gap, 0, q),
      out(shape.type, problem.rows, columns, problem.gap),
      k_rows(shape.type, problem.keys, kv_columns, problem.gap, 0, k),
      v_rows(shape.type, problem.keys, kv_columns, 2 * problem.gap, 0, v);
  Call call = Begin(shape, q_rows, out);
  call.p.k = k_rows.data(), call.p.k_stride = k_rows.stride();
  call.p.v = v_rows.data(), call.p.v_stride = v_rows.stride();
  call.p.first_row = problem.row_begin;
  call.p.vectors &= k_rows.stride() % 8 == 0 && v_rows.stride() % 8 == 0;
  if (!problem.padding.empty()) {
    std::vector<int32_t> bits(static_cast<size_t>((problem.keys + 63) / 64 * 2), 0);
    for (int key = 0; key < problem.keys; ++key)
      if (problem.padding[static_cast<size_t>(key)] != 0)
        bits[static_cast<size_t>(key / 32)] |= static_cast<int32_t>(1u << (key % 32));
    call.table = std::make_unique<DeviceArray<int32_t>>(bits);
    call.p.table = call.table->get();
  }
  call.plan = cuda::PlanDenseAttention(problem.rows, problem.keys, Limits(shape));
  Finish(call, what, [&](int, const AttentionParams& p) {
    return cuda::LaunchVision(TypeOf(shape), p, TestStream());
  });
  out.CheckGuards(what);
  return out.Get();
}

std::vector<Bounded> WantDense(const DenseProblem& problem) {
  const HeadShape& shape = problem.shape;
  const auto pads = [&](int token) {
    return !problem.padding.empty() && problem.padding[static_cast<size_t>(token)] != 0;
  };
  std::vector<Bounded> want;
  for (int r = 0; r < problem.rows; ++r)
    for (int head = 0; head < shape.heads; ++head)
      Append(want, Attend(
                       shape, HeadValues(shape, Part::kQuery, 0, problem.row_begin + r, head),
                       problem.keys,
                       [&](Part part, int key) {
                         return HeadValues(shape, part, 0, key, head / shape.group());
                       },
                       [&](int key) { return !(pads(problem.row_begin + r) && pads(key)); }));
  return want;
}

}  // namespace tessera::cuda_test
