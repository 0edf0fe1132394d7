#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct guard {
	int control;
	unsigned int flags;
	struct sock_fprog program;
};

static int install(struct sock_fprog *program, unsigned int flags)
{
	long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			      flags | SECCOMP_FILTER_FLAG_TSYNC, program);

	if (result < 0)
		return errno;
	/* A positive result is the thread that could not be synchronized. */
	return result > 0 ? EBUSY : 0;
}

/* The thread's privileges survive the change of user that the rest of the process undergoes: that
 * change reaches every thread, but without the fix-up it takes no capabilities from this one. */
static void *guard_main(void *argument)
{
	struct guard *guard = argument;
	int32_t verdict;
	ssize_t n;
	char go;

	do {
		n = read(guard->control, &go, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		return NULL;
	verdict = install(&guard->program, guard->flags);
	do {
		n = write(guard->control, &verdict, sizeof(verdict));
	} while (n < 0 && errno == EINTR);
	return NULL;
}

static void *guard_enter(void *argument)
{
	long bits = prctl(PR_GET_SECUREBITS);

	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
		return NULL; /* the control socket stays silent until it closes: the keeper reports it */
	return guard_main(argument);
}

int clipper_guard_start(int control, void *filter, unsigned short count, unsigned int flags)
{
	struct guard *guard = malloc(sizeof(*guard));
	pthread_t thread;
	sigset_t all, before;
	int err;

	if (!guard)
		return ENOMEM;
	guard->control = control;
	guard->flags = flags;
	guard->program.len = count;
	guard->program.filter = filter;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	err = pthread_create(&thread, NULL, guard_enter, guard);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		pthread_detach(thread);
	return err;
}

int clipper_guard_install(void *filter, unsigned short count, unsigned int flags)
{
	struct sock_fprog program = { .len = count, .filter = filter };

	return install(&program, flags);
}
