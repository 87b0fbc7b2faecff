// Where in the source a wrapper of device.cuh was called.
#pragma once

namespace tessera::cuda::emulation {

// The call sites of wrappers name themselves by default arguments. Return addresses would not do: a
// compiler may duplicate a call, and one barrier would look like two.
struct Site {
  const char* file;
  int line;

  static constexpr Site Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Site&) const = default;

  // As the compiler was given it, without leading "../".
  const char* Path() const {
    const char* path = file;
    while (path[0] == '.' && path[1] == '.' && path[2] == '/') path += 3;
    return path;
  }
};

}  // namespace tessera::cuda::emulation
