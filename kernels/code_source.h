// Weights that a file already stores as codes and scales: what Pack reads in place of numbers.
//
// A weight is scale * (code - zero), codes in 0..2^bits - 1, zeros up to 2^bits. Columns share both
// in groups. Thread safe: const.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/quantize.h"

namespace tessera {

class CodeSource {
 public:
  virtual ~CodeSource() = default;

  int bits() const { return shape_.bits; }  // 4 or 8
  int64_t rows() const { return shape_.rows; }
  int64_t columns() const { return shape_.columns; }
  int64_t group() const { return shape_.group; }  // columns that share a scale, the last group less
  int64_t groups() const { return (columns() + group() - 1) / group(); }
  // All zeros are 2^(bits - 1).
  bool symmetric() const { return shape_.symmetric; }
  // Column c is in group c / group(). Otherwise (GPTQ's activation order) in any.
  bool regular() const { return group_of_column_.empty(); }

  // Rows [row, row + count): codes [count][columns], scales and zeros [count][groups].
  virtual void Read(int64_t row, int64_t count, uint8_t* codes, float* scales,
                    uint16_t* zeros) const = 0;
  // The same rows as numbers [count][columns]. Rounded once, in fp32.
  void Dequantize(int64_t row, int64_t count, float* to) const;

 protected:
  struct Shape {
    int bits = 4;
    int64_t rows = 0, columns = 0, group = 0;
    bool symmetric = true;
  };
  // `group_of_column`: empty where regular, else `columns` numbers below groups().
  explicit CodeSource(const Shape& shape, std::vector<int32_t> group_of_column = {})
      : shape_(shape), group_of_column_(std::move(group_of_column)) {}

 private:
  const Shape shape_;
  const std::vector<int32_t> group_of_column_;
};

// The format that holds the codes of all these sources as they are: int4 in groups of 32, 64 or 128
// (larger groups are several with one scale), with a minimum where zeros are not all 8; int8 with
// one scale a row or such groups, zeros all 128. Nothing where there is none. Scales of groups
// become bf16 there, and a minimum is bf16 of -scale * zero.
std::optional<QuantFormat> FormatOfCodes(std::span<const SourceMatrix> sources);

// That format where a spec keeps it: kAuto, or the codes' own bits with no other groups asked for.
std::optional<QuantFormat> FormatKept(std::span<const SourceMatrix> sources, const PackSpec& spec);

// Rows of a source of either kind as fp32 [count][columns].
void LoadSourceRows(const SourceMatrix& source, int64_t row, int64_t count, float* to);

}  // namespace tessera
