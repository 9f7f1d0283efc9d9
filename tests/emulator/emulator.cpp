// The fibers, and the instructions that a warp executes as one.
#include "emulator.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>
#include <link.h>
#include <sys/mman.h>

#include <deque>
#include <exception>
#include <map>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {

char* dynamic_shared;

void fail(const std::string& message) { TORCH_CHECK(false, "emulated kernel: ", message); }
void failed_assertion(const char* condition) { TORCH_CHECK_INDEX(false, "device-side assertion: ", condition); }

namespace {

constexpr size_t kStack = 256 << 10, kMaxShared = 227 << 10, kPage = 4096;

enum State { kReady, kInCollective, kAtBarrier, kDone };

struct Copy {
  void* to;
  const void* from;
  int bytes;
};

struct Fiber {
  void* stack_pointer;
  State state;
  uint3 thread;
  const char* name;  // of the collective
  unsigned mask;
  void* mine;
  void (*run)(void* const*);
  std::deque<std::vector<Copy>> copies;  // committed groups, then the one that is being filled
};

std::vector<Fiber> fibers;
Fiber* current;
void* scheduler;  // its stack pointer
const std::function<void()>* body;
std::exception_ptr failure;
thread_local char anchor;  // in the segment that holds all shared memory

// Pushes the callee-saved registers and switches stacks.
extern "C" void contrastkit_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.hidden contrastkit_switch
contrastkit_switch:
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
)");
#else
#error "the emulator switches stacks on x86-64 only"
#endif

void thread_main() {
  try {
    (*body)();
  } catch (...) {
    failure = std::current_exception();
  }
  current->state = kDone;
  contrastkit_switch(&current->stack_pointer, scheduler);
}

void wait(State state) {
  current->state = state;
  contrastkit_switch(&current->stack_pointer, scheduler);
}

void start(Fiber& fiber, size_t i) {
  static char* stacks = static_cast<char*>(
      mmap(nullptr, 1024 * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack);
  top[-1] = nullptr;  // the return address of thread_main, which never returns
  top[-2] = reinterpret_cast<void*>(&thread_main);
  fiber.stack_pointer = top - 8;  // six registers below
  fiber.state = kReady;
  const unsigned x = blockDim.x, y = blockDim.y, j = static_cast<unsigned>(i);
  fiber.thread = {j % x, j / x % y, j / x / y};
  fiber.copies.assign(1, {});
}

// Before a block: NaN in static shared memory, the thread-local segment of this library, and in dynamic shared memory,
// which ends where a page without access begins.
void poison(size_t shared_bytes) {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          char* from = static_cast<char*>(info->dlpi_tls_data);
          const size_t n = info->dlpi_phdr[i].p_memsz;
          if (info->dlpi_phdr[i].p_type != PT_TLS || from == nullptr || &anchor < from || &anchor >= from + n) continue;
          std::memset(from, 0xff, n);
          return 1;
        }
        return 0;
      },
      nullptr);
  constexpr size_t kArena = (kMaxShared / kPage + 1) * kPage;
  static char* arena = [] {
    void* at = mmap(nullptr, kArena + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(static_cast<char*>(at) + kArena, kPage, PROT_NONE);
    return static_cast<char*>(at);
  }();
  dynamic_shared = arena + kArena - (shared_bytes + 15) / 16 * 16;
  std::memset(dynamic_shared, 0xff, arena + kArena - dynamic_shared);
}

// Runs a collective of the warp once all its lanes have arrived; finished lanes are ignored.
bool released(Fiber* warp, int lanes) {
  for (int l = 0; l < lanes; ++l) {
    if (warp[l].state != kInCollective) continue;
    void* brought[32] = {};
    bool all = true;
    for (int k = 0; k < lanes; ++k) {
      if (!(warp[l].mask >> k & 1) || warp[k].state == kDone) continue;
      all &= warp[k].state == kInCollective && warp[k].mask == warp[l].mask && warp[k].run == warp[l].run;
      brought[k] = warp[k].mine;
    }
    if (!all) continue;
    warp[l].run(brought);
    for (int k = 0; k < lanes; ++k)
      if (brought[k]) warp[k].state = kReady;
    return true;
  }
  return false;
}

