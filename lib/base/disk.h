// disk.h: the system calls that write, each with its errors told, and a hook for tests. From top to
// bottom: the calls; a file that appears whole or not at all; folders; the checksum of a file.
#ifndef DISK_H
#define DISK_H

#include "common.h" // defines: Text, die, path_join
#include <dirent.h>
#include <fcntl.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#define st_mtim st_mtimespec // the same under macOS's name
#endif

// ------------------------------------------------------------------------------------------------
// Disk calls. They return -1 with errno set, as the calls below them do: whoever saves has to tidy
// up before it can complain. A test that defines CHECKPOINT_FAULTS makes any one of them fail.

enum { DISK_SHORT = -1 }; // from disk_fault: the call moves only a part of its bytes

#ifdef CHECKPOINT_FAULTS
static int disk_fault(const char *call); // 0, an errno value or DISK_SHORT; it may also _exit
#else
static int disk_fault(const char *call) { return (void)call, 0; }
#endif

// True if a test wants this call to fail.
static bool disk_fails(const char *call) {
    int fault = disk_fault(call);
    if (fault > 0) errno = fault;
    return fault > 0;
}

// open with the close-on-exec flag, so that a program that is started by a run inherits nothing.
static int disk_open(const char *path, int flags) {
    int fd;
    do fd = disk_fails("open") ? -1 : open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

// Write all of bytes[0..n): the system may take less at a time (never more than 2 GB on Linux).
static int disk_write(int fd, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n > 0) {
        size_t part = n < (size_t)1 << 30 ? n : (size_t)1 << 30;
        int fault = disk_fault("write");
        if (fault == DISK_SHORT) part = (part + 1) / 2;
        if (fault > 0) errno = fault;
        ssize_t done = fault > 0 ? -1 : write(fd, p, part);
        // Interrupted before any byte went out: nothing happened, so ask again. A short write is
        // no error; the rest goes out in the next turn, or tells why it cannot.
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return -1;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

// Read bytes [offset, offset + n); returns how many there were before the end of the file, or -1.
// Never a mapping: the data of real files is not aligned, and a mapped file can shrink under us.
static ssize_t disk_read(int fd, void *bytes, size_t n, uint64_t offset) {
    size_t have = 0;
    while (have < n) {
        size_t part = n - have < (size_t)1 << 30 ? n - have : (size_t)1 << 30;
        int fault = disk_fault("read");
        if (fault == DISK_SHORT) part = (part + 1) / 2;
        if (fault > 0) errno = fault;
        ssize_t k = fault > 0 ? -1 : pread(fd, (char *)bytes + have, part, (off_t)(offset + have));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return -1;
        if (k == 0) break;
        have += (size_t)k;
    }
    return (ssize_t)have;
}

// fsync. Not to be tried again after a failure: the kernel may have dropped the pages by then, and
// the second call would say what is not so. File systems that cannot sync directories say EINVAL.
static int disk_sync(int fd) {
    int result = disk_fails("fsync") ? -1 : fsync(fd);
    return result && errno == EINVAL ? 0 : result;
}

// close. The descriptor is gone even after EINTR, and what counts was synced before.
static int disk_close(int fd) {
    int fails = disk_fails("close"), result = close(fd);
    return (fails || result) && errno != EINTR ? -1 : 0;
}

// mkdir and rename, with the hook.
static int disk_mkdir(const char *path) { return disk_fails("mkdir") ? -1 : mkdir(path, 0777); }

static int disk_rename(const char *from, const char *to) {
    return disk_fails("rename") ? -1 : rename(from, to);
}

// Exchange two names in one step, so that no moment exists in which either is missing. -1 with
// ENOSYS or EINVAL where the system or the file system cannot.
static int disk_swap(const char *a, const char *b) {
    if (disk_fails("swap")) return -1;
#if defined(__linux__) && defined(SYS_renameat2)
    return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2u /* RENAME_EXCHANGE */);
#elif defined(__APPLE__)
    return renamex_np(a, b, RENAME_SWAP);
#else
    errno = ENOSYS;
    return -1;
#endif
}

// Make a directory's entries durable: a rename is on the disk only after this.
static int disk_sync_dir(const char *path) {
    int fd = disk_open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return -1;
    int result = disk_sync(fd), error = errno;
    if (disk_close(fd)) return -1;
    errno = error;
    return result;
}

// "a/b/c" -> "a/b" and "c"; both new strings. Slashes at the end do not count.
static void path_split(const char *path, char **parent, char **name) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t base = n;
    while (base > 0 && path[base - 1] != '/') base--;
    *name = text_format("%.*s", (int)(n - base), path + base);
    *parent = base ? text_format("%.*s", (int)base, path) : text_copy(".");
}

// mkdir -p, each new entry synced: what is saved inside must be reachable after a power failure.
static void disk_make_dirs(const char *path) {
    if (path_is_dir(path)) return;
    char *parent, *name;
    path_split(path, &parent, &name);
    if (strcmp(parent, path)) disk_make_dirs(parent);
    if ((disk_mkdir(path) && errno != EEXIST) || disk_sync_dir(parent))
        die(EXIT_IO, "%s: cannot create: %s", path, strerror(errno));
    free(parent), free(name);
}

