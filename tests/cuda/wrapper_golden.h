// What the words of device.cuh gave on real hardware, kept in a file: golden_wrapper.json. A GPU
// writes it where it is missing (or TESSERA_RECORD_GOLDEN=1 asks for it anew), and every later run,
// on a GPU or emulated, is held to it.
//
// Words with one right answer are held to its bits, as a digest; products of matrices and the
// functions that hardware approximates to a distance, number by number. Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::cuda_test {

class WrapperGolden {
 public:
  // The next output of a word, whose bits are determined.
  void KeepExact(std::string_view word, std::span<const unsigned char> bytes);
  // The next output of a word that may differ by `relative` of the larger number, plus `absolute`.
  void KeepNear(std::string_view word, std::span<const float> values, double relative,
                double absolute);

  std::string ToJson(std::string_view device) const;
  // One line for every output that a file of ToJson() has otherwise; words that only one side knows
  // are differences too, and so is a file that cannot be read.
  std::vector<std::string> DifferencesFrom(const std::string& json) const;

 private:
  struct Output {
    uint64_t size = 0;    // bytes, or numbers
    uint64_t digest = 0;  // FNV-1a; 0 with numbers
    std::vector<float> near;
    double relative = 0, absolute = 0;
  };
  std::map<std::string, std::vector<Output>, std::less<>> words_;
};

}  // namespace tessera::cuda_test
