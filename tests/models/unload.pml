/* unload.pml -- a stack names the object that is there, once an unload was noticed
 *
 * Code:      native/src/modules_seen.c and .h (modules_seen_at(), modules_see(), notice_overlap()); modules.c (modules_find(),
 *            modules_refresh());
 *            unwind.c (rule_of(), rule_derive()); dlclose() of hook_events.c.
 * Shows:     a walk that begins after our dlclose() has returned names the object that is mapped where it passes, though
 *            the one that was there before looked the same to the loader, was sampled until its last destructor, and left
 *            its rules in the cache. One that begins before, between the unmapping and the second bump of the
 *            generation, may name the old object, but only if a thread was sampled in that after the first bump, such as a destructor. After an unload that went past us
 *            the same holds from the moment at which it shows: in the loader's list, or by another object in the
 *            place. An entry of the cache that is read while it is rewritten is not used.
 * Abstracts: two objects that take turns at one address, with the same record of the loader's, and one place in them
 *            whose rule is cached. Without -DBUILD_IDS nothing but path and contents tells them apart. A program runs no
 *            code of an object that is unmapped, nor unmaps one that a thread is in. An entry of the registry is
 *            made in one step (it is private until then). The snapshot of glibc before 2.35 is left out.
 *
 * SEARCH assertion -DWALKERS=1 -DWALKS=3 -DCLOSES=2
 * SEARCH assertion -DWALKERS=2 -DWALKS=1 -DCLOSES=1
 * SEARCH assertion -DWALKERS=1 -DWALKS=3 -DCLOSES=2 -DBUILD_IDS
 * SEARCH assertion -DWALKERS=2 -DWALKS=1 -DCLOSES=1 -DPAST_US
 * SEARCH assertion -DWALKERS=1 -DWALKS=3 -DCLOSES=2 -DPAST_US
 * SEARCH assertion -DWALKERS=1 -DWALKS=3 -DCLOSES=2 -DBUILD_IDS -DPAST_US
 * MUTANT NOT_AFTER assertion: the generation is bumped before the real dlclose() only
 * MUTANT NOT_BEFORE assertion: the generation is bumped after the real dlclose() only
 * MUTANT NO_SALT assertion: a rule in the cache is good for all generations
 * MUTANT HALF_AN_ENTRY assertion: the key of an entry does not depend on its word
 * MUTANT ANY_GENERATION assertion: an object is known again though an unload was noticed since
 * MUTANT LIST_UNNOTICED assertion -DPAST_US: that the loader's list lost an object is not noticed
 * MUTANT OVERLAP_UNNOTICED assertion -DBUILD_IDS: that another object stands in an object's place is not noticed
 * WITNESS IN_WINDOW: a walk between the unmapping and the second bump names the old object
 * WITNESS PAST_US_UNSEEN -DPAST_US: after an unload that nobody noticed a walk names the old object
 * WITNESS CACHED: a walk uses a rule that an earlier one has cached
 * WITNESS COMES_BACK: an object that comes back is named
 */
byte generation = 1; /* module_generation */

/* The cache's entries for the place, and the registry: modules[], by id, which is the object's number. */
byte key[2];  /* salt and word */
byte word[2]; /* the rule; what matters of it is the id */
bool registered[3];
bool has_link_map[3];
byte generation_of[3];

#ifdef HALF_AN_ENTRY
#define KEY(salt, w) ((salt) * 4)
#else
#ifdef NO_SALT
#define KEY(salt, w) (4 + (w))
#else
#define KEY(salt, w) ((salt) * 4 + (w))
#endif
#endif

/* The loader. */
byte mapped = 1;    /* which object is there; 0: none */
bool list_held;     /* its lock: nothing comes or goes meanwhile */
byte removed;       /* dlpi_subs */
byte seen_removed;  /* seen_subs */
byte threads_in;    /* the object; it is not unmapped meanwhile */

/* For the assertions. */
bool noticed = true;  /* all unloads so far */
bool closing_now;    /* between the first bump and the unmapping */
bool sampled_then;   /* a thread in the object was, during the last such time */

inline bump() { atomic { generation++; noticed = true } }

inline notice_overlap(o, g)
{
	if
#ifndef OVERLAP_UNNOTICED
	:: registered[3 - o] && generation_of[3 - o] == g -> bump()
#else
	:: registered[3 - o] && generation_of[3 - o] == g -> noticed = true
#endif
	:: else
	fi
}

/* modules_see(), of an object that is mapped */
inline see(o, g, link_map)
{
	if
	:: registered[o] ->
		if
		:: link_map -> has_link_map[o] = true
		:: else
		fi;
		if
		:: generation_of[o] != g -> generation_of[o] = g; notice_overlap(o, g)
		:: else
		fi
	:: else ->
		atomic {
			if
			:: !registered[o] -> registered[o] = true; has_link_map[o] = link_map; generation_of[o] = g
			:: else
			fi
		}
		notice_overlap(o, g)
	fi
}

