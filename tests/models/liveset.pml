/* liveset.pml -- no sample is lost, taken twice or made up; a bit is cleared only when no live sample needs it
 *
 * Code:      native/src/liveset.c, bitmap.c; samples_close_displaced() of samples.c is the walker. Who merges two samples (liveset_merge())
 *            is a mover of the one that stays, and one of those who remove of the other.
 * Shows:     each sample that was put in is taken out by exactly one caller, whole; whoever frees a block finds its bit
 *            set while its sample lives; a removal of what was never put in finds nothing. No operation waits for another
 *            thread: there is no cycle in all the states, so one stopped anywhere stops nobody. A sample that is given another
 *            row meanwhile is removed all the same, by who wants it out or by who moves it, and is whole whenever it is live.
 * Abstracts: both buckets of all addresses are one window of SLOTS words, the worst case, in two segments, the second
 *            of which may come at any time. Which free slot an insertion claims is any. Layers, the secret and the
 *            sequence number in a key are left out: they serve readers of the file, and the mover, whose compare-and-swap is
 *            to hit the very sample it has looked at. SPINS_FOR_CLEARING and SPINS_FOR_MOVING are SPINS.
 *
 * SEARCH assertion -DTHREADS=2 -DOPERATIONS=2
 * SEARCH assertion -DTHREADS=3 -DOPERATIONS=1
 * SEARCH assertion -DTHREADS=2 -DOPERATIONS=1 -DWALKER
 * SEARCH assertion -DTHREADS=2 -DOPERATIONS=1 -DMOVER
 * SEARCH assertion -DTHREADS=1 -DOPERATIONS=3 -DMOVER
 * SEARCH assertion -DTHREADS=1 -DOPERATIONS=1 -DMOVER -DWALKER
 * SEARCH assertion -DTHREADS=1 -DOPERATIONS=2 -DMOVER -DMOVERS=2
 * SEARCH assertion -DTHREADS=1 -DOPERATIONS=1 -DMOVER -DMOVERS=2 -DWALKER
 * SEARCH cycle -DTHREADS=2 -DOPERATIONS=2
 * SEARCH cycle -DTHREADS=1 -DOPERATIONS=2 -DMOVER
 * MUTANT CLEAR_ALWAYS assertion: a remover clears the bit without looking whether others need it
 * MUTANT CLAIMS_IGNORED assertion: a remover does not look for claimed slots
 * MUTANT CLEARING_IGNORED assertion: an inserter does not look for removers
 * MUTANT LOOK_BEFORE_CLAIM assertion: an inserter looks for removers, and claims its slot then
 * MUTANT FREE_BEFORE_CLEAR assertion: a remover gives its slot back before it clears the bit
 * MUTANT BIT_BY_STORE assertion: a word of the bitmap is loaded and stored, not changed in one step
 * MUTANT TAKE_BY_STORE assertion -DWALKER: a remover takes a sample by load and store, not by compare-and-swap
 * MUTANT PUBLISH_EARLY assertion -DWALKER: an inserter publishes its key before the entry is written
 * MUTANT MOVING_PASSED_BY assertion -DMOVER: a remover takes a slot that is being moved for another's
 * MUTANT LOOKS_ONCE assertion -DMOVER: a remover whose sample is being moved when it wants to take it looks no further
 * MUTANT DOOM_OVERWRITTEN assertion -DMOVER: a mover publishes by a store, not by compare-and-swap
 * MUTANT DOOM_KEEPS_BIT assertion -DMOVER: a mover that removes clears the bit without looking whether others need it
 * MUTANT MOVES_IN_PLACE assertion -DMOVER: a mover changes the entry of a live slot
 * MUTANT WAITS_FOR_EVER cycle: an inserter waits for a remover without a limit
 * MUTANT WAITS_FOR_MOVER cycle -DMOVER: a remover waits for a mover without a limit
 * WITNESS DOOMED -DMOVER: a mover finds that its sample is to be removed
 * WITNESS MOVED_AND_REMOVED -DMOVER: a removal finds its sample moved in the meantime
 * WITNESS BIT_KEPT: a remover finds another sample that needs the bit
 * WITNESS RACE_DROPPED: an inserter gives up because of a remover
 * WITNESS BOTH_REMOVE -DWALKER: a removal finds its sample taken by the walker in the meantime
 */
#define SLOTS 3
#define FIRST_SEGMENT 2 /* slots of it; the rest is the second */
#define SPINS 1

/* Addresses 0 and 1 share bit 0; address 2 has bit 1 of the same word. */
#define ADDRESSES 3
#define BIT(a) ((a) >> 1)

