/* A machine whose disk is slow, or whose clock is off, for the processes that load this library
   (LD_PRELOAD). Both are read from files each time, so that a test changes them while these run:
   TEST_DISK names one with the milliseconds that a flush to disk takes longer, TEST_CLOCK one with
   the milliseconds that the clock is ahead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long read_file(const char *variable)
{
    const char *path = getenv(variable);
    char text[32] = {0};
    if (path == NULL)
        return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

static void wait_for_disk(void)
{
    long ms = read_file("TEST_DISK");
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    while (ms > 0 && nanosleep(&rest, &rest) != 0)
        ;
}

int fdatasync(int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    wait_for_disk();
    return real(file);
}

int fsync(int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    wait_for_disk();
    return real(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (clock == CLOCK_REALTIME && failed == 0) {
        long ms = read_file("TEST_CLOCK");
        long nanoseconds = now->tv_nsec + ms % 1000 * 1000000;
        now->tv_sec += ms / 1000 + nanoseconds / 1000000000;
        now->tv_nsec = nanoseconds % 1000000000;
    }
    return failed;
}
