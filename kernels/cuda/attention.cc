// CudaBackend's attention ops: checks, plans, launches.
#include "kernels/cuda/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/backend.h"

namespace tessera::cuda {
namespace {

// Splits of single rows, all heads, whose partial results one launch keeps: a million keys.
constexpr int64_t kPartialSplits = 1024;

AttentionType TypeOf(DType dtype) {
  return dtype == DType::kF16 ? AttentionType::kF16 : AttentionType::kBf16;
}

// Pieces of 8 elements can be moved as 16 bytes.
bool IsVector(const TensorView& view) {
  return view.data == nullptr || (reinterpret_cast<uintptr_t>(view.data) % 16 == 0 &&
                                  (view.shape[0] <= 1 || view.stride[0] % 8 == 0));
}

// What SelfAttention and CrossAttention have in common.
AttentionParams PagedParams(ShapeCheck& check, const TensorView& q, const KvLayerView& kv,
                            const TensorView& out, float scale, DType dtype) {
  check.Kv(kv);
  const KvGeometry& geometry = kv.geometry;
  const int64_t head_dim = geometry.head_dim, kv_heads = geometry.kv_heads;
  check.True(geometry.dtype == dtype, "kv geometry", "the backend's activation dtype",
             static_cast<int64_t>(geometry.dtype));
  check.True(head_dim <= kMaxAttentionHeadDim, "head_dim", "at most 256", head_dim);
  check.True(check['Q'] % head_dim == 0 && check['Q'] / head_dim % kv_heads == 0, "q",
             "H * D columns with H a multiple of G", check['Q']);
  check.True(scale > 0 && std::isfinite(scale), "scale", "a positive number", 0);
  return {.q = q.data,
          .k = kv.k,
          .v = kv.v,
          .out = out.data,
          .q_stride = q.stride[0],
          .out_stride = out.stride[0],
          .k_stride = kv_heads * kPageBlock * head_dim,
          .kv_heads = static_cast<int32_t>(kv_heads),
          .head_dim = static_cast<int32_t>(head_dim),
          .group = static_cast<int32_t>(check['Q'] / head_dim / kv_heads),
          .blocks_per_page = geometry.blocks_per_page(),
          .scale_log2 = scale * static_cast<float>(M_LOG2E),
          .vectors = head_dim % 8 == 0 && IsVector(q) && IsVector(out)};
}

PlanLimits LimitsOf(const AttentionParams& p) {
  return {.group = p.group,
          .prefill_vectors = PrefillTileVectors(p.head_dim),
          .max_partial_vectors = static_cast<int>(kPartialSplits * p.group)};
}

// Queues all launches of a plan, the scratch memory of one after that of the other.
template <typename Launch>
void Run(CudaBackend& backend, const char* op, const AttentionPlan& plan, AttentionParams p,
         Launch&& launch) {
  backend.ResetScratch();
  int64_t partial_vectors = 0, counters = 0;
  for (const AttentionLaunch& part : plan.launches) {
    partial_vectors = std::max<int64_t>(partial_vectors, part.partial_vectors);
    counters = std::max<int64_t>(counters, part.counters);
  }
  if (partial_vectors > 0) {
    const auto vectors = static_cast<size_t>(partial_vectors * p.kv_heads);
    p.partial =
        backend.Scratch<float>(op, vectors * static_cast<size_t>(InstanceHeadDim(p.head_dim)));
    p.partial_sum = backend.Scratch<float>(op, 2 * vectors);
    p.counters = backend.Scratch<uint32_t>(op, static_cast<size_t>(counters * p.kv_heads));
  }
  const AttentionItem* items = backend.Stage(std::span<const AttentionItem>(plan.items));
  for (const AttentionLaunch& part : plan.launches) {
    if (part.counters > 0)
      backend.Zero(p.counters, static_cast<size_t>(part.counters) *
                                   static_cast<size_t>(p.kv_heads) * sizeof(uint32_t));
    if (backend.failed()) return;
    p.items = items + part.item_begin;
    p.item_count = part.item_count;
    p.partial_vectors = part.partial_vectors;
    backend.Check(launch(part.tile_vectors, p));
  }
}

}  // namespace

size_t AttentionScratchBytes(const ScratchLimits& limits, const DeviceProps&) {
  const auto vectors = static_cast<size_t>(kPartialSplits * std::max<int64_t>(limits.max_heads, 1));
  const auto head_dim = static_cast<size_t>(InstanceHeadDim(
      static_cast<int>(std::clamp<int64_t>(limits.max_head_dim, 1, kMaxAttentionHeadDim))));
  constexpr size_t kRounding = 3 * 256;
  return vectors * (head_dim * sizeof(float) + 2 * sizeof(float) + sizeof(uint32_t)) + kRounding;
}

void CudaBackend::SelfAttention(const SelfAttentionArgs& args) {
  ShapeCheck check("SelfAttention");
  check.View("q", args.q, "RQ", dtype_);
  check.View("out", args.out, "RQ", dtype_);
  if (check['R'] == 0) return;
  AttentionParams p = PagedParams(check, args.q, args.kv, args.out, args.scale, dtype_);
  const KvGeometry& geometry = args.kv.geometry;
  check.True(geometry.page_tokens % kPageBlock == 0, "page_tokens", "a multiple of 16",
             geometry.page_tokens);
  for (const SequenceRows& rows : args.sequences) {
    check.True(rows.row_begin >= 0 && rows.row_count >= 0 && rows.first_position >= 0 &&
                   rows.row_begin + int64_t{rows.row_count} <= check['R'],
               "sequences", "rows inside q", rows.row_begin + int64_t{rows.row_count});
    const int64_t keys = int64_t{rows.first_position} + rows.row_count;
    const int64_t pages = (keys + geometry.page_tokens - 1) / geometry.page_tokens;
    check.True(rows.page_begin >= 0 && rows.page_begin + pages <= std::ssize(args.pages),
               "sequences", "pages inside the block table", rows.page_begin + pages);
  }
  const AttentionPlan plan = PlanSelfAttention(args.sequences, LimitsOf(p));
  p.table = Stage(args.pages);
  Run(*this, "SelfAttention", plan, p, [&](int tile_vectors, const AttentionParams& params) {
    return tile_vectors == 0 ? LaunchSelfPrefill(TypeOf(dtype_), params, stream())
                             : LaunchSelfDecode(TypeOf(dtype_), tile_vectors, params, stream());
  });
}

void CudaBackend::CrossAttention(const CrossAttentionArgs& args) {
  ShapeCheck check("CrossAttention");
  check.View("q", args.q, "RQ", dtype_);
  check.View("out", args.out, "RQ", dtype_);
  check.Extent("rows", 'R', std::ssize(args.rows));
  if (check['R'] == 0) return;
  AttentionParams p = PagedParams(check, args.q, args.kv, args.out, args.scale, dtype_);
  for (const CrossRow& row : args.rows)
    check.True(row.tiles_begin >= 0 && row.tiles_begin <= row.tiles_end &&
                   row.tiles_end <= std::ssize(args.tile_pages),
               "rows", "tiles inside tile_pages", row.tiles_end);
  p.tile_keys = args.kv.geometry.page_tokens;
  p.tile_blocks = (p.tile_keys + kKeyBlock - 1) / kKeyBlock;
  const AttentionPlan plan = PlanCrossAttention(args.rows, p.tile_blocks, LimitsOf(p));
  p.table = Stage(args.tile_pages);
  Run(*this, "CrossAttention", plan, p, [&](int tile_vectors, const AttentionParams& params) {
    return tile_vectors == 0 ? LaunchCrossPrefill(TypeOf(dtype_), params, stream())
                             : LaunchCrossDecode(TypeOf(dtype_), tile_vectors, params, stream());
  });
}

void CudaBackend::DenseAttention(const DenseAttentionArgs& args) {
  ShapeCheck check("DenseAttention");
  check.View("q", args.q, "RQ", dtype_);
  check.View("out", args.out, "RQ", dtype_);
  check.View("k", args.k, "SK", dtype_);
  check.View("v", args.v, "SK", dtype_);
  const int64_t dim = args.head_dim, rows = check['R'], keys = check['S'];
  check.True(dim > 0 && dim <= kMaxAttentionHeadDim, "head_dim", "1..256", dim);
  const int64_t heads = check['Q'] / dim, kv_heads = check['K'] / dim;
  check.True(
      check['Q'] % dim == 0 && check['K'] % dim == 0 && kv_heads > 0 && heads % kv_heads == 0, "q",
      "H * D columns with H a multiple of G", check['Q']);
  check.True(args.padding.empty() || std::ssize(args.padding) == keys, "padding",
             "S values or none", std::ssize(args.padding));
  check.True(args.row_begin >= 0 && args.row_begin + rows <= keys, "row_begin",
             "rows inside the sequence", args.row_begin);
  check.True(args.scale > 0 && std::isfinite(args.scale), "scale", "a positive number", 0);
  if (rows == 0) return;
  AttentionParams p{.q = args.q.data,
                    .k = args.k.data,
                    .v = args.v.data,
                    .out = args.out.data,
                    .q_stride = args.q.stride[0],
                    .out_stride = args.out.stride[0],
                    .k_stride = args.k.stride[0],
                    .v_stride = args.v.stride[0],
                    .kv_heads = static_cast<int32_t>(kv_heads),
                    .head_dim = static_cast<int32_t>(dim),
                    .group = static_cast<int32_t>(heads / kv_heads),
                    .first_row = args.row_begin,
                    .scale_log2 = args.scale * static_cast<float>(M_LOG2E),
                    .vectors = dim % 8 == 0 && IsVector(args.q) && IsVector(args.k) &&
                               IsVector(args.v) && IsVector(args.out)};
  if (std::any_of(args.padding.begin(), args.padding.end(), [](uint8_t x) { return x != 0; })) {
    const int64_t words = (keys + kKeyBlock - 1) / kKeyBlock * 2;
    std::vector<int32_t> bits(static_cast<size_t>(words), 0);
    for (int64_t key = 0; key < keys; ++key) {
      if (args.padding[static_cast<size_t>(key)] != 0)
        bits[static_cast<size_t>(key / 32)] |= static_cast<int32_t>(1u << (key % 32));
    }
    p.table = Stage(std::span<const int32_t>(bits));
  }
  const AttentionPlan plan = PlanDenseAttention(rows, keys, LimitsOf(p));
  Run(*this, "DenseAttention", plan, p, [&](int, const AttentionParams& params) {
    return LaunchVision(TypeOf(dtype_), params, stream());
  });
}

void CudaBackend::RopeWriteKv(const RopeWriteKvArgs& args) {
  ShapeCheck check("RopeWriteKv");
  check.Kv(args.kv);
  const KvGeometry& geometry = args.kv.geometry;
  const int head_dim = geometry.head_dim;
  check.True(geometry.dtype == dtype_, "kv geometry", "the backend's activation dtype",
             static_cast<int64_t>(geometry.dtype));
  check.Extent("kv geometry", 'G', int64_t{geometry.kv_heads} * head_dim);
  check.View("k", args.k, "RG", dtype_);
  check.View("v", args.v, "RG", dtype_);
  check.Extent("slots", 'R', std::ssize(args.slots));
  const bool has_q = args.q.data != nullptr;
  if (has_q) {
    check.View("q", args.q, "RQ", dtype_);
    check.True(check['Q'] % head_dim == 0, "q", "H * D columns", check['Q']);
  }
  const bool rotates = args.cos_table != nullptr;
  if (rotates) {
    check.NotNull("sin_table", args.sin_table);
    check.Extent("positions", 'R', std::ssize(args.positions));
    check.True(args.rotary_dim >= 0 && args.rotary_dim % 2 == 0 && args.rotary_dim <= head_dim,
               "rotary_dim", "even and at most D", args.rotary_dim);
  }
  if (check['R'] == 0) return;
  const int half = rotates ? args.rotary_dim / 2 : 0;
  const RopeParams p{.q = has_q && rotates ? args.q.data : nullptr,
                     .k = args.k.data,
                     .v = args.v.data,
                     .k_cache = args.kv.k,
                     .v_cache = args.kv.v,
                     .cos_table = args.cos_table,
                     .sin_table = args.sin_table,
                     .positions = rotates ? Stage(args.positions) : nullptr,
                     .slots = Stage(args.slots),
                     .q_stride = has_q ? args.q.stride[0] : 0,
                     .k_stride = args.k.stride[0],
                     .v_stride = args.v.stride[0],
                     .rows = static_cast<int32_t>(check['R']),
                     .heads = has_q ? static_cast<int32_t>(check['Q'] / head_dim) : 0,
                     .kv_heads = geometry.kv_heads,
                     .head_dim = head_dim,
                     .half = half,
                     .page_tokens = geometry.page_tokens,
                     .blocks_per_page = geometry.blocks_per_page(),
                     .vectors = head_dim % 8 == 0 && half % 8 == 0 && IsVector(args.q) &&
                                IsVector(args.k) && IsVector(args.v)};
  if (!failed()) Check(LaunchRopeWriteKv(TypeOf(dtype_), p, stream()));
}

void CudaBackend::CopyKvPages(const CopyKvPagesArgs& args) {
  ShapeCheck check("CopyKvPages");
  check.Kv(args.kv);
  if (args.copies.empty()) return;
  static_assert(sizeof(PageCopy) == 2 * sizeof(int32_t));
  const PageCopy* copies = Stage(args.copies);
  const KvGeometry& geometry = args.kv.geometry;
  const CopyPagesParams p{
      .k = args.kv.k,
      .v = args.kv.v,
      .copies = reinterpret_cast<const int32_t*>(copies),
      .page_bytes = geometry.page_elements() * static_cast<int64_t>(SizeOf(geometry.dtype)),
      .count = static_cast<int32_t>(args.copies.size())};
  if (!failed()) Check(LaunchCopyPages(p, stream()));
}

}  // namespace tessera::cuda
