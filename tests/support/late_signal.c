#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A process that gets SIGUSR1 at the moment when its child is gone and the number of it is free again (LD_PRELOAD), and that
 * says so if it then sends something to that number.
 */

static volatile pid_t gone;

/* libc's names: what is loaded first answers. */
#define IN_PLACE_OF(name) __asm__(name) __attribute__((visibility("default")))
pid_t late_waitpid(pid_t pid, int *status, int options) IN_PLACE_OF("waitpid");
int late_kill(pid_t pid, int number) IN_PLACE_OF("kill");

pid_t late_waitpid(pid_t pid, int *status, int options)
{
    const pid_t ended = (pid_t) syscall(SYS_wait4, pid, status, options, NULL);
    if (ended > 0) {
        gone = ended;
        (void) syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
    }
    return ended;
}

int late_kill(pid_t pid, int number)
{
    static const char said[] = "a signal is sent to a number that is free\n";
    if (pid == gone) {
        (void) !write(STDERR_FILENO, said, strlen(said));
    }
    return (int) syscall(SYS_kill, pid, number);
}
