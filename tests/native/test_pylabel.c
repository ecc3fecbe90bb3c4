// test_pylabel.c -- the number in force, found in maps of context variables of every shape
//
// nativebuild: flags -rdynamic
#include "fake_python.h"

#include "boot.h"
#include "pyframes.h"
#include "pylabel.h"

#define VARIABLE 0x1000U
#define NUMBER_OFFSET 32U

static uint64_t bitmap_node[64], array_node[64], collision_node[64], value_type[64]; // types
static uint64_t context[16], map[16], value[16];
static uint64_t *thread;

// A node of this type with room for 32 pairs.
static uint64_t *node_of(const uint64_t *type)
{
	uint64_t *node = calloc(80, 8);
	WORD(node, PYLAYOUT_OBJECT_TYPE) = (uintptr_t)type;
	return node;
}

// Entry `at` of 32, in a node that may hold others: `key` 0 for a node.
static void put(uint64_t *node, unsigned at, uintptr_t key, const void *what)
{
	uint32_t *bits = (uint32_t *)(void *)((char *)node + PYLAYOUT_BITMAP_BITS);
	unsigned before = 0;
	for (unsigned i = 0; i < at; i++)
		before += *bits >> i & 1;
	uint64_t *pair = (uint64_t *)(void *)((char *)node + PYLAYOUT_BITMAP_PAIRS) + 2 * before;
	memmove(pair + 2, pair, 2 * (31 - before) * 8);
	pair[0] = key;
	pair[1] = (uintptr_t)what;
	*bits |= 1U << at;
}

static void put_node(uint64_t *node, unsigned at, const void *below) { node[PYLAYOUT_ARRAY_NODES / 8 + at] = (uintptr_t)below; }
static void set_root(const uint64_t *root) { WORD(map, PYLAYOUT_MAP_ROOT) = (uintptr_t)root; }
static void set_number(uint32_t n) { WORD(value, NUMBER_OFFSET) = (uint64_t)77 << 32 | n; }
static struct pylabel_variable variable_of(uint32_t hash) { return (struct pylabel_variable){VARIABLE, (uintptr_t)value_type, hash, NUMBER_OFFSET}; }

static uint64_t *few(uint32_t hash)
{
	uint64_t *root = node_of(bitmap_node);
	put(root, hash & 31, VARIABLE, value);
	return root;
}

static uint64_t *many(uint32_t hash)
{
	uint64_t *root = node_of(array_node), *below = node_of(bitmap_node);
	put(below, hash >> 5 & 31, VARIABLE, value);
	put_node(root, hash & 31, below);
	return root;
}

static void learn(uint32_t hash)
{
	struct pylabel_variable variable = variable_of(hash);
	set_number(200);
	set_root(few(hash));
	CHECK_EQUAL(pylabel_learn((uintptr_t)thread, &variable, 200), pylabel_state() == MLF_LABELS_FOLLOWED ? PYLABEL_DONE : PYLABEL_MORE);
	set_root(many(hash));
	CHECK_EQUAL(pylabel_learn((uintptr_t)thread, &variable, 200), PYLABEL_DONE);
	CHECK_EQUAL(pylabel_state(), MLF_LABELS_FOLLOWED);
}

static uint32_t found(void)
{
	struct pylabel label = pylabel_of((uintptr_t)thread);
	CHECK(label.entry == (label.number ? 77 : 0)); // all or nothing
	return label.number;
}

static void test_nothing_before_it_is_learnt(void)
{
	set_number(7);
	set_root(few(5));
	CHECK_EQUAL(found(), 0);
	CHECK_EQUAL(pylabel_state(), MLF_LABELS_NONE);
}

static void test_shapes(uint32_t hash)
{
	learn(hash);
	set_number(7);
	CHECK_EQUAL(found(), 7);
	set_root(few(hash));
	CHECK_EQUAL(found(), 7);
	// Among others in its node, before and behind it.
	uint64_t *root = few(hash);
	for (unsigned at = 0; at < 32; at++)
		if (at != (hash & 31))
			put(root, at, 0x2000 + at, collision_node);
	set_root(root);
	CHECK_EQUAL(found(), 7);
	// As deep as a hash goes; array nodes and others on the way.
	uint64_t *below = node_of(bitmap_node);
	put(below, hash >> 30 & 31, VARIABLE, value);
	for (int shift = 25; shift >= 0; shift -= 5) {
		uint64_t *above = node_of(shift % 10 ? array_node : bitmap_node);
		if (shift % 10)
			put_node(above, hash >> shift & 31, below);
		else
			put(above, hash >> shift & 31, 0, below);
		below = above;
	}
	set_root(below);
	CHECK_EQUAL(found(), 7);
}

