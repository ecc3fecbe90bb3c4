// handle.h -- one binary with all files that belong to it
#ifndef MEMLEAK_SYMBOLIZE_HANDLE_H
#define MEMLEAK_SYMBOLIZE_HANDLE_H

#include "mlsym.h"

#include "names.h"

struct mlsym {
	struct debug_file main, alternate;
	struct debug_file **split; // .dwo files, and the package
	uint32_t splits;
	struct debug_file *package; // one of them; NULL: there is none
	struct section package_index;
	struct names names;
	uint32_t batches; // that were looked up
	uint64_t work_left, index_left;
};

struct section section_of(const struct mlsym_section *from);
void take_sections(mlsym *handle, struct debug_file *file, const struct mlsym_section *sections);

#endif
