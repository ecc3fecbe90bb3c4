// test_slots.c -- which slots are hooked, which are left alone, and what is told of it
//
// Functions probe_*() of small libraries stand for malloc's family, pool_*() for operator new; the hooks are this program's.
#include "filter.h"
#include "fixture.h"

#include "boot.h"
#include "modules.h"
#include "objects.h"
#include "pages.h"
#include "slots.h"

#include <dlfcn.h>
#include <link.h>

// ---- libraries ---------------------------------------------------------------------------------------

static char directory[] = "/tmp/memleak-slots-XXXXXX";

static const char provider[] = "void *probe_get(void) { return WHO; } void *probe_put(void) { return WHO; }\n"
			       "void *pool_get(void) { return WHO \" pool\"; }\n";

static const char user[] = "extern void *probe_get(void), *probe_put(void), *pool_get(void);\n"
			   "void *get(void) { return probe_get(); } void *put(void) { return probe_put(); }\n"
			   "void *take(void) { return pool_get(); }\n"
			   "void *(*variable)(void) = probe_get; void *get_by_variable(void) { return variable(); }\n"
			   "static void *mine(void) { return \"mine\"; } void set_to_mine(void) { variable = mine; }\n";

// Its slots are constants, the first of them not one that matters most.
static const char tables[] = "extern void *probe_get(void), *probe_put(void);\n"
			     "void *(*const slot[])(void) = {probe_get, probe_put};\n"
			     "void *call_slot(int i) { return slot[i](); }\n";

static const char calls[] = "extern void *probe_get(void), *pool_get(void);\n"
			    "void *get(void) { return probe_get(); } void *take(void) { return pool_get(); }\n";

static void build(const char *name, const char *source, const char *flags)
{
	char path[128], command[512];
	snprintf(path, sizeof(path), "%s/%s.c", directory, name);
	FILE *file = fopen(path, "w");
	CHECK(file && fputs(source, file) >= 0 && fclose(file) == 0);
	snprintf(command, sizeof(command), "cd %s && cc -shared -fPIC -O1 -fno-builtin -o %s %s.c %s", directory, name, name, flags);
	CHECK_EQUAL(system(command), 0);
}

static void *load(const char *name, int flags)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	void *handle = dlopen(path, flags);
	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return handle;
}

static void *address(void *handle, const char *name)
{
	void *found = dlsym(handle, name);
	CHECK(found != NULL);
	return found;
}

static const char *call(void *handle, const char *name) { return ((const char *(*)(void))address(handle, name))(); }
static const char *call_slot(void *handle, int i) { return ((const char *(*)(int))address(handle, "call_slot"))(i); }
static bool says(const char *said, const char *expected) { return strcmp(said, expected) == 0; }

// ---- our side ----------------------------------------------------------------------------------------

static void *(*real_get)(void), *(*real_put)(void), *(*real_pool)(void);
static unsigned got, put, pooled;

static void *hook_get(void) { return got++, real_get(); }
static void *hook_put(void) { return put++, real_put(); }
static void *hook_pool(void) { return pooled++, real_pool(); }

static uintptr_t choose_pool(unsigned index, uintptr_t original)
{
	(void)index;
	real_pool = (void *(*)(void))original;
	return (uintptr_t)hook_pool;
}

static void register_probes(void)
{
	static const struct slots_name family[] = {
	    {"probe_get", (uintptr_t)hook_get, (const uintptr_t *)(const void *)&real_get, false},
	    {"probe_put", (uintptr_t)hook_put, (const uintptr_t *)(const void *)&real_put, true},
	};
	static const struct slots_name pools[] = {{"pool_get", 0, NULL, false}};
	static struct slots_table both[] = {
	    {.names = family, .count = ARRAY_LEN(family), .meaning = SLOTS_FAMILY},
	    {.names = pools, .count = 1, .meaning = SLOTS_NEW, .choose = choose_pool},
	};
	slots_register(&both[0]);
	slots_register(&both[1]);
}

static void *load_provider(void)
{
	void *handle = load("first.so", RTLD_NOW | RTLD_GLOBAL);
	real_get = (void *(*)(void))address(handle, "probe_get");
	real_put = (void *(*)(void))address(handle, "probe_put");
	return handle;
}

static struct catalog_coverage coverage_of(void *handle)
{
	struct catalog_coverage coverage = {0};
	CHECK(slots_coverage(modules_find((uintptr_t)((struct link_map *)handle)->l_ld), &coverage));
	return coverage;
}

static uintptr_t *slot_of(void *handle) { return address(handle, "slot"); }
static bool is_ours(uintptr_t value) { return value == (uintptr_t)hook_get || value == (uintptr_t)hook_put; }
static bool is_closed(const void *at) { return pages_look((uintptr_t)at) == PAGES_PROTECTED; }

