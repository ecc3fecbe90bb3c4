// base.h -- compiler words, limits and the register state every backtrace starts from
//
// Layer 1. Includes nothing of ours.
#ifndef MEMLEAK_BASE_H
#define MEMLEAK_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define COLD __attribute__((cold, noinline))
#define NOINLINE __attribute__((noinline))
#define EXPORT __attribute__((visibility("default")))
// On every extern variable of ours: reached directly, not through the GOT (-fvisibility covers
// definitions only).
#define HIDDEN __attribute__((visibility("hidden")))

// Fault on no address.
static inline void prefetch_read(const void *address) { __builtin_prefetch(address, 0); }
static inline void prefetch_write(const void *address) { __builtin_prefetch(address, 1); }

// A second name for a function of ours that goes by a name the loader may bind elsewhere.
#if defined(__has_attribute) && __has_attribute(copy)
#define OWN_NAME(name) extern __typeof__(name) own_##name HIDDEN __attribute__((alias(#name), copy(name)))
#else
#define OWN_NAME(name) extern __typeof__(name) own_##name HIDDEN __attribute__((alias(#name)))
#endif

#define MAX_FRAMES 64U

#define PAGE_BYTES 4096UL

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline uintptr_t round_up(uintptr_t value, uintptr_t to) { return (value + to - 1) & ~(to - 1); }
static inline uintptr_t round_down(uintptr_t value, uintptr_t to) { return value & ~(to - 1); }

// The registers of a function at a call it makes: all that unwinding from there needs.
struct registers {
	uintptr_t pc; // return address into that function
	uintptr_t sp; // its stack pointer once the call has returned
	uintptr_t bp; // its frame pointer register
};

// Registers of our caller's caller are lost once we call on; so this is a macro, used first thing
// in a function compiled with a frame pointer (__builtin_frame_address(0) forces one).
#define REGISTERS_OF_CALLER()                                                                      \
	((struct registers){                                                                       \
	    .pc = (uintptr_t)__builtin_return_address(0),                                          \
	    .sp = (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(uintptr_t),                   \
	    .bp = *(uintptr_t *)__builtin_frame_address(0),                                        \
	})

#endif
