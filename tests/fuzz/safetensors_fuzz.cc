// Any bytes as a safetensors file: an error, or tensors that lie in the file one after another,
// each as large as its shape says.
#include <algorithm>

#include "base/check.h"
#include "model/safetensors.h"

using namespace tessera;  // NOLINT(google-build-using-namespace): a file of one function

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = SafetensorsFile::FromBytes(std::as_bytes(std::span(data, size)));
  if (!file) {
    TESSERA_CHECK(file.error().code == ErrorCode::kInvalidArgument, "{}", file.error().Describe());
    return 0;
  }
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& entry : (*file)->tensors()) tensors.push_back(&entry);
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t next = 0;
  volatile std::byte sink{};
  for (const TensorEntry* entry : tensors) {
    TESSERA_CHECK(entry->begin == next && entry->end >= next, "{}: hole or overlap", entry->name);
    next = entry->end;
    const auto* at = reinterpret_cast<const uint8_t*>(entry->data);
    TESSERA_CHECK(at >= data && at + entry->bytes() <= data + size, "{}: outside the file",
                  entry->name);
    for (uint64_t i = 0; i < entry->bytes(); ++i) sink = entry->data[i];
  }
  (void)sink;
  return 0;
}
