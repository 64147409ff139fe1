// common.h: what every program of align.c needs around the algorithm. From top to bottom:
//
//   errors     die, warn, and the four exit codes
//   memory     checked allocation, growing text
//   files      reading whole files, UTF-8
//   random     counter-based random numbers: three integers are the whole state
//   clock      and peak memory
//   stopping   Ctrl-C, kill, the end of the terminal
//   log        metrics.jsonl
//
// Strict JSON is in json.h, the table of flags in flags.h.
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE // memmem, madvise; this header comes before every system header
#endif
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"

// ------------------------------------------------------------------------------------------------
// Errors. A mistake of the user's gets one sentence: what, where, what was expected.

enum {
    EXIT_USAGE = 2,     // unknown flag, value out of range
    EXIT_BAD_INPUT = 3, // a file says something that cannot be used
    EXIT_IO = 4,        // disk full, no permission; no memory, no threads
    EXIT_DIVERGED = 5,  // a loss or a gradient is not finite
};

// On a terminal, wipe the progress line so that the next line starts clean.
static void progress_clear(void) {
    if (isatty(STDOUT_FILENO)) printf("\r\033[K");
    fflush(stdout);
}

static void stop_mark(void); // below

// A part of the work is done (stop_mark). On a terminal, replace the progress line.
__attribute__((format(printf, 1, 2))) static void progress_show(const char *format, ...) {
    stop_mark();
    if (!isatty(STDOUT_FILENO)) return;
    va_list args;
    progress_clear();
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fflush(stdout);
}

// Print kind and text as one line, whatever bytes a name or a key in the text may have.
static void say(const char *kind, const char *format, va_list args) {
    char text[8192];
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    progress_clear();
    fprintf(stderr, "%s: %s\n", kind, text);
}

// Print "error: <text>" on stderr and leave with `code` (one of the EXIT_ codes above).
__attribute__((noreturn, format(printf, 2, 3))) static void die(int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say("error", format, args);
    va_end(args);
    fflush(NULL);
    _exit(code); // not exit: nothing is freed here, and leak checkers are not to mind
}

// Print "warning: <text>" on stderr and go on.
__attribute__((format(printf, 1, 2))) static void warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say("warning", format, args);
    va_end(args);
}

// A program that ends well: what it printed must have gone out. Returns its exit code, 0, or dies.
static int stdout_end(void) {
    if (fflush(stdout)) die(EXIT_IO, "standard output: cannot write: %s", strerror(errno));
    if (ferror(stdout)) die(EXIT_IO, "standard output: a part of it could not be written");
    return 0;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

// ------------------------------------------------------------------------------------------------
// Memory

// This process's addresses, in bytes, as `ulimit -v` counts them; 0 where the system does not say.
static double memory_addresses(void) {
    char text[64] = "";
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC); // fopen would need memory
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    return n > 0 ? strtod(text, NULL) * (double)sysconf(_SC_PAGESIZE) : 0;
}

// Die: `what` ("512 bytes, for OpenBLAS") cannot be had. Says what limit there is. Threads that come
// here at the same time say it once.
__attribute__((noreturn)) static void memory_die(const char *what) {
    static bool dying; // atomic
    if (__atomic_exchange_n(&dying, true, __ATOMIC_RELAXED))
        for (;;) pause();
    struct rlimit limit;
    const double used = memory_addresses();
    if (used > 0 && !getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
        die(EXIT_IO, "out of memory: %s; in use: %.1f MB of the %.1f MB that ulimit -v allows",
            what, used * 1e-6, (double)limit.rlim_cur * 1e-6);
    if (!getrlimit(RLIMIT_DATA, &limit) && limit.rlim_cur != RLIM_INFINITY)
        die(EXIT_IO, "out of memory: %s; ulimit -d allows %.1f MB", what,
            (double)limit.rlim_cur * 1e-6);
    die(EXIT_IO, "out of memory: %s", what);
}

// The same for an array. Needs no memory itself.
__attribute__((noreturn)) static void memory_die_bytes(size_t bytes) {
    char what[64];
    snprintf(what, sizeof what, "%zu bytes", bytes);
    memory_die(what);
}

// The product of two sizes; dies instead of wrapping around.
static size_t size_product(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX)
        die(EXIT_IO, "out of memory: %zu items of %zu bytes", count, size);
    return bytes;
}

