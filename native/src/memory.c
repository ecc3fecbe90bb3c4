// memory.c -- what bounds the memory of this process, and how much of that is used
//
// Context:   cold; may run inside malloc (forked child), so direct system calls and the caller's buffers.
// Invariant: no descriptor stays open; a file that is not there or not as expected means "no limit".
// Why:       near the limit the kernel kills, without a word to the program.
// Proof:     tests/native/test_memory.c; tests/scenarios/test_postmortem.py
#include "memory.h"

#include "memleak_format.h"
#include "sys.h"
#include "text.h"

#define LEVELS_UP 16
#define NO_LIMIT (1ULL << 62) // cgroup v1 writes a number near 2^63
#define EXACT_FROM_PERCENT 80U

const char *memory_root = "";

// ---- files ---------------------------------------------------------------------------------------

static bool read_text(const char *directory, const char *file, char *to, size_t room)
{
	char path[448];
	struct text t = text_in(path, sizeof(path));
	text_add(&t, memory_root);
	text_add(&t, directory);
	text_add(&t, file);
	return !t.full && sys_read_file(path, to, room) > 0;
}

static uint64_t read_number(const char *directory, const char *file)
{
	char text[32];
	uint64_t v = 0;
	const char *at = text;
	return read_text(directory, file, text, sizeof(text)) && text_parse_decimal(&at, &v) ? v : 0; // 0: "max", too
}

static const char *after_word(const char *at, const char *word)
{
	while (*word && *at == *word)
		at++, word++;
	return *word ? NULL : at;
}

static const char *next_line(const char *at)
{
	while (*at && *at != '\n')
		at++;
	return *at ? at + 1 : at;
}

// The number in the line that begins with `word` and blanks; 0 if there is none.
static uint64_t number_of(const char *text, const char *word)
{
	for (const char *line = text; *line; line = next_line(line)) {
		const char *at = after_word(line, word);
		uint64_t v;
		if (!at || (*at != ' ' && *at != '\t'))
			continue;
		while (*at == ' ' || *at == '\t')
			at++;
		return text_parse_decimal(&at, &v) ? v : 0;
	}
	return 0;
}

// ---- the machine -----------------------------------------------------------------------------------

static struct memory_bound look_at_machine(char *text, size_t room)
{
	struct memory_bound bound = {0};
	if (!read_text("/proc/meminfo", "", text, room))
		return bound;
	uint64_t total = number_of(text, "MemTotal:") << 10, available = number_of(text, "MemAvailable:") << 10;
	if (!total || !available)
		return bound;
	return (struct memory_bound){total, total > available ? total - available : 0, MLF_LIMIT_MACHINE};
}

// ---- the cgroup ----------------------------------------------------------------------------------

static bool is_nearer(const struct memory_bound *a, const struct memory_bound *b)
{
	return a->limit_bytes && (!b->limit_bytes || (unsigned __int128)a->used_bytes * b->limit_bytes >
								 (unsigned __int128)b->used_bytes * a->limit_bytes);
}

static struct memory_bound look_into(const char *directory, bool is_v1)
{
	uint64_t limit = read_number(directory, is_v1 ? "/memory.limit_in_bytes" : "/memory.max");
	if (!limit || limit >= NO_LIMIT)
		return (struct memory_bound){0};
	uint64_t used = read_number(directory, is_v1 ? "/memory.usage_in_bytes" : "/memory.current");
	return (struct memory_bound){limit, used, MLF_LIMIT_CGROUP};
}

struct memory_bound memory_look_at_cgroup(struct memory_cgroup *cgroup)
{
	if (!cgroup->directory[0])
		return (struct memory_bound){0};
	struct memory_bound bound = look_into(cgroup->directory, cgroup->is_v1);
	if (!bound.limit_bytes || bound.used_bytes < bound.limit_bytes / 100 * EXACT_FROM_PERCENT ||
	    !read_text(cgroup->directory, "/memory.stat", cgroup->text, sizeof(cgroup->text)))
		return bound;
	uint64_t idle = number_of(cgroup->text, cgroup->is_v1 ? "total_inactive_file" : "inactive_file");
	bound.used_bytes -= idle < bound.used_bytes ? idle : bound.used_bytes;
	return bound;
}

// The path of a line N:CONTROLLERS:PATH that is for memory, ended where the line ends; NULL: another line.
static char *path_in(char *line, bool *is_v1)
{
	char *at = line;
	while (*at && *at != ':')
		at++;
	if (*at++ != ':')
		return NULL;
	bool is_v2 = at - line == 2 && line[0] == '0' && *at == ':', is_memory = is_v2;
	while (*at && *at != ':') {
		const char *end = after_word(at, "memory");
		is_memory = is_memory || (end && (*end == ',' || *end == ':') && (at[-1] == ',' || at[-1] == ':'));
		at++;
	}
	if (*at++ != ':' || *at != '/')
		return NULL;
	for (char *end = at;; end++)
		if (*end == '\n' || !*end) {
			*end = 0;
			break;
		}
	*is_v1 = !is_v2;
	return is_memory ? at : NULL;
}

