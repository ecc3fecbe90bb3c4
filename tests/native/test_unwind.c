// test_unwind.c -- backtraces equal to libgcc's, and no fault on any registers or stack
//
//     test_unwind [--own-snapshot] [--long]        without arguments: both ways of finding modules
// nativebuild: flags -Wl,-z,lazy
#include "harness.h"
#include "own_snapshot.h"

#include "elfimage.h"
#include "modules.h"
#include "unwind.h"

#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// libgcc's <unwind.h>, which our own header of that name hides.
struct _Unwind_Context;
enum { URC_NO_REASON = 0, URC_END_OF_STACK = 5 };
extern int _Unwind_Backtrace(int (*each)(struct _Unwind_Context *, void *), void *argument);
extern uintptr_t _Unwind_GetIPInfo(struct _Unwind_Context *, int *before_instruction);

#define DEPTH_MAX 200

static bool own_snapshot;
static uint64_t random_state = 0x243F6A8885A308D3;

static uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545F4914F6CDD1D;
}

// ---- the comparison with libgcc ----------------------------------------------------------------

struct reference {
	unsigned count;
	uintptr_t pc[DEPTH_MAX];
	bool exact[DEPTH_MAX];
};

static int collect(struct _Unwind_Context *context, void *to)
{
	struct reference *reference = to;
	int before = 0;
	uintptr_t pc = _Unwind_GetIPInfo(context, &before);
	if (reference->count == DEPTH_MAX || pc == 0)
		return URC_END_OF_STACK;
	reference->exact[reference->count] = before;
	reference->pc[reference->count++] = pc;
	return URC_NO_REASON;
}

static unsigned long stacks_compared, stacks_equal, frames_compared;
static enum unwind_end last_end;
static unsigned last_count;

// Both unwinders from here. libgcc's list begins in this function, ours at its caller.
__attribute__((noinline)) static bool compare(void)
{
	struct registers here = REGISTERS_OF_CALLER();
	uint64_t frames[DEPTH_MAX], hash, again_frames[DEPTH_MAX], again_hash;
	struct reference reference = {0};
	enum unwind_end end;
	struct unwind_bounds bounds = unwind_thread_bounds(here.sp);
	unsigned count = unwind(&here, bounds, frames, DEPTH_MAX, &hash, &end);
	CHECK(unwind_hash(frames, count) == hash);
	unsigned again = unwind(&here, bounds, again_frames, DEPTH_MAX, &again_hash, &end);
	_Unwind_Backtrace(collect, &reference);

	bool equal = bounds.low != 0 && count + 1 == reference.count && again == count && hash == again_hash &&
		     end == UNWIND_COMPLETE;
	for (unsigned i = 0; equal && i < count; i++) {
		unsigned id = (unsigned)(frames[i] >> MLF_FRAME_MODULE_SHIFT);
		uintptr_t pc = modules_base(id) + (frames[i] & MLF_FRAME_VADDR_MASK);
		equal = id != 0 && pc == reference.pc[i + 1] && frames[i] == again_frames[i] &&
			!!(frames[i] & MLF_FRAME_EXACT) == reference.exact[i + 1];
	}
	if (!equal && stacks_compared - stacks_equal < 3) {
		fprintf(stderr, "different: %u frames, end %u; libgcc %u\n", count, end, reference.count - 1);
		for (unsigned i = 0; i < count || i + 1 < reference.count; i++)
			fprintf(stderr, "  %016lx %lx\n", i < count ? frames[i] : 0UL,
				i + 1 < reference.count ? reference.pc[i + 1] : 0UL);
	}
	stacks_compared++;
	stacks_equal += equal;
	frames_compared += count;
	last_end = end;
	last_count = count;
	return equal;
}

static void all_equal(const char *what)
{
	CHECK_EQUAL(stacks_equal, stacks_compared);
	if (stacks_equal != stacks_compared)
		fprintf(stderr, "%s: %lu of %lu stacks differ\n", what, stacks_compared - stacks_equal, stacks_compared);
	else
		printf("%s: %lu stacks, %lu frames equal\n", what, stacks_compared, frames_compared);
	stacks_compared = stacks_equal = frames_compared = 0;
}

