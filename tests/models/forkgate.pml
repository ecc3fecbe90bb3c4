/* forkgate.pml -- no thread of ours looks at the loader's list while the process forks
 *
 * Code:      native/src/objects.c; objects_before_fork() and objects_after_fork() are handlers of pthread_atfork().
 * Shows:     at the moment of a fork no other thread of ours is in see(). One may have the loader's lock then in one window
 *            only: it had waited for the lock when the fork stopped waiting for it, or it is the one that waits for a
 *            lock that may be lost; and it gives the lock back without a look. Every fork goes ahead, whatever the
 *            forking thread has locked; nobody is stuck.
 * Abstracts: a pause ends at any time. A limited wait ends without what it waits for only while all whom it waits for
 *            wait themselves: a thread that runs is done within 50 ms, and within ten seconds with the lock. Forks that take
 *            two seconds, after which objects_each() walks come what may, are left out, as its walks by a thread that
 *            forks while another does; and so is the pid in each word: a child finds them to be zero. A mutex of the program's is held over walks and wanted by another
 *            handler of its own, before ours or after; never by who has the loader's lock, which would be the program's
 *            own deadlock.
 *
 * SEARCH assertion -DFORKERS=1 -DWALKERS=1 -DCHORES=1
 * SEARCH assertion -DFORKERS=1 -DWALKERS=2 -DCHORES=0
 * SEARCH assertion -DFORKERS=2 -DWALKERS=0 -DCHORES=0
 * MUTANT NO_LOOK assertion: a walk begins though another thread forks
 * MUTANT LOOKS_FIRST assertion: a walk looks whether another thread forks, and counts itself then
 * MUTANT KEEPS_LOCK assertion: a lock that comes during a fork is used
 * MUTANT HOLDERS_IGNORED assertion: a fork does not wait for threads that have the lock
 * MUTANT NO_LIMIT assertion: a fork waits without a limit for threads that want the lock
 * MUTANT LAST_FORKER assertion -DFORKERS=2: who began to fork last may walk, though others fork or it has forked
 * WITNESS IN_WINDOW: a thread of ours has the lock at a fork
 * WITNESS PUT_OFF: the lock comes during a fork, and is given back
 * WITNESS GAVE_UP: a fork stops waiting for a thread that wants the lock
 * WITNESS FORK_WITH_LOCK: the forking thread has the loader's lock
 */
#define NOBODY 255
#define TRIES 2 /* WAITS of enter() */
#define THREADS 5

byte entered, holding, forking;
byte forker = NOBODY;

byte lock = NOBODY; /* the loader's, of dl_iterate_phdr() */
byte depth;         /* of it: it is recursive */
byte mutex = NOBODY; /* the program's */

/* For the assertions, by thread. */
bool sees[THREADS];           /* is in see() */
bool wants_lock[THREADS];     /* waits for the lock, counted in entered */
bool waited_through[THREADS]; /* a fork stopped waiting for it */
bool walks[THREADS];          /* wants or has the lock for a walk */
bool uncounted[THREADS];      /* is in objects_wait_for_lock() */

inline lock_loader() { atomic { lock == NOBODY || lock == _pid -> lock = _pid; depth++ } }

inline unlock_loader()
{
	atomic {
		depth--;
		if
		:: depth == 0 -> lock = NOBODY
		:: else
		fi
	}
}

inline another_forks(yes)
{
#ifdef LAST_FORKER
	yes = forking > 0;
	if
	:: yes -> yes = forker != _pid
	:: else
	fi
#else
	forks = forking;
	yes = forks > (forker == _pid -> 1 : 0);
	forks = 0
#endif
}

/* walk_now(), with see_listed() */
inline walk_now(put_off)
{
	walks[_pid] = true;
	atomic { lock == NOBODY || lock == _pid -> lock = _pid; depth++; wants_lock[_pid] = false }
	holding++;
	another_forks(put_off);
#ifdef PUT_OFF
	assert(!put_off);
#endif
#ifdef KEEPS_LOCK
	put_off = false;
#endif
	if
	:: !put_off -> sees[_pid] = true; sees[_pid] = false
	:: else
	fi;
	atomic { unlock_loader(); walks[_pid] = false; waited_through[_pid] = false }
	holding--
}

