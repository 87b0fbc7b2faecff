// Matrices that a checkpoint stores as codes: which tensors they are made of, and their codes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/code_source.h"
#include "model/quantized_config.h"
#include "model/safetensors.h"

namespace tessera {

// The tensors of one matrix; all but `codes` and `scales` may be null.
struct QuantizedParts {
  const TensorEntry* codes = nullptr;
  const TensorEntry* scales = nullptr;
  const TensorEntry* zeros = nullptr;
  const TensorEntry* order = nullptr;  // I32 [K], the group of each column
  const TensorEntry* shape = nullptr;  // N and K, as compressed-tensors repeats them

  explicit operator bool() const { return codes != nullptr; }
  std::vector<const TensorEntry*> all() const;  // those that are there
};

// What is wrong with a checkpoint, by kind; each a line part that names the tensor.
struct BindProblems {
  std::vector<std::string> missing, misshaped, mistyped, extra;
};

// Finds the parts of "STEM.weight" of the shape [rows, columns] by name; none where the checkpoint
// does not hold that matrix as codes. Names, shapes and dtypes are held to the layout.
QuantizedParts BindQuantized(std::string_view name, int64_t rows, int64_t columns,
                             const QuantizationConfig& config,
                             const std::function<const TensorEntry*(const std::string&)>& find,
                             BindProblems& problems);

// The codes of bound parts, read from the mapping, which must outlive the result. Errors name the
// tensor: a scale that is not finite or too large, a zero point or group out of range, a
// weight_shape that lies. Allocates 4 bytes a column at most.
Result<std::unique_ptr<const CodeSource>> MakeCodeSource(const QuantizedParts& parts, int64_t rows,
                                                         int64_t columns,
                                                         const QuantizationConfig& config);

}  // namespace tessera
