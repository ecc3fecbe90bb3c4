// lines.c -- the line tables of Python's code: which line an instruction belongs to
//
// Context:   as columns.c.
// Invariant: time in proportion to a table's length, and what makes no sense ends it. A range is at most as many as the table has bytes.
// Why:       500 tables are decoded to tell 20,000 stacks from each other; in Python that takes as long as all else.
// Proof:     tests/unit/test_pylines.py, against what each CPython says and against a model in Python
#include "columns.h"

#define LINE_MOST INT32_MAX
#define OFFSET_MOST MLF_PYTHON_FRAME_OFFSET_MASK
#define NO_LINE (-1)
#define UNIT_BYTES 2       // of code, in PEP 657
#define VARINT_CHUNKS_MOST 6 // of 6 bits: a line has 31, its sign one

__extension__ typedef __int128 line_t; // no table is long enough to leave it

// Ranges of instructions: where each begins, ascending, and its line. It ends where the next one begins, the last one never.
struct ranges {
	uint32_t *starts;
	int32_t *lines;
	Py_ssize_t count;
};

// Of two at one offset the later counts. False: there are no such offsets.
static bool range_add(struct ranges *ranges, uint64_t start, bool is_known, line_t line)
{
	if (start > OFFSET_MOST)
		return false;
	int32_t known = is_known && line >= 0 && line <= LINE_MOST ? (int32_t)line : NO_LINE;
	Py_ssize_t last = ranges->count - 1;
	if (last >= 0 && ranges->starts[last] == start) {
		ranges->lines[last] = known;
	} else if (last < 0 || ranges->lines[last] != known) {
		ranges->starts[ranges->count] = (uint32_t)start;
		ranges->lines[ranges->count++] = known;
	}
	return true;
}

// Pairs of bytes: instructions on (unsigned), then lines on (signed).
static void read_lnotab(struct ranges *ranges, const unsigned char *table, Py_ssize_t bytes, line_t line, bool cut)
{
	uint64_t offset = 0;
	bool on = range_add(ranges, offset, true, line);
	for (Py_ssize_t at = 0; on && at + 1 < bytes; at += 2) {
		offset += table[at];
		line += (signed char)table[at + 1];
		on = range_add(ranges, offset, true, line);
	}
	if (on && cut) // nothing says how far the last range goes
		range_add(ranges, offset, false, 0);
}

// Pairs of bytes: length of the range (unsigned), lines on (signed; -128: the range has no line).
static void read_lines(struct ranges *ranges, const unsigned char *table, Py_ssize_t bytes, line_t line)
{
	uint64_t offset = 0;
	bool on = true;
	for (Py_ssize_t at = 0; on && at + 1 < bytes; at += 2) {
		signed char delta = (signed char)table[at + 1];
		if (delta != -128)
			line += delta;
		if (table[at])
			on = range_add(ranges, offset, delta != -128, line);
		offset += table[at];
	}
	if (on)
		range_add(ranges, offset, false, 0);
}

// Chunks of 6 bits, the lowest first, bit 6 set on all but the last; bit 0 of the number is the sign. False when it does not end
// within the table, or is longer than a line can be.
static bool varint_at(const unsigned char *table, Py_ssize_t bytes, Py_ssize_t at, int64_t *number)
{
	uint64_t value = 0;
	for (int chunk = 0; chunk < VARINT_CHUNKS_MOST && at + chunk < bytes; chunk++) {
		unsigned char byte = table[at + chunk];
		if (byte & 0x80)
			return false;
		value |= (uint64_t)(byte & 0x3F) << 6 * chunk;
		if (!(byte & 0x40)) {
			*number = value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
			return true;
		}
	}
	return false;
}

// Entries: a byte with bit 7 set, with its form and the length of the range, then bytes without bit 7.
static void read_locations(struct ranges *ranges, const unsigned char *table, Py_ssize_t bytes, line_t line)
{
	uint64_t offset = 0;
	bool on = true;
	for (Py_ssize_t at = 0; on && at < bytes;) {
		unsigned char head = table[at++], form = head >> 3 & 15;
		int64_t delta = 0;
		if (!(head & 0x80))
			break;
		if (form == 13 || form == 14) { // without columns, or at full length: the lines on come first
			if (!varint_at(table, bytes, at, &delta))
				break;
		} else if (form >= 10 && form <= 12) {
			delta = form - 10;
		}
		line += delta;
		on = range_add(ranges, offset, form != 15, line);
		offset += ((uint64_t)(head & 7) + 1) * UNIT_BYTES;
		while (at < bytes && !(table[at] & 0x80))
			at++;
	}
	if (on)
		range_add(ranges, offset, false, 0);
}

PyObject *columns_lines(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *found = NULL;
	struct view table;
	int kind, cut;
	long long first;
	if (!PyArg_ParseTuple(args, "iSLp", &kind, &bytes, &first, &cut) || !view_of(bytes, &table))
		return NULL;
	size_t room = (size_t)table.bytes + 2;
	struct ranges ranges = {PyMem_Malloc(room * sizeof(uint32_t)), PyMem_Malloc(room * sizeof(int32_t)), 0};
	const unsigned char *data = (const unsigned char *)table.data;
	if (!ranges.starts || !ranges.lines) {
		PyErr_NoMemory();
	} else {
		if (kind == MLF_LINE_TABLE_LNOTAB)
			read_lnotab(&ranges, data, table.bytes, first, cut);
		else if (kind == MLF_LINE_TABLE_LINES)
			read_lines(&ranges, data, table.bytes, first);
		else if (kind == MLF_LINE_TABLE_LOCATIONS)
			read_locations(&ranges, data, table.bytes, first);
		found = Py_BuildValue("(y#y#)", (const char *)ranges.starts, ranges.count * (Py_ssize_t)sizeof(uint32_t),
				      (const char *)ranges.lines, ranges.count * (Py_ssize_t)sizeof(int32_t));
	}
	PyMem_Free(ranges.lines);
	PyMem_Free(ranges.starts);
	return found;
}
