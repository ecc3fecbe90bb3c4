// sampler.c -- when: draw gaps, keep the countdowns, weigh the sample
//
// Context:   sampled (the slow path of sampler_pass_hot, at least once per 64 calls of a thread).
// Invariant: an allocation's probability of being sampled is exactly 1/weight under the law in
//            force on its thread, whatever was drawn before.
// Why:       fixed point throughout: floating point inside malloc would raise the program's FP
//            exception flags, and trap under feenableexcept().
// Proof:     tests/native/test_sampler.c; tests/statistical/test_sampler_bias.py; end to end
//            tests/integration/test_sampled_programs.py
#include "sampler.h"

_Thread_local struct sampler sampler_self __attribute__((tls_model("initial-exec")));

struct sampler_focus sampler_focus;

static uint64_t global_seed = 0x6D656D6C65616B00ULL; // replaced by sampler_seed()
static uint64_t threads_seen;

static uint64_t mix(uint64_t x) // the finaliser of splitmix64
{
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
	x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
	return x ^ x >> 31;
}

void sampler_seed(uint64_t seed)
{
	store_relaxed(&global_seed, seed);
	store_relaxed(&threads_seen, 0);
}

uint64_t sampler_random(void) // splitmix64
{
	struct sampler *self = &sampler_self;
	self->random += MLF_CHECK_1;
	return mix(self->random);
}

// ---- fixed point -------------------------------------------------------------------------------

#define Q32(x) ((uint64_t)((x) * 4294967296.0))

static uint64_t mul_q32(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 32); }

// exp(-z) for z in [0, 0.0434): four terms, error below 1.4e-9 (z^5/120).
static uint64_t exp_neg_small_q32(uint64_t z)
{
	uint64_t z2 = mul_q32(z, z), z3 = mul_q32(z2, z), z4 = mul_q32(z3, z);
	return Q32(1.0) - z + z2 / 2 - z3 / 6 + z4 / 24;
}