// `count` zeroed items of `size` bytes. Release with free().
static void *mem_alloc(size_t count, size_t size) {
    size_t bytes = size_product(count, size);
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) memory_die_bytes(bytes);
    return p;
}

// Grow or shrink `p` to `count` items of `size` bytes; new bytes are not zeroed.
static void *mem_resize(void *p, size_t count, size_t size) {
    size_t bytes = size_product(count, size);
    p = realloc(p, bytes ? bytes : 1);
    if (!p) memory_die_bytes(bytes);
    return p;
}

// Die if so many bytes are more than the container that the program runs in allows: asked for, they would be
// granted, and the kernel would kill the program when they are used.
static void memory_fits(size_t bytes) {
    double limit;
    const double room = cgroup_room_here(&limit);
    if ((double)bytes > room)
        die(EXIT_IO,
            "out of memory: %zu bytes; the container (control group) allows %.1f MB, of which %.1f "
            "MB are left",
            bytes, limit * 1e-6, fmax(room, 0) * 1e-6);
}

// `count` zeroed floats, aligned to 64 bytes (one cache line, one AVX-512 register). Arrays of
// 4 MB and more ask the kernel for huge pages: fewer TLB misses in every pass over the weights.
static float *mem_floats(size_t count) {
    size_t bytes = size_product(count ? count : 1, sizeof(float));
    size_t align = bytes >= ((size_t)4 << 20) ? (size_t)2 << 20 : 64;
    size_t rounded = (bytes + align - 1) / align * align;
    if (align > 64) memory_fits(bytes);
    void *p = rounded < bytes ? NULL : aligned_alloc(align, rounded);
    if (!p) memory_die_bytes(bytes);
#ifdef MADV_HUGEPAGE
    if (align > 64) madvise(p, rounded, MADV_HUGEPAGE); // a hint: failure changes nothing
#endif
    memset(p, 0, rounded);
    return p;
}

// A byte string that grows. `data` is NUL-terminated after the first append.
typedef struct {
    char *data;
    size_t size, capacity;
} Text;

static void text_reserve(Text *t, size_t more) {
    size_t need = t->size + more + 1;
    if (need <= t->capacity) return;
    t->capacity = need > 2 * t->capacity ? need : 2 * t->capacity;
    t->data = mem_resize(t->data, t->capacity, 1);
}

static void text_append(Text *t, const void *bytes, size_t n) {
    text_reserve(t, n);
    if (n) memcpy(t->data + t->size, bytes, n);
    t->size += n;
    t->data[t->size] = 0;
}

static void text_vprint(Text *t, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    char probe[1];
    int n = vsnprintf(probe, 1, format, args); // gcc's sanitizer build warns of NULL here
    if (n < 0) die(EXIT_IO, "cannot format text");
    text_reserve(t, (size_t)n);
    vsnprintf(t->data + t->size, (size_t)n + 1, format, again);
    va_end(again);
    t->size += (size_t)n;
}

__attribute__((format(printf, 2, 3))) static void text_print(Text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_vprint(t, format, args);
    va_end(args);
}

// Append UTF-8 text as a quoted JSON string. Only what JSON demands is escaped.
static void text_json(Text *t, const char *utf8, size_t n) {
    text_append(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)utf8[i];
        if (c == '"' || c == '\\') text_print(t, "\\%c", c);
        else if (c == '\n') text_append(t, "\\n", 2);
        else if (c == '\t') text_append(t, "\\t", 2);
        else if (c == '\r') text_append(t, "\\r", 2);
        else if (c < 0x20) text_print(t, "\\u%04x", c);
        else text_append(t, &utf8[i], 1);
    }
    text_append(t, "\"", 1);
}

// The same of a string.
static void text_string(Text *t, const char *utf8) { text_json(t, utf8, strlen(utf8)); }

