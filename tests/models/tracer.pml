/* tracer.pml -- a recording is replaced when nobody writes to it; a forked child does not write to its parent's
 *
 * Code:      native/src/tracer_gate.c and .h (tracer_enter(), tracer_leave(), tracer_all_left()), tracer_start.c, tracer.c
 *            (tracer_moving()), tracer_child.c (detach(), open_own()), turn.c; begin() of startup.c.
 * Shows:     who is inside sees one recording, which is not being replaced, and after a stop that did not give up waiting
 *            nobody writes. What realloc() took out of one recording is not accounted for in another. A
 *            child by fork, at whatever moment of its parent's other threads, writes to no recording but its own,
 *            opens that once, and is not kept from it by threads that it does not have. What a child of the child goes by,
 *            the word in the page that the kernel zeroes, is the one that is set.
 * Abstracts: waits for who is inside end at any time, as if the thread were stopped. The two places where threads
 *            are counted stand for 32. Sampled code is two steps. A signal handler that forks inside sampled code, and
 *            returns from there in the child, is left out. Nothing of the tables is here but whose they are.
 *
 * SEARCH assertion -DMUTATORS=2 -DROUNDS=2
 * SEARCH assertion -DMUTATORS=1 -DROUNDS=1 -DFORK=1
 * SEARCH assertion -DMUTATORS=1 -DROUNDS=1 -DFORK=2
 * MUTANT LOOK_FIRST assertion: a thread looks whether it may enter, and counts itself then
 * MUTANT NO_WAIT assertion: a recording is replaced without waiting for who is inside
 * MUTANT ARMED_EARLY assertion: a restart says that it is recording before the new recording is there
 * MUTANT ANY_RECORDING assertion: realloc() does not compare the number of the recording
 * MUTANT NOT_WIPED assertion -DFORK=1: the page is not zeroed in a child
 * MUTANT NO_TURN assertion: a child's recording is opened without the turn
 * MUTANT DETACH_ANYTIME assertion: a child's counters are detached without the turn
 * MUTANT COUNTS_BEFORE_START assertion: threads are counted before there is the page that the kernel zeroes
 * MUTANT WIPED_FIRST assertion -DFORK=2: threads find their new page before they find its word
 * WITNESS REPLACED: a second recording is written to
 * WITNESS STOP_GAVE_UP: a thread writes to a recording that was stopped
 * WITNESS REFUSED: a start gives up because a thread stays inside
 * WITNESS CHILD_RECORDS -DFORK=1: a child writes to its own recording
 * WITNESS BETWEEN: realloc() ends in another recording than it began in
 */
#define IDLE 0
#define ACTIVE 1
#define STOPPED 2

#define NEVER 0 /* never_started */
#define PAGE 1  /* zeroed at a fork */

/* Private memory: a child has its copy. */
byte phase = IDLE;
byte wiped = NEVER, armed = NEVER; /* which page; of which page it is the word */
byte word[2] = { 1, 0 };
byte inside[4];  /* 2 * page + shard */
byte turn;       /* pid of who has it */
byte number;     /* recording.number */
bool detached;

/* For the assertions. */
byte process = 1; /* that is looked at: 1, then its child 2 */
byte opened_by;  /* the open recording */
bool opening;    /* it is being replaced */
bool frozen;     /* stopped, and waited for all to leave */
byte really_inside; /* threads that this process has */
byte gone;       /* threads that have ended, or were not taken along in a fork */
byte counters;   /* of pid 1, 2; 0: private memory */

#define FORKED (phase == ACTIVE && word[armed] == 0)

inline is_armed(yes)
{
	i = armed;
	atomic { yes = word[i] != 0; i = 0 }
	if
	:: yes -> yes = phase == ACTIVE
	:: else
	fi
}

/* enter(), by a thread of a shard. page = 255: not recording. */
inline enter()
{
#ifdef COUNTS_BEFORE_START
	yes = true;
#else
	is_armed(yes);
#endif
	if
	:: yes ->
		page = wiped;
#ifdef LOOK_FIRST
		is_armed(yes);
		atomic { inside[2 * page + shard]++; really_inside++ }
#else
		atomic { inside[2 * page + shard]++; really_inside++ }
		is_armed(yes);
#endif
		if
		:: yes
		:: else -> leave()
		fi
	:: else -> page = 255
	fi
}

inline leave() { atomic { inside[2 * page + shard]--; really_inside--; page = 255 } }

/* Sampled code: something is written to the recording. */
inline write()
{
	mine = number;
	atomic { assert(!opening && number == mine && opened_by == process && counters == process && !frozen) }
#ifdef CHILD_RECORDS
	assert(process == 1);
#endif
#ifdef REPLACED
	assert(number < 2);
#endif
#ifdef STOP_GAVE_UP
	assert(phase != STOPPED);
#endif
	atomic { assert(!opening && number == mine && opened_by == process && counters == process && !frozen); mine = 0 }
}

/* all_left(): gave_up, did it? */
inline all_left()
{
	i = 2 * PAGE;
	gave_up = false;
	do
	:: i < 4 && inside[i] == 0 -> i++
	:: atomic { i < 4 && inside[i] > 0 -> assert(really_inside > 0); gave_up = true }
		break
	:: else -> break
	od;
	i = 0
}

