/* Whose threads the kernels run on: GOMP_parallel of the OpenMP library that torch uses, or nobody's. */

#include <stddef.h>

void (*difffx_team)(void (*)(void *), void *, unsigned, unsigned);

void difffx_use_team(void *parallel) { difffx_team = (void (*)(void (*)(void *), void *, unsigned, unsigned))parallel; }
