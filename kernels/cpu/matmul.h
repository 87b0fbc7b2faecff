// Sizes that the matmul driver and the owner of its scratch share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace tessera::cpu {

// Rows worked on while weights are read once from memory: as many as keep the operand within 2 MiB
// of fp32, between these two. 128 rows at K = 4096.
inline constexpr int64_t kRowBlock = 128;
inline constexpr int64_t kMostRowBlock = 512;
inline constexpr int64_t kOperandBlock = int64_t{1} << 19;
int64_t MatMulRowBlock(int64_t k);
// Of K, while several row tiles share a panel group: 3 panels of 512 in fp32 are 96 KiB, in the L2
// of any processor.
inline constexpr int64_t kInnerBlock = 512;
// A K of no more than this is not blocked: sums then go from registers to the epilogue.
inline constexpr int64_t kWholeInner = 1024;

// Rows of int8 and int4 matmuls: their operands are a quarter as large.
inline constexpr int64_t kQuantRowBlock = 512;

// Accumulators of a row block and widened panels of one item.
size_t MatMulThreadScratchBytes(const Kernels& kernels);
// Rounded operand rows of one row block, shared by all threads.
size_t MatMulSharedScratchBytes(const Kernels& kernels, int64_t k);
// The same two of matmul_quant.cc.
size_t QuantThreadScratchBytes(const Kernels& kernels);
size_t QuantSharedScratchBytes(const QuantLayout& layout);

}  // namespace tessera::cpu
