// shapes.h -- what is inlined from a header
#pragma once
#include <cstddef>

namespace shapes {

template <typename T> struct Square {
	T side;
	T area() const { return side * side + bias(side); }
	static inline __attribute__((always_inline)) T bias(T of) { return of > 100 ? of / 3 : of + 1; }
};

template <typename T, typename F> inline T fold(const T *values, std::size_t count, F f)
{
	T sum = 0;
	for (std::size_t i = 0; i < count; i++)
		sum += f(values[i]);
	return sum;
}

} // namespace shapes