static void protect(void *at, int protection)
{
	CHECK(syscall(SYS_mprotect, round_down((uintptr_t)at, PAGE_BYTES), PAGE_BYTES, protection) == 0);
}

static void set_closed(uintptr_t *slot, uintptr_t value)
{
	protect(slot, PROT_READ | PROT_WRITE);
	*slot = value;
	protect(slot, PROT_READ);
}

// ---- what is hooked ----------------------------------------------------------------------------------

static void hooked(void)
{
	load_provider();
	void *lazy = load("lazy.so", RTLD_LAZY), *now = load("now.so", RTLD_NOW), *constants = load("tables.so", RTLD_NOW);
	CHECK(slots_scan(SLOTS_IF_CHANGED).looked);
	void *const users[] = {lazy, now};
	for (unsigned i = 0; i < ARRAY_LEN(users); i++) {
		CHECK(says(call(users[i], "get"), "first") && says(call(users[i], "put"), "first"));
		CHECK(says(call(users[i], "get_by_variable"), "first") && says(call(users[i], "take"), "first pool"));
		CHECK_EQUAL(coverage_of(users[i]).coverage, MLF_COVERAGE_HOOKED);
		CHECK_EQUAL(coverage_of(users[i]).slots_here, 4);
		CHECK(got == 2 * (i + 1) && put == i + 1 && pooled == i + 1);
	}
	CHECK(is_ours(slot_of(constants)[0]) && is_ours(slot_of(constants)[1]) && is_closed(slot_of(constants)));
	// Nothing changes any more, and soon nothing is looked at.
	for (unsigned i = 0; i < 6; i++)
		CHECK(!slots_scan(SLOTS_IF_CHANGED).displaced);
	CHECK(!slots_scan(SLOTS_IF_CHANGED).looked && slots_scan(SLOTS_ALL).looked);
}

// ---- variables of the program ------------------------------------------------------------------------

static void variable_set_by_the_program(void)
{
	load_provider();
	void *tool = load("tool.so", RTLD_NOW), *only = load("variable.so", RTLD_NOW);
	slots_scan(SLOTS_ALL);
	CHECK(says(call(only, "get_by_variable"), "first"));
	CHECK_EQUAL(got, 1);
	CHECK_EQUAL(coverage_of(only).coverage, MLF_COVERAGE_HOOKED);

	((void (*)(void))address(only, "set_to_mine"))();
	for (unsigned i = 0; i < 4; i++)
		CHECK(!slots_scan(SLOTS_ALL).displaced);
	CHECK(says(call(only, "get_by_variable"), "mine"));
	CHECK_EQUAL(coverage_of(only).coverage, MLF_COVERAGE_NONE);

	*(uintptr_t *)address(only, "variable") = (uintptr_t)address(tool, "tools_get");
	for (unsigned i = 0; i < 4; i++)
		CHECK(!slots_scan(SLOTS_ALL).displaced && !slots_scan(SLOTS_CHECK).displaced);
	CHECK(says(call(only, "get_by_variable"), "tool"));
	CHECK_EQUAL(coverage_of(only).coverage, MLF_COVERAGE_NONE);
}

static uintptr_t *meant, theirs;
static unsigned asked;

// Asked about the slot's page, another thread sets the slot before it is answered.
static long set_meanwhile(const greg_t *registers)
{
	if (round_down((uintptr_t)meant, PAGE_BYTES) == (uintptr_t)registers[REG_RDI]) {
		asked++;
		store_release(meant, theirs);
	}
	return 0;
}

static void variable_set_meanwhile(void)
{
	load_provider();
	void *tool = load("tool.so", RTLD_NOW), *only = load("variable.so", RTLD_NOW);
	theirs = (uintptr_t)address(tool, "tools_get");
	meant = address(only, "variable");
	filter_trapped = set_meanwhile;
	CHECK(pages_look((uintptr_t)meant) == PAGES_WRITABLE); // from now on the kernel is asked
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, SECCOMP_RET_TRAP}, 1);
	CHECK(!slots_scan(SLOTS_ALL).displaced);
	CHECK(asked == 1 && *meant == theirs);
}

// ---- calls that are not bound yet --------------------------------------------------------------------

// Two objects define the names, and which of them a third will be bound to the loader's list does not tell.
static void several_definitions(void)
{
	void *first = load("first.so", RTLD_NOW | RTLD_LOCAL);
	real_get = (void *(*)(void))address(first, "probe_get");
	void *bound = load("lazy_second.so", RTLD_LAZY | RTLD_LOCAL);
	slots_scan(SLOTS_ALL);
	CHECK_EQUAL(coverage_of(bound).coverage, MLF_COVERAGE_UNBOUND);
	CHECK(says(call(bound, "get"), "second") && says(call(bound, "take"), "second pool"));
	CHECK(got == 0 && pooled == 0);
	slots_scan(SLOTS_CHECK); // now they are
	CHECK(says(call(bound, "get"), "second") && says(call(bound, "take"), "second pool"));
	CHECK(got == 0 && pooled == 1);
	CHECK_EQUAL(coverage_of(bound).coverage, MLF_COVERAGE_OTHER_ALLOCATOR);
}