#ifdef BUILD_IDS
#define SAME_BUILD_ID(id) ((id) == mapped)
#else
#define SAME_BUILD_ID(id) true
#endif
#ifdef ANY_GENERATION
#define SAME_GENERATION(id) true
#else
#define SAME_GENERATION(id) (generation_of[id] == now)
#endif

/* modules_find() */
inline find(id)
{
	found = mapped; /* _dl_find_object() */
	now = generation;
	id = 0;
	/* modules_seen_at(): the word link_map, then the word generation; in whichever order they stand in the index */
	if
	:: first = 1
	:: first = 2
	fi;
	if
	:: registered[first] && has_link_map[first] ->
		if
		:: SAME_GENERATION(first) && SAME_BUILD_ID(first) -> id = first
		:: else
		fi
	:: else
	fi;
	if
	:: id == 0 && registered[3 - first] && has_link_map[3 - first] ->
		if
		:: SAME_GENERATION(3 - first) && SAME_BUILD_ID(3 - first) -> id = 3 - first
		:: else
		fi
	:: else
	fi;
	if
	:: id == 0 -> see(found, now, true); id = found
	:: else
	fi;
	atomic { found = 0; now = 0; first = 0 }
}

/* A walk by a thread that is in the object: begins with reading the generation. */
inline walk()
{
#ifdef PAST_US
	atomic { salt = generation; expected = noticed }
#else
	atomic { salt = generation; expected = noticed || !sampled_then }
#endif
	/* rule_of() */
	w = word[0];
	if
	:: key[0] == KEY(salt, w) -> id = w
	:: else ->
		w = word[1];
		if
		:: key[1] == KEY(salt, w) -> id = w
		:: else
		fi
	fi;
#ifdef CACHED
	assert(id == 0);
#endif
	if
	:: id == 0 -> /* rule_derive() */
		find(id);
		old_key = key[0];
		w = word[0];
		key[1] = old_key;
		word[1] = w;
		key[0] = KEY(salt, id);
		word[0] = id
	:: else
	fi;
	atomic {
		assert(id == mapped || !expected);
		sampled_then = sampled_then || closing_now;
#ifdef IN_WINDOW
		assert(id == mapped);
#endif
#if defined PAST_US_UNSEEN && defined PAST_US
		assert(id == mapped);
#endif
#ifdef COMES_BACK
		assert(removed < 2);
#endif
		salt = 0; expected = false; w = 0; id = 0; old_key = 0
	}
}

#define LOCALS byte salt = 0, w = 0, id = 0, old_key = 0, found = 0, now = 0, first = 0; bool expected = false

/* A thread of the program that calls into whatever object is there. */
active [WALKERS] proctype walker()
{
	LOCALS; byte walks = 0;
	do
	:: walks < WALKS ->
		if
		:: atomic { mapped != 0 -> threads_in++ }
			walks++;
#ifdef BUILD_IDS
			if
			:: true -> walk()
			:: true -> find(id); id = 0 /* at another place, whose rule is not in the cache */
			fi;
#else
			walk();
#endif
			threads_in--
		:: walks = WALKS /* it may call no more */
		fi
	:: else -> break
	od
}

inline unmap() { atomic { !list_held && threads_in == 0 && mapped != 0 -> mapped = 0; removed++; noticed = false; closing_now = false } }

/* dlclose() */
inline close()
{
#ifndef NOT_BEFORE
	atomic { generation++; closing_now = true; sampled_then = false }
#else
	sampled_then = false;
#endif
	if
	:: true -> walk() /* a destructor is sampled */
	:: true
	fi;
	unmap();
#ifndef NOT_AFTER
	bump()
#else
	noticed = true
#endif
}

active proctype closing()
{
	LOCALS; byte closes = 0;
	do
	:: closes < CLOSES ->
		closes++;
		mapped != 0;
#ifdef PAST_US
		unmap()
#else
		close()
#endif
	:: else -> break
	od
}

active proctype loading() /* dlopen() */
{
	atomic { !list_held && mapped == 0 -> mapped = 2 }
#if CLOSES > 1
	atomic { !list_held && mapped == 0 -> mapped = 1 }
#endif
}

#ifdef PAST_US
active proctype refresh() /* modules_refresh(), by the chores thread */
{
	byte now = 0, rounds = 0;
	do
	:: rounds < 2 ->
		rounds++;
		atomic { !list_held -> list_held = true }
		if
		:: removed != seen_removed ->
#ifndef LIST_UNNOTICED
			bump();
#else
			noticed = true;
#endif
			seen_removed = removed
		:: else
		fi;
		now = generation;
		if
		:: mapped != 0 -> see(mapped, now, false)
		:: else
		fi;
		atomic { list_held = false; now = 0 }
	:: else -> break
	od
}
#endif
