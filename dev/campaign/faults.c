// faults.c: a library to be loaded before a program's own (LD_PRELOAD), which lets its n-th call that writes
// to the disk fail, or its n-th call that asks for memory. full_disk.sh and allocations.sh build and use it:
//
//   cc -O1 -fPIC -shared dev/campaign/faults.c -o faults.so -ldl
//
// It reads the environment when the program starts:
//
//   FAULT_KIND   ENOSPC, EDQUOT, EIO: the call fails so; SHORT: half of the bytes are written, and then the
//                disk is full; MEMORY: no memory is given
//   FAULT_AT     which call fails, from 1. All writes from there on fail, as on a disk that is full, while
//                what removes files still works. Of memory only this one call fails. 0: none, to count them
//   FAULT_DIR    calls on files below this directory count, no others
//   FAULT_COUNT  a file that gets the number and the name of the call that failed; where none is to fail,
//                the number of calls, when the program ends
//
// Counted for the disk: open and fopen (that make a file), write, fwrite, fsync, ftruncate, rename, mkdir,
// and renameat2 by way of syscall(). For memory: malloc, calloc, realloc, aligned_alloc, posix_memalign,
// mmap. Programs with ASan have an allocator of their own, so this is for programs without.
#include "shim.h" // defines: real_syscall, shim_watches, shim_note, ...
#include <sys/mman.h>

static long fault_at, calls;
static int fault_error;  // of a disk call that fails; 0: the disk is well
static bool fault_short; // a write takes half of its bytes before the disk is full
static bool fault_memory;
static const char *fault_count;

// Read the environment, at the first call that finds one: libraries ask for memory before any constructor of
// ours runs.
static void fault_begin(void) {
    static bool begun;
    if (begun || !environ) return;
    begun = true;
    const char *kind = getenv("FAULT_KIND"), *at = getenv("FAULT_AT");
    shim_owner = getpid();
    if (!kind || !at) return;
    shim_dir = getenv("FAULT_DIR");
    fault_count = getenv("FAULT_COUNT");
    fault_at = strtol(at, NULL, 10);
    fault_short = !strcmp(kind, "SHORT");
    if (!strcmp(kind, "MEMORY")) fault_memory = true;
    else fault_error = !strcmp(kind, "EDQUOT") ? EDQUOT : !strcmp(kind, "EIO") ? EIO : ENOSPC;
}

// Write the number of calls, and a name, into FAULT_COUNT.
static void fault_note(const char *call) {
    char text[80];
    snprintf(text, sizeof text, "%ld %s\n", calls, call);
    shim_ready();
    if (fault_count) shim_note(fault_count, text, O_TRUNC);
}

__attribute__((destructor)) static void fault_end(void) {
    if (!fault_at && getpid() == shim_owner) fault_note("in all");
}

// Count a call; true if it is the one that fails, or comes after it.
static bool fault_now(const char *call) {
    if (getpid() != shim_owner) return false;
    if (fault_at && calls >= fault_at) return true;
    calls++;
    if (!fault_at || calls < fault_at) return false;
    fault_note(call);
    return true;
}

// True if the call gets no memory, with errno set.
static bool memory_fails(const char *call) {
    fault_begin();
    if (!fault_memory || (fault_at && calls >= fault_at) || !fault_now(call)) return false;
    errno = ENOMEM;
    return true;
}

// ------------------------------------------------------------------------------------------------
// Disk

// A call on a path, or on a descriptor: true if it fails, with errno set.
static bool disk_fails(const char *call, const char *path) {
    fault_begin();
    shim_ready();
    if (!fault_error || !path || !shim_watches(path) || !fault_now(call)) return false;
    errno = fault_error;
    return true;
}

static bool disk_fails_fd(const char *call, int fd) {
    char path[PATH_MAX];
    fault_begin();
    shim_ready();
    return fault_error && shim_watches_fd(path, fd) && disk_fails(call, path);
}

// How many of n bytes a write takes that fails: half of them if this is the call where the disk becomes
// full, and 0 if it is full already.
static size_t short_part(size_t n) {
    static bool full;
    const size_t part = fault_short && !full ? n / 2 : 0;
    full = true;
    return part;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    if (disk_fails_fd("write", fd)) {
        n = short_part(n);
        if (!n) return -1;
    }
    return real_syscall(SYS_write, fd, bytes, n);
}

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *file) {
    if (disk_fails_fd("fwrite", fileno(file))) {
        const size_t part = short_part(size * n);
        if (part) real_fwrite(bytes, 1, part, file);
        fflush(file);
        errno = fault_error;
        return 0;
    }
    return real_fwrite(bytes, size, n, file);
}

FILE *fopen(const char *path, const char *mode) {
    shim_ready();
    if (*mode == 'w' && disk_fails("fopen", path)) return NULL;
    return real_fopen(path, mode);
}

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    shim_ready();
    if (flags & O_CREAT && disk_fails("open", path)) return -1;
    return (int)real_syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int fsync(int fd) {
    if (disk_fails_fd("fsync", fd)) return -1;
    return (int)real_syscall(SYS_fsync, fd);
}

int ftruncate(int fd, off_t size) {
    if (disk_fails_fd("ftruncate", fd)) return -1;
    return (int)real_syscall(SYS_ftruncate, fd, size);
}

int rename(const char *from, const char *to) {
    if (disk_fails("rename", to)) return -1;
    return (int)real_syscall(SYS_rename, from, to);
}

int mkdir(const char *path, mode_t mode) {
    if (disk_fails("mkdir", path)) return -1;
    return (int)real_syscall(SYS_mkdir, path, mode);
}

long syscall(long number, ...) {
    SHIM_ARGUMENTS(a, number);
    shim_ready();
    if (number == SYS_mmap && memory_fails("mmap"))
        return -1; // a program may have an mmap of its own
    if (number == SYS_renameat2 && disk_fails("renameat2", (const char *)(intptr_t)a[3])) return -1;
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// ------------------------------------------------------------------------------------------------
// Memory. glibc's own names for its allocator: dlsym allocates, so it cannot be asked for them.

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) { return memory_fails("malloc") ? NULL : __libc_malloc(n); }

void *calloc(size_t n, size_t size) {
    return memory_fails("calloc") ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) { return memory_fails("realloc") ? NULL : __libc_realloc(p, n); }

void *aligned_alloc(size_t align, size_t n) {
    return memory_fails("aligned_alloc") ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n) {
    if (memory_fails("posix_memalign")) return ENOMEM;
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset) {
    shim_ready();
    if (memory_fails("mmap")) return MAP_FAILED;
    return (void *)real_syscall(SYS_mmap, address, n, protection, flags, fd, offset);
}
