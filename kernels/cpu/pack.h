// What the two files of Pack share.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/quant.h"

namespace tessera::cpu {

// Rows row .. row + 15 of the stacked sources as fp32 [columns][16]; rows beyond the last are zero.
void LoadPanel(std::span<const SourceMatrix> sources, int64_t row, float* to);

QuantLayout LayoutOf(const QuantFormat& format, int64_t k);

// Row `lane` of a packed panel as fp32 [k].
void DequantizeRow(const QuantLayout& layout, const uint8_t* panel, int lane, int64_t k, float* to);

}  // namespace tessera::cpu