// ---- functions of many shapes that call each other at random ----------------------------------------

typedef void chain_function(unsigned depth, uint64_t path);
extern chain_function *const chain_functions[];
#define CHAIN_COUNT 256

static void chain_next(unsigned depth, uint64_t path)
{
	if (depth == 0) {
		compare();
		return;
	}
	path = path * 6364136223846793005ULL + 1442695040888963407ULL;
	chain_functions[path >> 56](depth - 1, path);
}

// Keeps a value, and what it points at, and the calls before it out of tail position.
#define KEEP(value) __asm__ volatile("" : : "r"(value) : "memory")

// The shapes: plain; many saved registers; alloca; aligned locals; both; large frame; aligned with
// register pressure; one that calls through libc's qsort.
#define SHAPE_0(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		chain_next(depth, path + n);                                                       \
		KEEP(path + n);                                                         \
	}
#define SHAPE_1(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		uint64_t a = path * 3, b = path * 5, c = path * 7, d = path * 11, e = path * 13;   \
		chain_next(depth, path + n);                                                       \
		KEEP(a ^ b);                                                            \
		chain_next(0, path ^ c);                                                           \
		KEEP(a + b + c + d + e);                                                \
	}
#define SHAPE_2(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		char *room = alloca(path % 512 + 1);                                               \
		room[0] = (char)path;                                                              \
		KEEP(room);                                                                       \
		chain_next(depth, path + n);                                                       \
		KEEP(room + 1);                                                                   \
	}
#define SHAPE_3(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		_Alignas(64) char room[128];                                                       \
		room[0] = (char)path;                                                              \
		KEEP(room);                                                                       \
		chain_next(depth, path + n);                                                       \
		KEEP(room + 1);                                                                   \
	}
#define SHAPE_4(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		_Alignas(64) char room[128];                                                       \
		char *more = alloca(path % 256 + 1);                                               \
		room[0] = more[0] = (char)path;                                                    \
		KEEP(room);                                                                       \
		KEEP(more);                                                                       \
		chain_next(depth, path + n);                                                       \
		KEEP(room + 1);                                                                   \
		chain_next(0, path);                                                               \
		KEEP(more + 1);                                                                   \
	}
#define SHAPE_5(n)                                                                                 \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		char room[3000 + n];                                                               \
		room[0] = (char)path;                                                              \
		KEEP(room);                                                                       \
		if (path % 3 == 0)                                                                 \
			return chain_next(depth, path + n);                                        \
		chain_next(depth, path - n);                                                       \
		KEEP(room + 1);                                                                   \
	}
#define SHAPE_6(n)                                                                                 \
	static int compare_##n(const void *a, const void *b)                                       \
	{                                                                                          \
		const uint64_t *x = a, *y = b;                                                     \
		chain_next((unsigned)x[1], x[2]);                                                  \
		return (x[0] > y[0]) - (x[0] < y[0]);                                              \
	}                                                                                          \
	static __attribute__((noinline)) void chain_##n(unsigned depth, uint64_t path)             \
	{                                                                                          \
		uint64_t pair[2][3] = {{path, depth, path + n}, {path / 3, depth, path - n}};      \
		qsort(pair, 2, sizeof pair[0], compare_##n);                                       \
		KEEP(pair[0][0]);                                                         \
	}
#define SHAPE_7(n)                                                                                 \
	__attribute__((noinline, optimize("no-omit-frame-pointer"))) static void chain_##n(        \
	    unsigned depth, uint64_t path)                                                         \
	{                                                                                          \
		uint64_t a = path * 3;                                                             \
		chain_next(depth, path + n);                                                       \
		KEEP(a);                                                                  \
	}