// Append the time now as a JSON string: UTC, seconds, as ISO 8601 has it.
static void text_time(Text *t) {
    char s[32];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    text_string(t, s);
}

static void text_free(Text *t) {
    free(t->data);
    *t = (Text){0};
}

// printf into a new string. Release with free().
__attribute__((format(printf, 1, 2))) static char *text_format(const char *format, ...) {
    Text t = {0};
    va_list args;
    va_start(args, format);
    text_vprint(&t, format, args);
    va_end(args);
    return t.data;
}

static char *text_copy(const char *s) { return text_format("%s", s); }

// True if s begins with `prefix`.
static bool text_has_prefix(const char *s, const char *prefix) {
    return !strncmp(s, prefix, strlen(prefix));
}

// True if s ends in `suffix`.
static bool text_has_suffix(const char *s, const char *suffix) {
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && !strcmp(s + n - k, suffix);
}

// ------------------------------------------------------------------------------------------------
// Files and UTF-8

static bool path_is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// "dir/name" as a new string.
static char *path_join(const char *dir, const char *name) {
    size_t n = strlen(dir);
    return text_format("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

// Open `path` for reading, or die with the reason.
static FILE *file_open(const char *path) {
    if (path_is_dir(path)) die(EXIT_BAD_INPUT, "%s: is a directory, expected a file", path);
    FILE *file = fopen(path, "rb");
    if (!file && errno == ENOENT) die(EXIT_BAD_INPUT, "%s: no such file", path);
    if (!file) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    return file;
}

// The whole of a file, with a NUL added after it; *size may be NULL. Release with free().
static char *file_read(const char *path, size_t *size) {
    FILE *file = file_open(path);
    Text t = {0};
    char block[1 << 16];
    size_t n;
    while ((n = fread(block, 1, sizeof block, file)) > 0) text_append(&t, block, n);
    if (ferror(file)) die(EXIT_IO, "%s: cannot read: %s", path, strerror(errno));
    fclose(file);
    text_append(&t, "", 0);
    if (size) *size = t.size;
    return t.data;
}

// Decode the first code point of s[0..n). Returns the bytes it takes (1 to 4), or 0 if they are
// not valid UTF-8: overlong forms, surrogates and values above U+10FFFF are invalid (RFC 3629).
static int utf8_decode(uint32_t *code, const char *s, size_t n) {
    const unsigned char *b = (const unsigned char *)s;
    if (n == 0) return 0;
    if (b[0] < 0x80) {
        *code = b[0];
        return 1;
    }
    int len = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (b[0] < 0xC2 || b[0] > 0xF4 || n < (size_t)len) return 0;
    uint32_t c = b[0] & (0x7Fu >> len);
    for (int i = 1; i < len; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (b[i] & 0x3F);
    }
    if (len == 3 && (c < 0x800 || (c >= 0xD800 && c <= 0xDFFF))) return 0;
    if (len == 4 && (c < 0x10000 || c > 0x10FFFF)) return 0;
    *code = c;
    return len;
}

// Index of the first byte that is not valid UTF-8, or n if all of s[0..n) is.
static size_t utf8_check(const char *s, size_t n) {
    size_t i = 0;
    uint32_t code;
    while (i < n) {
        int len = utf8_decode(&code, s + i, n - i);
        if (!len) return i;
        i += (size_t)len;
    }
    return n;
}

// Write one code point (<= U+10FFFF) as UTF-8; returns the number of bytes.
static int utf8_encode(char out[4], uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00u >> len & 0xFF) | c);
    return len;
}

// ------------------------------------------------------------------------------------------------
// Random numbers. The n-th number of a stream is a hash of (seed, stream, n), the SplitMix64
// finaliser (Steele et al. 2014), so saving a generator means saving three integers and every use
// has a stream of its own that no other use can disturb.

typedef struct {
    uint64_t seed, stream, counter;
} Rng;

// One stream per use.
enum { RNG_INIT = 1, RNG_SHUFFLE, RNG_SPLIT, RNG_SAMPLE, RNG_DATA };

