// labels.c -- sets of labels: their numbers, their texts, and which one a thread set from C
//
// Context:   labels_note(), labels_has() and labels_count_call() are sampled, the rest is cold.
// Invariant: a number, once given, is that text's for the life of the process: recordings come and go, each gets the texts of
//            the sets that it meets. A text is whole before its length says that it is there, and never changes.
// Why:       who samples may neither allocate nor ask Python, so the texts are kept here, in memory of our own; numbers
//            are few, so that a program that labels by request neither fills the recording nor this.
// Proof:     tests/native/test_labels.c, tests/integration/test_labels.py
#include "labels.h"

#include "atomics.h"
#include "recording.h"
#include "stats.h"
#include "sys.h"
#include "text.h"

struct text_of_set {
	uint32_t bytes; // stored last; 0: not there (yet)
	char text[MLF_LABEL_BYTES];
};

static struct text_of_set *sets; // MLF_LABEL_SETS of them, in pages that are touched one by one
static uint32_t given;           // numbers

static struct text_of_set *table(void)
{
	struct text_of_set *seen = load_acquire(&sets); // pairs with the exchange below
	if (seen)
		return seen;
	size_t bytes = round_up(MLF_LABEL_SETS * sizeof(*sets), PAGE_BYTES);
	struct text_of_set *made = sys_private_pages(bytes);
	if (!made || cas_acq_rel(&sets, &seen, made))
		return made;
	sys_munmap(made, bytes);
	return seen;
}

// Two threads that ask for a new text at once may each give it a number: readers go by the text.
uint32_t labels_number(const char *text, size_t bytes)
{
	struct text_of_set *all = table();
	if (!all)
		return MLF_LABEL_OTHER;
	if (bytes > MLF_LABEL_BYTES)
		for (bytes = MLF_LABEL_BYTES; bytes && (text[bytes] & 0xC0) == 0x80; bytes--)
			; // not within a character
	if (!bytes)
		return 0;
	uint32_t n = load_relaxed(&given);
	for (uint32_t i = 0; i < n; i++)
		if (load_acquire(&all[i].bytes) == bytes && __builtin_memcmp(all[i].text, text, bytes) == 0) // pairs with the release below
			return i + 1;
	do
		if (n >= MLF_LABEL_SETS)
			return MLF_LABEL_OTHER;
	while (!cas_relaxed(&given, &n, n + 1)); // relaxed: only the number's distinctness matters
	__builtin_memcpy(all[n].text, text, bytes);
	store_release(&all[n].bytes, (uint32_t)bytes);
	return n + 1;
}

// Where a line stands in a text; -1: nowhere.
static int place_of(const struct text_of_set *set, uint32_t bytes, const char *line, size_t length)
{
	for (uint32_t at = 0; at + length <= bytes;) {
		uint32_t end = at;
		while (end < bytes && set->text[end] != '\n')
			end++;
		if (end - at == length && __builtin_memcmp(set->text + at, line, length) == 0)
			return (int)at;
		at = end + 1;
	}
	return -1;
}

uint32_t labels_replaced(uint32_t number, const char *from, const char *to)
{
	const struct text_of_set *all = load_acquire(&sets); // pairs with table()
	if (!all || !number || number > MLF_LABEL_SETS)
		return 0;
	const struct text_of_set *set = &all[number - 1];
	uint32_t bytes = load_acquire(&set->bytes); // pairs with the release in labels_number()
	size_t before = text_length(from), after = text_length(to);
	int at = place_of(set, bytes, from, before);
	if (at < 0 || bytes - before + after > MLF_LABEL_BYTES)
		return 0;
	char text[MLF_LABEL_BYTES];
	size_t head = (size_t)at, tail = bytes - head - before;
	__builtin_memcpy(text, set->text, head);
	__builtin_memcpy(text + head, to, after);
	__builtin_memcpy(text + head + after, set->text + head + before, tail);
	return labels_number(text, head + after + tail);
}

enum labels_answer labels_has(uint32_t number, const char *line)
{
	const struct text_of_set *all = load_acquire(&sets); // pairs with table()
	if (!all || !number || number > MLF_LABEL_SETS)
		return LABELS_NOT_KNOWN;
	const struct text_of_set *set = &all[number - 1];
	uint32_t bytes = load_acquire(&set->bytes), at = 0; // pairs with labels_number()
	while (at < bytes) {
		const char *wanted = line;
		while (at < bytes && *wanted && set->text[at] == *wanted)
			at++, wanted++;
		if (!*wanted && (at == bytes || set->text[at] == '\n'))
			return LABELS_YES;
		while (at < bytes && set->text[at] != '\n')
			at++;
		at++;
	}
	return bytes ? LABELS_NO : LABELS_NOT_KNOWN;
}

static uint32_t store_text(const struct text_of_set *set)
{
	uint32_t length = load_acquire(&set->bytes); // pairs with the release above
	uint32_t bytes = (uint32_t)sizeof(struct mlf_string) + length;
	struct mlf_string *string = length ? recording_take(bytes, MLF_REF_BYTES) : NULL;
	if (!string)
		return 0;
	string->record = (struct mlf_record){.bytes = bytes, .kind = MLF_RECORD_STRING, .version = 1};
	for (uint32_t i = 0; i < length; i++)
		string->text[i] = set->text[i];
	return recording_ref(string);
}

void labels_note(uint32_t number)
{
	if (likely(!number) || number > MLF_LABEL_SETS)
		return;
	const struct recording_table *records = recording_segment(MLF_KIND_LABEL_SETS, 0);
	if (!records && recording_add_segment(MLF_KIND_LABEL_SETS, 0, MLF_LABEL_SETS, sizeof(struct mlf_label_set)))
		records = recording_segment(MLF_KIND_LABEL_SETS, 0);
	uint32_t none = 0, text;
	if (records) {
		struct mlf_label_set *record = (struct mlf_label_set *)(void *)records->base + (number - 1);
		if (load_relaxed(&record->text))
			return;
		text = store_text(&load_acquire(&sets)[number - 1]);
		if (text) {
			cas_acq_rel(&record->text, &none, text); // pairs with readers of the file; another thread may have been faster
			return;
		}
	}
	count(label_full);
}

void labels_count_call(uint32_t number)
{
	if (!number || number > MLF_LABEL_SETS)
		return;
	labels_note(number);
	const struct recording_table *records = recording_segment(MLF_KIND_LABEL_SETS, 0);
	if (records) // relaxed: a number for who asks
		add_relaxed(&((struct mlf_label_set *)(void *)records->base)[number - 1].calls, 1);
}
