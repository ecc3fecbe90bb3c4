/* order.pml -- a sample is forgotten before its block is really free, so that nobody deletes another's
 *
 * Code:      native/src/hook_malloc.c (malloc_sampling(), free(), realloc(), realloc_sampled()); samples.c (insert(),
 *            samples_forget()); tracer.c (tracer_moving(), tracer_moved(), tracer_move_failed()).
 * Shows:     a free and a realloc take out the sample of their own block only, though another thread may get the address
 *            at once. While all frees are seen no sample is closed as lost. In the end the live samples are those of
 *            the blocks that were sampled and are there: no false leak, none missing. A realloc that failed leaves the
 *            sample as it was. A free that went past us (-DUNSEEN) costs one sample closed as lost at most, and two
 *            samples never stand at one address.
 * Abstracts: the allocator is two addresses that share a bit; each of its calls is one step, and so is each operation
 *            of the live set (liveset.pml). An insertion may find no room. realloc() moves or stays as it likes, fails
 *            as it likes. There is one recording (tracer.pml) and one layer.
 *
 * SEARCH assertion -DTHREADS=2 -DROUNDS=3
 * SEARCH assertion -DTHREADS=3 -DROUNDS=1
 * SEARCH assertion -DTHREADS=2 -DROUNDS=2 -DUNSEEN
 * MUTANT FREE_FIRST assertion: the block is freed, and its sample forgotten then
 * MUTANT REALLOC_FIRST assertion: realloc() is called, and the old block's sample forgotten then
 * MUTANT NOT_PUT_BACK assertion: a realloc that failed leaves its block without the sample
 * MUTANT MOVED_IS_KEPT assertion: a realloc that moved the block puts the sample back at the old address
 * MUTANT NOT_CLOSED assertion -DUNSEEN: an allocation does not look whether its address is live already
 * WITNESS TAKEN_AT_ONCE: a freed address is given out and sampled before free() returns
 * WITNESS MOVED: realloc() moves a sampled block
 * WITNESS FAILED: realloc() fails for a sampled block
 * WITNESS LOST -DUNSEEN: a sample is closed as lost
 */
#define ADDRESSES 2
#define NONE 255

/* In the beginning block 1 is there, at address 0, and sampled. The live set: how many samples stand at each address, and of which block the last is. */
byte samples[ADDRESSES] = { 1, 0 };
byte sample[ADDRESSES] = { 1, 0 };
#define BIT (samples[0] + samples[1] > 0) /* both share it */

/* The allocator. */
byte owner[ADDRESSES] = { 1, 0 }; /* number of the block there; 0: none */
byte numbers = 2;
bool busy[ADDRESSES];  /* its thread is about to return from malloc(), or has called free() */

/* What is true, for the assertions. */
bool expected[ADDRESSES] = { 1, 0 }; /* the block there was sampled and found room */
byte unseen;              /* frees that went past us */
byte lost;

inline live_insert(a, number, done)
{
	if
	:: atomic { samples[a]++; sample[a] = number; assert(samples[a] == 1); done = true }
	:: done = false /* no room, counted */
	fi
}

inline live_remove(a, done, number)
{
	atomic {
		if
		:: samples[a] > 0 -> samples[a]--; done = true; number = sample[a]; sample[a] = 0
		:: else -> done = false; number = 0
		fi
	}
}

/* record(), of tracer_allocated() or tracer_moved() */
inline insert(a, number)
{
#ifndef NOT_CLOSED
	if
	:: BIT -> /* bitmap_test_hot(): forget(address, layer, true) */
		live_remove(a, done, was);
		atomic {
			if
			:: done -> lost++;
#ifdef LOST
				assert(false);
#endif
				assert(was != number && lost <= unseen)
			:: else
			fi;
			done = false; was = 0
		}
	:: else
	fi;
#endif
	live_insert(a, number, done);
	expected[a] = done;
	done = false
}

inline real_malloc(a)
{
	atomic {
		if
		:: owner[0] == 0 -> a = 0; owner[0] = numbers; numbers++
		:: owner[1] == 0 -> a = 1; owner[1] = numbers; numbers++
		:: else -> a = NONE
		fi;
		if
		:: a != NONE -> busy[a] = true; expected[a] = false
		:: else
		fi
	}
}

inline real_free(a) { atomic { assert(owner[a] == mine); owner[a] = 0; busy[a] = false } }

/* The block of a program's thread; any of those that are there. */
inline pick(a)
{
	if
	:: atomic { owner[0] != 0 && !busy[0] -> busy[0] = true; a = 0; mine = owner[0] }
	:: atomic { owner[1] != 0 && !busy[1] -> busy[1] = true; a = 1; mine = owner[1] }
	:: else -> a = NONE
	fi
}