static uint64_t rng_mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static Rng rng_make(uint64_t seed, uint64_t stream) { return (Rng){seed, stream, 0}; }

// 64 random bits.
static uint64_t rng_next(Rng *r) {
    const uint64_t golden = 0x9E3779B97F4A7C15u;
    uint64_t key = rng_mix(rng_mix(r->seed + golden) + (r->stream + 1) * golden);
    return rng_mix(key + ++r->counter * golden);
}

// Uniform in [0, 1), 53 bits.
static double rng_uniform(Rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

// Standard normal (Box-Muller, one of the two values).
static double rng_normal(Rng *r) {
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

// Uniform in 0..n-1, without bias (n > 0).
static uint64_t rng_below(Rng *r, uint64_t n) {
    uint64_t x, limit = UINT64_MAX - UINT64_MAX % n;
    do x = rng_next(r);
    while (x >= limit);
    return x % n;
}

// order (n) <- a permutation of 0..n-1 that depends on seed and epoch alone: a resumed run finds
// its place again without having saved the order.
static void rng_permutation(int *order, int n, uint64_t seed, uint64_t epoch) {
    Rng r = rng_make(seed, RNG_SHUFFLE + (epoch << 8));
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)rng_below(&r, (uint64_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

// ------------------------------------------------------------------------------------------------
// Clock, peak memory

// Seconds on a clock that only goes forward.
static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The largest resident size of this process so far, in MB (10^6 bytes).
static double memory_peak_mb(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (double)usage.ru_maxrss * 1e-6; // bytes there, kilobytes elsewhere
#else
    return (double)usage.ru_maxrss * 1.024e-3;
#endif
}

// "1h02m", "3m20s" or "12s" into s.
static const char *time_format(char s[32], double seconds) {
    long n = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
    if (n >= 3600) snprintf(s, 32, "%ldh%02ldm", n / 3600, n / 60 % 60);
    else if (n >= 60) snprintf(s, 32, "%ldm%02lds", n / 60, n % 60);
    else snprintf(s, 32, "%lds", n);
    return s;
}

// ------------------------------------------------------------------------------------------------
// Being asked to stop. Ctrl-C, kill, the end of the terminal (SIGHUP, unless nohup ignores it) or of the
// program that reads our output (SIGPIPE): the program finishes its step, saves and leaves. A second
// Ctrl-C or kill ends it at once; so does a step that does not come to its end. These are the only
// variables in these headers, since a handler can reach no other.

static volatile sig_atomic_t stop_signal = 0;   // the signal's number once one came
static volatile sig_atomic_t stop_patience = 5; // seconds until the next stop_mark; 0: any time
static const char *volatile stop_file = NULL;   // removed where a signal ends the program

static bool stop_is_request(int number) { return number == SIGINT || number == SIGTERM; }

// End the program now; only what a handler may call.
__attribute__((noreturn)) static void stop_now(int number) {
    if (stop_file) unlink(stop_file);
    _exit(128 + number);
}

static void stop_handler(int number) {
    static struct timespec first; // when the request came
    struct timespec now;
    const int error = errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double since =
        (double)(now.tv_sec - first.tv_sec) + 1e-9 * (double)(now.tv_nsec - first.tv_nsec);
    // timeout(1) sends the same signal twice, to us and to our group, which is one request. A terminal
    // that ends may send SIGHUP several times, and a broken pipe is told at each write.
    const bool twice = number == stop_signal && since < 0.1;
    if (stop_is_request(number) && stop_is_request(stop_signal) && !twice) stop_now(number);
    if (!stop_signal) alarm((unsigned)stop_patience);
    if (!stop_signal || stop_is_request(number)) {
        stop_signal = number;
        first = now;
    }
    errno = error;
}

// No stop_mark within the time: the program is stuck.
static void stop_stuck(int number) {
    static const char text[] =
        "error: asked to stop, but the step does not come to its end: left without saving\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) stop_now(stop_signal);
    stop_now(stop_signal);
}

// What follows takes as long as it takes, as writing to a disk does.
static void stop_wait(void) {
    stop_patience = 0;
    alarm(0);
}

// A part of the work is done. After a signal the next one has the time of the longest so far, four
// times over, and 5 seconds, before stop_stuck ends the program.
static void stop_mark(void) {
    static double last = -1, longest; // seconds
    const double now = seconds_now();
    if (last >= 0 && stop_patience && now - last > longest) longest = now - last;
    last = now;
    stop_patience = (sig_atomic_t)fmin(5 + 4 * longest, 1e6);
    if (stop_signal) alarm((unsigned)stop_patience);
}

// From here on signals are requests.
static void stop_on_signals(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGPIPE, SIGHUP};
    struct sigaction action = {.sa_handler = stop_handler, .sa_flags = SA_RESTART}, now;
    for (int i = 0; i < COUNT(numbers); i++) sigaddset(&action.sa_mask, numbers[i]);
    for (int i = 0; i < COUNT(numbers); i++)
        if (numbers[i] != SIGHUP || sigaction(SIGHUP, NULL, &now) || now.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    action.sa_handler = stop_stuck;
    sigaction(SIGALRM, &action, NULL);
    stop_mark();
}

// ------------------------------------------------------------------------------------------------
// Log

// metrics.jsonl: one JSON object per line, written with one call, so that a killed run leaves at
// most one torn last line, which resuming cuts off.
typedef struct {
    FILE *file;
    const char *path;
    Text row;      // being built, after those that could not be written
    size_t begin;  // where in `row` it begins
    int64_t bytes; // of whole rows in the file
    bool lasting; // rows that cannot be written are kept, and the program is asked to stop, to save
    int error;    // then: why the last one could not; 0 as soon as all are written
} MetricsLog;

// Open for appending after the first `offset` bytes (0: start anew).
static void log_open(MetricsLog *log, const char *path, int64_t offset) {
    *log = (MetricsLog){fopen(path, offset ? "r+b" : "wb"), text_copy(path), .bytes = offset};
    if (!log->file || ftruncate(fileno(log->file), offset) || fseek(log->file, 0, SEEK_END))
        die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    setvbuf(log->file, NULL, _IONBF, 0); // each row is one call
}

// Add a number to the row being built. Keys are TRL's metric names.
static void log_number(MetricsLog *log, const char *key, double value) {
    text_print(&log->row, "%s", log->row.size > log->begin ? ", " : "{");
    text_json(&log->row, key, strlen(key));
    if (isfinite(value)) text_print(&log->row, ": %.9g", value);
    else text_print(&log->row, ": null");
}

// Hand the rows that are complete to the operating system.
static void log_flush(MetricsLog *log) {
    errno = 0;
    const size_t n = fwrite(log->row.data, 1, log->row.size, log->file);
    if (n == log->row.size && !fflush(log->file)) {
        log->bytes += (int64_t)n;
        log->row.size = log->begin = 0;
        log->error = 0;
        return;
    }
    log->error = errno ? errno : EIO;
    if (!log->lasting) die(EXIT_IO, "%s: cannot write: %s", log->path, strerror(log->error));
    // no torn row is left
    if (ftruncate(fileno(log->file), log->bytes) || fseek(log->file, log->bytes, SEEK_SET))
        die(EXIT_IO, "%s: cannot write: %s", log->path, strerror(log->error));
    clearerr(log->file);
    log->begin = log->row.size;
    if (!stop_signal) stop_signal = SIGXFSZ; // the system's word for a file that cannot grow
}

// Finish the row and hand it to the operating system.
static void log_write(MetricsLog *log) {
    text_print(&log->row, "}\n");
    log_flush(log);
}

// Bytes written so far, after they have reached the disk: a checkpoint records this offset.
static int64_t log_offset(MetricsLog *log) {
    if (fsync(fileno(log->file)) && errno != EINVAL)
        die(EXIT_IO, "%s: cannot write: %s", log->path, strerror(errno));
    return log->bytes;
}

static void log_close(MetricsLog *log) {
    fclose(log->file);
    free((char *)log->path);
    text_free(&log->row);
}

#endif
