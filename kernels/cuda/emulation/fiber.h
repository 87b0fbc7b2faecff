// Contexts of execution that switch by saving and loading a stack pointer: one per emulated thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define TESSERA_ASAN_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TESSERA_ASAN_FIBERS 1
#endif
#endif

namespace tessera::cuda::emulation {

// One stack and, while it does not run, what is needed to go on. A fiber never changes its OS
// thread, and no exception may leave `entry`.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls `entry`, which never returns. Whatever ran here is
  // forgotten: its destructors do not run.
  void Reset(void (*entry)());

  // Leaves `from`, whose state is kept, and goes on in `to`. 14 to 20 ns.
  static void Switch(Fiber& from, Fiber& to);

  // To be called first thing in `entry`.
  static void Entered(Fiber& self);

 private:
  friend class FiberStacks;
  struct Machine;  // of the ucontext version

  void* stack_pointer_ = nullptr;
  char* stack_ = nullptr;  // nullptr: the OS thread's own
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  std::unique_ptr<Machine> machine_;
};

// Stacks of one OS thread's fibers, with a guard page below each. Pages are touched as they are
// used.
class FiberStacks {
 public:
  // Gives stacks to fibers 0 to count-1, for good.
  void Provide(std::vector<std::unique_ptr<Fiber>>& fibers, size_t count);
  FiberStacks() = default;
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

 private:
  struct Mapping {
    void* base;
    size_t bytes;
  };
  std::vector<Mapping> mappings_;
};

}  // namespace tessera::cuda::emulation
