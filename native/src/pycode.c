// pycode.c -- Python code objects as the recording knows them
//
// Context:   sampled, with or without the GIL; pycode_attach() is cold, note_death() runs where Python frees.
// Invariant: a cached ref belongs to the code object that stands at that address now: dying takes it out. Two
//            objects with equal file, name, first line and line table are one record.
// Why:       names are copied while a running frame keeps the object alive; nothing of Python is called, no
//            reference is taken. Addresses are re-used at once (exec in a loop), and no set of pointers inside the
//            object tells two of them apart: the death must be seen.
// Proof:     tests/native/test_pycode.c, tests/integration/test_python_frames.py
#include "pycode.h"

#include "atomics.h"
#include "index.h"
#include "recording.h"
#include "stats.h"

#define CACHE_SLOTS 16384U // 256 KiB of .bss, touched as used
#define CACHE_WINDOW 8U
#define TEXT_MOST 1024U    // bytes of UTF-8 kept of a name
#define LINES_MOST 16384U  // bytes of a line table
#define SHARE_OF_ROOM 4U   // code takes at most this part of the backed room, and the first 512 KiB anyway
#define SHARE_LEAST (512U << 10)

static const struct pylayout *layout;
static uintptr_t code_type;
static void (*real_dealloc)(uintptr_t object);

static uint64_t stored_bytes; // of code records and their strings, in the recording `stored_in`
static uint32_t stored_in;

// ---- cache ---------------------------------------------------------------------------------------

// value: recording number << 32 | ref; 0 = none. word: code ^ value * MLF_CHECK_1, so that of what two threads store here
// at once no mixture matches any object: two relaxed loads are enough. In place of a ref stands NO_ROOM | MiB backed when
// it was asked for: reading a code object whole at each sample, only to find again that there is no room, costs 20 times
// the sample.
#define NO_ROOM 0x80000000U
static struct cached {
	uint64_t word, value;
} cache[CACHE_SLOTS];

static struct cached *cache_window(uintptr_t code)
{
	return &cache[(code >> 4) * MLF_CHECK_1 >> 50 & (CACHE_SLOTS - CACHE_WINDOW)];
}

static uint32_t no_room(void) { return NO_ROOM | (uint32_t)(load_relaxed(&recording.header->room_backed) >> 20); }

// The object a slot is about; of a mixture, or of an empty one, none that there is.
static uintptr_t cached_code(const struct cached *slot, uint64_t *value)
{
	*value = load_relaxed(&slot->value);
	return load_relaxed(&slot->word) ^ *value * MLF_CHECK_1;
}

static uint32_t cache_find(uintptr_t code)
{
	const struct cached *slot = cache_window(code);
	uint64_t value;
	for (unsigned i = 0; i < CACHE_WINDOW; i++)
		if (cached_code(&slot[i], &value) == code && value >> 32 == recording.number)
			return (uint32_t)value;
	return 0;
}

void pycode_prefetch(uintptr_t code)
{
	const struct cached *slot = cache_window(code);
	prefetch_read(slot);
	prefetch_read(slot + CACHE_WINDOW / 2);
	prefetch_read((const void *)(code + PYLAYOUT_VAR_SIZE));
	if (layout->code_first_traceable != PYLAYOUT_NONE)
		prefetch_read((const void *)(code + layout->code_first_traceable));
}

static void cache_store(uintptr_t code, uint32_t ref)
{
	struct cached *slot = cache_window(code);
	unsigned chosen = (unsigned)(code >> 7) % CACHE_WINDOW; // somebody must go if all are taken
	uint64_t value;
	for (unsigned i = CACHE_WINDOW; i-- > 0;) {
		uintptr_t seen = cached_code(&slot[i], &value);
		if (seen == code || value == 0) {
			chosen = i;
			if (seen == code)
				break;
		}
	}
	value = (uint64_t)recording.number << 32 | ref;
	store_relaxed(&slot[chosen].value, value);
	store_relaxed(&slot[chosen].word, code ^ value * MLF_CHECK_1);
}

static void (*when_code_dies)(void);

void pycode_when_code_dies(void (*call)(void)) { when_code_dies = call; }

// In place of PyCode_Type's tp_dealloc. Runs with the GIL; the object's frames are gone, so nobody is storing for it. A
// mixture may hold its word, and its value again if an object of equal contents is stored: mixtures go too.
static void note_death(uintptr_t object)
{
	struct cached *slot = cache_window(object);
	for (unsigned i = 0; i < CACHE_WINDOW; i++) {
		uint64_t value;
		uintptr_t code = cached_code(&slot[i], &value);
		if (value && (code == object || cache_window(code) != slot)) {
			store_relaxed(&slot[i].value, 0);
			store_relaxed(&slot[i].word, 0);
		}
	}
	real_dealloc(object);
	if (when_code_dies)
		when_code_dies();
}

