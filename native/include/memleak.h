// memleak.h -- the public C API of libmemleak.so
//
// Every function may be called from any thread at any time, also when nothing is being recorded.
// src/memleak/_ffi_build.py reads the declarations between the two marks; keep them plain C.
#ifndef MEMLEAK_H
#define MEMLEAK_H

#ifdef __cplusplus
extern "C" {
#endif

#define MEMLEAK_ABI_VERSION 7

// -- declarations begin --
// MEMLEAK_ABI_VERSION of the library that is loaded.
int memleak_abi_version(void);

// Build id of the library that is loaded, lower-case hexadecimal; "" if it has none.
const char *memleak_build_id(void);

// Switch tracing on: hook every loaded object, open a recording. 0: started now. 1: it was recording
// already, nothing changed (not even the knobs). -1: not started, memleak_why() says why and the process
// goes on untraced. Intervals in allocations, 1 <= min <= max <= 10000; sample_bytes 0 or >= 4096;
// max_frames 1..64. MEMLEAK_DIR, XDG_RUNTIME_DIR and the settings without an argument come from the environment.
// The Python intervals are those of Python's small-object allocators; python 0: neither those nor Python frames.
// native 0: only what is asked for through Python's allocators (PyMem_, PyObject_), of any size; not both 0.
int memleak_start(unsigned min_sample_interval, unsigned max_sample_interval, unsigned python_min_sample_interval,
                  unsigned python_max_sample_interval, unsigned long long sample_bytes, unsigned max_frames, int python,
                  int native);

// Freeze the recording; hooks stay and pass straight through. 1: it was recording. 0: it was not.
int memleak_stop(void);

// Ask for other knobs; each thread follows within 64 allocations. 0: done. -1: out of range or not recording.
int memleak_configure(unsigned min_sample_interval, unsigned max_sample_interval, unsigned python_min_sample_interval,
                      unsigned python_max_sample_interval, unsigned long long sample_bytes);

// How much of the CPU time that the process uses sampling may cost, in millionths; 0: any. What costs more widens the
// intervals, never past 9999. Begins as MEMLEAK_BUDGET says, else with 10000. 0: done. -1: above 1000000 or not recording.
int memleak_set_budget(unsigned budget_ppm);

// Record every allocation of a part, with weight 1, and all others as before: "module=NAME" (the innermost frame that is not
// an allocator's or the C library's lies in that module), "label=NAME=VALUE", "mod=NAME" (a row's mod_name), "" for none.
// See docs/reference/focus.md. Begins as MEMLEAK_FOCUS says, else with none. 0: done, each thread follows within 64
// allocations. -1: not one of these, longer than 255 bytes, or not recording; nothing changed.
int memleak_set_focus(const char *text);

// 0: never started. 1: recording. 2: stopped, the last recording is frozen. 3: a forked child whose own
// recording is not open yet (it opens after 1,000 allocations or at memleak_poll()).
int memleak_state(void);

// What went wrong in the last memleak_start(), or what its user should know though it started
// (private memory, MEMLEAK_DIR not usable); "" if nothing. Never NULL.
const char *memleak_why(void);

// 1 if the core was preloaded (the loader binds malloc to it), 0 if it came by an import.
int memleak_is_preloaded(void);

// 1 while allocations of this process are being recorded.
int memleak_is_recording(void);

// Path of this process's last recording; "" if there is none or it is in private memory.
const char *memleak_recording_path(void);

// The last recording as it stands in memory, *bytes of it readable; NULL if there is none. The address stays
// mapped for the life of the process; contents change while recording, and become another recording's
// at the next memleak_start().
const void *memleak_recording_memory(unsigned long long *bytes);

// Do the cold chores now (more room, newly loaded objects, thread names, hooks that another tool took).
// Never call it from a signal handler.
void memleak_poll(void);

// 1: what this thread allocates from now on is work of a tool, not of the program, and is not recorded; what it frees is
// noted as ever. 0: recorded again. Returns what it was.
int memleak_set_aside(int aside);

// Reference in the recording of the row of the live sample at an address, which is that of a block as the program has it.
// 0: no such sample, or nothing is being recorded.
unsigned memleak_row_at(unsigned long long address);

// Estimated live bytes of all that is recorded; 0 while nothing is.
unsigned long long memleak_held(void);

// The most they have been since recording began or the peak was reset.
unsigned long long memleak_held_peak(void);

// The peak counts from now on.
void memleak_reset_peak(void);

// Number of a set of labels, "name=value" or several of them separated by newlines, UTF-8, at most 1000 bytes of it. The same
// for the same text in the life of the process, so ask once and keep it. 0: no labels (an empty text). 256: there
// are 255 sets already, what is allocated under this number is counted under the label `other`.
unsigned memleak_label_number(const char *text);

// What this thread allocates from now on is made under this set of labels, unless Python code of its has set some; 0: under
// none. Returns the number that was in force. A thread begins with 0.
unsigned memleak_label_set(unsigned number);

// For the package memleak, with the GIL: where Python code says which set it is under; see pylabel.h. 1: followed. 0: call
// again. -1: not followed, ever: what was read was not `expected`. -2: not now: no interpreter that is known, or not the main one.
int memleak_label_follow(const void *variable, long long hash, const void *type, unsigned number_offset, unsigned expected);

// For the package memleak: an entry of a label with `outcome`, under this set, was left. Counted in the recording.
void memleak_label_left(unsigned number);

// For the package memleak: how many samples have been noted that were taken in such entries. NULL never.
const unsigned *memleak_label_notes(void);

// For the package memleak: such an entry, which began at that many notes under this set, was left by an exception. What of its
// samples is live moves from the sets with the label outcome=ok to those with `outcome`; the entry is counted there. Returns the number
// that its set becomes, the same where there is no other.
unsigned memleak_label_outcome(unsigned entry, unsigned began, unsigned number, const char *outcome);

// ---- allocators of the program's own (docs/reference/pools.md) ----
// What a buddy allocator, a slab, an arena gives out of memory that it has got elsewhere. Sampled like malloc; shown under the
// pool's name and never added to totals: the memory that the pool cuts up is counted as whose it is.

// Number of the pool with this name (UTF-8, at most 63 bytes of it), the same for the same name in the life of the process, so
// ask once and keep it. A process has 63; what comes after is one pool, `other`, number 64. 0: no name.
unsigned memleak_pool(const char *name);

// The pool has given out `bytes` at p. Nothing for NULL, which is a request that failed, or for pool 0.
void memleak_pool_alloc(unsigned pool, const void *p, unsigned long bytes);

// p is about to be freed to the pool. Call it before the pool may give p out again.
void memleak_pool_free(unsigned pool, const void *p);

// The same, and the caller says how large it thinks the block is. A sampled block of another size is reported.
void memleak_pool_free_sized(unsigned pool, const void *p, unsigned long bytes);

// The block at `old` is now one of `bytes` at p, which may be the same place. Call it before `old` may be given out again.
void memleak_pool_resize(unsigned pool, const void *old, const void *p, unsigned long bytes);

// The pool hands out pieces of [base, base + bytes) from now on. 0: noted. -1: not a pool, or no such range.
int memleak_pool_region(unsigned pool, const void *base, unsigned long bytes);

// It does so no longer, and what it had given out there is gone; call it before the memory is given back. -1: it has no
// region that begins at base.
int memleak_pool_region_end(unsigned pool, const void *base);

// Bytes in use as the C library's own allocator counts them (mallinfo2: arenas and mmapped chunks,
// their overhead included); -1 if it cannot tell (glibc before 2.33, or another allocator is in charge).
long long memleak_malloc_in_use(void);

// Number of a gauge, a count of the program's own business by which memory is explained (open tables, sessions, tenants). The
// same for the same name in the life of the process, so ask once and keep it. A name is a letter or _ and then letters, digits and
// _ . : / - , at most 48 characters. 0: it is none, or there are 64 gauges already; whatever is done with 0 has no effect.
unsigned memleak_gauge(const char *name);

// The gauge's value from now on. Also before recording begins and in signal handlers; no lock, no system call. Of several threads that
// set it at once the last one's counts. A recording has its history, and a new one begins with the last value. A forked child
// has the names, and no values until it sets them: they counted what is its parent's.
void memleak_gauge_set(unsigned number, long long value);

// So much more, or less: from 0 where it was never set. Threads may do that at once.
void memleak_gauge_add(unsigned number, long long more);

// *value: as this process set it last. 1: it did. 0: never, and *value is as it was.
int memleak_gauge_value(unsigned number, long long *value);
// -- declarations end --

// A program that includes this header need not link to the library, and runs without it: the functions that a program calls
// about itself are weak references, and a call of one that is not there does nothing and is 0. They are there in a process that
// `memleak run` or LD_PRELOAD has started, and where Python code calls memleak.start(), from then on.
// MEMLEAK_LINKED: the program links to it, and these are ordinary functions.
#ifdef MEMLEAK_LINKED
#define MEMLEAK_AT(function) function
#else
#pragma weak memleak_pool
#pragma weak memleak_pool_alloc
#pragma weak memleak_pool_free
#pragma weak memleak_pool_free_sized
#pragma weak memleak_pool_resize
#pragma weak memleak_pool_region
#pragma weak memleak_pool_region_end
#pragma weak memleak_label_number
#pragma weak memleak_label_set
#pragma weak memleak_gauge
#pragma weak memleak_gauge_set
#pragma weak memleak_gauge_add
#pragma weak memleak_gauge_value
// MEMLEAK_AT(function): its address, NULL while it is not there.
#if defined(__x86_64__) && !defined(__ILP32__) && !defined(__PIC__) && !defined(__PIE__)
// Where a program is compiled for a fixed address, linkers take a weak reference for 0 and for good: unless it is made by way of
// the global offset table alone, which the compiler does not do by itself there.
#define MEMLEAK_AT(function)                                                                                        \
	__extension__({                                                                                             \
		__typeof__(&function) memleak_at;                                                                   \
		__asm__ __volatile__(".weak " #function "\n\tmovq " #function "@GOTPCREL(%%rip), %0" : "=r"(memleak_at)); \
		memleak_at;                                                                                         \
	})
#else
#define MEMLEAK_AT(function) function
#endif
#define MEMLEAK_CALL(function, arguments, otherwise) (MEMLEAK_AT(function) ? MEMLEAK_AT(function) arguments : (otherwise))
#define memleak_pool(name) MEMLEAK_CALL(memleak_pool, (name), 0U)
#define memleak_pool_alloc(pool, p, bytes) MEMLEAK_CALL(memleak_pool_alloc, (pool, p, bytes), (void)0)
#define memleak_pool_free(pool, p) MEMLEAK_CALL(memleak_pool_free, (pool, p), (void)0)
#define memleak_pool_free_sized(pool, p, bytes) MEMLEAK_CALL(memleak_pool_free_sized, (pool, p, bytes), (void)0)
#define memleak_pool_resize(pool, old, p, bytes) MEMLEAK_CALL(memleak_pool_resize, (pool, old, p, bytes), (void)0)
#define memleak_pool_region(pool, base, bytes) MEMLEAK_CALL(memleak_pool_region, (pool, base, bytes), 0)
#define memleak_pool_region_end(pool, base) MEMLEAK_CALL(memleak_pool_region_end, (pool, base), 0)
#define memleak_label_number(text) MEMLEAK_CALL(memleak_label_number, (text), 0U)
#define memleak_label_set(number) MEMLEAK_CALL(memleak_label_set, (number), 0U)
#define memleak_gauge(name) MEMLEAK_CALL(memleak_gauge, (name), 0U)
#define memleak_gauge_set(number, value) MEMLEAK_CALL(memleak_gauge_set, (number, value), (void)0)
#define memleak_gauge_add(number, more) MEMLEAK_CALL(memleak_gauge_add, (number, more), (void)0)
#define memleak_gauge_value(number, value) MEMLEAK_CALL(memleak_gauge_value, (number, value), 0)
#endif

#ifdef __cplusplus
}
#endif

#endif