/* Keys: SLOT_FREE, SLOT_CLAIMED, clearing(bit), key_of(address). */
#define FREE 0
#define CLAIMED 1
#define CLEARING(a) (2 + BIT(a))
#define KEY(a) (4 + (a))
#define MOVING(a) (7 + (a))
#define IS_DOOMED 10 /* its address is of no use to anybody but its mover */
#define IS_LIVE(k) ((k) >= 4 && (k) < 7)
#define HAS_SAMPLE(k) ((k) >= 4 && (k) < IS_DOOMED)
#define ADDRESS(k) (((k) - 4) % 3)

/* In the beginning address 0 is a live sample, number 1, in slot 0. */
byte key[SLOTS] = { 4, 0, 0 }; /* KEY(0), FREE, FREE */
byte entry_size[SLOTS] = { 1, 0, 0 }; /* two of the fields of an entry */
byte entry_row[SLOTS] = { 1, 0, 0 };
#ifdef MOVER
byte entry_check[SLOTS] = { 1, 0, 0 };
#define ROW_MOVED 100 /* more than the row it had */
byte doomed; /* samples that a mover has yet to remove */
bool mover_removes[3];
#define IS_WHOLE(slot, number) (entry_row[slot] == entry_check[slot] && (entry_row[slot] == number || entry_row[slot] == number + ROW_MOVED))
#define MOVER_REMOVES(a) mover_removes[a]
#else
#define IS_WHOLE(slot, number) (entry_row[slot] == number)
#define MOVER_REMOVES(a) false
#endif
byte word = 1; /* of the bitmap */
bool second_segment;

/* What is true, for the assertions: not of the code. */
byte sample_of[ADDRESSES] = { 1, 0, 0 }; /* number of the sample that lives there; 0: none */
byte numbers = 2;
bool walker_took[ADDRESSES]; /* it, and not who frees the block */
/* The program: whose is a block? */
#define NOBODYS 0
#define HELD 1   /* by a thread that is allocating or freeing it */
#define THERE 2  /* allocated; any thread may free it */
byte block[ADDRESSES] = { 2, 0, 0 }; /* THERE, NOBODYS, NOBODYS */

#define SEGMENT_THERE(i) ((i) < FIRST_SEGMENT || second_segment)
#define COUNT_LIVE(b) ((HAS_SAMPLE(key[0]) && BIT(ADDRESS(key[0])) == (b)) + (HAS_SAMPLE(key[1]) && BIT(ADDRESS(key[1])) == (b)) + \
		       (HAS_SAMPLE(key[2]) && BIT(ADDRESS(key[2])) == (b)))
#define BITS_HOLD ((COUNT_LIVE(0) == 0 || (word & 1)) && (COUNT_LIVE(1) == 0 || (word & 2)))

inline bitmap_set(a)
{
#ifdef BIT_BY_STORE
	local_word = word;
	word = local_word | (1 << BIT(a));
	assert(BITS_HOLD);
#else
	word = word | (1 << BIT(a)); /* or_seq_cst() */
#endif
}

inline bitmap_clear(a)
{
#ifdef BIT_BY_STORE
	local_word = word;
	atomic { word = local_word & ~(1 << BIT(a)); assert(BITS_HOLD) }
#else
	atomic { word = word & ~(1 << BIT(a)); assert(BITS_HOLD) } /* and_seq_cst() */
#endif
}

/* claim_anywhere(): slot = SLOTS if there is none. */
inline claim(slot)
{
	if
	:: atomic { key[0] == FREE -> key[0] = CLAIMED; slot = 0 }
	:: atomic { key[1] == FREE -> key[1] = CLAIMED; slot = 1 }
	:: atomic { second_segment && key[2] == FREE -> key[2] = CLAIMED; slot = 2 }
	:: atomic { !second_segment && key[2] == FREE -> second_segment = true }
	   if
	   :: atomic { key[2] == FREE -> key[2] = CLAIMED; slot = 2 }
	   :: else -> slot = SLOTS
	   fi
	:: slot = SLOTS
	fi
}

inline look_for_clearing(a, found) /* anyone_clearing() */
{
	found = false;
	i = 0;
	do
	:: atomic { i < SLOTS && SEGMENT_THERE(i) -> found = found || key[i] == CLEARING(a); i++ } /* load_seq_cst() */
	:: else -> break
	od
}