[[noreturn]] void stuck() {
  std::map<std::string, int> where;
  for (const Fiber& f : fibers)
    ++where[f.state == kDone ? "have ended" : f.state == kAtBarrier ? "at __syncthreads" : std::string("in ") + f.name];
  std::string message = "threads of block " + std::to_string(blockIdx.x) + " wait for each other:";
  for (const auto& [what, n] : where) message += " " + std::to_string(n) + " " + what + ";";
  fail(message);
}

void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx = fiber.thread;
  contrastkit_switch(&scheduler, fiber.stack_pointer);
  if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
}

// A warp runs as far as it can before the next one, which exposes data shared without a barrier.
void run_block(bool backwards) {
  const size_t n = fibers.size(), warps = (n + 31) / 32;
  for (size_t i = 0; i < n; ++i) start(fibers[i], i);
  for (;; backwards = !backwards) {
    for (size_t w = 0; w < warps; ++w) {
      Fiber* warp = &fibers[32 * (backwards ? warps - 1 - w : w)];
      const int lanes = static_cast<int>(std::min<size_t>(32, &fibers[n - 1] + 1 - warp));
      do {
        for (int l = 0; l < lanes; ++l) {
          Fiber& fiber = warp[backwards ? lanes - 1 - l : l];
          if (fiber.state == kReady) resume(fiber);
        }
      } while (released(warp, lanes));
    }
    size_t waiting = 0, done = 0;
    for (const Fiber& f : fibers) waiting += f.state == kAtBarrier, done += f.state == kDone;
    if (done == n) return;
    if (waiting < n) stuck();
    for (Fiber& f : fibers) f.state = kReady;
  }
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  const bool fits = grid.x > 0 && grid.x <= 0x7fffffffu && grid.y > 0 && grid.y < 65536 && grid.z > 0 && grid.z < 65536;
  if (!fits || threads == 0 || threads > 1024 || shared_bytes > kMaxShared) fail("a GPU would refuse this launch");
  blockDim = block, gridDim = grid, body = &thread;
  fibers.resize(threads);
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        poison(shared_bytes);
        run_block(blockIdx.x % 2);
      }
}

void barrier() { wait(kAtBarrier); }

int lane() { return static_cast<int>((current - fibers.data()) % 32); }

void collective(const char* name, unsigned mask, void* mine, void (*run)(void* const*)) {
  if (!(mask >> lane() & 1)) fail(std::string(name) + " by a lane outside its mask");
  current->name = name, current->mask = mask, current->mine = mine, current->run = run;
  wait(kInCollective);
}

unsigned ballot(unsigned mask, bool predicate) {
  unsigned mine = predicate;
  collective("__ballot_sync", mask, &mine, [](void* const* lanes) {
    unsigned votes = 0;
    for (int l = 0; l < 32; ++l)
      if (lanes[l] && *static_cast<unsigned*>(lanes[l])) votes |= 1u << l;
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) *static_cast<unsigned*>(lanes[l]) = votes;
  });
  return mine;
}

