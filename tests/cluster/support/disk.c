/* A disk that fails: writes and syncs of the audit trail's files fail with the errno that the file named by
   PGPCI_TEST_DISK holds; "sync N" fails syncs alone. All other files are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fault(int fd, int is_sync)
{
    char link[64], path[4096], text[32] = "";
    const char *control = getenv("PGPCI_TEST_DISK");
    FILE *file = control ? fopen(control, "r") : NULL;
    if (!file)
        return 0;
    fgets(text, sizeof text, file);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0)
        return 0;
    path[len] = 0;
    if (!strstr(path, ".pgpci/trail/"))
        return 0;
    if (!strncmp(text, "sync ", 5))
        return is_sync ? atoi(text + 5) : 0;
    return atoi(text);
}

#define FAIL(fd, is_sync) do { int no = fault(fd, is_sync); if (no) { errno = no; return -1; } } while (0)

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwrite64");
    int no = fault(fd, 0);
    /* A full disk takes a part first. */
    if (no == ENOSPC && len > 1)
        real(fd, bytes, len / 2, at);
    if (no) {
        errno = no;
        return -1;
    }
    return real(fd, bytes, len, at);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fdatasync");
    FAIL(fd, 1);
    return real(fd);
}
