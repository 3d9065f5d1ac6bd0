#include "client/libcoffer/gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SHUT, OPEN };

_Static_assert(sizeof(atomic_uint) == sizeof(uint32_t), "the kernel waits on 32 bits");

void gate_open(struct gate *gate)
{
    atomic_store_explicit(&gate->open, OPEN, memory_order_release);
}

void gate_wake(const struct gate *gate)
{
    (void) syscall(SYS_futex, &gate->open, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

bool gate_wait(struct gate *gate, int64_t deadline_us)
{
    const struct timespec until = {.tv_sec = deadline_us / 1000000, .tv_nsec = deadline_us % 1000000 * 1000};
    while (atomic_load_explicit(&gate->open, memory_order_acquire) == SHUT) {
        if (syscall(SYS_futex, &gate->open, FUTEX_WAIT_BITSET_PRIVATE, SHUT, &until, NULL,
                    FUTEX_BITSET_MATCH_ANY) != 0 &&
            errno == ETIMEDOUT) {
            return atomic_load_explicit(&gate->open, memory_order_acquire) == OPEN;
        }
    }
    return true;
}