uint32_t sampler_exp_neg_q32(uint64_t x)
{
	// 2^(-i/16)
	static const uint64_t table[16] = {
	    Q32(1.0),          Q32(0.957603280698574), Q32(0.917004043204671), Q32(0.878126080186650),
	    Q32(0.840896415253715), Q32(0.805245165974627), Q32(0.771105412703970), Q32(0.738413072969750),
	    Q32(0.707106781186548), Q32(0.677127773468446), Q32(0.648419777325505), Q32(0.620928906036742),
	    Q32(0.594603557501361), Q32(0.569394317378345), Q32(0.545253866332629), Q32(0.522136891213707),
	};
	if (x >= Q32(23.0))
		return 0; // exp(-23) < 2^-33
	uint64_t halvings = mul_q32(x, Q32(1.4426950408889634)); // log2(e)
	uint64_t whole = halvings >> 32, sixteenth = (halvings >> 28) & 15, rest = halvings & 0x0FFFFFFF;
	uint64_t value = mul_q32(table[sixteenth], exp_neg_small_q32(mul_q32(rest, Q32(0.6931471805599453))));
	value >>= whole;
	return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

// -log2(u / 2^64) in Q32 for u in [1, 2^64).
static uint64_t neg_log2_q32(uint64_t u)
{
	// log2(1 + i/16)
	static const uint64_t table[16] = {
	    0,                 Q32(0.087462841250339), Q32(0.169925001442312), Q32(0.247927513443585),
	    Q32(0.321928094887362), Q32(0.392317422778760), Q32(0.459431618637297), Q32(0.523561956057013),
	    Q32(0.584962500721156), Q32(0.643856189774725), Q32(0.700439718141092), Q32(0.754887502163469),
	    Q32(0.807354922057604), Q32(0.857980995127572), Q32(0.906890595608519), Q32(0.954196310386875),
	};
	unsigned shift = (unsigned)__builtin_clzll(u);
	uint64_t m = u << shift;                        // 1.f with the point after bit 63
	unsigned i = (unsigned)(m >> 59) & 15;          // f in sixteenths
	uint64_t base = (uint64_t)(16 + i) << 59;       // 1 + i/16
	// m/base = 1 + r, r in [0, 1/16): (m - base) / base, in Q32
	uint64_t r = ((m - base) >> 27) / ((uint64_t)(16 + i)) ; // ((m-base) * 2^32) >> 59, over 16+i
	uint64_t r2 = mul_q32(r, r), r3 = mul_q32(r2, r), r4 = mul_q32(r3, r), r5 = mul_q32(r4, r);
	uint64_t ln = r - r2 / 2 + r3 / 3 - r4 / 4 + r5 / 5; // ln(1+r), error below 1e-8
	uint64_t log2_m = table[i] + mul_q32(ln, Q32(1.4426950408889634));
	// log2(u) = 63 - shift + log2_m, so -log2(u/2^64) = 1 + shift - log2_m
	return ((uint64_t)(shift + 1) << 32) - log2_m;
}

uint64_t sampler_exponential(uint64_t mean, uint64_t random)
{
	uint64_t halvings = neg_log2_q32(random | 1);
	uint64_t x_q32 = mul_q32(halvings, Q32(0.6931471805599453)); // ln 2
	unsigned __int128 draw = (unsigned __int128)mean * x_q32 >> 32;
	return draw < UINT64_MAX ? (uint64_t)draw : UINT64_MAX; // the mean comes from outside
}

// ---- laws ----------------------------------------------------------------------------------------

static uint32_t law_min(uint64_t law) { return (uint16_t)law; }
static uint32_t law_max(uint64_t law) { return (uint16_t)(law >> 16); }
static bool law_off(uint64_t law) { return (uint32_t)law == SAMPLER_OFF; }

uint32_t sampler_weight(uint64_t law, uint64_t sample_bytes, size_t size)
{
	if (law_off(law))
		return 0;
	uint64_t sum = law_min(law) + law_max(law);
	if (sum == 2 || size >= SAMPLER_SIZE_ALWAYS)
		return SAMPLER_WEIGHT_ONE;
	uint64_t miss = Q32(1.0) - Q32(1.0) * 2 / sum; // not by count
	if (sample_bytes)
		miss = mul_q32(miss, sampler_exp_neg_q32(((uint64_t)size << 32) / sample_bytes));
	uint64_t hit = Q32(1.0) - miss; // at least 2^32 / 10000
	return (uint32_t)((((uint64_t)SAMPLER_WEIGHT_ONE << 32) + hit / 2) / hit);
}

uint32_t sampler_equilibrium_gap(uint32_t min, uint32_t max, uint64_t random)
{
	// Weights 2R for k = 1..min and 2(R - j) for k = min + j, j = 1..R-1, with R = max - min + 1:
	// P(G >= k) scaled to integers. They add up to (min + max) * R < 2^32.
	uint64_t range = max - min + 1, total = (uint64_t)(min + max) * range;
	uint64_t draw = (uint64_t)((unsigned __int128)random * total >> 64);
	if (draw < 2 * range * min)
		return 1 + (uint32_t)(draw / (2 * range));
	draw -= 2 * range * min;
	// Smallest j with sum_{i<=j} 2(R - i) = j(2R - 1 - j) > draw.
	uint64_t low = 1, high = range - 1;
	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (middle * (2 * range - 1 - middle) > draw)
			high = middle;
		else
			low = middle + 1;
	}
	return min + (uint32_t)low;
}

static uint32_t next_gap(uint64_t law)
{
	uint32_t min = law_min(law), range = law_max(law) - min + 1;
	return min + (uint32_t)((sampler_random() >> 32) * range >> 32);
}

// ---- one thread's countdowns -----------------------------------------------------------------------

static void load_calls(struct sampler *self)
{
	if (unlikely(self->focus)) { // one call a load; 0, not 1, so that sampler_look_hot() passes none of them
		self->calls_loaded = 1;
		self->calls_left = 0;
		return;
	}
	uint32_t to_epoch = SAMPLER_EPOCH_CALLS - self->calls_mod_64;
	uint32_t calls = self->gap_left < to_epoch ? self->gap_left : to_epoch;
	self->calls_loaded = (uint8_t)calls;
	self->calls_left = (int32_t)calls;
}

static void load_bytes(struct sampler *self, uint64_t countdown)
{
	// The hot word stays below the always-size, so that such a request always borrows.
	uint64_t hot = countdown < SAMPLER_SIZE_ALWAYS ? countdown : SAMPLER_SIZE_ALWAYS - 1;
	self->bytes_left = hot;
	self->bytes_rest = countdown == UINT64_MAX ? UINT64_MAX : countdown - hot;
}

