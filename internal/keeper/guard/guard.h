#ifndef CLIPPER_GUARD_H
#define CLIPPER_GUARD_H

#include <stddef.h>

/* Starts the guard thread. Returns 0 or an errno. The filter must stay allocated. */
int clipper_guard_start(int control, void *filter, unsigned short count, unsigned int flags);

/* Installs the filter on all threads now. Returns 0 or an errno. */
int clipper_guard_install(void *filter, unsigned short count, unsigned int flags);

#endif
