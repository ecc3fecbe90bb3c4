/* plain.c -- C, several statements a line, a macro, a switch, a static function inlined twice */
#define EACH(i, n) for (int i = 0; i < (n); i++)

static int add(int a, int b) { return a > b ? a + b : a - b; }

static int table[16];

int plain_c(int x)
{
	int sum = 0; EACH(i, x) { sum += add(i, x); table[i & 15] = sum; }
	switch (x & 7) {
	case 0: sum += add(sum, 1); break;
	case 1: sum -= 3; break;
	case 2: sum *= 2; /* fall through */
	case 3: sum ^= 5; break;
	case 6: sum += table[x & 15]; break;
	default: sum = add(x, sum);
	}
	return sum;
}