// Make the folder that is to hold `path`.
static void disk_make_parent(const char *path) {
    char *parent, *name;
    path_split(path, &parent, &name);
    disk_make_dirs(parent);
    free(parent), free(name);
}

// Open a directory to list it; NULL if it is not there. One that cannot be listed must not count as
// empty, so it ends the program.
static DIR *disk_list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir && errno != ENOENT) die(EXIT_IO, "%s: cannot list: %s", path, strerror(errno));
    return dir;
}

// Delete a file or a directory with all it holds; symbolic links are deleted, not followed.
// What is missing already counts as deleted: a second process may be tidying up, too.
static int disk_remove(const char *path) {
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT ? 0 : -1;
    if (!S_ISDIR(st.st_mode))
        return disk_fails("unlink") || (unlink(path) && errno != ENOENT) ? -1 : 0;
    DIR *dir = opendir(path);
    if (!dir) return errno == ENOENT ? 0 : -1;
    int result = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *child = path_join(path, e->d_name);
        if (disk_remove(child)) result = -1;
        free(child);
    }
    closedir(dir);
    if (disk_fails("rmdir") || (rmdir(path) && errno != ENOENT)) result = -1;
    return result;
}

// ------------------------------------------------------------------------------------------------
// A file that appears under its name whole or not at all: it is written under a hidden name beside it,
// made durable and renamed. After a failure the other calls do nothing; `error` is the errno of the
// first one.

typedef struct {
    char *path, *tmp, *dir;
    int fd, error;
} DiskFile;

// A signal ends the program: without what it was writing.
static void disk_file_stopped(int number) {
    if (stop_file) unlink(stop_file);
    signal(number, SIG_DFL);
    raise(number);
}

// Begin the file `path`; nothing under this name changes until disk_file_end. Where a signal ends the
// program meanwhile, nothing is left of it.
static DiskFile disk_file_begin(const char *path) {
    signal(SIGXFSZ, SIG_IGN); // a limit of file sizes is then an error of write, not the end
    DiskFile f = {.path = text_copy(path), .dir = text_copy(path)};
    char *slash = strrchr(f.dir, '/');
    const char *name = slash ? path + (slash - f.dir) + 1 : path;
    if (slash == f.dir) slash++; // the root keeps its name
    if (slash) *slash = 0;
    else strcpy(f.dir, ".");
    char *hidden = text_format(".tmp-%s-%d", name, (int)getpid());
    f.tmp = path_join(f.dir, hidden);
    free(hidden);
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction now, action = {.sa_handler = disk_file_stopped};
    for (int i = 0; i < COUNT(numbers); i++)
        if (!sigaction(numbers[i], NULL, &now) && now.sa_handler == SIG_DFL)
            sigaction(numbers[i], &action, NULL);
    f.fd = disk_remove(f.tmp) ? -1 : disk_open(f.tmp, O_WRONLY | O_CREAT | O_EXCL);
    if (f.fd < 0) f.error = errno;
    else stop_file = f.tmp;
    return f;
}

// Append n bytes.
static void disk_file_write(DiskFile *f, const void *bytes, size_t n) {
    if (!f->error && disk_write(f->fd, bytes, n)) f->error = errno;
}

// The file is complete: give it its name. Without `keep`, or after a failure, remove what was
// written. Returns 0, or the errno of the first failure.
static int disk_file_end(DiskFile *f, bool keep) {
    if (!f->error && keep && disk_sync(f->fd)) f->error = errno;
    if (f->fd >= 0 && disk_close(f->fd) && !f->error) f->error = errno;
    if (!f->error && keep && (disk_rename(f->tmp, f->path) || disk_sync_dir(f->dir)))
        f->error = errno;
    if (f->error || !keep) disk_remove(f->tmp);
    const int error = f->error;
    if (stop_file == f->tmp) stop_file = NULL;
    free(f->path), free(f->tmp), free(f->dir);
    *f = (DiskFile){.fd = -1};
    return error;
}

// Write n bytes as the file `path`, whole or not at all; dies if it cannot.
static void disk_file_save(const char *path, const void *bytes, size_t n) {
    DiskFile f = disk_file_begin(path);
    disk_file_write(&f, bytes, n);
    const int error = disk_file_end(&f, true);
    if (error) die(EXIT_IO, "%s: cannot write: %s", path, strerror(error));
}

// ------------------------------------------------------------------------------------------------
// Folders of files that are made by programs: what was left half done, what was not used for long.

