// RopeWriteKv and CopyKvPages: the only writers of the K/V pools. Layout of a block:
// cpu/attention_tile.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/backend.h"

namespace tessera {
namespace {

// rotate_half: feature d pairs with d + half.
void Rotate(float* x, const float* cosines, const float* sines, int half) {
  for (int d = 0; d < half; ++d) {
    const float a = x[d], b = x[d + half];
    x[d] = a * cosines[d] - b * sines[d];
    x[d + half] = b * cosines[d] + a * sines[d];
  }
}

// One token's K or V of one head as int8: the block's 16 scales come first.
void StoreInt8(const float* from, int count, char* block, int64_t lane, int64_t first,
               int64_t step) {
  float most = 0;
  bool finite = true;
  for (int d = 0; d < count; ++d) {
    const float magnitude = std::fabs(from[d]);
    most = std::max(most, magnitude);
    finite &= magnitude <= std::numeric_limits<float>::max();
  }
  // Whatever is no number stays none: it makes the row's draw invalid, as with other types.
  const float scale = finite ? most / 127 : std::numeric_limits<float>::quiet_NaN();
  const float inverse = finite && most > 0 ? 127 / most : 0;
  std::memcpy(block + lane * static_cast<int64_t>(sizeof scale), &scale, sizeof scale);
  auto* to = reinterpret_cast<int8_t*>(block) + kKvBlockTokens * sizeof scale + first;
  for (int d = 0; d < count; ++d) {
    const float value = finite ? std::clamp(from[d] * inverse, -127.0f, 127.0f) : 0.0f;
    to[d * step] = static_cast<int8_t>(std::nearbyintf(value));
  }
}

// `step` elements between features: 16 in a K block, 1 in a V block.
void StoreFeatures(const float* from, int count, DType dtype, void* block, int64_t first,
                   int64_t step) {
  if (dtype == DType::kF32) {
    float* to = static_cast<float*>(block) + first;
    for (int d = 0; d < count; ++d) to[d * step] = from[d];
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(block) + first;
  if (dtype == DType::kBF16) {
    for (int d = 0; d < count; ++d) to[d * step] = FloatToBF16(from[d]);
  } else {
    for (int d = 0; d < count; ++d) to[d * step] = FloatToF16(from[d]);
  }
}

}  // namespace

void CpuBackend::RopeWriteKv(const RopeWriteKvArgs& args) {
  ShapeCheck check("RopeWriteKv");
  check.Kv(args.kv);
  const KvGeometry& geometry = args.kv.geometry;
  const int head_dim = geometry.head_dim;
  check.Extent("kv geometry", 'G', int64_t{geometry.kv_heads} * head_dim);
  check.View("k", args.k, "RG", DType::kF32);
  check.View("v", args.v, "RG", DType::kF32);
  if (args.q.data != nullptr) check.View("q", args.q, "RQ", DType::kF32);
  check.Extent("slots", 'R', std::ssize(args.slots));
  for (size_t i = 0; i < args.slots.size(); ++i)
    check.True(args.slots[i] >= 0, "slots", "at least 0", args.slots[i]);
  const bool rotates = args.cos_table != nullptr;
  if (rotates) {
    check.NotNull("sin_table", args.sin_table);
    check.Extent("positions", 'R', std::ssize(args.positions));
    check.True(args.rotary_dim >= 0 && args.rotary_dim % 2 == 0 && args.rotary_dim <= head_dim,
               "rotary_dim", "even and at most D", args.rotary_dim);
  }
  const int64_t q_heads = args.q.data == nullptr ? 0 : check['Q'] / head_dim;
  const int half = args.rotary_dim / 2;
  ForRows(check['R'], q_heads * head_dim + 4 * check['G'], [&](int64_t row) {
    float* k = static_cast<float*>(args.k.data) + row * args.k.stride[0];
    const float* v = static_cast<const float*>(args.v.data) + row * args.v.stride[0];
    if (rotates) {
      const int64_t position = args.positions[static_cast<size_t>(row)];
      const float* cosines = args.cos_table + position * half;
      const float* sines = args.sin_table + position * half;
      float* q = args.q.data == nullptr ? nullptr
                                        : static_cast<float*>(args.q.data) + row * args.q.stride[0];
      for (int64_t head = 0; head < q_heads; ++head)
        Rotate(q + head * head_dim, cosines, sines, half);
      for (int head = 0; head < geometry.kv_heads; ++head)
        Rotate(k + head * head_dim, cosines, sines, half);
    }
    const int64_t page = args.slots[static_cast<size_t>(row)] / geometry.page_tokens;
    const int64_t token = args.slots[static_cast<size_t>(row)] % geometry.page_tokens;
    for (int head = 0; head < geometry.kv_heads; ++head) {
      const int64_t block =
          page * geometry.page_elements() +
          (token / kKvBlockTokens * geometry.kv_heads + head) * geometry.block_elements();
      const int64_t lane = token % kKvBlockTokens;
      if (geometry.dtype == DType::kI8) {
        StoreInt8(k + head * head_dim, head_dim, static_cast<char*>(args.kv.k) + block, lane, lane,
                  kKvBlockTokens);
        StoreInt8(v + head * head_dim, head_dim, static_cast<char*>(args.kv.v) + block, lane,
                  lane * head_dim, 1);
        continue;
      }
      StoreFeatures(k + head * head_dim, head_dim, geometry.dtype, args.kv.k, block + lane,
                    kKvBlockTokens);
      StoreFeatures(v + head * head_dim, head_dim, geometry.dtype, args.kv.v,
                    block + lane * head_dim, 1);
    }
  });
}

void CpuBackend::CopyKvPages(const CopyKvPagesArgs& args) {
  ShapeCheck check("CopyKvPages");
  if (args.copies.empty()) return;
  check.Kv(args.kv);
  const int64_t elements = args.kv.geometry.page_elements();
  const int64_t bytes = elements * static_cast<int64_t>(SizeOf(args.kv.geometry.dtype));
  ForRows(std::ssize(args.copies), 2 * elements, [&](int64_t i) {
    const PageCopy& copy = args.copies[static_cast<size_t>(i)];
    check.True(copy.from >= 0 && copy.to >= 0 && copy.from != copy.to, "copies",
               "two distinct pages", copy.to);
    for (void* pool : {args.kv.k, args.kv.v})
      std::memcpy(static_cast<char*>(pool) + copy.to * bytes,
                  static_cast<const char*>(pool) + copy.from * bytes, static_cast<size_t>(bytes));
  });
}

}  // namespace tessera