inline is_mine(number) /* a sample may also be of a block that was there before, whose free went past us */
{
	assert(number == mine || (unseen > 0 && number < mine))
}

inline malloc_hook()
{
	real_malloc(a);
	if
	:: a != NONE ->
		mine = owner[a];
		if
		:: true -> insert(a, mine) /* sampled */
		:: true
		fi;
		busy[a] = false
	:: else
	fi
}

inline free_hook()
{
	pick(a);
	if
	:: a != NONE ->
		if
		:: BIT -> /* free_sampled() */
#ifdef FREE_FIRST
			real_free(a);
#ifdef TAKEN_AT_ONCE
			assert(samples[a] == 0 || sample[a] == mine);
#endif
			live_remove(a, done, was);
			assert(!done || was == mine);
#else
			live_remove(a, done, was);
			if
			:: done -> is_mine(was)
			:: else -> assert(!expected[a])
			fi;
			expected[a] = false;
			real_free(a)
#ifdef TAKEN_AT_ONCE
			; assert(samples[a] == 0)
#endif
#endif
		:: else -> assert(!expected[a]); real_free(a)
		fi;
		done = false; was = 0
	:: else
	fi
}

/* to: the new address, NONE if it failed and the old one stays. */
inline real_realloc(a, to, number)
{
	atomic {
		if
		:: to = NONE
		:: to = a; owner[a] = numbers; number = numbers; numbers++; expected[a] = false
		:: owner[1 - a] == 0 && !busy[1 - a] ->
			to = 1 - a;
			owner[to] = numbers; number = numbers; numbers++;
			busy[to] = true; expected[to] = false;
			owner[a] = 0; busy[a] = false; expected[a] = false
		fi
	}
}

inline realloc_hook()
{
	pick(a);
	if
	:: a != NONE ->
		if
		:: BIT -> /* realloc_sampled() */
#ifndef REALLOC_FIRST
			live_remove(a, moving, taken); /* tracer_moving() */
			if
			:: moving -> is_mine(taken); assert(expected[a] || unseen > 0)
			:: else -> assert(!expected[a])
			fi;
#endif
			real_realloc(a, to, now);
#ifdef REALLOC_FIRST
			live_remove(a, moving, taken);
			if
			:: moving -> is_mine(taken)
			:: else
			fi;
#endif
#ifdef MOVED
			assert(!moving || to == NONE || to == a);
#endif
#ifdef FAILED
			assert(!moving || to != NONE);
#endif
			if
			:: to == NONE -> /* tracer_move_failed() */
#ifndef NOT_PUT_BACK
				if
				:: moving -> live_insert(a, taken, done); expected[a] = done && taken == mine; done = false
				:: else
				fi;
#endif
				busy[a] = false
			:: else -> /* tracer_moved() */
#ifdef MOVED_IS_KEPT
				if
				:: moving -> live_insert(a, taken, done)
				:: else
				fi;
				done = false;
#endif
				if
				:: true -> insert(to, now) /* the new block is sampled */
				:: true
				fi;
				busy[to] = false
			fi
		:: else -> /* realloc_slow(): the old block is no sample */
			real_realloc(a, to, now);
			if
			:: to == NONE -> busy[a] = false
			:: else ->
				if
				:: true -> insert(to, now)
				:: true
				fi;
				busy[to] = false
			fi
		fi;
		moving = false; taken = 0; to = 0; now = 0
	:: else
	fi
}

inline free_unseen()
{
	pick(a);
	if
	:: a != NONE -> atomic { unseen++; expected[a] = false; real_free(a) }
	:: else
	fi
}

byte ended;

active [THREADS] proctype thread()
{
	byte a = 0, to = 0, mine = 0, was = 0, taken = 0, now = 0, rounds = 0;
	bool done = false, moving = false;
	do
	:: rounds < ROUNDS ->
		rounds++;
		if
		:: true -> malloc_hook()
		:: true -> free_hook()
		:: true -> realloc_hook()
#ifdef UNSEEN
		:: true -> free_unseen()
#endif
		fi;
		a = 0; mine = 0
	:: else -> break
	od;
	ended++
}

#define RIGHT(a) (expected[a] == (samples[a] > 0) && (samples[a] == 0 || sample[a] == owner[a]))
/* Of a block that was freed past us a sample may stand there, until its address comes again. */
#define NOT_WORSE(a) (!expected[a] || (samples[a] > 0 && sample[a] == owner[a]))

active proctype judge()
{
	ended == THREADS;
#ifdef UNSEEN
	assert(NOT_WORSE(0) && NOT_WORSE(1))
#else
	assert(RIGHT(0) && RIGHT(1) && lost == 0)
#endif
}