// Remove what interrupted runs left in `dir`: .tmp-NAME-PID, .trash-NAME-PID and .old-NAME-PID (of
// this name only, if it is not NULL). What had stepped aside as .old goes back if its name is free.
// `locked`: a lock says that no other run is at work here; without one, ask whether PID lives.
static void disk_sweep(const char *dir, const char *only, bool locked) {
    static const char *const kinds[] = {".tmp-", ".trash-", ".old-"};
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        int kind = 0;
        while (kind < 3 && !text_has_prefix(e->d_name, kinds[kind])) kind++;
        if (kind == 3) continue;
        const char *name = e->d_name + strlen(kinds[kind]), *dash = strrchr(name, '-');
        if (!dash || !dash[1] || dash[1 + strspn(dash + 1, "0123456789")]) continue;
        size_t n = (size_t)(dash - name);
        if (only && (strlen(only) != n || strncmp(only, name, n))) continue;
        // Our own number is no sign of life: in a container every run may have the same.
        pid_t pid = (pid_t)strtol(dash + 1, NULL, 10);
        if (!locked && pid != getpid() && (!kill(pid, 0) || errno == EPERM)) continue;
        char *path = path_join(dir, e->d_name), *back = text_format("%s/%.*s", dir, (int)n, name);
        bool done = kind == 2 && !disk_rename(path, back);
        bool keep = kind == 2 && !done && errno != ENOTEMPTY && errno != EEXIST;
        if (!done && (keep || disk_remove(path)))
            warn("%s: cannot tidy up: %s", path, strerror(errno));
        free(path), free(back);
    }
    if (d) closedir(d);
}

// The files of `dir` that are called by a hash (16 digits) and end as `path` does are kept for later runs:
// remove those that were not used for longest until `most` are left; `path` stays.
static void disk_tidy(const char *dir, const char *path, int most) {
    const char *own = strrchr(path, '/') + 1;
    for (int n = most + 1; n > most;) {
        char *oldest = NULL;
        struct timespec since = {0};
        DIR *d = opendir(dir);
        n = 0;
        for (struct dirent *e; d && (e = readdir(d));) {
            if (strspn(e->d_name, "0123456789abcdef") != 16 || strcmp(e->d_name + 16, own + 16))
                continue;
            char *found = path_join(dir, e->d_name);
            struct stat st;
            n++;
            if (strcmp(e->d_name, own) && !stat(found, &st) &&
                (!oldest || st.st_mtim.tv_sec < since.tv_sec ||
                 (st.st_mtim.tv_sec == since.tv_sec && st.st_mtim.tv_nsec < since.tv_nsec))) {
                free(oldest);
                oldest = found, since = st.st_mtim;
            } else free(found);
        }
        if (d) closedir(d);
        if (!oldest || (n > most && disk_remove(oldest))) n = 0; // another time
        free(oldest);
    }
}

// ------------------------------------------------------------------------------------------------
// Checksum of a file, for finding torn and rotten files, not forgers: four lanes of
// rotate-xor-multiply over 8-byte words, 32 bytes a step, so that it runs at memory speed.

typedef struct {
    uint64_t lane[4], size; // size: bytes so far
    unsigned char tail[32]; // bytes that do not fill a block yet
} DiskHash;

// The hash of no bytes.
static DiskHash disk_hash_begin(void) { return (DiskHash){.lane = {1, 2, 3, 4}}; }

// Mix one block into the lanes. Each step can be undone, so no single change can get lost.
static void disk_hash_block(uint64_t lane[4], const unsigned char block[32]) {
    uint64_t word[4];
    memcpy(word, block, 32);
    for (int i = 0; i < 4; i++) {
        uint64_t x = lane[i] ^ word[i];
        lane[i] = (x << 29 | x >> 35) * 0x9E3779B97F4A7C15u; // odd factor: no bit is lost
    }
}

// Add bytes, in pieces of any length.
static void disk_hash_add(DiskHash *h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    while (n > 0 && (h->size % 32 || n < 32)) { // by single bytes to or from a block's border
        h->tail[h->size++ % 32] = *p++;
        n--;
        if (h->size % 32 == 0) disk_hash_block(h->lane, h->tail);
    }
    uint64_t lane[4];
    memcpy(lane, h->lane, sizeof lane); // a local copy can stay in registers
    for (; n >= 32; p += 32, n -= 32, h->size += 32) disk_hash_block(lane, p);
    memcpy(h->lane, lane, sizeof lane);
    if (n) disk_hash_add(h, p, n);
}

// Add all bytes of an open file from `offset` on. False if they cannot be read, with errno set.
static bool disk_hash_file(DiskHash *h, int fd, uint64_t offset) {
    const size_t block = 1 << 20;
    const uint64_t before = h->size;
    char *data = mem_alloc(block, 1);
    ssize_t n;
    while ((n = disk_read(fd, data, block, offset + h->size - before)) > 0)
        disk_hash_add(h, data, (size_t)n);
    const int error = errno;
    free(data);
    errno = error;
    return n == 0;
}

// The checksum of what was added so far; more may follow.
static uint64_t disk_hash_end(const DiskHash *h) {
    unsigned char last[32] = {0};
    memcpy(last, h->tail, h->size % 32);
    uint64_t lane[4], sum = h->size;
    memcpy(lane, h->lane, sizeof lane);
    disk_hash_block(lane, last);
    for (int i = 0; i < 4; i++) sum = rng_mix(sum ^ lane[i]);
    return sum;
}

#endif
