/* A definition is not let go on the error path of ALTER TABLE, in a loop of DDL: tarantool/tarantool#10484, 40 MB/s.

   scenario: DDL on a view, error path
   verdict: leak
   rate: 500 * 80000

   scenario: DDL on a view, error path, by 100 KB/s
   arguments: 20 5000
   verdict: leak
   rate: 20 * 5000
   mode: normal

   Every statement makes a new definition with a reference of its own. That of a table takes the place of the old one, which
   is unreferenced. A view cannot be altered: the statement fails, and its definition keeps the reference. */

#include "pace.h"
#include <string.h>

struct definition {
    int references;
    int is_view;
    char fields[];
};

static size_t definition_size = 80000;

static struct definition *definition_new(int is_view) {
    struct definition *made = malloc(definition_size); /* blamed */
    made->references = 1;
    made->is_view = is_view;
    return made;
}

static void definition_unref(struct definition *definition) {
    if (--definition->references == 0)
        free(definition);
}

static int alter(struct definition **space) {
    struct definition *made = definition_new((*space)->is_view);
    if (made->is_view)
        return -1; /* the bug: no definition_unref(made) */
    definition_unref(*space);
    *space = made;
    return 0;
}

int main(int argc, char **argv) {
    double per_second = argc > 1 ? atof(argv[1]) : 500;
    if (argc > 2)
        definition_size = (size_t)atol(argv[2]);
    struct definition *table = definition_new(0), *view = definition_new(1);
    for (long done = 0;;)
        for (long until = due(per_second); done < until; done++) {
            alter(&view);
            alter(&table);
        }
}
