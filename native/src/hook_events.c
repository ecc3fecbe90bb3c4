// hook_events.c -- what a program calls that may bring or take objects and threads
//
// Context:   cold. Never called inside malloc by the C library; a program's own allocator may (dlsym at its first
//            call), so nothing here allocates.
// Invariant: dlopen() and dlsym(RTLD_NEXT, …) see the program as their caller: the one is not hooked, the other
//            is entered by a tail jump.
// Why:       whoever loads an object asks for one of its symbols before it calls it: dlsym() is the moment at which a
//            plug-in or an extension module can be hooked before its first allocation.
//            dlsym() is not exported: in a preloaded process too it is hooked by slot.
// Proof:     tests/integration/test_import_door.py, test_doors_agree.py, test_door_storms.py; tests/models/unload.pml
#include "hook_events.h"

#include "allocator.h"
#include "chores.h"
#include "modules.h"
#include "slots.h"
#include "tracer_upkeep.h"

#include <dlfcn.h>

EXPORT int dlclose(void *handle)
{
	// Before: rules of what is about to go must not be used for what may come in its place.
	// After: nothing derived in between may stay.
	tracer_unload_noticed();
	int result = real.dlclose(handle);
	tracer_unload_noticed();
	return result;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
	modules_note_thread();
	int error = real.pthread_create(thread, attributes, run, argument);
	if (error == 0)
		chores_thread_created();
	return error;
}

// The handle says where to look, so that it is we who call makes no difference.
static NOINLINE void *dlsym_given_out(void *handle, const char *name)
{
	void *found = real.dlsym(handle, name);
	uintptr_t hook = slots_hook_for(name, (uintptr_t)found);
	return hook ? (void *)hook : found;
}

static void *dlsym_hook(void *handle, const char *name)
{
	chores_objects_may_have_come(handle);
	// RTLD_NEXT: a wrapper asks for what is behind itself, and that is not us. RTLD_DEFAULT begins where its caller
	// stands, who may be bound to another allocator than most.
	if (likely(!name || handle == RTLD_NEXT || !slots_is_given(name)) || (handle == RTLD_DEFAULT && slots_several_allocators()))
		return real.dlsym(handle, name);
	return dlsym_given_out(handle, name);
}

// These fail while there is another thread: ours must not be the one. By slot, like dlsym().
static int unshare_hook(int flags)
{
	chores_leave_alone();
	return real.unshare(flags);
}

static int setns_hook(int fd, int type)
{
	chores_leave_alone();
	return real.setns(fd, type);
}

OWN_NAME(dlclose);
OWN_NAME(pthread_create);

void hook_events_register(void)
{
	static const struct slots_name names[] = {
	    {"dlsym", (uintptr_t)&dlsym_hook, (const uintptr_t *)(const void *)&real.dlsym, false},
	    {"dlclose", (uintptr_t)&own_dlclose, (const uintptr_t *)(const void *)&real.dlclose, false},
	    {"pthread_create", (uintptr_t)&own_pthread_create, (const uintptr_t *)(const void *)&real.pthread_create, false},
	};
	static const struct slots_name given[] = {
	    {"unshare", (uintptr_t)&unshare_hook, (const uintptr_t *)(const void *)&real.unshare, false},
	    {"setns", (uintptr_t)&setns_hook, (const uintptr_t *)(const void *)&real.setns, false},
	};
	static struct slots_table tables[] = {
	    {.names = names, .count = ARRAY_LEN(names), .meaning = SLOTS_OTHER},
	    {.names = given, .count = ARRAY_LEN(given), .meaning = SLOTS_GIVEN},
	};
	slots_register(&tables[0]);
	slots_register(&tables[1]);
}