static uint64_t new_byte_countdown(const struct sampler *self)
{
	if (self->sample_bytes == 0 || law_off(self->law))
		return UINT64_MAX; // never
	return sampler_exponential(self->sample_bytes, sampler_random());
}

static void adopt(struct sampler *self, uint64_t law, uint64_t sample_bytes)
{
	self->law = law;
	self->sample_bytes = sample_bytes;
	self->gap_left = law_off(law) ? SAMPLER_NO_GAP
				      : (uint16_t)sampler_equilibrium_gap(law_min(law), law_max(law), sampler_random());
	load_bytes(self, new_byte_countdown(self));
}

// Like the knobs at multiples of 64 calls only, whatever was drawn.
static void adopt_focus(struct sampler *self) { self->focus = load_relaxed(&sampler_focus.native) & SAMPLER_FOCUSES; }

static uint32_t asked(const struct sampler *self)
{
	return unlikely(self->focus) && self->focus == load_relaxed(&sampler_focus.native) ? SAMPLER_ASK : 0;
}

static void first_call(struct sampler *self, uint64_t law, uint64_t sample_bytes)
{
	uint64_t number = add_relaxed(&threads_seen, 1); // relaxed: only its distinctness matters
	self->random = mix(load_relaxed(&global_seed) + (number + 1) * MLF_CHECK_2) | 1;
	self->calls_mod_64 = 0;
	adopt(self, law, sample_bytes);
	adopt_focus(self);
	// This very call is the first of the gap just drawn: as if it had been counted down already.
	self->calls_loaded = 1;
	self->calls_left = 0;
}

// The byte rule for one request: true if the countdown ran out within it.
static bool spend_bytes(struct sampler *self, size_t size)
{
	if (likely(size <= self->bytes_left)) {
		self->bytes_left -= size;
		return false;
	}
	uint64_t beyond = size - self->bytes_left;
	if (self->bytes_rest == UINT64_MAX || beyond <= self->bytes_rest) {
		load_bytes(self, self->bytes_rest == UINT64_MAX ? UINT64_MAX : self->bytes_rest - beyond);
		return false;
	}
	load_bytes(self, new_byte_countdown(self)); // memoryless: begins afresh behind this request
	return true;
}

uint32_t sampler_take(size_t size, const uint64_t *interval, const uint64_t *sample_bytes)
{
	struct sampler *self = &sampler_self;
	bool by_calls = self->calls_left <= 0;
	self->looks++;
	if (!by_calls)
		self->bytes_left += size; // undo the borrow of sampler_pass_hot()
	else if (unlikely(self->law == 0))
		first_call(self, load_relaxed(interval), load_relaxed(sample_bytes));

	uint64_t law = self->law, law_bytes = self->sample_bytes;
	uint32_t ask = asked(self);
	bool hit = spend_bytes(self, size) | (size >= SAMPLER_SIZE_ALWAYS);
	if (by_calls) {
		self->calls_mod_64 = (self->calls_mod_64 + self->calls_loaded) % SAMPLER_EPOCH_CALLS;
		if (self->gap_left != SAMPLER_NO_GAP) {
			self->gap_left -= self->calls_loaded;
			if (self->gap_left == 0) {
				hit = true;
				self->gap_left = (uint16_t)next_gap(law);
			}
		}
		// Relaxed: the two words need not be seen together, each call's weight is
		// computed from what this thread adopted.
		if (self->calls_mod_64 == 0 &&
		    (load_relaxed(interval) != law || load_relaxed(sample_bytes) != law_bytes))
			adopt(self, load_relaxed(interval), load_relaxed(sample_bytes));
		if (self->calls_mod_64 == 0)
			adopt_focus(self);
		load_calls(self);
	}
	return ask | (hit ? sampler_weight(law, law_bytes, size) : 0);
}

void sampler_skip(size_t size)
{
	struct sampler *self = &sampler_self;
	self->looks++;
	if (self->calls_left > 0)
		self->bytes_left += size; // else it would stay near 2^64, and no size would ever borrow again
}

void sampler_restart(void)
{
	sampler_self.law = 0;
	sampler_self.calls_left = 0;
	sampler_self.thread = 0;
}
