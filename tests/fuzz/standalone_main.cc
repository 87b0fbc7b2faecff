// Runs a fuzz target without libFuzzer: every file of a corpus as it is, then mutations of them
// that depend on nothing but the seed and their own number, so that any of them can be run again
// alone.
//
// usage: TARGET CORPUS_DIR ITERATIONS SEED [FIRST]
// exit code 0: all inputs returned; else the target died, and the last line says which input it
// was.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// There with a sanitizer only: called before it ends the process.
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

// One input may take this long, sanitizers and a busy machine included.
constexpr unsigned kSecondsPerInput = 60;
constexpr size_t kMostBytes = size_t{1} << 20;

// What the death callback says; a signal handler has no other way to know.
std::atomic<long> current{-1};
std::atomic<bool> is_seed{true};

void SayWhere() {
  char text[96];
  const int size = std::snprintf(text, sizeof text, "\nfuzz: died in %s %ld\n",
                                 is_seed ? "corpus file" : "iteration", current.load());
  if (write(STDERR_FILENO, text, static_cast<size_t>(size)) < 0) _exit(3);
}

void OnSignal(int signal) {
  SayWhere();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Mutator {
 public:
  Mutator(const std::vector<Bytes>& corpus, uint64_t seed, uint64_t number) : corpus_(corpus) {
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32)};
    random_.seed(sequence);
  }

  Bytes Make() {
    Bytes data = Pick(corpus_);
    for (size_t rounds = 1 + Below(4); rounds > 0; --rounds) Once(data);
    if (data.size() > kMostBytes) data.resize(kMostBytes);
    return data;
  }

 private:
  // The library's distributions differ between implementations; the engine's numbers do not.
  size_t Below(size_t count) { return count == 0 ? 0 : random_() % count; }
  const Bytes& Pick(const std::vector<Bytes>& from) { return from[Below(from.size())]; }
  // Mostly short stretches.
  size_t Length(size_t most) { return std::min(most, size_t{1} + Below(size_t{1} << Below(8))); }

  void Once(Bytes& data) {
    const size_t at = Below(data.size() + 1), rest = data.size() - at;
    switch (Below(10)) {
      case 0: data.resize(at); break;
      case 1:
        if (rest > 0) data[at] ^= static_cast<uint8_t>(1u << Below(8));
        break;
      case 2:
        if (rest > 0) data[at] = static_cast<uint8_t>(random_());
        break;
      case 3:
        if (rest > 0)
          data.erase(data.begin() + Signed(at), data.begin() + Signed(at + Length(rest)));
        break;
      case 4: {  // repeat a stretch of itself
        const size_t length = Length(rest);
        const Bytes copy(data.begin() + Signed(at),
                         data.begin() + Signed(at + std::min(length, rest)));
        const size_t to = Below(data.size() + 1);
        data.insert(data.begin() + Signed(to), copy.begin(), copy.end());
        break;
      }
      case 5: {  // new bytes
        Bytes fresh(Length(64));
        for (uint8_t& byte : fresh) byte = static_cast<uint8_t>(random_());
        data.insert(data.begin() + Signed(at), fresh.begin(), fresh.end());
        break;
      }
      case 6: {  // the end of another file
        const Bytes& other = Pick(corpus_);
        const size_t from = Below(other.size() + 1);
        data.resize(at);
        data.insert(data.end(), other.begin() + Signed(from), other.end());
        break;
      }
      case 7: Number(data); break;
      case 8: Digits(data); break;
      default:  // near the front, where headers are
        if (!data.empty())
          data[Below(std::min<size_t>(data.size(), 64))] = static_cast<uint8_t>(random_());
    }
  }

  // A length, count or offset that lies.
  void Number(Bytes& data) {
    static constexpr uint64_t kValues[] = {0,
                                           1,
                                           2,
                                           127,
                                           128,
                                           255,
                                           256,
                                           32767,
                                           32768,
                                           65535,
                                           65536,
                                           0x7fffffff,
                                           0x80000000,
                                           0xffffffff,
                                           0x100000000,
                                           0x7fffffffffffffff,
                                           0x8000000000000000,
                                           0xffffffffffffffff};
    const size_t size = size_t{1} << Below(4);
    if (data.size() < size) return;
    const size_t at = Below(data.size() - size + 1);
    const uint64_t value = kValues[Below(std::size(kValues))];
    const bool big_endian = Below(2) == 0;
    for (size_t i = 0; i < size; ++i) {
      data[at + i] = static_cast<uint8_t>(value >> (8 * (big_endian ? size - 1 - i : i)));
    }
  }

  // The same in text.
  void Digits(Bytes& data) {
    static constexpr const char* kValues[] = {
        "0",  "-1",   "1e999",   "99999999999999999999", "2147483648", "null", "[]",
        "{}", "\"\"", "[[[[[[[["};
    std::vector<size_t> starts;
    for (size_t i = 0; i < data.size(); ++i) {
      if (data[i] >= '0' && data[i] <= '9' && (i == 0 || data[i - 1] < '0' || data[i - 1] > '9'))
        starts.push_back(i);
    }
    if (starts.empty()) return;
    const size_t at = starts[Below(starts.size())];
    size_t end = at;
    while (end < data.size() && data[end] >= '0' && data[end] <= '9') ++end;
    const char* value = kValues[Below(std::size(kValues))];
    data.erase(data.begin() + Signed(at), data.begin() + Signed(end));
    data.insert(data.begin() + Signed(at), value, value + std::strlen(value));
  }

  static std::ptrdiff_t Signed(size_t value) { return static_cast<std::ptrdiff_t>(value); }

  const std::vector<Bytes>& corpus_;
  std::mt19937_64 random_;
};

std::vector<Bytes> ReadCorpus(const char* dir) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir, error)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // the order of a directory is not the same everywhere
  std::vector<Bytes> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void Run(const Bytes& data) {
  alarm(kSecondsPerInput);
  // A buffer of its own, so that reading past its end is seen.
  const Bytes exact(data.begin(), data.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  alarm(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s CORPUS_DIR ITERATIONS SEED [FIRST]\n", argv[0]);
    return 2;
  }
  const std::vector<Bytes> corpus = ReadCorpus(argv[1]);
  const long iterations = std::atol(argv[2]);
  const auto seed = static_cast<uint64_t>(std::atoll(argv[3]));
  const long first = argc > 4 ? std::atol(argv[4]) : 0;
  if (corpus.empty()) {
    std::fprintf(stderr, "fuzz: no files in %s\n", argv[1]);
    return 2;
  }
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(SayWhere);
  } else {
    for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL})
      std::signal(signal, OnSignal);
  }
  std::signal(SIGALRM, OnSignal);
  if (first == 0) {
    for (size_t i = 0; i < corpus.size(); ++i) {
      current = static_cast<long>(i);
      Run(corpus[i]);
    }
  }
  is_seed = false;
  for (long i = first; i < first + iterations; ++i) {
    current = i;
    Run(Mutator(corpus, seed, static_cast<uint64_t>(i)).Make());
  }
  std::printf("fuzz: %zu corpus files and %ld mutations passed\n", corpus.size(), iterations);
  return 0;
}
