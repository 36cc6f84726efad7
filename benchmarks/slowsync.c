/* A slower disk: preloaded, this adds SLOW_SYNC_US microseconds to every fsync and fdatasync of a process. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void nap(void)
{
	const char *told = getenv("SLOW_SYNC_US");
	long us = told ? atol(told) : 0;
	struct timespec left = {us / 1000000, us % 1000000 * 1000};

	if (us > 0)
		while (nanosleep(&left, &left))
			; /* a signal came: sleep for the rest */
}

static int slowly(const char *name, int descriptor)
{
	/* A pointer to an object is no pointer to a function in C, but it is one in POSIX. */
	int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

	nap();
	return sync(descriptor);
}

int fsync(int descriptor)
{
	return slowly("fsync", descriptor);
}

int fdatasync(int descriptor)
{
	return slowly("fdatasync", descriptor);
}
