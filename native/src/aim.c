// aim.c -- does an allocation belong to the part that is in focus?
//
// Context:   sampled. No allocation, lock or system call; touches no recording, so that nobody need have entered.
// Invariant: what is remembered of a module or a set of labels carries the number of the aim it was found out for, in the same
//            word: a thread that is late writes nothing that another aim takes for its own.
// Why:       of every call that does not match this is the whole cost: one look at the cache of unwind rules tells the module
//            of the caller, one word what is known of it. Only behind plumbing is the stack walked, eight frames of it.
// Proof:     tests/native/test_focus.c; tests/integration/test_focus.py
#include "aim.h"

#include "atomics.h"
#include "catalog.h"
#include "labels.h"
#include "modules.h"
#include "pyframes.h"
#include "text.h"
#include "unwind.h"

#define FRAMES 8U

// ---- words ---------------------------------------------------------------------------------------

static const struct {
	const char *name;
	enum mlf_domain domain;
} domains[] = {
    {"glibc_malloc", MLF_DOMAIN_MALLOC},       {"operator_new", MLF_DOMAIN_OPERATOR_NEW}, {"pymalloc_obj", MLF_DOMAIN_PYMALLOC_OBJ},
    {"pymalloc_mem", MLF_DOMAIN_PYMALLOC_MEM}, {"pymem_raw", MLF_DOMAIN_PYMEM_RAW},       {"mmap", MLF_DOMAIN_MMAP},
};

// What stands behind a word that `text` begins with; NULL: it does not.
static const char *behind(const char *text, const char *word)
{
	while (*word && *text == *word)
		text++, word++;
	return *word ? NULL : text;
}

static bool parse_module(const char *name, struct aim *out)
{
	out->kind = AIM_MODULE;
	for (const char *s = name; *s; s++)
		if (*s == '/')
			return false; // a file name, not a path
	return *name != 0;
}

static bool parse_label(const char *line, struct aim *out)
{
	const char *s = line;
	out->kind = AIM_LABEL;
	while (*s && *s != '=')
		s++;
	return *s && s > line;
}

static bool parse_domain(const char *name, struct aim *out)
{
	out->kind = AIM_DOMAIN;
	for (unsigned i = 0; i < ARRAY_LEN(domains); i++)
		if (text_equal(name, domains[i].name)) {
			out->domain = domains[i].domain;
			return true;
		}
	return false;
}

bool aim_parse(const char *text, struct aim *out)
{
	struct text t = text_in(out->text, sizeof(out->text));
	out->kind = AIM_NONE;
	out->domain = MLF_DOMAIN_NONE;
	for (const char *s = text; *s && !t.full; s++) {
		if ((uint8_t)*s < ' ' || *s == 0x7F)
			return false;
		text_char(&t, *s);
	}
	out->name = out->text;
	if (t.full || !*out->text)
		return !t.full;
	const char *module = behind(out->text, "module="), *label = behind(out->text, "label="), *mod = behind(out->text, "mod=");
	out->name = module ? module : label ? label : mod;
	return module ? parse_module(module, out) : label ? parse_label(label, out) : mod && parse_domain(mod, out);
}

bool aim_needs_native(const struct aim *aim) { return aim->kind != AIM_NONE && aim->domain != MLF_DOMAIN_MMAP; }

bool aim_needs_python(const struct aim *aim)
{
	return aim->kind == AIM_MODULE || aim->kind == AIM_LABEL || aim->domain == MLF_DOMAIN_PYMALLOC_OBJ ||
	       aim->domain == MLF_DOMAIN_PYMALLOC_MEM;
}

// ---- modules -------------------------------------------------------------------------------------

// What is known of a module: number of the aim << 8 | these.
#define KNOWN 1U
#define NAMED 2U    // the aim's
#define PLUMBING 4U // an allocator, what calls one for others, an interpreter
#define NEWS 8U     // perhaps some of its functions are operator new
static uint32_t known_modules[MODULES_MAX];

// The loop of a Python interpreter: what it asks for itself is Python code's, not of whoever called Python further out. Of the
// first interpreter met; `module` published last.
static struct {
	uint64_t low, high; // virtual addresses
	uint32_t claimed, module;
} loop;

static const char *file_name(const char *path)
{
	const char *name = path;
	for (; *path; path++)
		if (*path == '/')
			name = path + 1;
	return name;
}

// libfoo.so is libfoo.so.1.2 too, and foo is foo.cpython-311-x86_64-linux-gnu.so.
static bool is_named(const struct module *module, const char *name)
{
	const char *rest = behind(file_name(module->path), name);
	return (rest && (*rest == 0 || *rest == '.')) || (module->flags & MLF_MODULE_MAIN && text_equal(name, "main"));
}

static bool is_plumbing_by_name(const char *path)
{
	static const char *const beginnings[] = {
	    "libc.so.", "libc-2.", "ld-linux", "ld-2.", "libpthread", "libdl.so", "libdl-", "libstdc++.so", "libc++.so",
	    "libc++abi.so", "libjemalloc", "libtcmalloc", "libmimalloc", "libpython",
	};
	for (unsigned i = 0; i < ARRAY_LEN(beginnings); i++)
		if (behind(file_name(path), beginnings[i]))
			return true;
	return false;
}