/* liveset_insert(). inserted: did it? */
inline insert(a, number, inserted)
{
	spins = 0;
#ifdef LOOK_BEFORE_CLAIM
	look_for_clearing(a, found);
	claim(slot);
#else
	claim(slot);
	look_for_clearing(a, found);
#endif
	inserted = slot < SLOTS;
#ifdef CLEARING_IGNORED
	found = false;
#endif
	do
	:: inserted && found ->
		if
#ifndef WAITS_FOR_EVER
		:: spins == SPINS ->
			key[slot] = FREE;
			inserted = false;
#ifdef RACE_DROPPED
			assert(false);
#endif
#endif
		:: else ->
#ifndef WAITS_FOR_EVER
			spins++;
#endif
			look_for_clearing(a, found)
		fi
	:: else -> break
	od;
	if
	:: inserted ->
		bitmap_set(a);
#ifdef PUBLISH_EARLY
		atomic { key[slot] = KEY(a); sample_of[a] = number; assert(BITS_HOLD) }
#endif
		entry_size[slot] = number;
		entry_row[slot] = number;
#ifdef MOVER
		entry_check[slot] = number;
#endif
#ifndef PUBLISH_EARLY
		atomic { key[slot] = KEY(a); sample_of[a] = number; assert(BITS_HOLD) } /* store_release() */
#endif
	:: else
	fi
}

inline look_whether_needed(a, needed) /* bit_needed() */
{
	needed = false;
	i = 0;
	do
	:: atomic { i < SLOTS && SEGMENT_THERE(i) ->
		needed = needed || (i != slot && key[i] != FREE &&
#ifdef CLAIMS_IGNORED
				    key[i] != CLAIMED &&
#endif
				    (!IS_LIVE(key[i]) || BIT(ADDRESS(key[i])) == BIT(a)));
		i++ }
	:: else -> break
	od
}

inline take(slot, a) /* the compare-and-swap of liveset_remove() */
{
	key[slot] = CLEARING(a);
	assert(sample_of[a] != 0); /* nobody else has taken it, and it was put in */
	number = sample_of[a];
	sample_of[a] = 0;
	walker_took[a] = _pid >= THREADS;
}

/* liveset_remove(). removed: did it? number: of what sample. */
inline remove(a, removed, number)
{
	removed = false;
	slot = 0;
	spins = 0;
	do
	:: !removed && slot < SLOTS && SEGMENT_THERE(slot) ->
		if
		:: key[slot] == KEY(a) -> /* load_acquire() */
			if
#ifdef TAKE_BY_STORE
			:: atomic { true -> take(slot, a); removed = true }
#else
			:: atomic { key[slot] == KEY(a) -> take(slot, a); removed = true } /* cas_seq_cst() */
#ifdef MOVER
#ifndef LOOKS_ONCE
			:: atomic { key[slot] == MOVING(a) -> skip } /* looks again */
#endif
			:: atomic { else -> skip } slot++
#else
			:: else -> slot++
#ifdef BOTH_REMOVE
			   ; assert(false)
#endif
#endif
#endif
			fi
#ifdef MOVER
#ifndef MOVING_PASSED_BY
		:: key[slot] == MOVING(a) && spins < SPINS ->
#ifndef WAITS_FOR_MOVER
			spins++
#else
			skip
#endif
		:: key[slot] == MOVING(a) && spins == SPINS ->
			if
			:: atomic { key[slot] == MOVING(a) -> /* cas_seq_cst() */
				key[slot] = IS_DOOMED;
				assert(sample_of[a] != 0);
				sample_of[a] = 0;
				doomed++;
				mover_removes[a] = true }
				slot = SLOTS
			:: else -> skip /* moved meanwhile: looks again */
			fi
#endif
#endif
		:: else -> slot++
		fi
	:: else -> break
	od;
	if
	:: removed ->
		assert(entry_size[slot] == number);
		assert(IS_WHOLE(slot, number));
#ifdef MOVED_AND_REMOVED
		assert(entry_row[slot] == number);
#endif
		needed = false;
#ifndef CLEAR_ALWAYS
		look_whether_needed(a, needed);
#endif
#ifdef BIT_KEPT
		assert(!needed);
#endif
#ifdef FREE_BEFORE_CLEAR
		key[slot] = FREE;
#endif
		if
		:: !needed -> bitmap_clear(a)
		:: else
		fi;
#ifndef FREE_BEFORE_CLEAR
		key[slot] = FREE /* store_release() */
#endif
	:: else
	fi
}

#ifdef BIT_BY_STORE
#define LOCALS byte i = 0, slot = 0, number = 0, local_word = 0; bool found = false, needed = false, done = false
#else
#define LOCALS byte i = 0, slot = 0, number = 0; bool found = false, needed = false, done = false
#endif
#define FORGET atomic { i = 0; slot = 0; number = 0; spins = 0; found = false; needed = false; done = false; a = 0; mine = 0 }