// ---- objects that are not finished, and pages that are not as they should be -----------------------

static void not_relocated_yet(void)
{
	load_provider();
	void *constants = load("tables.so", RTLD_NOW);
	uintptr_t *slot = slot_of(constants), bound = slot[1];
	protect(slot, PROT_READ | PROT_WRITE); // as while its loader is at it
	slot[1] = 0;
	for (unsigned i = 0; i < 12; i++)
		CHECK(slots_scan(SLOTS_IF_CHANGED).looked);
	CHECK(is_ours(slot[0]) && slot[1] == 0);
	slot[1] = bound;
	protect(slot, PROT_READ);
	CHECK(slots_scan(SLOTS_IF_CHANGED).looked && is_ours(slot[1]));
	for (unsigned i = 0; i < 6; i++)
		slots_scan(SLOTS_IF_CHANGED);
	CHECK(!slots_scan(SLOTS_IF_CHANGED).looked && is_closed(slot));
}

static unsigned closed_at; // which answer is not true any more when it is read

static long close_meanwhile(const greg_t *registers)
{
	if (round_down((uintptr_t)meant, PAGE_BYTES) != (uintptr_t)registers[REG_RDI])
		return -EINVAL;
	if (++asked > closed_at)
		return -EINVAL;
	if (asked == closed_at)
		protect(meant, PROT_READ);
	return 0;
}

static void protected_meanwhile(void)
{
	load_provider();
	meant = slot_of(load("tables.so", RTLD_NOW));
	protect(meant, PROT_READ | PROT_WRITE);
	filter_trapped = close_meanwhile;
	CHECK(pages_look((uintptr_t)meant) == PAGES_WRITABLE);
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, SECCOMP_RET_TRAP}, 1);
	slots_scan(SLOTS_ALL);
	CHECK(asked > closed_at && is_ours(meant[0]) && is_ours(meant[1]));
}

// The first question is whether the object's loader is done with it, the next are about its two slots.
static void protected_before_first(void) { closed_at = 1, protected_meanwhile(); }
static void protected_before_second(void) { closed_at = 2, protected_meanwhile(); }
static void protected_before_third(void) { closed_at = 3, protected_meanwhile(); }

// The kernel has no memory to answer with, for a while.
static long answer_late(const greg_t *registers)
{
	bool is_meant = round_down((uintptr_t)meant, PAGE_BYTES) == (uintptr_t)registers[REG_RDI];
	return is_meant && asked++ < 24 ? -ENOMEM : -EINVAL;
}

static void asked_in_vain(void)
{
	load_provider();
	meant = slot_of(load("tables.so", RTLD_NOW));
	filter_trapped = answer_late;
	CHECK(pages_look((uintptr_t)meant) == PAGES_PROTECTED);
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, SECCOMP_RET_TRAP}, 1);
	slots_scan(SLOTS_ALL);
	CHECK(asked > 0 && asked < 24 && !is_ours(meant[0]) && !is_ours(meant[1]));
	for (unsigned i = 0; i < 12; i++)
		slots_scan(SLOTS_IF_CHANGED);
	CHECK(is_ours(meant[0]) && is_ours(meant[1]));
}

// Two objects whose slots are protected, and one whose slots are not. How many of the former are hooked.
static unsigned hooked_though_refused(uint32_t protection)
{
	load_provider();
	void *const constants[] = {load("tables.so", RTLD_NOW), load("tables2.so", RTLD_NOW)}, *lazy = load("lazy.so", RTLD_LAZY);
	filter_install(&(struct filtered){SYS_mprotect, 2, protection, REFUSE(EPERM)}, 1);
	slots_scan(SLOTS_ALL);
	unsigned open = 0;
	for (unsigned i = 0; i < 2; i++) {
		got = put = 0;
		CHECK(says(call_slot(constants[i], 0), "first") && says(call_slot(constants[i], 1), "first"));
		CHECK_EQUAL(coverage_of(constants[i]).coverage, MLF_COVERAGE_PROTECTED);
		CHECK_EQUAL(coverage_of(constants[i]).slots_here, got + put);
		CHECK(is_closed(slot_of(constants[i])) == (got == 0) && got == put);
		open += got;
	}
	CHECK_EQUAL(coverage_of(lazy).coverage, MLF_COVERAGE_HOOKED);
	return open;
}

static void opening_refused(void) { CHECK_EQUAL(hooked_though_refused(PROT_READ | PROT_WRITE), 0); }