// ---- reading objects -----------------------------------------------------------------------------

static uintptr_t word_at(uintptr_t object, unsigned offset) { return *(const uintptr_t *)(object + offset); }

bool pycode_is_code(uintptr_t object) { return object && object % 8 == 0 && word_at(object, PYLAYOUT_OBJECT_TYPE) == code_type; }

// A str: `at` its characters of `unit` bytes each. Not compact (made by old C extensions): no characters.
struct text_view {
	uintptr_t at;
	uint32_t length, unit;
};

static struct text_view view_text(uintptr_t text)
{
	if (!text || text % 8)
		return (struct text_view){0, 0, 1};
	uint32_t state = *(const uint32_t *)(text + PYLAYOUT_TEXT_STATE);
	uint32_t kind = state >> 2 & 7, compact = state >> 5 & 1, ascii = state >> 6 & 1;
	uintptr_t length = word_at(text, PYLAYOUT_TEXT_LENGTH);
	if (!compact || (kind != 1 && kind != 2 && kind != 4))
		return (struct text_view){0, 0, 1};
	return (struct text_view){text + (ascii ? layout->text_ascii : layout->text_compact),
				  length < TEXT_MOST ? (uint32_t)length : TEXT_MOST, kind};
}

static uint32_t character(const struct text_view *view, uint32_t i)
{
	const void *at = (const void *)(view->at + (uintptr_t)i * view->unit);
	return view->unit == 1 ? *(const uint8_t *)at : view->unit == 2 ? *(const uint16_t *)at : *(const uint32_t *)at;
}