/* objects_try_each() */
inline try_each()
{
	tries = 0;
	walked = false;
	do
	:: !walked && tries < TRIES -> /* enter() */
		tries++;
#ifdef LOOKS_FIRST
		another_forks(put_off);
		if
		:: !put_off -> entered++
		:: else
		fi;
#else
		entered++;
		another_forks(put_off);
#endif
#ifdef NO_LOOK
		put_off = false;
#endif
		if
#ifndef LOOKS_FIRST
		:: put_off ->
			entered--; /* and pause_briefly() */
			if
			:: forker == _pid -> tries = TRIES /* this_thread_forks() */
			:: else
			fi
#endif
		:: !put_off ->
			wants_lock[_pid] = true;
			walk_now(put_off);
			entered--;
			walked = true
#ifdef LOOKS_FIRST
		:: put_off
#endif
		fi
	:: else -> break
	od;
	atomic { tries = 0; walked = false; put_off = false }
}

/* All that a fork waits for wait themselves, and not for one of ours. */
#define STUCK(i) (wants_lock[i] && lock != NOBODY && lock != i && !walks[lock])
#define ALL_STUCK (entered == STUCK(0) + STUCK(1) + STUCK(2) + STUCK(3) + STUCK(4))
#define PASS(i) waited_through[i] = waited_through[i] || STUCK(i)

inline before_fork()
{
	forker = _pid;
	forking++;
	if
	:: entered == 0
#ifndef NO_LIMIT
	:: atomic { entered > 0 && ALL_STUCK ->
		PASS(0); PASS(1); PASS(2); PASS(3); PASS(4) }
#ifdef GAVE_UP
		assert(false)
#endif
#endif
	fi;
#ifndef HOLDERS_IGNORED
	holding == 0
#endif
}

inline after_fork()
{
#ifndef LAST_FORKER
	if
	:: atomic { forker == _pid -> forker = NOBODY } /* cas_seq_cst() */
	:: else
	fi;
#endif
	forking--
}

inline fork_now()
{
	atomic {
		assert(!sees[0] && !sees[1] && !sees[2] && !sees[3] && !sees[4]);
		if
		:: lock != NOBODY && lock != _pid && walks[lock] -> assert(waited_through[lock] || uncounted[lock])
#ifdef IN_WINDOW
			; assert(false)
#endif
		:: else
		fi
#ifdef FORK_WITH_LOCK
		; assert(lock != _pid)
#endif
	}
}

#define LOCALS byte tries = 0, forks = 0; bool put_off = false, walked = false

active [FORKERS] proctype forking_thread()
{
	LOCALS;
	if
	:: lock_loader(); /* in a constructor, or a callback of the program's own walk */
		before_fork();
		fork_now();
		after_fork();
		unlock_loader()
	:: before_fork();
		try_each(); /* another handler, called after ours, asks for a symbol */
		fork_now();
		after_fork()
	:: before_fork();
		atomic { mutex == NOBODY -> mutex = _pid };
		fork_now();
		mutex = NOBODY;
		after_fork()
	:: atomic { mutex == NOBODY -> mutex = _pid };
		before_fork();
		fork_now();
		after_fork();
		mutex = NOBODY
	fi;
	try_each()
}

#if WALKERS
active [WALKERS] proctype walker()
{
	LOCALS;
	if
	:: try_each()
	:: atomic { mutex == NOBODY -> mutex = _pid };
		try_each();
		mutex = NOBODY
	fi
}
#endif

#if CHORES
active proctype chores() /* objects_wait_for_lock() */
{
	LOCALS;
	uncounted[_pid] = true;
	do
	:: walk_now(put_off);
		if
		:: put_off
		:: else -> break
		fi
	od;
	uncounted[_pid] = false
}
#endif

active proctype loading_thread() /* dlopen() */
{
	lock_loader();
	unlock_loader()
}
