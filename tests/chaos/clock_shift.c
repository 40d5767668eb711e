/* Shifts the wall clock that Python sees in the process this is preloaded into, by as many milliseconds as the
 * eight bytes of the file $CHAOS_CLOCKS/PID say at that moment. The file is made here, and says zero at first.
 *
 * Only for calls from the interpreter itself: whoever waits in C++ for a point of time waits by the kernel's
 * clock, which nobody shifts, and would wait for the difference besides.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static volatile int64_t *shift_ms;
static uintptr_t interpreter, code_begins, code_ends;

static int find_code(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t begins = object->dlpi_addr + segment->p_vaddr, ends = begins + segment->p_memsz;
        if (segment->p_type == PT_LOAD && begins <= interpreter && interpreter < ends) {
            code_begins = begins, code_ends = ends;
            return 1;
        }
    }
    return 0;
}

static void open_shift(void) {
    const char *folder = getenv("CHAOS_CLOCKS");
    shift_ms = NULL;
    if (folder == NULL) return;
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return;
    if (ftruncate(file, sizeof *shift_ms) == 0) {
        void *mapped = mmap(NULL, sizeof *shift_ms, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) {
            shift_ms = mapped;
            *shift_ms = 0; /* a former process may have had this id */
        }
    }
    close(file);
}

static void find_real(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void begin(void) {
    find_real();
    interpreter = (uintptr_t)dlsym(RTLD_DEFAULT, "Py_GetVersion"); /* in the object that has all of Python */
    if (interpreter == 0 || !dl_iterate_phdr(find_code, NULL)) return;
    open_shift();
    pthread_atfork(NULL, NULL, open_shift); /* a child has a clock of its own */
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    if (real_clock_gettime == NULL) find_real(); /* somebody else's constructor came first */
    int result = real_clock_gettime(clock, found);
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    if (result != 0 || clock != CLOCK_REALTIME || shift_ms == NULL) return result;
    if (caller < code_begins || caller >= code_ends) return result;
    int64_t nanoseconds = found->tv_nsec + *shift_ms % 1000 * 1000000;
    int64_t carried = (nanoseconds >= 1000000000) - (nanoseconds < 0);
    found->tv_sec += *shift_ms / 1000 + carried;
    found->tv_nsec = nanoseconds - carried * 1000000000;
    return result;
}