/* recording_open(), and what stands beside it */
inline recording_open()
{
	atomic { assert(!opening); opening = true }
	atomic { number++; opened_by = process; frozen = false }
	counters = process; /* stats_attach() */
	opening = false
}

inline tracer_start(started)
{
	started = true;
	if
	:: wiped == NEVER ->
#ifdef WIPED_FIRST
		wiped = PAGE;
		armed = PAGE
#else
		armed = PAGE;
		wiped = PAGE
#endif
	:: else ->
#ifndef NO_WAIT
		all_left();
		started = !gave_up
#ifdef REFUSED
		; assert(started)
#endif
#endif
	fi;
	if
	:: started ->
#ifdef ARMED_EARLY
		phase = ACTIVE;
#endif
		recording_open();
		phase = ACTIVE;
		atomic { word[armed] = 1; assert(armed == PAGE) }
	:: else
	fi
}

/* tracer_stop(MLF_STATE_STOPPED) */
inline tracer_stop()
{
	is_armed(yes); /* tracer_is_recording() */
	phase = STOPPED;
	if
	:: yes -> all_left();
		atomic {
			frozen = !gave_up;
			gave_up = false
		}
	:: else
	fi
}

inline turn_take() { atomic { turn != process -> turn = process } }

inline detach()
{
	if
	:: FORKED && !detached ->
		counters = 0;
		detached = true
	:: else
	fi
}

/* open_own(), with the turn */
inline open_own()
{
	if
	:: FORKED ->
		assert(opened_by != process);
		detach();
		tracer_start(started);
		if
		:: !started -> phase = STOPPED
		:: else
		fi
	:: else
	fi
}

/* note_child_calls() */
inline note_child_calls()
{
	if
	:: !detached ->
#ifdef DETACH_ANYTIME
		detach()
#else
		if
		:: atomic { turn != process -> turn = process } /* turn_try() */
			detach();
			turn = 0
		:: else
		fi
#endif
	:: else
	fi;
	/* enough calls were made, or not yet */
	if
	:: FORKED ->
#ifdef NO_TURN
		open_own()
#else
		if
		:: atomic { turn != process -> turn = process }
			open_own();
			turn = 0
		:: else
		fi
#endif
	:: true
	fi
}

#define LOCALS byte page = 255, mine = 0, i = 0, taken = 0; bool yes = false, gave_up = false, started = false
#define SHARD byte shard = _pid & 1

/* One sampled call: malloc(), free(), or a realloc() of a sample. */
inline call()
{
	enter();
	if
	:: page != 255 ->
		write();
		if
		:: leave()
		:: taken = number; /* tracer_moving() */
			leave();
			enter(); /* tracer_moved(), after the real realloc() */
			if
			:: page != 255 ->
				/* is_of_now() */
				if
#ifdef ANY_RECORDING
				:: true -> assert(taken == number)
#else
				:: taken == number -> assert(taken == number); write()
				:: taken != number
#endif
#ifdef BETWEEN
					-> assert(false)
#endif
				fi;
				leave()
			:: else
			fi
		fi;
		taken = 0
	:: else ->
		/* take_unarmed() */
		if
		:: phase == ACTIVE && word[armed] == 0 -> note_child_calls()
		:: else
		fi
	fi
}

/* startup_begin(), of which tracer_await_child() is the first half */
inline start()
{
	if
	:: FORKED -> turn_take(); open_own(); turn = 0
	:: else
	fi;
	turn_take();
	is_armed(yes);
	if
	:: yes
	:: else ->
		if
		:: FORKED -> tracer_stop()
		:: else
		fi;
		tracer_start(started)
	fi;
	turn = 0
}

inline stop() { turn_take(); tracer_stop(); turn = 0 }

/* What a fork leaves of a parent's threads. */
#ifdef FORK
#define UNTIL_FORKED unless { atomic { process == 2 -> page = 255; mine = 0; i = 0; taken = 0; yes = false; gave_up = false; started = false; gone++ } }
#else
#define UNTIL_FORKED
#endif

active [MUTATORS] proctype mutator()
{
	LOCALS; SHARD; byte rounds = 0;
	{
		do
		:: rounds < ROUNDS -> rounds++; call()
		:: else -> break
		od;
		gone++
	} UNTIL_FORKED
}

active proctype controller()
{
	LOCALS; SHARD;
#ifdef FORK
	{ start(); stop(); start(); gone++ } UNTIL_FORKED
#else
	start(); stop(); start(); stop()
#endif
}

#ifdef FORK
proctype thread_of_child() { LOCALS; SHARD; call() }

active proctype forking_thread()
{
	LOCALS; SHARD;
	atomic {
		process = 2;
#ifndef NOT_WIPED
		word[PAGE] = 0;
		inside[2] = 0;
		inside[3] = 0;
		detached = false;
#endif
		opening = false;
		really_inside = 0
	}
	gone == MUTATORS + 1;
	run thread_of_child();
#if FORK == 1
	call();
	call()
#else
	start();
	stop();
	start();
	call()
#endif
}
#endif