// From the path up to the root, which in a container is its own.
static void look_upwards(struct memory_cgroup *cgroup, const char *path, bool is_v1, uint64_t machine, struct memory_bound *best)
{
	char directory[sizeof(cgroup->directory)];
	struct text t = text_in(directory, sizeof(directory));
	text_add(&t, is_v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup");
	size_t root = t.length;
	text_add(&t, path[1] == '.' && path[2] == '.' ? "" : path); // outside of what this namespace sees
	if (t.full)
		directory[t.length = root] = 0;
	size_t length = t.length;
	for (int levels = 0; levels < LEVELS_UP; levels++) {
		while (length > root && directory[length - 1] == '/')
			length--;
		directory[length] = 0;
		struct memory_bound bound = look_into(directory, is_v1);
		if (bound.limit_bytes < machine && is_nearer(&bound, best)) {
			*best = bound;
			cgroup->is_v1 = is_v1;
			t = text_in(cgroup->directory, sizeof(cgroup->directory));
			text_add(&t, directory);
		}
		if (length <= root)
			break;
		while (length > root && directory[length - 1] != '/')
			length--;
	}
}

void memory_find_cgroup(struct memory_cgroup *cgroup)
{
	struct memory_bound best = {0}, machine = look_at_machine(cgroup->text, sizeof(cgroup->text));
	cgroup->directory[0] = 0;
	if (!read_text("/proc/self/cgroup", "", cgroup->text, sizeof(cgroup->text)))
		return;
	for (char *line = cgroup->text; *line;) {
		size_t length = 0;
		while (line[length] && line[length] != '\n')
			length++;
		char *next = line + length + (line[length] == '\n');
		bool is_v1 = false;
		const char *path = path_in(line, &is_v1);
		if (path)
			look_upwards(cgroup, path, is_v1, machine.limit_bytes ? machine.limit_bytes : NO_LIMIT, &best);
		line = next;
	}
}

// ---- all of them -----------------------------------------------------------------------------------

static void look_at_limit(int which, uint32_t kind, uint64_t used, struct memory_bound *best)
{
	struct rlimit limit;
	if (sys_call6(SYS_prlimit64, 0, which, 0, (long)&limit, 0, 0) < 0 || limit.rlim_cur >= NO_LIMIT)
		return;
	struct memory_bound bound = {limit.rlim_cur, used, kind};
	if (is_nearer(&bound, best))
		*best = bound;
}

struct memory_bound memory_look(struct memory_cgroup *cgroup, uint64_t *resident_bytes)
{
	struct memory_bound best = memory_look_at_cgroup(cgroup);
	uint64_t pages[6] = {0}; // size, resident, shared, text, 0, data
	if (read_text("/proc/self/statm", "", cgroup->text, sizeof(cgroup->text))) {
		const char *at = cgroup->text;
		for (unsigned i = 0; i < ARRAY_LEN(pages) && text_parse_decimal(&at, &pages[i]); i++)
			at += *at == ' ';
	}
	*resident_bytes = pages[1] * PAGE_BYTES;
	look_at_limit(RLIMIT_AS, MLF_LIMIT_ADDRESS_SPACE, pages[0] * PAGE_BYTES, &best);
	look_at_limit(RLIMIT_DATA, MLF_LIMIT_DATA, pages[5] * PAGE_BYTES, &best);
	return best.limit_bytes ? best : look_at_machine(cgroup->text, sizeof(cgroup->text));
}

bool memory_look_at_split(char *text, size_t room, struct memory_split *out)
{
	if (!read_text("/proc/self/status", "", text, room))
		return false;
	*out = (struct memory_split){
	    number_of(text, "RssAnon:") << 10, number_of(text, "RssFile:") << 10, number_of(text, "RssShmem:") << 10,
	    number_of(text, "VmSwap:") << 10,  number_of(text, "VmLck:") << 10,   number_of(text, "VmPTE:") << 10,
	    (uint32_t)number_of(text, "Threads:"),
	};
	return out->anonymous_bytes || out->file_bytes;
}

// Faults, since the kernel's peak begins as that of the process which forked this one, however large. And the peak, since a
// fault may bring a huge page.
uint64_t memory_touched_bytes(void)
{
	struct rusage usage;
	if (sys_call(SYS_getrusage, RUSAGE_SELF, &usage, 0) != 0)
		return 0;
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt) * PAGE_BYTES + ((uint64_t)usage.ru_maxrss << 10);
}