static uint32_t utf8_bytes(uint32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

static uint32_t utf8_length(const struct text_view *view)
{
	uint32_t bytes = 0;
	for (uint32_t i = 0; i < view->length; i++)
		bytes += utf8_bytes(character(view, i));
	return bytes;
}

// Lone surrogates (undecodable bytes of a file name) are written as they are: the reader decodes them so.
static char *utf8_put(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	unsigned more = utf8_bytes(c) - 1;
	*to++ = (char)((more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0) | c >> 6 * more);
	while (more-- > 0)
		*to++ = (char)(0x80 | (c >> 6 * more & 63));
	return to;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * MLF_CHECK_1;
	return hash ^ hash >> 29;
}

static uint64_t hash_text(uint64_t hash, const struct text_view *view)
{
	for (uint32_t i = 0; i < view->length; i++)
		hash = mix(hash, character(view, i));
	return mix(hash, 0x100000000ULL + view->length);
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *at, uint32_t bytes)
{
	uint32_t i = 0;
	for (; i + 8 <= bytes; i += 8) {
		uint64_t word;
		__builtin_memcpy(&word, at + i, 8);
		hash = mix(hash, word);
	}
	for (; i < bytes; i++)
		hash = mix(hash, at[i]);
	return mix(hash, bytes);
}

struct code_view {
	struct text_view file, name;
	int32_t first_line;
	const uint8_t *lines;
	uint32_t line_bytes;
	bool cut;
};

static struct code_view view_code(uintptr_t code)
{
	struct code_view view = {
	    .file = view_text(word_at(code, layout->code_file)),
	    .name = view_text(word_at(code, layout->code_name)),
	    .first_line = *(const int32_t *)(code + layout->code_first_line),
	};
	uintptr_t lines = word_at(code, layout->code_lines);
	if (lines && lines % 8 == 0) {
		uintptr_t bytes = word_at(lines, PYLAYOUT_VAR_SIZE);
		view.lines = (const uint8_t *)(lines + PYLAYOUT_BYTES_DATA);
		view.cut = bytes > LINES_MOST;
		view.line_bytes = view.cut ? LINES_MOST : (uint32_t)bytes;
	}
	view.cut |= view.file.length == TEXT_MOST || view.name.length == TEXT_MOST;
	return view;
}

uint32_t pycode_instruction_bytes(uintptr_t code)
{
	uintptr_t size;
	if (layout->code_first_traceable == PYLAYOUT_NONE) { // co_code is a bytes object
		uintptr_t instructions = word_at(code, layout->code_instructions);
		size = instructions ? word_at(instructions, PYLAYOUT_VAR_SIZE) : 0;
	} else { // the instructions are the object's own items, two bytes each
		size = word_at(code, PYLAYOUT_VAR_SIZE) * 2;
	}
	return size < MLF_PYTHON_FRAME_OFFSET_MASK ? (uint32_t)size : 0;
}

// ---- storing -------------------------------------------------------------------------------------

static void *take(uint32_t bytes)
{
	if (load_relaxed(&stored_in) != recording.number) {
		store_relaxed(&stored_in, recording.number); // two threads at once: a little more than the share is stored
		store_relaxed(&stored_bytes, 0);
	}
	uint64_t share = load_relaxed(&recording.header->room_backed) / SHARE_OF_ROOM;
	if (add_relaxed(&stored_bytes, bytes) + bytes > (share > SHARE_LEAST ? share : SHARE_LEAST))
		return NULL;
	return recording_take(bytes, MLF_REF_BYTES);
}

static uint32_t store_text(const struct text_view *view)
{
	uint32_t bytes = (uint32_t)sizeof(struct mlf_string) + utf8_length(view);
	struct mlf_string *string = take(bytes);
	if (!string)
		return 0;
	string->record = (struct mlf_record){.bytes = bytes, .kind = MLF_RECORD_STRING, .version = 1};
	char *to = string->text;
	for (uint32_t i = 0; i < view->length; i++)
		to = utf8_put(to, character(view, i));
	return recording_ref(string);
}

// Objects of one file come one after the other: the last file stored is most often the next one's too.
static uint32_t store_file(const struct text_view *view, uint64_t hash)
{
	static uint64_t last_hash, last_value; // two words: a mixed pair shows in the comparison of text
	uint64_t value = load_relaxed(&last_hash) == hash ? load_acquire(&last_value) : 0; // pairs with the release below
	if (value >> 32 == recording.number) {
		const struct mlf_string *string = recording_at((uint32_t)value);
		char text[4], *end;
		uint32_t at = 0, bytes = string->record.bytes - (uint32_t)sizeof(*string);
		bool same = true;
		for (uint32_t i = 0; same && i < view->length; i++) {
			end = utf8_put(text, character(view, i));
			for (char *c = text; c < end; c++, at++)
				same = same && at < bytes && string->text[at] == *c;
		}
		if (same && at == bytes)
			return (uint32_t)value;
	}
	uint32_t ref = store_text(view);
	if (ref) {
		store_release(&last_value, (uint64_t)recording.number << 32 | ref);
		store_release(&last_hash, hash);
	}
	return ref;
}

static uint32_t store_code(const struct code_view *view, uint64_t file_hash, uint64_t key)
{
	uint32_t file = store_file(&view->file, file_hash), name = file ? store_text(&view->name) : 0;
	uint32_t bytes = (uint32_t)sizeof(struct mlf_code) + view->line_bytes;
	struct mlf_code *record = name ? take(bytes) : NULL;
	if (!record)
		return 0;
	record->record = (struct mlf_record){.bytes = bytes, .kind = MLF_RECORD_CODE, .version = 1};
	record->key = key;
	record->file = file;
	record->name = name;
	record->first_line = view->first_line;
	record->line_table = layout->line_table;
	record->flags = view->cut ? MLF_CODE_CUT : 0;
	record->line_table_bytes = view->line_bytes;
	for (uint32_t i = 0; i < view->line_bytes; i++)
		record->lines[i] = view->lines[i];
	return index_insert(MLF_KIND_CODE_INDEX, key, recording_ref(record));
}

static NOINLINE uint32_t see_code(uintptr_t code)
{
	struct code_view view = view_code(code);
	uint64_t file_hash = hash_text(MLF_CHECK_2, &view.file);
	uint64_t key = hash_text(file_hash, &view.name);
	key = hash_bytes(mix(key, (uint32_t)view.first_line), view.lines, view.line_bytes);
	key = key ? key : 1;
	uint32_t ref = index_find(MLF_KIND_CODE_INDEX, key);
	if (!ref)
		ref = store_code(&view, file_hash, key);
	cache_store(code, ref ? ref : no_room());
	return ref;
}

uint32_t pycode_ref(uintptr_t code)
{
	uint32_t ref = cache_find(code);
	if (likely(ref && !(ref & NO_ROOM)))
		return ref;
	ref = ref == no_room() ? 0 : see_code(code);
	if (unlikely(!ref))
		count(code_full);
	return ref;
}

// ---- attaching -----------------------------------------------------------------------------------

void pycode_attach(const struct pylayout *found, uintptr_t type)
{
	uintptr_t *dealloc = (uintptr_t *)(type + PYLAYOUT_TYPE_DEALLOC);
	code_type = type;
	layout = found;
	if (load_relaxed(dealloc) == (uintptr_t)&note_death)
		return;
	real_dealloc = (void (*)(uintptr_t))load_relaxed(dealloc);
	store_release(dealloc, (uintptr_t)&note_death); // a static type's slot: one word, read anew at each death
}
