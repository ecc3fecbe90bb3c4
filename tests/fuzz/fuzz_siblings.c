// fuzz_siblings.c -- a directory of files with any name and content: only dead recordings are ever removed from it
//
// Input, for each file: length of the name (1 byte), length of its content (1), how it is made (1), name, content.
// fuzz: with siblings memory clock stats
#include "memleak_format.h"
#include "siblings.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char directory[] = "/dev/shm/memleak-fuzz-XXXXXX";
static int directory_fd;
static char own_name[80]; // of a recording whose process lives

static void remove_it(void)
{
	DIR *listing = fdopendir(openat(directory_fd, ".", O_RDONLY | O_DIRECTORY));
	for (struct dirent *entry; listing && (entry = readdir(listing));)
		if (unlinkat(directory_fd, entry->d_name, 0) != 0)
			unlinkat(directory_fd, entry->d_name, AT_REMOVEDIR);
	if (listing)
		closedir(listing);
}

static void end(void)
{
	remove_it();
	rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	if (!mkdtemp(directory) || (directory_fd = open(directory, O_RDONLY | O_DIRECTORY)) < 0)
		exit(77);
	atexit(end);
	snprintf(own_name, sizeof(own_name), "%d-%lu-00000000000000aa.mlrec", getpid(), siblings_process_start_ticks((uint32_t)getpid()));
	return 0;
}

static bool is_there(const char *name)
{
	struct stat about;
	return fstatat(directory_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make(const char *name, unsigned how, const uint8_t *content, size_t bytes)
{
	if (how % 8 == 0)
		(void)!symlinkat(own_name, directory_fd, name);
	else if (how % 8 == 1)
		mkdirat(directory_fd, name, 0700);
	else if (how % 8 == 2)
		mkfifoat(directory_fd, name, 0600);
	else if (how % 8 == 3)
		(void)!linkat(directory_fd, own_name, directory_fd, name, 0);
	else {
		int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
		(void)!write(fd, content, bytes);
		// Of any size, and sparse.
		(void)!ftruncate(fd, (off_t)(how >> 3) << 12);
		close(fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char names[32][80];
	unsigned count = 0;
	struct mlf_header header = {.magic = MLF_MAGIC, .state = MLF_STATE_RECORDING, .pid_namespace = siblings_pid_namespace()};
	make(own_name, 4 + 8, (const uint8_t *)&header, sizeof(header));
	while (bytes > 3 && count < ARRAY_LEN(names)) {
		size_t name_bytes = data[0] % 70, content_bytes = data[1];
		unsigned how = data[2];
		data += 3, bytes -= 3;
		if (name_bytes + content_bytes > bytes)
			break;
		memcpy(names[count], data, name_bytes);
		names[count][name_bytes] = 0;
		if (names[count][0] && !strchr(names[count], '/') && !is_there(names[count])) {
			make(names[count], how, data + name_bytes, content_bytes);
			count += is_there(names[count]);
		}
		data += name_bytes + content_bytes;
		bytes -= name_bytes + content_bytes;
	}
	siblings_prune(directory_fd);
	siblings_have_room(directory_fd, 1 << 20);
	if (!is_there(own_name))
		abort();
	for (unsigned i = 0; i < count; i++) {
		size_t length = strlen(names[i]);
		if (!is_there(names[i]) && (length < 6 || strcmp(names[i] + length - 6, ".mlrec") != 0))
			abort();
	}
	siblings_prune_copies(directory_fd);
	remove_it();
	return 0;
}
