// fuzz_text.c -- lines of /proc and names of files, whatever they hold
//
// Input: which reader (1 byte), a number (1), and the text.
// fuzz: with clock memory
#include "../../native/src/pages.c" // its reader of a line is its own
#include "../../native/src/siblings.c" // and the reader of a name

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_as(unsigned reader, unsigned number, const char *text)
{
	uint64_t value, ticks;
	uint32_t pid;
	bool line_found;
	const char *at = text;
	switch (reader % 5) {
	case 0:
		text_stat_letter(text);
		text_stat_field(text, (int)(number % 60));
		break;
	case 1:
		if (text_parse_decimal(&at, &value) && (at <= text || at > text + strlen(text)))
			abort();
		break;
	case 2:
		if (text_parse_hex(&at, number % 17, &value) && at != text + number % 17)
			abort();
		break;
	case 3:
		if (parse_name(text, &pid, &ticks) && (pid > INT32_MAX || strlen(text) < sizeof("1-1-0123456789abcdef.mlrec") - 1))
			abort();
		break;
	case 4:
		line_says_writable(text, (uintptr_t)number << 12, &line_found);
		break;
	}
	// What is written from it stays in its room.
	char *room = malloc(number + 1U);
	if (!room)
		return;
	struct text t = text_in(room, number + 1U);
	text_add(&t, text);
	text_decimal(&t, number);
	text_hex16(&t, number);
	if (strlen(room) != t.length || t.length > number || (!t.full && t.length < text_length(text)))
		abort();
	free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < 2)
		return 0;
	char *text = malloc(bytes - 1); // of its own size, which AddressSanitizer guards
	if (!text)
		return 0;
	memcpy(text, data + 2, bytes - 2);
	text[bytes - 2] = 0;
	read_as(data[0], data[1], text);
	free(text);
	return 0;
}