// One page is left open because of us, and no other.
static void closing_refused(void) { CHECK_EQUAL(hooked_though_refused(PROT_READ), 1); }

// ---- other tools -------------------------------------------------------------------------------------

// It takes one function only; each second one slot of an object is looked at.
static void tool_takes_what_matters_most(void)
{
	load_provider();
	void *constants = load("tables.so", RTLD_NOW), *tool = load("tool.so", RTLD_NOW);
	uintptr_t *slot = slot_of(constants), its = (uintptr_t)address(tool, "tools_put");
	while (slots_scan(SLOTS_IF_CHANGED).looked) // until nothing else is looked at
		;
	CHECK(is_ours(slot[1]));
	uintptr_t bound = slot[1];
	set_closed(&slot[1], its);
	CHECK(slots_scan(SLOTS_CHECK).displaced);
	CHECK_EQUAL(coverage_of(constants).coverage, MLF_COVERAGE_OTHER_TOOL);
	CHECK(!slots_scan(SLOTS_CHECK).displaced && slot[1] == its); // once, and it is left there
	set_closed(&slot[1], (uintptr_t)real_put);
	CHECK(slots_scan(SLOTS_CHECK).displaced && slot[1] == bound);
	CHECK_EQUAL(coverage_of(constants).coverage, MLF_COVERAGE_HOOKED);
}

static void tool_takes_another(void)
{
	load_provider();
	void *constants = load("tables.so", RTLD_NOW), *tool = load("tool.so", RTLD_NOW);
	uintptr_t *slot = slot_of(constants);
	CHECK(!slots_scan(SLOTS_ALL).displaced);
	set_closed(&slot[0], (uintptr_t)address(tool, "tools_get"));
	CHECK(slots_scan(SLOTS_ALL).displaced && !slots_scan(SLOTS_ALL).displaced);
	CHECK_EQUAL(coverage_of(constants).coverage, MLF_COVERAGE_OTHER_TOOL);
	CHECK(coverage_of(constants).slots_here == 1 && coverage_of(constants).slots_elsewhere == 1);
}

// ---- forks meanwhile ---------------------------------------------------------------------------------

static uint32_t scanning_on, scans;

static void *scan_all_the_time(void *unused)
{
	(void)unused;
	while (load_relaxed(&scanning_on)) {
		slots_scan(SLOTS_ALL);
		add_relaxed(&scans, 1);
	}
	return NULL;
}

static void load_something(void)
{
	alarm(20); // hangs if the loader's lock was taken by a thread that is not here
	load("second.so", RTLD_NOW);
}

static void forked_meanwhile(void)
{
	pthread_t threads[2];
	pthread_atfork(objects_before_fork, objects_after_fork, NULL);
	store_relaxed(&scanning_on, 1);
	for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, scan_all_the_time, NULL) == 0);
	while (!load_relaxed(&scans))
		sched_yield();
	for (int i = 0; i < 300 && !checks_failed; i++)
		in_child(load_something);
	store_relaxed(&scanning_on, 0);
	for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	CHECK(mkdtemp(directory) != NULL);
	build("first.so", provider, "-DWHO='\"first\"'");
	build("second.so", provider, "-DWHO='\"second\"' -Wl,-soname,second.so");
	build("tool.so", "void *tools_get(void) { return \"tool\"; } void *tools_put(void) { return \"tool\"; }\n", "");
	build("lazy.so", user, "-Wl,-z,lazy,-z,relro");
	build("now.so", user, "-Wl,-z,now,-z,relro");
	build("lazy_second.so", calls, "-Wl,-z,lazy,-z,relro -Wl,-rpath,'$ORIGIN' ./second.so");
	build("variable.so",
	      "extern void *probe_get(void); void *(*variable)(void) = probe_get; void *get_by_variable(void) { return variable(); }\n"
	      "static void *mine(void) { return \"mine\"; } void set_to_mine(void) { variable = mine; }\n", "-Wl,-z,now,-z,relro");
	build("tables.so", tables, "-Wl,-z,now,-z,relro");
	build("tables2.so", tables, "-Wl,-z,now,-z,relro");
	boot();
	register_probes();
	// Each in a process of its own: nothing is ever unpatched, and a filter stays.
	static void (*const parts[])(void) = {
	    hooked, variable_set_by_the_program, several_definitions, not_relocated_yet, opening_refused, closing_refused,
	    tool_takes_what_matters_most, tool_takes_another, forked_meanwhile,
	};
	static void (*const asking[])(void) = {
	    variable_set_meanwhile, protected_before_first, protected_before_second, protected_before_third, asked_in_vain,
	};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		in_child(parts[i]);
	for (unsigned i = 0; i < ARRAY_LEN(asking) && kernel_tells_pages(); i++)
		in_child(asking[i]);
	remove_directory(directory);
	return harness_end();
}
