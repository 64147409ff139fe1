// test.h: the few macros that all tests use. A test program ends with `return test_end("name")`,
// which prints `name: N passed, N failed, N skipped` and gives the exit code.
#ifndef TEST_H
#define TEST_H

#include "../lib/base/common.h"
#include <sys/wait.h>

static struct { int passed, failed, skipped; } test_counts;

// Count a check; a failure prints place and message and the test goes on.
#define CHECK(ok, ...)                                                                             \
    do {                                                                                           \
        if (ok) test_counts.passed++;                                                              \
        else {                                                                                     \
            test_counts.failed++;                                                                  \
            fprintf(stderr, "%s:%d: FAILED: ", __FILE__, __LINE__);                                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

// |got - want| <= absolute + relative * |want|; NaN never passes.
#define CHECK_NEAR(got, want, relative, absolute, ...)                                             \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        bool near_ = fabs(got_ - want_) <= (absolute) + (relative)*fabs(want_);                    \
        if (!near_) fprintf(stderr, "got %.9g, want %.9g: ", got_, want_);                         \
        CHECK(near_, __VA_ARGS__);                                                                 \
    } while (0)

// Wait for the end of a child; returns its status. LLVM's OpenMP leaves a page of shared memory for each
// process that ends without exit().
static int test_wait(pid_t child) {
    int status;
    char *page = text_format("/dev/shm/__KMP_REGISTERED_LIB_%d_%d", (int)child, (int)getuid());
    waitpid(child, &status, 0);
    unlink(page);
    free(page);
    return status;
}

// The statement must end the process with this exit code and a message that contains `part`. It
// runs in a child, so do not use it after OpenMP threads have started.
#define CHECK_DIES(code, part, ...)                                                                \
    do {                                                                                           \
        int pipe_[2];                                                                              \
        fflush(NULL);                                                                              \
        if (pipe(pipe_)) die(EXIT_IO, "pipe");                                                     \
        pid_t child_ = fork();                                                                     \
        if (child_ == 0) {                                                                         \
            dup2(pipe_[1], STDERR_FILENO);                                                         \
            close(pipe_[0]);                                                                       \
            __VA_ARGS__;                                                                           \
            _exit(0);                                                                              \
        }                                                                                          \
        close(pipe_[1]);                                                                           \
        char said_[4096];                                                                          \
        size_t n_ = 0;                                                                             \
        ssize_t k_;                                                                                \
        while (n_ < sizeof said_ - 1 &&                                                            \
               (k_ = read(pipe_[0], said_ + n_, sizeof said_ - 1 - n_)) > 0)                       \
            n_ += (size_t)k_;                                                                      \
        said_[n_] = 0;                                                                             \
        close(pipe_[0]);                                                                           \
        const int status_ = test_wait(child_);                                                     \
        int got_code_ = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);       \
        CHECK(got_code_ == (code) && strstr(said_, part),                                          \
              "expected exit %d and \"%s\", got exit %d and \"%s\"", code, part, got_code_,        \
              said_);                                                                              \
    } while (0)

// Say why something could not be tested here.
static void test_skip(const char *why) {
    test_counts.skipped++;
    printf("skipped: %s\n", why);
}

// dir/name under $ALIGN_TEST_DATA, or NULL (and the file's tests are to be skipped).
static char *test_data(const char *name) {
    const char *dir = getenv("ALIGN_TEST_DATA");
    char *path = dir && *dir ? path_join(dir, name) : NULL;
    if (path && (path_is_file(path) || path_is_dir(path))) return path;
    free(path);
    return NULL;
}

static int test_end(const char *name) {
    printf("%s: %d passed, %d failed, %d skipped\n", name, test_counts.passed, test_counts.failed,
           test_counts.skipped);
    return test_counts.failed ? 2 : 0; // 1 is a library that gave up (machine.h)
}

#endif
