#include "kernels/cuda/emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "base/check.h"

#ifdef TESSERA_ASAN_FIBERS
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace tessera::cuda::emulation {
namespace {

#ifdef TESSERA_ASAN_FIBERS
constexpr size_t kStackBytes = 256 * 1024;  // instrumented frames are several times larger
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif
constexpr size_t kGuardBytes = 4096;

}  // namespace

#ifdef __x86_64__

// What the System V ABI lets a callee keep: rbx, rbp, r12 to r15 and the stack pointer. The
// floating point control words are the same in all fibers.
extern "C" void TesseraSwitchStacks(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl TesseraSwitchStacks
.hidden TesseraSwitchStacks
.type TesseraSwitchStacks, @function
TesseraSwitchStacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size TesseraSwitchStacks, .-TesseraSwitchStacks
)");

struct Fiber::Machine {};

void Fiber::Reset(void (*entry)()) {
#ifdef TESSERA_ASAN_FIBERS
  __asan_unpoison_memory_region(stack_, stack_bytes_);
  fake_stack_ = nullptr;
#endif
  // As if `entry` had been called: a return address of 0 on top, its address below, six registers.
  auto* top = reinterpret_cast<void**>(stack_ + stack_bytes_);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  top -= 6;
  std::memset(top, 0, 6 * sizeof(void*));
  stack_pointer_ = top;
}

static void SwitchContext(Fiber&, Fiber&, void** save, void* load) {
  TesseraSwitchStacks(save, load);
}

#else

struct Fiber::Machine {
  ucontext_t context;
};

void Fiber::Reset(void (*entry)()) {
  if (machine_ == nullptr) machine_ = std::make_unique<Machine>();
  getcontext(&machine_->context);
  machine_->context.uc_stack.ss_sp = stack_;
  machine_->context.uc_stack.ss_size = stack_bytes_;
  machine_->context.uc_link = nullptr;
  makecontext(&machine_->context, entry, 0);
  stack_pointer_ = &machine_->context;
}

static void SwitchContext(Fiber&, Fiber&, void** save, void* load) {
  swapcontext(static_cast<ucontext_t*>(*save), static_cast<ucontext_t*>(load));
}

#endif

Fiber::Fiber() {
#ifndef __x86_64__
  machine_ = std::make_unique<Machine>();
  stack_pointer_ = &machine_->context;
#endif
}

Fiber::~Fiber() = default;

void Fiber::Switch(Fiber& from, Fiber& to) {
#ifdef TESSERA_ASAN_FIBERS
  if (from.stack_ == nullptr && from.stack_bytes_ == 0) {
    // The OS thread's own stack: AddressSanitizer wants to know where it lies when we come back.
    pthread_attr_t attributes;
    void* base = nullptr;
    TESSERA_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    pthread_attr_getstack(&attributes, &base, &from.stack_bytes_);
    pthread_attr_destroy(&attributes);
    from.stack_ = static_cast<char*>(base);
  }
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
#endif
  SwitchContext(from, to, &from.stack_pointer_, to.stack_pointer_);
#ifdef TESSERA_ASAN_FIBERS
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::Entered([[maybe_unused]] Fiber& self) {
#ifdef TESSERA_ASAN_FIBERS
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void FiberStacks::Provide(std::vector<std::unique_ptr<Fiber>>& fibers, size_t count) {
  if (fibers.size() >= count) return;
  const size_t first = fibers.size();
  const size_t each = kStackBytes + kGuardBytes;
  const size_t bytes = (count - first) * each;
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TESSERA_CHECK(base != MAP_FAILED, "no memory for {} fiber stacks", count - first);
  mappings_.push_back({base, bytes});
  for (size_t i = first; i < count; ++i) {
    char* guard = static_cast<char*>(base) + (i - first) * each;
    TESSERA_CHECK(mprotect(guard, kGuardBytes, PROT_NONE) == 0);
    auto fiber = std::make_unique<Fiber>();
    fiber->stack_ = guard + kGuardBytes;
    // The tops of stacks would all lie in the same few sets of the cache if they were a power of
    // two apart.
    fiber->stack_bytes_ = kStackBytes - i * 9 % 64 * 64;
    fibers.push_back(std::move(fiber));
  }
}

FiberStacks::~FiberStacks() {
  for (const Mapping& mapping : mappings_) munmap(mapping.base, mapping.bytes);
}

}  // namespace tessera::cuda::emulation
