// pyruntime.c -- the CPython that is in this process
//
// Context:   cold.
// Invariant: everything is taken from one object, the first that defines what a thread's state is asked of: there may be
//            another libpython. It is never unloaded once found: sampled code calls into it at any time.
// Why:       the core is not linked to libpython. Whoever has unloaded libpython with its extension modules still there
//            is lost anyway; a program that opens it again finds the one it had, as with any object that stays.
//            Holding it by a counted handle, to be let go when the program closes its own, would want the hooks and
//            the code objects' deaths taken back in a process that may be in the midst of using them.
// Proof:     tests/native/test_pyruntime.c, tests/integration/test_embedding.py
#include "pyruntime.h"

#include "elfimage.h"
#include "modules.h"
#include "objects.h"
#include "sampler.h"

#include <dlfcn.h>
#include <link.h>

struct pyruntime pyruntime;

static const char sign_of_python[] = "PyGILState_GetThisThreadState";
static struct elf_image object;  // it is in; constant once found
static struct elf_image program; // the program itself

// ---- searching -----------------------------------------------------------------------------------

static unsigned long long seen_adds; // of the loader, when there was none
static bool seen_any;

static struct {
	bool begun, counted, found;
	unsigned long long adds;
	char path[4096];
	uintptr_t open;
} search;

static bool list_grew(const struct dl_phdr_info *info, size_t bytes)
{
	search.counted = bytes >= offsetof(struct dl_phdr_info, dlpi_adds) + sizeof(info->dlpi_adds);
	if (search.counted)
		search.adds = info->dlpi_adds;
	return !search.counted || !seen_any || search.adds != seen_adds;
}

// Under the loader's lock, so that what is looked at stays.
static int look_at_object(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)context;
	struct elf_image image;
	bool first = !search.begun;
	search.begun = true;
	if (first && !list_grew(info, bytes))
		return 1;
	if (!elf_image_from_phdrs(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &image))
		return 0;
	if (first)
		program = image;
	if (!elf_image_symbol(&image, sign_of_python, NULL))
		return 0;
	const char *name = info->dlpi_name ? info->dlpi_name : "";
	size_t length = 0;
	while (name[length] && length < sizeof(search.path) - 1)
		length++;
	__builtin_memcpy(search.path, name, length);
	search.path[length] = 0;
	search.open = elf_global_symbol("dlopen");
	search.found = true;
	object = image;
	return 1;
}

// Whoever called us may be loading or unloading: the loader's locks can be taken again by the thread that has them.
static bool keep_loaded(void)
{
	if (object.low == program.low)
		return true;
	if (!search.open || !search.path[0])
		return false;
	uint8_t was_busy = sampler_self.busy;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM;
	void *(*open)(const char *, int) = (void *(*)(const char *, int))search.open;
	const struct link_map *map = open(search.path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
	sampler_self.busy = was_busy;
	return map && map->l_addr == object.bias; // else it went meanwhile
}

// ---- what it is ----------------------------------------------------------------------------------

uintptr_t pyruntime_function(const char *name) { return elf_image_symbol(&object, name, NULL); }

// A program at a fixed address holds itself the variables of a library that it uses; then the library does so too.
static uintptr_t variable(const char *name)
{
	uintptr_t at = elf_image_symbol(&program, name, NULL);
	return at ? at : elf_image_symbol(&object, name, NULL);
}

// "3.10.13 (main, …" of the versions that have no Py_Version.
static uint32_t parse_version(const char *text)
{
	uint32_t part[3] = {0, 0, 0};
	for (unsigned i = 0; i < 3; i++) {
		while (*text >= '0' && *text <= '9')
			part[i] = part[i] * 10 + (uint32_t)(*text++ - '0');
		if (*text++ != '.')
			break;
	}
	return part[0] << 24 | part[1] << 16 | part[2] << 8;
}

static uint64_t basic_size(const char *type)
{
	uintptr_t at = variable(type);
	return at ? *(const uint64_t *)(at + PYLAYOUT_TYPE_BASIC_SIZE) : 0;
}

// What a function that reads one word of a thread's state reads there.
static uint64_t place_read_by(const char *function)
{
	static uint64_t state[512]; // each word holds its own place
	for (unsigned i = 0; i < ARRAY_LEN(state); i++)
		state[i] = i * sizeof(state[0]);
	uintptr_t at = pyruntime_function(function);
	return at ? ((uint64_t(*)(const void *))at)(state) : UINT64_MAX;
}

static bool fits(const struct pylayout *layout)
{
	return pylayout_fits(layout, &(struct pylayout_signs){
	    .thread_interp = place_read_by("PyThreadState_GetInterpreter"),
	    .thread_id = place_read_by("PyThreadState_GetID"),
	    .code_bytes = basic_size("PyCode_Type"),
	    .frame_bytes = basic_size("PyFrame_Type"),
	});
}

static void learn_loop(void)
{
	size_t bytes;
	uintptr_t at = elf_image_symbol(&object, "_PyEval_EvalFrameDefault", &bytes);
	unsigned id = at && bytes ? modules_find(at) : 0;
	if (!id)
		return;
	pyruntime.loop_low = at + module_frame_base[id];
	pyruntime.loop_high = pyruntime.loop_low + bytes;
}

static enum mlf_python identify(uintptr_t version, uintptr_t get_version)
{
	enum mlf_python state;
	pyruntime.version = version ? (uint32_t)*(const unsigned long *)version
				    : parse_version(((const char *(*)(void))get_version)());
	const struct pylayout *layout = pylayout_of(pyruntime.version, (const void *)pyruntime.at, &state);
	if (!layout)
		return state;
	// A debug build: some of them have two words more in each object.
	if (pyruntime_function("_Py_NegativeRefcount") || !pyruntime.current || !fits(layout))
		return MLF_PYTHON_UNKNOWN_VERSION;
	pyruntime.layout = layout;
	learn_loop();
	return state;
}

enum mlf_python pyruntime_find(void)
{
	search.begun = search.found = false;
	if (!objects_try_each(look_at_object, NULL) || (search.found && !keep_loaded()))
		return MLF_PYTHON_NONE; // looked for again next time
	uintptr_t version = 0, get_version = 0;
	if (search.found) {
		pyruntime.by_thread = (uintptr_t(*)(void))pyruntime_function(sign_of_python);
		pyruntime.current = (uintptr_t(*)(void))pyruntime_function("PyThreadState_GetUnchecked");
		if (!pyruntime.current)
			pyruntime.current = (uintptr_t(*)(void))pyruntime_function("_PyThreadState_UncheckedGet");
		pyruntime.code_type = variable("PyCode_Type");
		pyruntime.at = variable("_PyRuntime");
		version = variable("Py_Version");
		get_version = pyruntime_function("Py_GetVersion");
	}
	if (!search.found || !pyruntime.code_type || !pyruntime.at || (!version && !get_version)) {
		seen_adds = search.adds;
		seen_any = search.counted;
		return MLF_PYTHON_NONE;
	}
	return identify(version, get_version);
}
