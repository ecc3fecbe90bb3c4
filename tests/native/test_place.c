// test_place.c -- where recordings go and what they are called
#include "fixture.h"

#include "place.h"

#include <fcntl.h>

static const char *directory;

static void test_name(void)
{
	struct place place;
	char expected[256];
	CHECK(place_choose(directory, NULL, 0x123456789ABCDEF, 777, &place));
	snprintf(expected, sizeof(expected), "%s/%d-777-0123456789abcdef.mlrec", directory, getpid());
	CHECK(strcmp(place.path, expected) == 0 && place.name == strrchr(place.path, '/') + 1);
	CHECK(fcntl(place.directory_fd, F_GETFD) == FD_CLOEXEC);
	close(place.directory_fd);
	// A runtime directory holds one of ours, made 0700 whatever the umask.
	struct stat about;
	umask(0);
	CHECK(place_choose(NULL, directory, 1, 2, &place));
	snprintf(expected, sizeof(expected), "%s/memleak", directory);
	CHECK(strncmp(place.path, expected, strlen(expected)) == 0 && stat(expected, &about) == 0 && (about.st_mode & 0777) == 0700);
	close(place.directory_fd);
	rmdir(expected);
}

// Not a place for a recording, but for copies of one.
static void test_not_on_tmpfs(void)
{
	char template[] = "/var/tmp/memleak-test-XXXXXX"; // a disk, most often
	const char *disk = mkdtemp(template);
	struct place place;
	CHECK(disk && place_choose(disk, directory, 1, 2, &place));
	bool is_tmpfs = strncmp(place.path, disk, strlen(disk)) == 0;
	CHECK(place.takes_copies == !is_tmpfs && place.asked_why == NULL);
	close(place.directory_fd);
	CHECK(is_tmpfs || strncmp(place.path, directory, strlen(directory)) == 0);
	chmod(disk, 0755);
	CHECK(place_choose(disk, directory, 1, 2, &place) && !place.takes_copies && place.asked_why != NULL);
	close(place.directory_fd);
	rmdir(disk);
	CHECK(place_choose("relative", directory, 1, 2, &place) && !place.takes_copies && place.asked_why != NULL);
	close(place.directory_fd);
}

int main(void)
{
	directory = temporary_directory();
	test_name();
	test_not_on_tmpfs();
	remove_directory(directory);
	return harness_end();
}
