// lost_writes.c: a library to be loaded before a program's own (LD_PRELOAD), which ends the program at its n-th call
// that touches the disk, as a power failure does, and takes from the disk what was never made durable.
// lost_writes.sh builds and uses it:
//
//   cc -O1 -fPIC -shared dev/campaign/lost_writes.c -o lost_writes.so -ldl
//
// What POSIX promises after a crash is little, and this takes all that it does not promise:
//
//   data        of a file that was written and not synced since: it is empty, cut at a random byte, full of
//               zeros from there on, or all there, as chance will have it
//   entries     made, renamed or removed in a directory that was not synced since: they are undone, the
//               last ones first; of those that belong to one directory a random number of the last ones, so
//               that older ones may have reached the disk, as on a file system with a journal
//
// It reads the environment when the program starts:
//
//   LOST_AT      the call at which power fails, from 1; 0: never, to count them
//   LOST_SEED    of what is lost
//   LOST_DIR     calls on this directory and what is below it count, no others
//   LOST_GRAVES  a directory on the same file system, outside of LOST_DIR, where what was removed waits in
//                case that is undone
//   LOST_COUNT   a file that gets the number of calls; after a crash also how many files and entries were lost
//   LOST_SAFE    a file that gets a line for each checkpoint-N that must survive: when its name has become
//                durable, and when the program goes on after it, which the next line of a log shows
//
// Linux with glibc; programs without ASan. A file that is written through stdio counts as written with fwrite.
#include "shim.h" // defines: real_syscall, shim_watches, shim_note, ...

enum { LOST_CODE = 99 }; // the exit code of a program whose power failed

typedef enum { MADE, REMOVED, RENAMED, SWAPPED } LostKind;

// A change of directories that may be undone: of one entry, or of two in one directory.
typedef struct {
    LostKind kind;
    bool durable, is_dir;
    bool safe;          // noted in LOST_SAFE
    char *path, *other; // other: where it was, or the grave of what it replaced or removed
    char *replaced;     // RENAMED: the grave of the file that had the new name, or NULL
    mode_t mode;        // REMOVED: of the directory
} LostEntry;

// A file whose data was written.
typedef struct {
    dev_t device;
    ino_t inode;
    bool dirty;
    off_t durable; // bytes that were there when it was last synced
} LostFile;

static LostEntry entries[1 << 16];
static LostFile files[1 << 14];
static int n_entries, n_files, n_graves;
static long calls, lost_at;
static uint64_t lost_state;
static const char *lost_graves, *lost_count, *lost_safe;
static bool lost_busy; // we are at work ourselves

__attribute__((constructor)) static void lost_begin(void) {
    const char *at = getenv("LOST_AT"), *seed = getenv("LOST_SEED");
    shim_ready();
    shim_owner = getpid();
    shim_dir = getenv("LOST_DIR");
    lost_graves = getenv("LOST_GRAVES"), lost_count = getenv("LOST_COUNT");
    lost_safe = getenv("LOST_SAFE");
    lost_at = at ? strtol(at, NULL, 10) : 0;
    lost_state = seed ? strtoull(seed, NULL, 10) * 2654435761u + 1 : 1;
}

// One of 0 .. n - 1, by xorshift.
static uint64_t lost_random(uint64_t n) {
    lost_state ^= lost_state << 13;
    lost_state ^= lost_state >> 7;
    lost_state ^= lost_state << 17;
    return lost_state % n;
}

static void lost_report(int lost_files, int lost_entries) {
    char text[100];
    snprintf(text, sizeof text, "%ld calls, lost %d files, %d entries\n", calls, lost_files,
             lost_entries);
    if (lost_count) shim_note(lost_count, text, O_TRUNC);
}

__attribute__((destructor)) static void lost_end(void) {
    if (getpid() == shim_owner) lost_report(0, 0);
}

// ------------------------------------------------------------------------------------------------
// The crash

// The length of a path's directory.
static size_t dir_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

