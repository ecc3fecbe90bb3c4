// test_patch.c -- one word is exchanged, whatever the page allows and whoever else is at it
#include "filter.h"

#include "atomics.h"
#include "pages.h"
#include "patch.h"

enum { BEFORE = 0x1111, AFTER = 0x2222, THEIRS = 0x3333 };

static uintptr_t *word; // in a page of its own
static void *page(void) { return (void *)round_down((uintptr_t)word, PAGE_BYTES); }
static void protect(int protection) { CHECK(syscall(SYS_mprotect, page(), PAGE_BYTES, protection) == 0); }
static bool is_closed(void) { return pages_look((uintptr_t)word) == PAGES_PROTECTED; }

static void fresh_word(int protection)
{
	char *at = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	word = (uintptr_t *)(void *)(at + 8);
	*word = BEFORE;
	protect(protection);
}

static void test_every_protection(void)
{
	fresh_word(PROT_READ | PROT_WRITE); // a variable, or a slot that the loader binds late
	CHECK(patch_word(word, THEIRS, AFTER, false) == PATCH_CHANGED && *word == BEFORE);
	CHECK(patch_word(word, BEFORE, AFTER, false) == PATCH_DONE && *word == AFTER && !is_closed());

	fresh_word(PROT_READ); // a slot in RELRO
	CHECK(patch_word(word, THEIRS, AFTER, true) == PATCH_CHANGED && *word == BEFORE && is_closed());
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_DONE && *word == AFTER && is_closed());

	fresh_word(PROT_READ | PROT_WRITE); // in RELRO that the loader has yet to protect: left as it is
	CHECK(patch_word(word, THEIRS, AFTER, true) == PATCH_CHANGED && *word == BEFORE);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_DONE && *word == AFTER && !is_closed());

	fresh_word(PROT_READ); // protected by the program itself: that is its business
	CHECK(patch_word(word, BEFORE, AFTER, false) == PATCH_REFUSED && *word == BEFORE && is_closed());
}

// The list of robust mutexes of a thread is what it was.
static void test_robust_list(void)
{
	void *before, *after;
	size_t bytes;
	CHECK(syscall(SYS_get_robust_list, 0, &before, &bytes) == 0);
	fresh_word(PROT_READ | PROT_WRITE);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_DONE);
	CHECK(syscall(SYS_get_robust_list, 0, &after, &bytes) == 0 && after == before && bytes == 24);
}

// ---- another thread, between our look at the page and the store ------------------------------------

static void (*meanwhile)(void);
static unsigned asked;

static void close_page(void) { protect(PROT_READ); }
static void store_theirs(void) { store_release(word, THEIRS); }

// Whether the page may be written to is answered as it was before `meanwhile`; asked again, as it is since.
static long writable_until_now(const greg_t *registers)
{
	CHECK((void *)registers[REG_RDI] == page());
	if (asked++)
		return -EINVAL;
	meanwhile();
	return 0;
}

static void trap_question(void)
{
	CHECK(pages_look((uintptr_t)word) == PAGES_WRITABLE); // the kernel is known to tell
	filter_trapped = writable_until_now;
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, SECCOMP_RET_TRAP}, 1);
}

// The loader, done with its object, protects the page in the very moment: no fault.
static void protected_meanwhile(void)
{
	fresh_word(PROT_READ | PROT_WRITE);
	meanwhile = close_page;
	trap_question();
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_DONE);
	CHECK(asked == 2 && *word == AFTER);
	int ends[2]; // protected again: the kernel cannot store there either
	CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1 && read(ends[0], word, 1) == -1 && errno == EFAULT);
}

// The program sets its variable in the very moment: that stands.
static void set_meanwhile(void)
{
	fresh_word(PROT_READ | PROT_WRITE);
	meanwhile = store_theirs;
	trap_question();
	CHECK(patch_word(word, BEFORE, AFTER, false) == PATCH_CHANGED);
	CHECK(asked == 1 && *word == THEIRS);
}

static void set_meanwhile_in_relro(void)
{
	fresh_word(PROT_READ | PROT_WRITE);
	meanwhile = store_theirs;
	trap_question();
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_CHANGED);
	CHECK(asked == 1 && *word == THEIRS);
}

// ---- refused -----------------------------------------------------------------------------------------

static void opening_refused(void)
{
	fresh_word(PROT_READ);
	filter_install(&(struct filtered){SYS_mprotect, 2, PROT_READ | PROT_WRITE, REFUSE(EPERM)}, 1);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_REFUSED && *word == BEFORE && is_closed());
}

// One page may stay open because of us, not a second one.
static void closing_refused(void)
{
	uintptr_t *first;
	fresh_word(PROT_READ);
	first = word;
	fresh_word(PROT_READ);
	filter_install(&(struct filtered){SYS_mprotect, 2, PROT_READ, REFUSE(EPERM)}, 1);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_LEFT_OPEN && *word == AFTER && !is_closed());
	word = first;
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_REFUSED && *word == BEFORE && is_closed());
}

// No memory for the page's copy: that it may not be written to is not what was said.
static void no_memory(void)
{
	fresh_word(PROT_READ | PROT_WRITE);
	CHECK(pages_look((uintptr_t)word) == PAGES_WRITABLE);
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, REFUSE(ENOMEM)}, 1);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_LATER && *word == BEFORE);
	*word = THEIRS; // still writable: its owner is about to
}

// A filter that came later answers in the kernel's place.
static void not_answered(void)
{
	fresh_word(PROT_READ);
	CHECK(is_closed());
	filter_install(&(struct filtered){SYS_madvise, 2, POPULATE_WRITE, REFUSE(EPERM)}, 1);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_DONE && *word == AFTER && is_closed());
}

static void storing_refused(void)
{
	fresh_word(PROT_READ | PROT_WRITE);
	filter_install(&(struct filtered){SYS_set_robust_list, 1, 24, REFUSE(EPERM)}, 1);
	CHECK(patch_word(word, BEFORE, AFTER, true) == PATCH_REFUSED && *word == BEFORE);
}

int main(void)
{
	test_every_protection();
	test_robust_list();
	in_child(opening_refused);
	in_child(closing_refused);
	in_child(storing_refused);
	if (kernel_tells_pages()) {
		in_child(protected_meanwhile);
		in_child(set_meanwhile);
		in_child(set_meanwhile_in_relro);
		in_child(no_memory);
		in_child(not_answered);
	}
	return harness_end();
}