#ifdef MOVER
#define FORGET_MOVER mover_removes[a] = false
#else
#define FORGET_MOVER skip
#endif

/* A thread of the program: allocates what is nobody's, frees what is there. */
active [THREADS] proctype thread()
{
	LOCALS;
	byte a = 0, spins = 0, operations = 0, mine = 0;
	do
	:: operations < OPERATIONS ->
		operations++;
		if
		:: atomic { block[0] == NOBODYS -> block[0] = HELD; a = 0 }
		:: atomic { block[1] == NOBODYS -> block[1] = HELD; a = 1 }
		:: atomic { block[2] == NOBODYS -> block[2] = HELD; a = 2 }
		:: atomic { block[0] == THERE -> block[0] = HELD; a = 0; mine = 1 }
		:: atomic { block[1] == THERE -> block[1] = HELD; a = 1; mine = 1 }
		:: atomic { block[2] == THERE -> block[2] = HELD; a = 2; mine = 1 }
		:: else -> goto next
		fi;
		if
		:: mine == 0 ->
			atomic { mine = numbers; numbers++; walker_took[a] = false; FORGET_MOVER }
			insert(a, mine, done);
			atomic { assert(done == (sample_of[a] == mine || walker_took[a] || MOVER_REMOVES(a))); block[a] = THERE }
		:: else ->
			if
			:: (word >> BIT(a)) & 1 -> /* bitmap_test_hot() */
				mine = sample_of[a];
				remove(a, done, number);
				atomic { assert(done || mine == 0 || walker_took[a] || MOVER_REMOVES(a)); assert(sample_of[a] == 0); block[a] = NOBODYS }
			:: else ->
				atomic { assert(sample_of[a] == 0); block[a] = NOBODYS } /* its sample would stay for ever */
			fi
		fi;
next:
		FORGET
	:: else -> break
	od
}

#ifdef WALKER
/* samples_close_displaced(): liveset_next(), liveset_remove() */
active proctype walker()
{
	LOCALS;
	byte at = 0, a = 0, spins = 0;
	do
	:: at < SLOTS && SEGMENT_THERE(at) ->
		if
		:: atomic { HAS_SAMPLE(key[at]) -> a = ADDRESS(key[at]) }
			remove(a, done, number)
		:: else
		fi;
		at++
	:: else -> break
	od
}
#endif

#ifdef MOVER
/* outcome_settle(): liveset_look(), liveset_move() of each place noted, once */
#ifndef MOVERS
#define MOVERS 1
#endif
active [MOVERS] proctype mover()
{
	byte i = 0, slot = 0, a = 0, number = 0;
	bool needed = false;
#ifdef BIT_BY_STORE
	byte local_word = 0;
#endif
	do
	:: slot < SLOTS && SEGMENT_THERE(slot) ->
		if
		:: atomic { IS_LIVE(key[slot]) && sample_of[ADDRESS(key[slot])] != 0 ->
			a = ADDRESS(key[slot]); number = sample_of[a] }
			if
#ifdef MOVES_IN_PLACE
			:: atomic { key[slot] == KEY(a) && sample_of[a] == number -> skip }
				entry_row[slot] = number + ROW_MOVED;
				entry_check[slot] = number + ROW_MOVED
#else
			:: atomic { key[slot] == KEY(a) && sample_of[a] == number -> key[slot] = MOVING(a) } /* cas_seq_cst() */
				entry_row[slot] = number + ROW_MOVED;
				entry_check[slot] = number + ROW_MOVED;
				if
#ifdef DOOM_OVERWRITTEN
				:: atomic { true -> key[slot] = KEY(a); assert(sample_of[a] == number) }
#else
				:: atomic { key[slot] == MOVING(a) -> key[slot] = KEY(a); assert(sample_of[a] == number) } /* cas_seq_cst() */
				:: atomic { key[slot] != MOVING(a) -> assert(key[slot] == IS_DOOMED); assert(doomed > 0); doomed-- }
#ifdef DOOMED
					assert(false);
#endif
					key[slot] = CLEARING(a); /* store_seq_cst() */
					needed = false;
#ifndef DOOM_KEEPS_BIT
					look_whether_needed(a, needed);
#endif
					if
					:: !needed -> bitmap_clear(a)
					:: else
					fi;
					key[slot] = FREE /* store_release() */
#endif
				fi
#endif
			:: else -> skip /* gone */
			fi
		:: else
		fi;
		atomic { slot++; a = 0; number = 0; i = 0; needed = false }
	:: else -> break
	od;
	assert(doomed == 0 || MOVERS > 1)
}
#endif