// Its loop is noted. Looks a symbol up: once for each module and aim.
static bool has_interpreter(unsigned id, const struct module *module)
{
	size_t bytes = 0;
	uint32_t nobody = 0;
	uintptr_t at = elf_image_symbol(&module->image, "_PyEval_EvalFrameDefault", &bytes);
	if (!at || !bytes)
		return false;
	if (cas_acq_rel(&loop.claimed, &nobody, 1)) { // pairs with itself
		loop.low = at - module->image.bias;
		loop.high = loop.low + bytes;
		store_release(&loop.module, id); // pairs with is_in_loop()
	}
	return true;
}

static bool is_in_loop(unsigned id, uint64_t vaddr)
{
	return id == load_acquire(&loop.module) && vaddr > loop.low && vaddr <= loop.high; // pairs with has_interpreter()
}

static NOINLINE uint32_t find_out(const struct aim *aim, unsigned id)
{
	const struct module *module = modules_get(id);
	uint32_t found = KNOWN | (is_named(module, aim->name) ? NAMED : 0);
	catalog_search(id);
	if (module->flags & MLF_MODULE_CORE || is_plumbing_by_name(module->path) || has_interpreter(id, module))
		found |= PLUMBING;
	if (module->flags & MLF_MODULE_CORE || catalog_has_plumbing(id))
		found |= NEWS;
	store_relaxed(&known_modules[id], aim->number << 8 | found); // relaxed: one word is all of it
	return found;
}

static uint32_t known_of(const struct aim *aim, unsigned id)
{
	uint32_t known = load_relaxed(&known_modules[id]);
	return likely(known >> 8 == aim->number && known & KNOWN) ? known & 0xFF : find_out(aim, id);
}

enum verdict { NO, YES, FURTHER_OUT };

static enum verdict judge(const struct aim *aim, uint64_t frame)
{
	unsigned id = (unsigned)(frame >> MLF_FRAME_MODULE_SHIFT);
	if (!id || id >= MODULES_MAX)
		return NO; // code that is nobody's, made while running
	uint32_t known = known_of(aim, id);
	if (known & NEWS && catalog_is_plumbing(frame))
		return FURTHER_OUT;
	if (known & NAMED)
		return YES;
	if (!(known & PLUMBING) || is_in_loop(id, frame & MLF_FRAME_VADDR_MASK))
		return NO;
	return FURTHER_OUT;
}

// Frames from the caller on, nothing of the stack read for the first.
static unsigned walk(const struct registers *caller, uint64_t *frames, unsigned most)
{
	struct unwind_bounds none = {0, 0};
	uint64_t hash;
	enum unwind_end end;
	return unwind(caller, most > 1 ? unwind_thread_bounds(caller->sp) : none, frames, most, &hash, &end);
}

static bool module_matches(const struct aim *aim, const struct registers *caller)
{
	uint64_t frames[FRAMES];
	walk(caller, frames, 1);
	enum verdict verdict = judge(aim, frames[0]);
	if (likely(verdict != FURTHER_OUT))
		return verdict == YES;
	unsigned n = walk(caller, frames, FRAMES);
	for (unsigned i = 1; i < n && verdict == FURTHER_OUT; i++)
		verdict = judge(aim, frames[i]);
	return verdict == YES;
}

// ---- labels --------------------------------------------------------------------------------------

static uint32_t known_sets[MLF_LABEL_SETS + 1]; // number of the aim << 8 | enum labels_answer

static bool label_matches(const struct aim *aim)
{
	uint32_t set = pyframes_label();
	set = set ? set : labels_of_thread();
	if (!set || set > MLF_LABEL_SETS)
		return false; // none, or one of those that have no text
	uint32_t known = load_relaxed(&known_sets[set]);
	if (unlikely(known >> 8 != aim->number)) {
		enum labels_answer answer = labels_has(set, aim->name);
		known = aim->number << 8 | answer;
		if (answer != LABELS_NOT_KNOWN)
			store_relaxed(&known_sets[set], known); // relaxed: one word is all of it
	}
	return (known & 0xFF) == LABELS_YES;
}

// ---- domains -------------------------------------------------------------------------------------

// As rows.c names it: most operator news end in malloc, which is all that its hook knows.
static bool is_called_by_new(const struct registers *caller)
{
	uint64_t frame;
	walk(caller, &frame, 1);
	unsigned id = (unsigned)(frame >> MLF_FRAME_MODULE_SHIFT);
	if (!id || id >= MODULES_MAX)
		return false;
	catalog_search(id);
	return catalog_is_plumbing(frame);
}

static bool domain_matches(enum mlf_domain wanted, enum mlf_domain domain, const struct registers *caller)
{
	if (domain == MLF_DOMAIN_MALLOC && (wanted == MLF_DOMAIN_MALLOC || wanted == MLF_DOMAIN_OPERATOR_NEW))
		return is_called_by_new(caller) == (wanted == MLF_DOMAIN_OPERATOR_NEW);
	return domain == wanted;
}

bool aim_matches(const struct aim *aim, enum mlf_domain domain, const struct registers *caller)
{
	switch (aim->kind) {
	case AIM_NONE: return false;
	case AIM_MODULE: return module_matches(aim, caller);
	case AIM_LABEL: return label_matches(aim);
	case AIM_DOMAIN: return domain_matches(aim->domain, domain, caller);
	}
	return false;
}
