// Packed matrices as bytes and back.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/pack.h"

namespace tessera {
namespace {

// Raised whenever the bytes of a layout, or what Pack chooses, change.
constexpr int kPackingVersion = 1;
constexpr int64_t kMostElements = int64_t{1} << 40;

std::string LayoutText(const cpu::CpuPackedMatrix& matrix) {
  switch (matrix.layout()) {
    case cpu::Layout::kPanels: return "panels";
    case cpu::Layout::kVnniPanels: return "vnni";
    case cpu::Layout::kRows: return "rows";
    case cpu::Layout::kQuant: break;
  }
  const cpu::QuantLayout& quant = matrix.quant();
  return fmt::format("quant{}{}", quant.per_channel ? 0 : quant.group,
                     quant.minimum ? "+minimum" : "");
}

tl::unexpected<Error> Mismatch(const PackedImage& image) {
  return Invalid("packed weights of a layout that is not this backend's",
                 {.field = "layout", .value = image.layout});
}

}  // namespace

std::string CpuBackend::packing() const {
  return fmt::format("cpu {} {} {}", kPackingVersion, kernels_.tier, Name(operand_dtype_));
}

std::optional<PackedImage> CpuBackend::Image(const PackedMatrix& matrix) const {
  const auto& packed = static_cast<const cpu::CpuPackedMatrix&>(matrix);
  return PackedImage{.n = packed.n(),
                     .k = packed.k(),
                     .format = packed.format(),
                     .layout = LayoutText(packed),
                     .bytes = {static_cast<const std::byte*>(packed.data()), packed.bytes()}};
}

Result<std::unique_ptr<PackedMatrix>> CpuBackend::Restore(const PackedImage& image) {
  using cpu::kLanes;
  const int64_t n = image.n, k = image.k;
  if (n < 1 || k < 1 || n > kMostElements / k) return Mismatch(image);
  const bool int8 = image.format == WeightFormat::kInt8, int4 = image.format == WeightFormat::kInt4;
  const int64_t padded_n = (n + kLanes - 1) / kLanes * kLanes;
  std::unique_ptr<cpu::CpuPackedMatrix> packed;
  size_t shared = 0;
  if (int8 || int4) {
    std::optional<cpu::QuantLayout> layout;
    for (const int group : {0, 32, 64, 128})
      for (const bool minimum : {false, true}) {
        if ((group == 0 && int4) || (minimum && int8)) continue;
        if (image.layout == fmt::format("quant{}{}", group, minimum ? "+minimum" : ""))
          layout = cpu::LayoutOf({.bits = int8 ? 8 : 4, .group = group, .minimum = minimum}, k);
      }
    if (!layout ||
        image.bytes.size() != static_cast<size_t>(padded_n / kLanes * layout->panel_bytes()))
      return Mismatch(image);
    TESSERA_TRY(Storage storage, AllocateAligned(image.bytes.size(), false));
    packed = std::make_unique<cpu::CpuPackedMatrix>(n, k, image.format, *layout, image.bytes.size(),
                                                    std::move(storage));
    shared = cpu::QuantSharedScratchBytes(*layout);
  } else {
    const bool rows = image.layout == "rows", vnni = image.layout == "vnni";
    const bool known = rows || vnni || image.layout == "panels";
    const int64_t stored_k = vnni ? (k + 31) / 32 * 32 : k;
    const size_t element = image.format == WeightFormat::kF32 ? 4 : 2;
    const auto bytes = static_cast<size_t>((rows ? n : padded_n) * stored_k) * element;
    const bool usable = !vnni || (kernels_.amx_tile != nullptr && operand_dtype_ == DType::kBF16 &&
                                  image.format == WeightFormat::kBF16);
    if (!known || !usable || image.format == WeightFormat::kAuto || image.bytes.size() != bytes)
      return Mismatch(image);
    TESSERA_TRY(Storage storage, AllocateAligned(bytes, false));
    const cpu::Layout layout = rows   ? cpu::Layout::kRows
                               : vnni ? cpu::Layout::kVnniPanels
                                      : cpu::Layout::kPanels;
    packed = std::make_unique<cpu::CpuPackedMatrix>(n, k, image.format, layout, stored_k, bytes,
                                                    std::move(storage));
    if (!rows) shared = cpu::MatMulSharedScratchBytes(kernels_, k);
  }
  if (shared > 0) TESSERA_RETURN_IF_ERROR(shared_.Reserve(shared));
  constexpr size_t kPiece = size_t{2} << 20;  // a huge page
  const size_t size = image.bytes.size();
  pool_.Run(static_cast<int64_t>((size + kPiece - 1) / kPiece), [&](int64_t item, int) {
    const size_t at = static_cast<size_t>(item) * kPiece;
    std::memcpy(static_cast<char*>(packed->data()) + at, image.bytes.data() + at,
                std::min(kPiece, size - at));
  });
  return packed;
}

}  // namespace tessera
