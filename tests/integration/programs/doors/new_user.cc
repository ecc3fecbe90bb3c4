// new_user.cc -- takes blocks from the operator new that the loader binds it to, and gives them back
#include <cstddef>
#include <new>

static void *volatile kept;

extern "C" __attribute__((noinline, noclone)) void make_new(size_t bytes) { kept = ::operator new(bytes); }
extern "C" __attribute__((noinline, noclone)) void drop_new(size_t bytes) { ::operator delete(kept = ::operator new(bytes)); }
