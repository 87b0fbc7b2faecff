// Reading the committed pictures of tests/media/data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tessera {

inline std::filesystem::path DataDir() {
  return std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/media/data";
}

inline std::vector<uint8_t> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<uint8_t> ReadPicture(const std::string& name) {
  return ReadFile(DataDir() / "pictures" / name);
}

inline nlohmann::ordered_json ReadJsonFile(const std::string& name) {
  const std::vector<uint8_t> bytes = ReadFile(DataDir() / name);
  return nlohmann::ordered_json::parse(bytes.begin(), bytes.end());
}

}  // namespace tessera