namespace {

struct Mma {
  float (*d)[4];
  const uint32_t *a, *b;
};

// The 32 lanes' fragments as matrices: a 32-bit register holds one tf32 or two neighbours of 16 bits along K.
template <int K, typename T>
void multiply(void* const* lanes) {
  constexpr int kEach = K == 16 ? 2 : 1;
  double a[16][K], b[K][8];
  const auto element = [](uint32_t bits, int i) -> double {
    if constexpr (kEach == 2) return static_cast<float>(T(static_cast<uint16_t>(bits >> 16 * i), T::from_bits()));
    else return bits_as<float>(bits & 0xffffe000u);
  };
  for (int l = 0; l < 32; ++l) {
    if (!lanes[l]) fail("mma without all 32 lanes");
    const Mma& mine = *static_cast<const Mma*>(lanes[l]);
    const int group = l / 4, column = l % 4 * kEach;
    for (int i = 0; i < kEach; ++i) {
      for (int r = 0; r < 4; ++r) a[group + r % 2 * 8][column + r / 2 * (K / 2) + i] = element(mine.a[r], i);
      for (int r = 0; r < 2; ++r) b[column + r * (K / 2) + i][group] = element(mine.b[r], i);
    }
  }
  for (int l = 0; l < 32; ++l)
    for (int r = 0; r < 4; ++r) {
      const int row = l / 4 + r / 2 * 8, column = l % 4 * 2 + r % 2;
      double sum = 0;
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
      float& d = (*static_cast<const Mma*>(lanes[l])->d)[r];
      d = static_cast<float>(d + sum);
    }
}

struct Rows {
  uint32_t* r;
  const char* row;
};

// Lane 8 m + i has the address of row i of matrix m.
template <int n, bool transposed>
void load_matrices(void* const* lanes) {
  for (int l = 0; l < 32; ++l)
    if (!lanes[l]) fail("ldmatrix without all 32 lanes");
  for (int m = 0; m < n; ++m) {
    uint16_t at[8][8];
    for (int i = 0; i < 8; ++i) {
      const char* row = static_cast<Rows*>(lanes[8 * m + i])->row;
      if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix: a row is not aligned to 16 bytes");
      std::memcpy(at[i], row, 16);
    }
    for (int l = 0; l < 32; ++l) {
      const int i = l / 4, j = l % 4 * 2;
      const uint32_t low = transposed ? at[j][i] : at[i][j], high = transposed ? at[j + 1][i] : at[i][j + 1];
      static_cast<Rows*>(lanes[l])->r[m] = low | high << 16;
    }
  }
}

template <int n, bool transposed>
void ldmatrix(uint32_t (&r)[n], const void* row) {
  Rows mine{r, static_cast<const char*>(row)};
  collective("ldmatrix", kAllLanes, &mine, &load_matrices<n, transposed>);
}

template <int K, typename T>
void mma(float (&d)[4], const uint32_t* a, const uint32_t* b) {
  Mma mine{&d, a, b};
  collective("mma", kAllLanes, &mine, &multiply<K, T>);
}

}  // namespace

using A = const uint32_t (&)[4];
using B = const uint32_t (&)[2];
void mma_m16n8k16_bf16(float (&d)[4], A a, B b) { mma<16, c10::BFloat16>(d, a, b); }
void mma_m16n8k16_f16(float (&d)[4], A a, B b) { mma<16, c10::Half>(d, a, b); }
void mma_m16n8k8_tf32(float (&d)[4], A a, B b) { mma<8, float>(d, a, b); }

void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix<4, false>(r, row); }
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { ldmatrix<4, true>(r, row); }

void cp_async16(void* shared, const void* global, int bytes) {
  if (bytes < 0 || bytes > 16) fail("cp.async of " + std::to_string(bytes) + " bytes");
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (bytes && reinterpret_cast<uintptr_t>(global) % 16))
    fail("cp.async: an address is not aligned to 16 bytes");
  current->copies.back().push_back({shared, global, bytes});
}

void cp_async_commit() { current->copies.emplace_back(); }

void cp_async_wait(int pending_groups) {
  auto& copies = current->copies;
  for (; copies.size() > static_cast<size_t>(pending_groups) + 1; copies.pop_front())
    for (const Copy& copy : copies.front()) {
      std::memset(copy.to, 0, 16);
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
}

uint32_t to_tf32(float x) {
  const uint32_t bits = bits_as<uint32_t>(x);
  return x != x ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}

}  // namespace emulator
