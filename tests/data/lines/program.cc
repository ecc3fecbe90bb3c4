// program.cc -- templates, lambdas, anonymous namespaces, local classes, inlined into one another
#include "shapes.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace {

int counter;

struct Hidden {
	virtual ~Hidden() = default;
	virtual int twice(int x) const { return 2 * x + counter; }
};

__attribute__((noinline)) int hidden_sum(const std::vector<int> &values)
{
	int sum = 0;
	for (int value : values)
		sum += value;
	return sum;
}

inline __attribute__((always_inline)) int deep_3(int x) { return x % 7 ? x * counter : counter++; }
inline __attribute__((always_inline)) int deep_2(int x) { return deep_3(x) + deep_3(x + 1); }
inline __attribute__((always_inline)) int deep_1(int x)
{
	int y = deep_2(x);
	if (y > 10)
		y -= deep_2(y);
	return y;
}

} // namespace

__attribute__((noinline)) int local_class(int n)
{
	struct Local {
		int value;
		__attribute__((noinline)) int get() const { return value > 3 ? value * 5 : std::abs(value); }
	};
	auto by = [n](int x) __attribute__((noinline)) { return x + n * counter; };
	Local local{by(n)};
	return local.get() + by(local.value);
}

__attribute__((noinline)) double areas(const double *sides, std::size_t count)
{
	return shapes::fold(sides, count, [](double side) { return shapes::Square<double>{side}.area(); });
}

template <int N> __attribute__((noinline)) int ladder(int x)
{
	if constexpr (N > 0)
		return ladder<N - 1>(x + N) + deep_1(x);
	else
		return x;
}

extern "C" int plain_c(int x);

static std::map<std::string, int> words(int n)
{
	std::map<std::string, int> found;
	for (int i = 0; i < n; i++)
		found["word " + std::to_string(i % 13)] += deep_1(i);
	return found;
}

int main(int argc, char **)
{
	std::vector<int> values(static_cast<std::size_t>(argc) + 3, 4);
	double sides[] = {1.5, 2.5, double(argc)};
	Hidden hidden;
	const Hidden &one = hidden;
	int total = hidden_sum(values) + local_class(argc) + int(areas(sides, 3)) + ladder<4>(argc) + one.twice(argc) + plain_c(argc);
	for (auto &[word, count] : words(argc * 20))
		total += count + int(word.size());
	std::printf("%d\n", total);
}
