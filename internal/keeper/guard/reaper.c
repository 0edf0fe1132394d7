#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first process of a shared process namespace: it reaps what its siblings leave and ends when it is killed. */
__attribute__((constructor)) static void clipper_reaper(void)
{
	sigset_t wanted;
	int signo;

	if (!getenv("_CLIPPER_REAPER"))
		return;
	prctl(PR_SET_NAME, "pause");
	setsid();
	syscall(SYS_close_range, 0, ~0U, 0);
	if (chdir("/"))
		_exit(1);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (sigwait(&wanted, &signo) == 0 && signo != SIGCHLD)
			_exit(0);
	}
}
