// big_tls_library.c -- 1.2 KiB of initial-exec thread-local storage
static __thread int numbers[300] __attribute__((tls_model("initial-exec")));

int add(int number)
{
	int sum = 0;
	for (int i = 0; i < 300; i++)
		numbers[i] += number;
	for (int i = 0; i < 300; i++)
		sum += numbers[i];
	return sum;
}