static void test_absent(void)
{
	learn(0x12345678);
	set_number(7);
	set_root(few(0x12345679));
	CHECK_EQUAL(found(), 0);
	uint64_t *other = node_of(bitmap_node);
	put(other, 0x18, 0x2000, value); // its place, another variable
	set_root(other);
	CHECK_EQUAL(found(), 0);
	set_root(node_of(array_node));
	CHECK_EQUAL(found(), 0);
	set_root(node_of(bitmap_node));
	CHECK_EQUAL(found(), 0);
	set_root(node_of(collision_node)); // two variables with the same hash: not read
	CHECK_EQUAL(found(), 0);
	set_root(NULL);
	CHECK_EQUAL(found(), 0);
	WORD(context, PYLAYOUT_CONTEXT_MAP) = 0;
	CHECK_EQUAL(found(), 0);
	thread[fake_layout()->thread_context / 8] = 0;
	CHECK_EQUAL(found(), 0);
	thread[fake_layout()->thread_context / 8] = (uintptr_t)context;
	WORD(context, PYLAYOUT_CONTEXT_MAP) = (uintptr_t)map;
}

static void test_what_is_no_value_of_ours(void)
{
	learn(3);
	set_root(few(3));
	set_number(MLF_LABEL_OTHER);
	CHECK_EQUAL(found(), MLF_LABEL_OTHER);
	set_number(MLF_LABEL_OTHER + 1);
	CHECK_EQUAL(found(), 0);
	set_number(7);
	WORD(value, PYLAYOUT_OBJECT_TYPE) = (uintptr_t)PyCode_Type;
	CHECK_EQUAL(found(), 0);
	WORD(value, PYLAYOUT_OBJECT_TYPE) = (uintptr_t)value_type;
	CHECK_EQUAL(found(), 7);
	// One that has no number yet takes the other's; its entry is its own.
	static uint64_t kept[16];
	WORD(kept, NUMBER_OFFSET) = 9;
	WORD(value, NUMBER_OFFSET + 8) = (uintptr_t)kept;
	CHECK_EQUAL(found(), 7);
	set_number(0);
	CHECK_EQUAL(found(), 9);
	WORD(kept, NUMBER_OFFSET) = MLF_LABEL_OTHER + 1;
	CHECK_EQUAL(found(), 0);
	WORD(value, NUMBER_OFFSET + 8) = 0;
	set_number(7);
	// A node that is among its own children: as many steps as a hash has.
	uint64_t *loop = node_of(array_node);
	for (unsigned at = 0; at < 32; at++)
		put_node(loop, at, loop);
	set_root(loop);
	CHECK_EQUAL(found(), 0);
}

static void test_walk_tells(void)
{
	uint64_t code[64], frame[64], frames[8], hash;
	struct pylabel label;
	bool truncated;
	fake_code(code, "file.py", "function", 1);
	fake_frame(frame, (uintptr_t)code, 0);
	thread[fake_layout()->thread_frame / 8] = (uintptr_t)frame;
	learn(9);
	set_number(7);
	fake_own_state = thread;
	CHECK(pyframes_walk(frames, 8, &hash, &truncated, &label) == 1 && label.number == 7 && label.entry == 77);
	fake_own_state = NULL; // not a thread of Python's
	CHECK(pyframes_walk(frames, 8, &hash, &truncated, &label) == 0 && label.number == 0 && label.entry == 0);
	fake_own_state = thread;
	WORD(_PyRuntime, fake_layout()->runtime_finalizing) = 8; // another one ends the interpreter
	CHECK(pyframes_walk(frames, 8, &hash, &truncated, &label) == 0 && label.number == 0 && label.entry == 0);
	WORD(_PyRuntime, fake_layout()->runtime_finalizing) = 0;
}

static void test_wrong_once_is_off_for_good(void)
{
	struct pylabel_variable variable = variable_of(9);
	set_number(7);
	set_root(few(9));
	CHECK_EQUAL(pylabel_learn((uintptr_t)thread, &variable, 200), PYLABEL_WRONG);
	CHECK_EQUAL(pylabel_state(), MLF_LABELS_SELF_TEST_FAILED);
	CHECK_EQUAL(found(), 0);
	CHECK_EQUAL(pylabel_learn((uintptr_t)thread, &variable, 7), PYLABEL_WRONG);
}

int main(void)
{
	boot();
	fake_begin();
	open_private(4U << 20);
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_FRAMES);
	thread = fake_state(0);
	thread[fake_layout()->thread_context / 8] = (uintptr_t)context;
	WORD(context, PYLAYOUT_CONTEXT_MAP) = (uintptr_t)map;
	WORD(value, PYLAYOUT_OBJECT_TYPE) = (uintptr_t)value_type;
	test_nothing_before_it_is_learnt();
	test_shapes(5);
	test_shapes(0);
	test_shapes(0xFFFFFFFE);
	test_shapes(0x9E3779B9);
	test_absent();
	test_what_is_no_value_of_ours();
	test_walk_tells();
	test_wrong_once_is_off_for_good();
	return harness_end();
}