#define EIGHT(h)                                                                                   \
	SHAPE_0(h##0) SHAPE_1(h##1) SHAPE_2(h##2) SHAPE_3(h##3) SHAPE_4(h##4) SHAPE_5(h##5) SHAPE_6(h##6) SHAPE_7(h##7)
#define NAMES(h) chain_##h##0, chain_##h##1, chain_##h##2, chain_##h##3, chain_##h##4, chain_##h##5, chain_##h##6, chain_##h##7,
#define ALL(X)                                                                                     \
	X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(20) X(21) X(22) X(23) X(24) X(25) X(26)  \
	X(27) X(30) X(31) X(32) X(33) X(34) X(35) X(36) X(37) X(40) X(41) X(42) X(43) X(44) X(45)  \
	X(46) X(47)
ALL(EIGHT)
chain_function *const chain_functions[CHAIN_COUNT] = {ALL(NAMES)};

static void random_stacks(unsigned wanted)
{
	while (stacks_compared < wanted)
		chain_next((unsigned)(random_u64() % 40), random_u64());
}

static void *random_stacks_thread(void *unused)
{
	(void)unused;
	random_stacks(2000);
	return NULL;
}

static void test_threads(void)
{
	pthread_t thread;
	CHECK_EQUAL(pthread_create(&thread, NULL, random_stacks_thread, NULL), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	all_equal("thread");

	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 1 << 20);
	pthread_attr_setguardsize(&attributes, 0);
	CHECK_EQUAL(pthread_create(&thread, &attributes, random_stacks_thread, NULL), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	all_equal("thread without guard");

	char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_setstack(&attributes, memory + 160, (1 << 20) - 992);
	CHECK_EQUAL(pthread_create(&thread, &attributes, random_stacks_thread, NULL), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	all_equal("thread on a stack of ours");
	munmap(memory, 1 << 20);
	pthread_attr_destroy(&attributes);
}

// ---- signals -------------------------------------------------------------------------------------------

static volatile unsigned handled;

static void on_signal(int number)
{
	(void)number;
	handled++;
	compare();
}

static void install(void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
}

// Interrupt ourselves at every single instruction of some calls: prologues, epilogues, PLT and loader
// included.
static volatile sig_atomic_t traced_steps;
static void on_trap(int number)
{
	(void)number;
	traced_steps++;
	compare();
}

// The pushes are told for a frame that sp alone describes.
__attribute__((noinline, optimize("omit-frame-pointer"))) static void single_step(void (*function)(void))
{
	__asm__ volatile("pushfq; .cfi_adjust_cfa_offset 8; orq $0x100, (%%rsp); popfq; .cfi_adjust_cfa_offset -8" ::: "memory", "cc");
	function();
	__asm__ volatile("pushfq; .cfi_adjust_cfa_offset 8; andq $~0x100, (%%rsp); popfq; .cfi_adjust_cfa_offset -8" ::: "memory", "cc");
}

static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

__attribute__((noinline)) static void stepped_work(void)
{
	char text[64];
	int numbers[4] = {3, 1, 2, 0};
	qsort(numbers, 4, sizeof numbers[0], order);
	snprintf(text, sizeof text, "%d %s %zu", numbers[1], "text", strlen("x"));
	KEEP(text);
	_Alignas(64) char aligned[64];
	KEEP(aligned);
	void *block = malloc(100);
	KEEP(block);
	free(block);
	KEEP(alloca(numbers[2] * 16));
	char *end;
	KEEP(strtoul("1234", &end, 10)); // first call: through the loader's lazy binding
}

static void test_signals(void)
{
	install(on_signal, 0);
	handled = 0;
	for (int i = 0; i < 200; i++)
		raise(SIGUSR1);
	CHECK_EQUAL(handled, 200);
	all_equal("signal handler");

	struct sigaction action = {.sa_handler = on_trap};
	sigaction(SIGTRAP, &action, NULL);
	single_step(stepped_work);
	CHECK(traced_steps > 1000);
	all_equal("every instruction");
	signal(SIGTRAP, SIG_DFL);
}

static uint64_t alternate_frames[DEPTH_MAX];
static unsigned alternate_count;
static enum unwind_end alternate_end;
static bool alternate_foreign;

__attribute__((noinline)) static void walk_only(void)
{
	struct registers here = REGISTERS_OF_CALLER();
	uint64_t hash;
	struct unwind_bounds bounds = unwind_thread_bounds(here.sp);
	alternate_foreign = bounds.low == 0;
	alternate_count = unwind(&here, bounds, alternate_frames, DEPTH_MAX, &hash, &alternate_end);
	KEEP(&hash);
}

static void on_alternate(int number)
{
	(void)number;
	walk_only();
	KEEP(0);
}

static bool has_function(const void *function, size_t bytes)
{
	for (unsigned i = 0; i < alternate_count; i++) {
		unsigned id = (unsigned)(alternate_frames[i] >> MLF_FRAME_MODULE_SHIFT);
		uintptr_t pc = modules_base(id) + (alternate_frames[i] & MLF_FRAME_VADDR_MASK);
		if (id && pc - (uintptr_t)function < bytes)
			return true;
	}
	return false;
}

__attribute__((noinline)) static void raise_below(void)
{
	raise(SIGUSR1);
	KEEP(0);
}

static void test_alternate_stack(void)
{
	// The handler's frames and the kernel's frame fit in the top page, or do not: both must end well.
	static char _Alignas(4096) memory[1 << 16];
	stack_t alternate = {.ss_sp = memory, .ss_size = sizeof memory};
	sigaltstack(&alternate, NULL);
	install(on_alternate, SA_ONSTACK);
	walk_only(); // this thread's stack has been seen
	unsigned crossed = 0;
	for (unsigned i = 0; i < 256; i++) {
		alternate.ss_size = sizeof memory - 16 * i;
		sigaltstack(&alternate, NULL);
		raise_below();
		CHECK(alternate_foreign);
		CHECK(alternate_end == UNWIND_COMPLETE || alternate_end == UNWIND_BOUNDS);
		crossed += alternate_end == UNWIND_COMPLETE && has_function((void *)raise_below, 64);
	}
	CHECK(crossed > 0);
	printf("alternate stack: %u of 256 walks crossed to the thread's stack\n", crossed);
	alternate = (stack_t){.ss_flags = SS_DISABLE};
	sigaltstack(&alternate, NULL);
}

static ucontext_t back, coroutine;
static void on_coroutine(void)
{
	walk_only();
	swapcontext(&coroutine, &back);
}

static void test_foreign_stack(void)
{
	static char memory[1 << 16];
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = memory;
	coroutine.uc_stack.ss_size = sizeof memory;
	coroutine.uc_link = &back;
	makecontext(&coroutine, on_coroutine, 0);
	swapcontext(&back, &coroutine);
	CHECK(alternate_foreign);
	CHECK(alternate_count >= 1);
}

// ---- assembly with unusual unwind information ----------------------------------------------------

#define ASSEMBLY(name, body)                                                                       \
	void name(void (*function)(void));                                                         \
	__asm__(".text\n.type " #name ",@function\n" #name ":\n.cfi_startproc\nendbr64\n" body         \
		"\n.cfi_endproc\n.size " #name ",.-" #name "\n")

// The CFA in a register that only callees save.
ASSEMBLY(cfa_in_rbx, "push %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset rbx,-16\nmov %rsp,%rbx\n"
		     ".cfi_def_cfa_register rbx\nsub $200,%rsp\nand $-256,%rsp\ncall *%rdi\nmov %rbx,%rsp\n"
		     ".cfi_def_cfa_register rsp\npop %rbx\n.cfi_def_cfa_offset 8\nret");
// The return address moved away from the top of the frame; bp saved beside it.
ASSEMBLY(moved_return, "pop %rax\n.cfi_def_cfa_offset 0\n.cfi_register rip,rax\nsub $48,%rsp\n"
		       ".cfi_def_cfa_offset 48\nmov %rax,8(%rsp)\n.cfi_offset rip,-40\nmov %rbp,16(%rsp)\n"
		       ".cfi_offset rbp,-32\nmov $1,%ebp\ncall *%rdi\nmov 16(%rsp),%rbp\n.cfi_restore rbp\n"
		       "mov 8(%rsp),%rax\n.cfi_register rip,rax\nadd $48,%rsp\n.cfi_def_cfa_offset 0\njmp *%rax");
// CFA and bp by expression: CFA = *(rsp + 8) + 16; bp = *(rsp + 16).
ASSEMBLY(by_expression, "lea -8(%rsp),%rax\nsub $56,%rsp\n.cfi_def_cfa_offset 64\nmov %rax,8(%rsp)\n"
			"mov %rbp,16(%rsp)\n.cfi_escape 0x0f,5,0x77,8,0x06,0x23,16\n"
			".cfi_escape 0x10,6,2,0x77,16\nmov $2,%ebp\ncall *%rdi\nmov 16(%rsp),%rbp\nadd $56,%rsp\n"
			".cfi_def_cfa rsp,8\n.cfi_restore rbp\nret");
// bp is a number: CFA - 32 (val_offset); here it is what the prologue computed.
ASSEMBLY(bp_by_value, "push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset rbp,-16\nsub $48,%rsp\n"
		      ".cfi_def_cfa_offset 64\nxor %ebp,%ebp\ncall *%rdi\nadd $48,%rsp\n.cfi_def_cfa_offset 16\n"
		      "pop %rbp\n.cfi_def_cfa_offset 8\n.cfi_restore rbp\nret");
// A frame of 600 KB, and one whose program remembers and restores.
ASSEMBLY(large_frame, "sub $600008,%rsp\n.cfi_def_cfa_offset 600016\nmovq $0,(%rsp)\ncall *%rdi\n"
		      "add $600008,%rsp\n.cfi_def_cfa_offset 8\nret");
ASSEMBLY(remembering, ".cfi_remember_state\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset rbp,-16\n"
		      ".cfi_remember_state\nsub $16,%rsp\n.cfi_def_cfa_offset 32\nadd $16,%rsp\n.cfi_restore_state\n"
		      "mov %rsp,%rbp\n.cfi_def_cfa_register rbp\nsub $128,%rsp\ncall *%rdi\nleave\n"
		      ".cfi_restore_state\nret");
// The outermost frame says so; and one whose return address has no rule that can be followed.
ASSEMBLY(outermost, "sub $8,%rsp\n.cfi_def_cfa_offset 16\n.cfi_undefined rip\ncall *%rdi\nadd $8,%rsp\nret");
ASSEMBLY(unfollowed, "sub $8,%rsp\n.cfi_def_cfa_offset 16\n.cfi_register rip,r13\ncall *%rdi\nadd $8,%rsp\nret");
// CFA below the stack pointer: would lead in a circle.
ASSEMBLY(falling, "sub $8,%rsp\n.cfi_def_cfa_offset 16\n.cfi_def_cfa rsp,0\ncall *%rdi\nadd $8,%rsp\nret");

// Some frames on top that save every register.
static void compare_deeper(void)
{
	chain_function *const *first = chain_functions;
	for (unsigned i = 0; i < 8; i++)
		first[i](1 + i, i);
}

static void test_assembly(void)
{
	void (*const functions[])(void (*)(void)) = {cfa_in_rbx,  moved_return, by_expression,
						     bp_by_value, large_frame,  remembering};
	for (unsigned i = 0; i < ARRAY_LEN(functions); i++) {
		functions[i](compare_deeper);
		if (functions[i] != cfa_in_rbx)
			functions[i]((void (*)(void))compare);
	}
	all_equal("assembly");
	outermost(walk_only);
	CHECK_EQUAL(alternate_end, UNWIND_COMPLETE);
	CHECK_EQUAL(alternate_count, 1);
	unfollowed(walk_only);
	CHECK_EQUAL(alternate_end, UNWIND_BAD_CFI);
	CHECK_EQUAL(alternate_count, 1);
	falling(walk_only);
	CHECK_EQUAL(alternate_end, UNWIND_BOUNDS);
	CHECK_EQUAL(alternate_count, 1);
}

// ---- ends ----------------------------------------------------------------------------------------------

__attribute__((noinline)) static void walk_limited(void)
{
	struct registers here = REGISTERS_OF_CALLER();
	struct unwind_bounds bounds = unwind_thread_bounds(here.sp);
	uint64_t all[DEPTH_MAX], some[DEPTH_MAX], all_hash, some_hash;
	enum unwind_end end;
	unsigned count = unwind(&here, bounds, all, DEPTH_MAX, &all_hash, &end);
	CHECK_EQUAL(end, UNWIND_COMPLETE);
	CHECK_EQUAL(unwind(&here, bounds, some, count, &some_hash, &end), count);
	CHECK_EQUAL(end, UNWIND_COMPLETE);
	CHECK(all_hash == some_hash);
	for (unsigned max = 0; max < count; max++) {
		memset(some, 0xAA, sizeof some);
		CHECK_EQUAL(unwind(&here, bounds, some, max, &some_hash, &end), max);
		CHECK_EQUAL(end, UNWIND_DEPTH);
		CHECK(all_hash != some_hash);
		CHECK(memcmp(all, some, max * sizeof all[0]) == 0 && some[max] == 0xAAAAAAAAAAAAAAAA);
	}
	// Bounds that end before the stack does.
	CHECK(unwind(&here, (struct unwind_bounds){bounds.low, here.sp}, some, 9, &some_hash, &end) == 1);
	CHECK_EQUAL(end, UNWIND_BOUNDS);
	CHECK(unwind(&here, (struct unwind_bounds){here.sp + 8, bounds.high}, some, 9, &some_hash, &end) == 1);
	CHECK_EQUAL(end, UNWIND_BOUNDS);
}

// Code without any unwind information calls back: one frame in an unknown place, then the end.
static void test_unknown_code(void)
{
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static const unsigned char bytes[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x08, 0xc3};
	if (code == MAP_FAILED)
		return;
	memcpy(code, bytes, sizeof bytes); // sub $8,%rsp; call *%rdi; add $8,%rsp; ret
	((void (*)(void (*)(void)))code)(walk_only);
	CHECK_EQUAL(alternate_count, 1);
	CHECK_EQUAL(alternate_end, UNWIND_NO_CFI);
	CHECK(alternate_frames[0] == 0);
	munmap(code, 4096);
}

static void on_walk(int number)
{
	(void)number;
	walk_only();
	KEEP(0);
}

static uintptr_t restorer; // where handlers return to

static void find_restorer(void)
{
	install(on_walk, 0);
	raise(SIGUSR1);
	restorer = modules_base((unsigned)(alternate_frames[1] >> MLF_FRAME_MODULE_SHIFT)) +
		   (alternate_frames[1] & MLF_FRAME_VADDR_MASK);
}

static void test_thread_id(void) { CHECK_EQUAL(unwind_thread_tid(), gettid()); }

static void *thread_id_thread(void *unused)
{
	test_thread_id();
	return unused;
}

// ---- any registers, any stack ------------------------------------------------------------------------

#define GARBAGE_BYTES (16 * 4096UL)
static uint64_t *garbage; // between two pages that fault

static uintptr_t random_code(void)
{
	const struct module *module = modules_get(1 + (unsigned)(random_u64() % (modules_count() - 1)));
	uintptr_t bytes = module->image.text_high - module->image.text_low;
	switch (random_u64() % 16) {
	case 0: return module->image.low + random_u64() % (module->image.high - module->image.low);
	case 1: return restorer;
	case 2: return (uintptr_t)chain_functions[random_u64() % CHAIN_COUNT] + random_u64() % 200;
	}
	return bytes ? module->image.text_low + random_u64() % bytes : 0;
}

static uint64_t random_word(void)
{
	switch (random_u64() % 30) { // mostly places in the code, so that walks get somewhere
	case 0: return random_u64();
	case 1: return random_u64() % 4096;
	case 2: case 3: return (uintptr_t)garbage + random_u64() % (GARBAGE_BYTES + 256) - 128;
	case 4: return (uintptr_t)garbage + random_u64() % GARBAGE_BYTES / 8 * 8;
	case 5: return (uintptr_t)__builtin_frame_address(0) + random_u64() % 65536 - 32768;
	}
	return random_code();
}

static void test_garbage(unsigned long rounds)
{
	unsigned long ends[5] = {0}, frames_seen = 0;
	char *memory = mmap(NULL, GARBAGE_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	garbage = (uint64_t *)(memory + 4096);
	mprotect(garbage, GARBAGE_BYTES, PROT_READ | PROT_WRITE);
	for (unsigned i = 0; i < GARBAGE_BYTES / 8; i++)
		garbage[i] = random_word();
	for (unsigned long round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < 32; i++)
			garbage[random_u64() % (GARBAGE_BYTES / 8)] = random_word();
		struct unwind_bounds bounds = {(uintptr_t)garbage, (uintptr_t)garbage + GARBAGE_BYTES};
		struct registers registers = {random_code(), bounds.low + random_u64() % GARBAGE_BYTES, random_word()};
		if (round % 4)
			registers.sp &= ~7UL;
		if (round % 16 == 0)
			registers.sp = random_word();
		if (round % 3 == 0)
			registers.bp = bounds.low + random_u64() % GARBAGE_BYTES;
		if (round % 64 == 0)
			registers.pc = random_word();
		if (round % 1024 == 0)
			modules_note_unload(); // every rule is derived anew
		uint64_t frames[MAX_FRAMES], hash;
		enum unwind_end end;
		unsigned count = unwind(&registers, bounds, frames, MAX_FRAMES, &hash, &end);
		if (count > MAX_FRAMES || count == 0)
			CHECK(false);
		frames_seen += count;
		ends[end]++;
	}
	// Stack pointers at the ends of the address space, where sums wrap.
	for (unsigned i = 0; i < 100000; i++) {
		uintptr_t edge = random_u64() % 2 ? 0 : UINTPTR_MAX;
		struct registers registers = {random_code(), edge + random_u64() % 1024 - 512, edge + random_u64() % 1024 - 512};
		uint64_t frames[4], hash;
		enum unwind_end end;
		CHECK(unwind(&registers, unwind_thread_bounds((uintptr_t)frames), frames, 4, &hash, &end) == 1);
	}
	CHECK(ends[UNWIND_COMPLETE] && ends[UNWIND_NO_CFI] && ends[UNWIND_BOUNDS]);
	printf("garbage: %lu walks, %lu frames; ends: complete %lu, depth %lu, no cfi %lu, bad cfi %lu, bounds %lu\n",
	       rounds, frames_seen, ends[0], ends[1], ends[2], ends[3], ends[4]);
	munmap(memory, GARBAGE_BYTES + 8192);
}

// Started from another thread than the first: both stacks are known all the same.
static void *start_in_thread(void *unused)
{
	modules_init(own_snapshot);
	unwind_init();
	random_stacks(50);
	return unused;
}

static void test_start_in_thread(void)
{
	pid_t child = fork();
	if (child == 0) {
		pthread_t thread;
		pthread_create(&thread, NULL, start_in_thread, NULL);
		pthread_join(thread, NULL);
		compare();
		test_thread_id();
		_exit(checks_failed || stacks_equal != stacks_compared || stacks_compared < 51);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

// After fork() the stack is that of the thread that forked.
static void *fork_in_thread(void *unused)
{
	pid_t child = fork();
	if (child == 0) {
		stacks_compared = stacks_equal = 0;
		compare();
		test_thread_id();
		_exit(checks_failed || stacks_equal != 1);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return unused;
}

int main(int argc, char **argv)
{
	if (argc == 1)
		run_own_snapshot(argv[0]);

	own_snapshot = argument_given(argc, argv, "--own-snapshot");
	test_start_in_thread();
	modules_init(own_snapshot);
	unwind_init();
	(void)dlsym(RTLD_DEFAULT, "backtrace"); // libgcc's first use loads things
	compare();
	stacks_compared = stacks_equal = frames_compared = 0;

	random_stacks(20000);
	all_equal("random stacks");
	test_signals();
	test_assembly();
	test_threads();
	walk_limited();
	test_unknown_code();
	test_alternate_stack();
	test_foreign_stack();
	test_thread_id();
	pthread_t thread;
	pthread_create(&thread, NULL, thread_id_thread, NULL);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, fork_in_thread, NULL);
	pthread_join(thread, NULL);
	find_restorer();
	test_garbage(long_run(argc, argv) ? 1000000 : 100000);
	return harness_end();
}
