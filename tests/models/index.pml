/* index.pml -- one record for each key, whole, and a segment that one thread builds for all
 *
 * Code:      native/src/index.c (index_find(), index_insert()); recording_room.c (recording_take(), recording_segment(),
 *            recording_add_segment(), built_meanwhile()); recording.c (recording_grow()).
 * Shows:     a key stands once, in all segments together; whoever inserts it gets the record that stands there, or
 *            nothing for want of room or of a builder; it is found from then on; who finds a record finds it whole.
 *            No piece of room is given out twice or used before there is memory behind it. A segment is built once,
 *            and known when it is built. A builder that stops for ever stops nobody: there is no cycle in all the states,
 *            and where nobody else moves, all but the stopped one have ended.
 * Abstracts: windows are WINDOW words, and a segment is one window; keys 0 and 2 begin at its first word, key 1 at its
 *            second. The words' upper half always matches, the worst case. Room is counted in records, and a segment takes
 *            SEGMENT of them. BUILDER_LOOKS is 2, and so are the tries to take room.
 *
 * SEARCH assertion -DTHREADS=2 -DKEYS=1 -DFILLED=1
 * SEARCH assertion -DTHREADS=2 -DKEYS=2 -DFILLED=2
 * SEARCH assertion -DTHREADS=3 -DKEYS=2 -DFILLED=1
 * SEARCH cycle -DTHREADS=2 -DKEYS=2 -DFILLED=2
 * MUTANT PLAIN_STORE assertion: a word is looked at and stored to, not changed by compare-and-swap
 * MUTANT OWN_REF assertion: who loses the race for a word says that its own record stands there
 * MUTANT NEXT_WORD assertion: who loses the race for a word goes on to the next
 * MUTANT PUBLISH_EARLY assertion: a record is published before it is whole
 * MUTANT BASE_FIRST assertion -DFILLED=2: a segment is known before its capacity is
 * MUTANT CLAIM_BY_STORE assertion -DFILLED=2: the claim of a segment is looked at and stored to, not exchanged
 * MUTANT ROOM_BY_STORE assertion: room is taken by load and store
 * MUTANT BACKED_LATE assertion: room is given out before there is memory behind it
 * MUTANT WAITS_FOR_BUILDER cycle: who needs a segment waits for its builder without a limit
 * WITNESS LOST: a thread finds its key inserted by another meanwhile
 * WITNESS DROPPED -DFILLED=2: a sample is dropped because a builder has stopped
 * WITNESS BUILT_MEANWHILE -DFILLED=2: a segment is built by another thread while it is waited for
 * WITNESS SECOND_SEGMENT -DFILLED=2: a key stands in the second segment
 */
#define WINDOW 2
#define SEGMENTS 2
#define SEGMENT 2 /* records' worth of room */
#define ROOM 9 /* records 1 … 8 */
#define LOOKS 2
#define TRIES 2

byte words[4]; /* SEGMENTS * WINDOW; the number of a record, 0: none */
/* tables[], with the first segment there */
bool base[SEGMENTS];
bool capacity[SEGMENTS];
bool claims[SEGMENTS];

/* Room: records FILLED + 1 … */
byte room_used, room_backed;
bool has_memory[ROOM]; /* is there any behind it? */
byte taken[ROOM];      /* how often it was given out */

/* Records, by number. */
byte record_key[ROOM];
bool record_body[ROOM];

/* For the assertions. */
#define NO_KEY 3
bool stopped_builder;
byte standing[4]; /* record of each key, 0: none */
byte built[SEGMENTS];

#define PLACE(k, i) (((k) + (i)) & (WINDOW - 1))

inline take(n, from) /* recording_take(): from = 0: none */
{
	from = 0;
	tries = 0;
	seen = room_used;
	do
	:: from == 0 && tries < TRIES ->
		tries++;
		if
		:: seen + n > room_backed -> break
		:: else
		fi;
		if
#ifdef ROOM_BY_STORE
		:: true -> atomic { room_used = seen + n; from = seen + 1 }
#else
		:: atomic { room_used == seen -> room_used = seen + n; from = seen + 1 }
		:: else -> seen = room_used
#endif
		fi
	:: else -> break
	od;
	atomic {
		j = 0;
		do
		:: from > 0 && j < n ->
			taken[from + j]++;
			assert(taken[from + j] == 1 && has_memory[from + j]);
			j++
		:: else -> break
		od;
		seen = 0; tries = 0; j = 0
	}
}

inline add_segment(s, added) /* recording_add_segment() */
{
	added = false;
	if
	:: s >= SEGMENTS
	:: else ->
		if
		:: claims[s] -> looks = 1 /* load_relaxed() */
		:: else ->
#ifdef CLAIM_BY_STORE
			claims[s] = true
#else
			atomic { looks = (claims[s] -> 1 : 0); claims[s] = true } /* exchange_acq_rel() */
#endif
		fi;
		if
		:: looks > 0 -> /* built_meanwhile() */
			do
#ifdef WAITS_FOR_BUILDER
			:: !base[s]
#else
			:: looks <= LOOKS && !base[s] -> looks++
#endif
			:: base[s] -> added = true;
#ifdef BUILT_MEANWHILE
				assert(looks < 2);
#endif
				break
			:: looks > LOOKS -> break
			od;
			looks = 0
		:: else ->
			if
			:: skip
			:: atomic { !stopped_builder -> stopped_builder = true }
				goto stopped
			fi;
			take(SEGMENT, room);
			if
			:: room == 0 -> claims[s] = false
			:: else ->
				if
				:: skip
				:: atomic { !stopped_builder -> stopped_builder = true }
					goto stopped
				fi;
#ifdef BASE_FIRST
				atomic { built[s]++; assert(built[s] == 1); base[s] = true }
				capacity[s] = true;
#else
				capacity[s] = true;
				atomic { built[s]++; assert(built[s] == 1); base[s] = true }
#endif
				added = true
			fi;
			room = 0
		fi
	fi
}

