/* A PKCS#11 module that goes wrong at its first real call: built by the tests with -DCRASH or -DHANG. */
#include <unistd.h>

struct functions {
    unsigned char major, minor;
    unsigned long (*functions[68])(void);
};

static unsigned long not_supported(void) { return 0x54; }

static unsigned long initialize(void)
{
#ifdef CRASH
    *(volatile int *)0 = 1;
#endif
#ifdef HANG
    for (;;)
        pause();
#endif
    return 0;
}

unsigned long C_GetFunctionList(struct functions **list)
{
    static struct functions all = {2, 40, {initialize}};
    for (int i = 1; i < 68; i++)
        all.functions[i] = not_supported;
    *list = &all;
    return 0;
}