// What was below the directory `from` (or is that name) is below `to` from now on: rename it in the first n
// entries. With `swap` also the other way round.
static void entries_moved(int n, const char *from, const char *to, bool swap) {
    const size_t from_n = strlen(from), to_n = strlen(to);
    for (int i = 0; i < n; i++) {
        char **const paths[] = {&entries[i].path, &entries[i].other};
        for (int k = 0; k < 2; k++) {
            char *path = *paths[k], *moved;
            const bool is_from = path && !strncmp(path, from, from_n) && strchr("/", path[from_n]);
            const bool is_to = path && !strncmp(path, to, to_n) && strchr("/", path[to_n]);
            if (!is_from && !(swap && is_to)) continue;
            if (asprintf(&moved, "%s%s", is_from ? to : from, path + (is_from ? from_n : to_n)) < 0)
                abort();
            free(path);
            *paths[k] = moved;
        }
    }
}

// Undo an entry, as far as what came after it lets that be; those before it have the paths of that time again.
static void entry_undo(const LostEntry *e) {
    struct stat st;
    const int at = (int)(e - entries);
    if (e->kind == MADE) {
        // a directory that is not empty had entries that were durable: they go with it
        if (e->is_dir && real_syscall(SYS_rmdir, e->path) && errno == ENOTEMPTY) {
            char grave[PATH_MAX];
            snprintf(grave, sizeof grave, "%s/%d", lost_graves, n_graves++);
            real_syscall(SYS_rename, e->path, grave);
        } else if (!e->is_dir) real_syscall(SYS_unlink, e->path);
    } else if (e->kind == REMOVED) {
        if (e->is_dir) real_syscall(SYS_mkdir, e->path, e->mode);
        else if (stat(e->path, &st)) real_syscall(SYS_rename, e->other, e->path);
    } else if (e->kind == RENAMED) {
        real_syscall(SYS_rename, e->path, e->other);
        entries_moved(at, e->path, e->other, false);
        if (e->replaced) real_syscall(SYS_rename, e->replaced, e->path);
    } else {
        real_syscall(SYS_renameat2, AT_FDCWD, e->path, AT_FDCWD, e->other, 2u);
        entries_moved(at, e->path, e->other, true);
    }
}

// What a file has lost; `path` is where it is now.
static bool file_tear(const char *path, const LostFile *f) {
    struct stat st;
    const uint64_t way = lost_random(4);
    const int fd = (int)real_syscall(SYS_open, path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || st.st_size <= f->durable || way == 3) {
        if (fd >= 0) real_syscall(SYS_close, fd);
        return false;
    }
    const off_t keep = way == 0
                           ? f->durable
                           : f->durable + (off_t)lost_random((uint64_t)(st.st_size - f->durable));
    real_syscall(SYS_ftruncate, fd, keep);
    if (way == 2) real_syscall(SYS_ftruncate, fd, st.st_size); // zeros
    real_syscall(SYS_close, fd);
    return true;
}

// Tear the files below a directory that were not synced. The process has few, so each is looked for.
static int files_tear(const char *dir) {
    char command[3 * PATH_MAX], line[PATH_MAX];
    int n = 0;
    snprintf(command, sizeof command, "find '%s' '%s' -type f", dir, lost_graves);
    FILE *found = popen(command, "r");
    while (found && fgets(line, sizeof line, found)) {
        struct stat st;
        line[strcspn(line, "\n")] = 0;
        if (stat(line, &st)) continue;
        for (int i = 0; i < n_files; i++)
            if (files[i].dirty && files[i].inode == st.st_ino && files[i].device == st.st_dev)
                n += file_tear(line, &files[i]);
    }
    if (found) pclose(found);
    return n;
}