inline look(ref, k, is) /* word_is() */
{
	is = record_key[ref] == k;
	assert(record_key[ref] != NO_KEY && record_body[ref])
}

inline find(k, ref) /* index_find() */
{
	s = 0;
	ref = 0;
	do
	:: s < SEGMENTS && ref == 0 && base[s] ->
		assert(capacity[s]);
		i = 0;
		do
		:: i < WINDOW ->
			word = words[s * WINDOW + PLACE(k, i)];
			if
			:: word == 0 -> break
			:: else ->
				look(word, k, is);
				if
				:: is -> ref = word; break
				:: else -> i++
				fi
			fi
		:: else -> break
		od;
		s++
	:: else -> break
	od;
	s = 0; i = 0; word = 0; is = false
}

inline publish(at, k, ref)
{
	words[at] = ref;
	assert(standing[k] == 0);
	standing[k] = ref
}

inline insert(k, mine, ref) /* index_insert() */
{
	s = 0;
	ref = 0;
	do
	:: ref == 0 ->
		if
		:: s < SEGMENTS && base[s]
		:: else ->
			add_segment(s, added);
			if
			:: !added -> break
			:: else -> added = false; assert(base[s])
			fi
		fi;
		assert(capacity[s]);
		i = 0;
		do
		:: i < WINDOW && ref == 0 ->
			word = words[s * WINDOW + PLACE(k, i)];
			if
			:: word == 0 ->
				if
#ifdef PLAIN_STORE
				:: true -> atomic { publish(s * WINDOW + PLACE(k, i), k, mine); ref = mine }
#else
				:: atomic { words[s * WINDOW + PLACE(k, i)] == 0 -> publish(s * WINDOW + PLACE(k, i), k, mine); ref = mine }
				:: else ->
#ifdef OWN_REF
					ref = mine
#else
#ifndef NEXT_WORD
					word = words[s * WINDOW + PLACE(k, i)] /* what the compare-and-swap found */
#endif
#endif
#endif
				fi
			:: else
			fi;
			if
			:: ref == 0 && word != 0 ->
				look(word, k, is);
				if
				:: is -> ref = word
				:: else
				fi
			:: else
			fi;
			i++
		:: else -> break
		od;
		s++
	:: else -> break
	od;
	s = 0; i = 0; word = 0; is = false
}

/* Stores what belongs to a key, as store_stack() and rows_of() do. */
proctype thread(byte key)
{
	byte mine = 0, ref = 0, again = 0, room = 0;
	byte s = 0, i = 0, j = 0, seen = 0, word = 0, tries = 0, looks = 0;
	bool is = false, added = false;
	find(key, ref);
	if
	:: ref == 0 ->
		take(1, mine);
		if
		:: mine != 0 ->
			record_key[mine] = key;
#ifndef PUBLISH_EARLY
			record_body[mine] = true;
#endif
			insert(key, mine, ref);
#ifdef PUBLISH_EARLY
			record_body[mine] = true;
#endif
#ifdef LOST
			assert(ref == 0 || ref == mine);
#endif
#ifdef DROPPED
			assert(ref != 0 || !stopped_builder)
#endif
		:: else
		fi
	:: else
	fi;
	if
	:: ref != 0 ->
		assert(ref == standing[key]);
		find(key, again);
		assert(again == ref);
#ifdef SECOND_SEGMENT
		assert(words[2] != ref && words[3] != ref)
#endif
	:: else
	fi;
stopped:
	skip
}

/* recording_grow() */
proctype grow()
{
#ifdef BACKED_LATE
	room_backed = ROOM - 1;
#endif
	atomic {
		byte i = 0;
		do
		:: i < ROOM -> has_memory[i] = true; i++
		:: else -> break
		od;
		i = 0
	}
#ifndef BACKED_LATE
	room_backed = ROOM - 1
#endif
}

/* In the beginning there is one segment; FILLED of its words are taken by key 2, and room is left for one record. */
init
{
	byte i = 0;
	atomic {
		record_key[0] = NO_KEY;
		do
		:: i < ROOM -> i++;
			if
			:: i <= FILLED ->
				words[i - 1] = i;
				record_key[i] = 2;
				record_body[i] = true;
				taken[i] = 1;
				has_memory[i] = true
			:: i == FILLED + 1 -> record_key[i] = NO_KEY; has_memory[i] = true
			:: i > FILLED + 1 && i < ROOM -> record_key[i] = NO_KEY
			:: else
			fi
		:: else -> break
		od;
		base[0] = true;
		capacity[0] = true;
		claims[0] = true;
		room_used = FILLED;
		room_backed = FILLED + 1;
		i = 0;
		do
		:: i < THREADS -> run thread(i % KEYS); i++
		:: else -> break
		od;
		run grow()
	}
}
