// Sizes that the matmul driver and the owner of its scratch share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace tessera::cpu {

// Rows worked on while weights are read once from memory. 128 rows of fp32 operands at K = 4096 are
// 2 MiB.
inline constexpr int64_t kRowBlock = 128;
// Of K, while several row tiles share a panel group: 3 panels of 512 in fp32 are 96 KiB, in the L2
// of any processor.
inline constexpr int64_t kInnerBlock = 512;

// Rows of int8 and int4 matmuls: their operands are a quarter as large.
inline constexpr int64_t kQuantRowBlock = 256;

// Accumulators of a row block and widened panels of one item.
size_t MatMulThreadScratchBytes(const Kernels& kernels);
// Operand rows of one row block, shared by all threads.
size_t MatMulSharedScratchBytes(const Kernels& kernels, int64_t k);
// The same two of matmul_quant.cc.
size_t QuantThreadScratchBytes(const Kernels& kernels);
size_t QuantSharedScratchBytes(const QuantLayout& layout);

}  // namespace tessera::cpu
