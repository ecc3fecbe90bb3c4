// catalog.c -- modules and threads as the recording knows them
//
// Context:   sampled; catalog_name_threads() and catalog_name_modules() are cold.
// Invariant: a module's record is whole once its state is 2, but for its path, which may wait for room; module ids
//            are process-wide and mean the same in every recording of the process.
// Why:       records are written by the thread that first meets a module or is first sampled: no
//            cold step need have run before a stack can be stored.
// Proof:     tests/native/test_catalog.c
#include "catalog.h"

#include "clock.h"
#include "elfimage.h"
#include "modules.h"
#include "recording.h"
#include "sampler.h"
#include "stats.h"
#include "sys.h"
#include "text.h"
#include "unwind_thread.h"

#define MODULES_FIRST 64U // capacity of the first segment; each further one doubles
#define THREADS_LAST 3U   // segments: 64 + 128 + 256 + 512 threads, then thread 0

// Entry `index` of a table whose segments hold 64, 128, 256 …; adds segments as needed. NULL: no room.
static void *table_entry(enum mlf_kind kind, unsigned index, unsigned bytes_each, unsigned last_order)
{
	uint32_t capacity = MODULES_FIRST;
	for (unsigned order = 0; order <= last_order; order++, capacity *= 2) {
		const struct recording_table *table = recording_segment(kind, order);
		if (!table && (!recording_add_segment(kind, order, capacity, bytes_each) ||
			       !(table = recording_segment(kind, order))))
			return NULL;
		if (index < capacity)
			return table->base + (size_t)index * bytes_each;
		index -= capacity;
	}
	return NULL;
}

// ---- modules -------------------------------------------------------------------------------------

static uint32_t store_string(const char *s)
{
	size_t length = text_length(s);
	struct mlf_string *string = recording_take((uint32_t)(sizeof(*string) + length), MLF_REF_BYTES);
	if (!string)
		return 0;
	string->record = (struct mlf_record){.bytes = (uint32_t)(sizeof(*string) + length), .kind = MLF_RECORD_STRING, .version = 1};
	for (size_t i = 0; i < length; i++)
		string->text[i] = s[i];
	return recording_ref(string);
}

// The functions that are operator new, by their Itanium-ABI names.
static const char *const new_names[] = {
    "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t",
};

#define PLUMBING_MAX 32U // four providers of operator new; more go unrecognised here, the reader still strips by name
static struct plumbing {
	uint64_t module, low, high; // virtual addresses
} plumbing[PLUMBING_MAX];
static uint32_t plumbing_count;
static uint8_t plumbing_searched[MODULES_MAX]; // 0, 1 while a thread is at it, 2 when all of the module's are in the table

static void find_plumbing(unsigned id, const struct module *module)
{
	for (unsigned i = 0; i < ARRAY_LEN(new_names); i++) {
		size_t size = 0;
		uintptr_t at = elf_image_symbol(&module->image, new_names[i], &size);
		if (!at || !size)
			continue;
		uint32_t slot = load_relaxed(&plumbing_count);
		do
			if (slot == PLUMBING_MAX)
				return;
		while (!cas_acq_rel(&plumbing_count, &slot, slot + 1));
		plumbing[slot].low = at - module->image.bias;
		plumbing[slot].high = at - module->image.bias + size;
		store_release(&plumbing[slot].module, id); // pairs with catalog_is_plumbing()
	}
}

// The same by looking at the module itself, while another thread is still in find_plumbing() for it: a row
// keeps for ever the frames it began with.
static bool looks_like_plumbing(const struct module *module, uint64_t vaddr)
{
	for (unsigned i = 0; i < ARRAY_LEN(new_names); i++) {
		size_t size = 0;
		uintptr_t at = elf_image_symbol(&module->image, new_names[i], &size);
		if (at && vaddr > at - module->image.bias && vaddr <= at - module->image.bias + size)
			return true;
	}
	return false;
}

bool catalog_is_plumbing(uint64_t frame)
{
	uint64_t id = frame >> MLF_FRAME_MODULE_SHIFT, vaddr = frame & MLF_FRAME_VADDR_MASK;
	const struct module *module = id && id < MODULES_MAX ? modules_get((unsigned)id) : NULL;
	if (!module)
		return false;
	if (module->flags & MLF_MODULE_CORE)
		return true;
	bool searched = load_acquire(&plumbing_searched[id]) == 2; // before the table: what it holds is then complete
	for (uint32_t i = 0, n = load_acquire(&plumbing_count); i < n && i < PLUMBING_MAX; i++)
		if (load_acquire(&plumbing[i].module) == id && vaddr > plumbing[i].low && vaddr <= plumbing[i].high)
			return true;
	return !searched && looks_like_plumbing(module, vaddr);
}

bool catalog_has_plumbing(unsigned id)
{
	bool searched = load_acquire(&plumbing_searched[id]) == 2; // before the table, as above
	for (uint32_t i = 0, n = load_acquire(&plumbing_count); i < n && i < PLUMBING_MAX; i++)
		if (load_acquire(&plumbing[i].module) == id)
			return true;
	return !searched;
}

// There was no room for the name when the record was written: its build id and addresses stand without.
static void name_module(struct mlf_module *record, const struct module *module)
{
	uint32_t none = 0, path = store_string(module->path);
	if (path)
		cas_acq_rel(&record->path, &none, path); // pairs with readers of the file; another thread may have been faster
}

