#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace tessera {

Result<Storage> AllocateAligned(size_t bytes, bool zeroed) {
  constexpr size_t kHuge = size_t{2} << 20, kMost = size_t{1} << 46;
  const size_t alignment = bytes >= 2 * kHuge ? kHuge : 64;
  void* data = nullptr;
  if (bytes <= kMost) {
    const size_t rounded = (bytes == 0 ? 64 : bytes + 63) / 64 * 64;
    if (posix_memalign(&data, alignment, rounded) != 0) data = nullptr;
    // Whole huge pages alone: the end of one that is not used would be memory all the same, and a
    // model of forty layers has hundreds of them.
    if (data != nullptr && alignment == kHuge) madvise(data, bytes / kHuge * kHuge, MADV_HUGEPAGE);
  }
  if (data == nullptr)
    return Fail(ErrorCode::kResourceExhausted, "out of memory",
                {.field = "bytes", .value = std::to_string(bytes)});
  if (zeroed) std::memset(data, 0, bytes);
  return Storage(data, [](void* memory) { std::free(memory); });
}

Result<void> Scratch::Reserve(size_t bytes) {
  if (bytes <= bytes_) return {};
  TESSERA_TRY(storage_, AllocateAligned(bytes, false));
  bytes_ = bytes;
  return {};
}

}  // namespace tessera
