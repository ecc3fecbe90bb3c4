// memleak.h -- the public C API of libmemleak.so
//
// Every function may be called from any thread at any time, also when nothing is being recorded.
// src/memleak/_ffi_build.py reads the declarations between the two marks; keep them plain C.
#ifndef MEMLEAK_H
#define MEMLEAK_H

#ifdef __cplusplus
extern "C" {
#endif

#define MEMLEAK_ABI_VERSION 1

// -- declarations begin --
// MEMLEAK_ABI_VERSION of the library that is loaded.
int memleak_abi_version(void);

// Build id of the library that is loaded, lower-case hexadecimal; "" if it has none.
const char *memleak_build_id(void);

// 1 while allocations of this process are being recorded.
int memleak_is_recording(void);

// Path of this process's recording; "" if there is none or it is in private memory.
const char *memleak_recording_path(void);

// Do the cold chores now (more room, newly loaded objects, thread names). Never call it from a signal handler.
void memleak_poll(void);
// -- declarations end --

#ifdef __cplusplus
}
#endif

#endif