// Power fails: take what is not durable, and end.
static void lost_crash(void) {
    lost_busy = true;
    unsetenv("LD_PRELOAD");
    const int torn = files_tear(shim_dir);
    int undone = 0;
    // For each directory decide how many of its changes reached the disk all the same: that many of the first.
    for (int i = 0; i < n_entries; i++) {
        LostEntry *e = &entries[i];
        if (e->durable) continue;
        int of_dir = 0;
        bool first = true;
        for (int k = 0; k < n_entries; k++) {
            const size_t n = dir_length(e->path);
            if (entries[k].durable || dir_length(entries[k].path) != n ||
                strncmp(entries[k].path, e->path, n))
                continue;
            if (k < i) first = false;
            of_dir++;
        }
        if (!first) continue;
        int reached = (int)lost_random((uint64_t)of_dir + 1);
        if (lost_random(2)) reached = 0; // mostly the worst case
        const size_t n = dir_length(e->path);
        char *dir = strdup(e->path);
        for (int k = i; k < n_entries && reached; k++)
            if (!entries[k].durable && dir_length(entries[k].path) == n &&
                !strncmp(entries[k].path, dir, n))
                entries[k].durable = true, reached--;
        free(dir);
    }
    for (int i = n_entries - 1; i >= 0; i--)
        if (!entries[i].durable) entry_undo(&entries[i]), undone++;
    lost_report(torn, undone);
    real_syscall(SYS_exit_group, LOST_CODE);
}

// Count a call on a watched file; power may fail before it is made.
static void lost_call(void) {
    if (lost_busy) return;
    if (++calls == lost_at) lost_crash();
}

// ------------------------------------------------------------------------------------------------
// Bookkeeping

static LostEntry *entry_add(LostKind kind, const char *path, const char *other) {
    if (n_entries == (int)(sizeof entries / sizeof entries[0])) abort();
    LostEntry *e = &entries[n_entries++];
    *e = (LostEntry){.kind = kind, .path = strdup(path), .other = other ? strdup(other) : NULL};
    return e;
}

// The record of the file behind a descriptor; a new one says that what is there now is durable.
static LostFile *file_of(int fd) {
    struct stat st;
    if (fstat(fd, &st)) return NULL;
    for (int i = 0; i < n_files; i++)
        if (files[i].inode == st.st_ino && files[i].device == st.st_dev) return &files[i];
    if (n_files == (int)(sizeof files / sizeof files[0])) abort();
    files[n_files] = (LostFile){st.st_dev, st.st_ino, false, st.st_size};
    return &files[n_files++];
}

// An inode may come again as another file: forget the old one's record.
static void file_forget(const char *path) {
    struct stat st;
    if (stat(path, &st)) return;
    for (int i = 0; i < n_files; i++)
        if (files[i].inode == st.st_ino && files[i].device == st.st_dev)
            files[i--] = files[--n_files];
}

// The descriptor's data will have been written, or is cut.
static void file_dirty(int fd) {
    LostFile *f = file_of(fd);
    if (f) f->dirty = true;
}

// Keep what has this name, in case its removal is undone; a new string, NULL if there is nothing.
static char *grave_dig(const char *path) {
    char grave[PATH_MAX];
    snprintf(grave, sizeof grave, "%s/%d", lost_graves, n_graves);
    if (real_syscall(SYS_link, path, grave)) return NULL;
    n_graves++;
    return strdup(grave);
}

// A checkpoint that came by this entry must survive from now on.
static void safe_note(LostEntry *e) {
    const char *name = strrchr(e->path, '/');
    if (e->safe || !name || strncmp(name, "/checkpoint-", 12) || !lost_safe) return;
    char line[80];
    snprintf(line, sizeof line, "%.70s\n", name + 1);
    shim_note(lost_safe, line, O_APPEND);
    e->safe = true;
}

// ------------------------------------------------------------------------------------------------
// The calls

// True if this call is ours to follow; power may fail here.
static bool followed(const char *path) {
    shim_ready();
    if (lost_busy || !shim_watches(path)) return false;
    lost_call();
    return true;
}