// The module's record, written unless it is there; NULL if there is no room. Reads nothing of the object, which may
// be unloaded.
static struct mlf_module *module_record(unsigned id, const struct module *module)
{
	struct mlf_module *record = table_entry(MLF_KIND_MODULES, id - 1, sizeof(*record), RECORDING_SEGMENTS - 1);
	if (!record)
		return NULL;
	uint32_t state = load_acquire(&record->state);
	if (likely(state != 0) || !cas_acq_rel(&record->state, &state, 1)) {
		if (unlikely(state == 2 && !load_relaxed(&record->path)))
			name_module(record, module);
		return record;
	}
	const struct elf_image *image = &module->image;
	record->flags = module->flags;
	record->path = store_string(module->path);
	if (!record->path)
		count(module_full);
	record->build_id_bytes = image->build_id_bytes <= sizeof(record->build_id) ? image->build_id_bytes : 0;
	for (unsigned i = 0; i < record->build_id_bytes; i++)
		record->build_id[i] = image->build_id[i];
	record->loaded_cs = clock_now_cs();
	record->vaddr_low = image->low - image->bias;
	record->vaddr_high = image->high - image->bias;
	record->unload_generation = modules_generation();
	store_release(&record->state, 2); // pairs with readers of the file
	return record;
}

void catalog_module(unsigned id)
{
	const struct module *module = id && id < MODULES_MAX ? modules_get(id) : NULL;
	if (!module)
		return;
	if (!module_record(id, module))
		count(module_full);
	catalog_search(id);
}

void catalog_search(unsigned id)
{
	uint8_t searched = load_relaxed(&plumbing_searched[id]);
	if (likely(searched) || !cas_acq_rel(&plumbing_searched[id], &searched, 1))
		return;
	find_plumbing(id, modules_get(id));
	store_release(&plumbing_searched[id], 2); // pairs with catalog_is_plumbing()
}

void catalog_coverage(unsigned id, const struct catalog_coverage *coverage)
{
	struct mlf_module *record = module_record(id, modules_get(id));
	if (!record)
		return;
	if (coverage->holder)
		module_record(coverage->holder, modules_get(coverage->holder));
	// Relaxed, word by word: a reader may mix two looks, a second apart.
	store_relaxed(&record->slots_here, coverage->slots_here);
	store_relaxed(&record->slots_elsewhere, coverage->slots_elsewhere);
	store_relaxed(&record->holder, coverage->holder);
	store_relaxed(&record->coverage, coverage->coverage);
}

void catalog_name_modules(void)
{
	const struct recording_table *table;
	unsigned id = 1;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_MODULES, order)); order++)
		for (uint32_t i = 0; i < table->capacity && id < MODULES_MAX; i++, id++) {
			struct mlf_module *record = (struct mlf_module *)(void *)table->base + i;
			if (load_acquire(&record->state) == 2 && !load_relaxed(&record->path))
				name_module(record, modules_get(id));
		}
}

// ---- threads -------------------------------------------------------------------------------------

static uint64_t threads_given; // recording number << 32 | thread ids given in it: one word, so that they change together

uint32_t catalog_thread(uint32_t now_cs)
{
	struct sampler *self = &sampler_self;
	if (likely(self->recording == recording.number))
		return self->thread;
	// The first sample of this thread in this recording.
	uint32_t number = recording.number;
	uint64_t seen = load_relaxed(&threads_given), next;
	do
		next = (seen >> 32 == number ? seen : (uint64_t)number << 32) + 1;
	while (!cas_relaxed(&threads_given, &seen, next)); // relaxed: only the number's distinctness matters
	uint32_t index = (uint32_t)next - 1;
	struct mlf_thread *record = table_entry(MLF_KIND_THREADS, index, sizeof(*record), THREADS_LAST);
	self->recording = number;
	self->thread = (uint16_t)(record ? index + 1 : 0);
	if (!record) {
		count(thread_full);
		return 0;
	}
	record->tid = unwind_thread_tid();
	record->first_cs = now_cs;
	store_release(&record->state, 1); // pairs with readers of the file
	return self->thread;
}

// Relaxed: written by this thread alone, each word a fact of its own. (A reader may find the row of the sample before.)
void catalog_note_sample(uint32_t thread, uint32_t row, uint32_t now_cs)
{
	if (unlikely(!thread))
		return;
	uint32_t index = thread - 1, capacity = MODULES_FIRST;
	unsigned order = 0;
	for (; index >= capacity; order++, capacity *= 2)
		index -= capacity;
	struct mlf_thread *record = (struct mlf_thread *)(void *)recording_segment(MLF_KIND_THREADS, order)->base + index;
	store_relaxed(&record->last_row, row);
	store_relaxed(&record->last_cs, now_cs);
	store_relaxed(&record->samples, load_relaxed(&record->samples) + 1);
}

void catalog_name_threads(void)
{
	char path[48];
	for (unsigned order = 0; order <= THREADS_LAST; order++) {
		const struct recording_table *table = recording_segment(MLF_KIND_THREADS, order);
		for (uint32_t i = 0; table && i < table->capacity; i++) {
			struct mlf_thread *record = (struct mlf_thread *)(void *)table->base + i;
			if (load_acquire(&record->state) != 1 || record->name[0] || !record->tid)
				continue;
			struct text t = text_in(path, sizeof(path));
			text_add(&t, "/proc/self/task/");
			text_decimal(&t, record->tid);
			text_add(&t, "/comm");
			char name[sizeof(record->name) + 1]; // comm is at most 15 characters and a newline
			long n = sys_read_file(path, name, sizeof(name)); // < 0: the thread is gone already
			for (long c = 0; c < n && name[c] != '\n'; c++)
				record->name[c] = name[c];
		}
	}
}
