// handle.c -- opening and closing a binary, and what it learned
//
// Proof: tests/unit/test_symbolize_engine.py, tests/unit/test_symbolize_index.py
#include "handle.h"

#include "index.h"

#include <stdlib.h>

#define INDEX_BYTES_MOST (1U << 28) // of all units: a gigabyte of debug information takes a tenth of it

struct section section_of(const struct mlsym_section *from)
{
	return (struct section){.fd = from->fd, .offset = from->offset, .size = from->size, .memory = from->memory};
}

void take_sections(mlsym *handle, struct debug_file *file, const struct mlsym_section *sections)
{
	*file = (struct debug_file){.work_left = &handle->work_left, .index_left = &handle->index_left};
	_Static_assert(MLSYM_SECTIONS == SECTION_COUNT, "the order in mlsym.h is that of enum section_id");
	for (unsigned i = 0; i < SECTION_COUNT; i++)
		file->section[i] = section_of(&sections[i]);
}

mlsym *mlsym_open(const struct mlsym_section *sections)
{
	struct mlsym *handle = calloc(1, sizeof(*handle));
	if (!handle)
		return NULL;
	handle->index_left = INDEX_BYTES_MOST;
	take_sections(handle, &handle->main, sections);
	return handle;
}

int mlsym_attach_alternate(mlsym *handle, const struct mlsym_section *sections)
{
	if (handle->main.alternate)
		return -1;
	take_sections(handle, &handle->alternate, sections);
	handle->main.alternate = &handle->alternate;
	return 0;
}

void mlsym_begin_in_file_0(mlsym *handle) { handle->main.begins_in_file_0 = true; }

uint32_t mlsym_learned_units(const mlsym *handle) { return index_units(&handle->main); }

unsigned char *mlsym_export(const mlsym *handle, uint64_t *bytes) { return index_export(&handle->main, bytes); }

void mlsym_import(mlsym *handle, const unsigned char *bytes, uint64_t count)
{
	index_import(&handle->main, (struct bytes){bytes, bytes + count, false});
}

void mlsym_free(unsigned char *exported) { free(exported); }

void mlsym_close(mlsym *handle)
{
	if (!handle)
		return;
	for (uint32_t i = 0; i < handle->splits; i++) {
		debug_file_close(handle->split[i]);
		free(handle->split[i]);
	}
	free(handle->split);
	section_close(&handle->package_index);
	names_free(&handle->names);
	debug_file_close(&handle->main);
	debug_file_close(&handle->alternate);
	free(handle);
}