static bool followed_fd(char *path, int fd) {
    shim_ready();
    if (lost_busy || !shim_watches_fd(path, fd)) return false;
    lost_call();
    return true;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    char path[PATH_MAX];
    if (followed_fd(path, fd)) file_dirty(fd);
    return real_syscall(SYS_write, fd, bytes, n);
}

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *file) {
    char path[PATH_MAX];
    if (followed_fd(path, fileno(file))) {
        file_dirty(fileno(file));
        for (int i = 0; i < n_entries; i++)
            if (entries[i].kind == RENAMED || entries[i].kind == SWAPPED) safe_note(&entries[i]);
    }
    return real_fwrite(bytes, size, n, file);
}

FILE *fopen(const char *path, const char *mode) {
    struct stat st;
    shim_ready();
    const bool follow = *mode == 'w' && followed(path), is_new = follow && stat(path, &st);
    FILE *file = real_fopen(path, mode);
    if (file && is_new) file_forget(path), entry_add(MADE, path, NULL);
    if (file && follow) file_of(fileno(file))->dirty = true;
    return file;
}

int open(const char *path, int flags, ...) {
    struct stat st;
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    shim_ready();
    const bool is_new = flags & O_CREAT && followed(path) && stat(path, &st);
    const int fd = (int)real_syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && is_new) file_forget(path), entry_add(MADE, path, NULL);
    return fd;
}

int fsync(int fd) {
    char path[PATH_MAX];
    struct stat st;
    const bool follow = followed_fd(path, fd);
    const int result = (int)real_syscall(SYS_fsync, fd);
    if (!follow || result || fstat(fd, &st)) return result;
    if (!S_ISDIR(st.st_mode)) {
        LostFile *f = file_of(fd);
        f->dirty = false, f->durable = st.st_size;
        return 0;
    }
    const size_t n = strlen(path);
    for (int i = 0; i < n_entries; i++) {
        LostEntry *e = &entries[i];
        if (e->durable || dir_length(e->path) != n || strncmp(e->path, path, n)) continue;
        e->durable = true;
        if (e->kind == RENAMED || e->kind == SWAPPED) safe_note(e);
    }
    return 0;
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    if (followed_fd(path, fd)) {
        LostFile *f = file_of(fd);
        if (f && f->durable > size) f->durable = size;
    }
    return (int)real_syscall(SYS_ftruncate, fd, size);
}

int mkdir(const char *path, mode_t mode) {
    const bool follow = followed(path);
    const int result = (int)real_syscall(SYS_mkdir, path, mode);
    if (follow && !result) entry_add(MADE, path, NULL)->is_dir = true;
    return result;
}

int rename(const char *from, const char *to) {
    const bool follow = followed(to);
    char *grave = follow ? grave_dig(to) : NULL;
    const int result = (int)real_syscall(SYS_rename, from, to);
    if (follow && !result) {
        entries_moved(n_entries, from, to, false);
        entry_add(RENAMED, to, from)->replaced = grave;
    }
    return result;
}

int unlink(const char *path) {
    const bool follow = followed(path);
    char *grave = follow ? grave_dig(path) : NULL;
    const int result = (int)real_syscall(SYS_unlink, path);
    if (follow && !result && grave) entry_add(REMOVED, path, grave);
    return result;
}

int rmdir(const char *path) {
    const bool follow = followed(path);
    const int result = (int)real_syscall(SYS_rmdir, path);
    if (follow && !result) {
        LostEntry *e = entry_add(REMOVED, path, NULL);
        e->is_dir = true, e->mode = 0777;
    }
    return result;
}

long syscall(long number, ...) {
    SHIM_ARGUMENTS(a, number);
    shim_ready();
    const char *from = (const char *)(intptr_t)a[1], *to = (const char *)(intptr_t)a[3];
    const bool follow = number == SYS_renameat2 && followed(to);
    const long result = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (follow && !result) {
        entries_moved(n_entries, from, to, true);
        entry_add(SWAPPED, to, from);
    }
    return result;
}
