// test_labels.c -- numbers of sets of labels, and their texts in each recording
#include "fixture.h"

#include "labels.h"
#include "stats.h"

static const char *text_of(uint32_t number)
{
	static char text[MLF_LABEL_BYTES + 1];
	const struct recording_table *table = recording_segment(MLF_KIND_LABEL_SETS, 0);
	uint32_t ref = table ? ((const struct mlf_label_set *)(const void *)table->base)[number - 1].text : 0;
	if (!ref)
		return "";
	const struct mlf_string *string = recording_at(ref);
	size_t length = string->record.bytes - sizeof(string->record);
	CHECK(string->record.kind == MLF_RECORD_STRING && length < sizeof(text));
	memcpy(text, string->text, length);
	text[length] = 0;
	return text;
}

static uint32_t number(const char *text) { return labels_number(text, strlen(text)); }

static void test_numbers(void)
{
	CHECK_EQUAL(number(""), 0);
	CHECK_EQUAL(number("tenant_id=1"), 1);
	CHECK_EQUAL(number("tenant_id=2"), 2);
	CHECK_EQUAL(number("tenant_id=1"), 1);
	CHECK_EQUAL(number("tenant_id="), 3);
}

static void test_long_texts_are_cut_between_characters(void)
{
	char text[2000];
	memset(text, 'x', sizeof(text));
	text[0] = 'a', text[1] = '=';
	text[998] = (char)0xE2, text[999] = (char)0x82, text[1000] = (char)0xAC; // one character, which 1000 bytes would cut
	uint32_t cut = labels_number(text, 1100);
	CHECK_EQUAL(cut, labels_number(text, 998));
	CHECK(cut != labels_number(text, 997));
	CHECK_EQUAL(labels_number(text, 1003), cut);
}

static void test_texts_in_the_recording(void)
{
	uint64_t used = recording.header->room_used;
	labels_note(0);
	labels_note(MLF_LABEL_OTHER);
	CHECK_EQUAL(recording.header->room_used, used);
	labels_note(2);
	CHECK(strcmp(text_of(2), "tenant_id=2") == 0 && strcmp(text_of(1), "") == 0);
	used = recording.header->room_used;
	labels_note(2);
	CHECK_EQUAL(recording.header->room_used, used);
}

static void test_rows_by_label(void)
{
	uint64_t frame[] = {11};
	struct rows_stack stack = {.frame = frame, .frames = 1, .hash = 5}, labelled = stack, other = stack;
	labelled.label = 1;
	other.label = MLF_LABEL_OTHER;
	struct mlf_row *row = rows_of(&labelled, MLF_DOMAIN_MALLOC, 1);
	CHECK(row->label_set == 1 && strcmp(text_of(1), "tenant_id=1") == 0);
	CHECK(row == rows_find(&labelled, MLF_DOMAIN_MALLOC) && rows_find(&stack, MLF_DOMAIN_MALLOC) == NULL);
	CHECK(rows_of(&stack, MLF_DOMAIN_MALLOC, 1)->label_set == 0);
	CHECK(rows_of(&other, MLF_DOMAIN_MALLOC, 1)->label_set == MLF_LABEL_OTHER);
	CHECK_EQUAL(rows_of(&stack, MLF_DOMAIN_MALLOC, 1)->native_stack, row->native_stack);
}

static void *take_numbers(void *seed)
{
	char text[32];
	for (unsigned i = 0; i < 400; i++) {
		snprintf(text, sizeof(text), "n=%u", (i * 7 + (unsigned)(uintptr_t)seed) % 400);
		uint32_t found = number(text);
		CHECK(found >= 1 && found <= MLF_LABEL_OTHER);
	}
	return NULL;
}

static void test_the_numbers_end(void)
{
	pthread_t thread[4];
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&thread[i], NULL, take_numbers, (void *)(i * 97)) == 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	CHECK_EQUAL(number("one more"), MLF_LABEL_OTHER);
	CHECK_EQUAL(number("tenant_id=1"), 1); // those that have one keep it
	for (uint32_t i = 1; i <= MLF_LABEL_SETS; i++) {
		labels_note(i);
		CHECK(text_of(i)[0]);
	}
	CHECK_EQUAL(stats_counters[MLF_COUNTER_label_full], 0);
}

static void test_another_recording(void)
{
	open_private(1U << 20);
	CHECK(strcmp(text_of(1), "") == 0);
	labels_note(1);
	CHECK(strcmp(text_of(1), "tenant_id=1") == 0);
	while (recording_take(16, 16)) // no room
		;
	labels_note(2);
	CHECK(strcmp(text_of(2), "") == 0);
	CHECK_EQUAL(stats_counters[MLF_COUNTER_label_full], 1);
}

int main(void)
{
	open_private(4U << 20);
	test_numbers();
	test_long_texts_are_cut_between_characters();
	test_texts_in_the_recording();
	test_rows_by_label();
	test_the_numbers_end();
	test_another_recording();
	return harness_end();
}
