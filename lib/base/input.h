// input.h: the bytes of the files that a user names: one or several, as they are or compressed by
// gzip or zstd, which their own programs unpack. From top to bottom:
//
//   names      "a*.jsonl,b.jsonl.gz" as a list of files
//   input      one file, block by block
#ifndef INPUT_H
#define INPUT_H

#include "common.h"
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ; // macOS declares it nowhere

// ------------------------------------------------------------------------------------------------
// Names

typedef struct {
    char **names; // (n)
    int n;
} FileList;

static void file_list_add(FileList *list, const char *name) {
    list->names = mem_resize(list->names, (size_t)list->n + 1, sizeof *list->names);
    list->names[list->n++] = text_copy(name);
}

static bool path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

// Add the files that one name stands for: the file that is called so, or else all that match it as a
// pattern of the shell, sorted. Dies (EXIT_BAD_INPUT) if there is none.
static void file_list_expand(FileList *list, const char *name) {
    glob_t found;
    if (path_exists(name)) {
        file_list_add(list, name);
        return;
    }
    if (!strpbrk(name, "*?[")) die(EXIT_BAD_INPUT, "%s: no such file", name);
    const int code = glob(name, 0, NULL, &found);
    if (code == GLOB_NOMATCH) die(EXIT_BAD_INPUT, "%s: no file has such a name", name);
    if (code) die(EXIT_IO, "%s: cannot be looked for: %s", name, strerror(errno));
    for (size_t i = 0; i < found.gl_pathc; i++) file_list_add(list, found.gl_pathv[i]);
    globfree(&found);
}

// The files that `names` stands for, at least one: the file of just this name, or a list of names and
// patterns (*, ?, [..]) with commas between, in this order. Dies (EXIT_BAD_INPUT) if a name has no
// file. Release with file_list_free().
static FileList file_list(const char *names) {
    FileList list = {0};
    if (path_exists(names) || !strchr(names, ',')) {
        file_list_expand(&list, names);
        return list;
    }
    for (const char *s = names; s;) {
        const char *comma = strchr(s, ',');
        char *name = text_format("%.*s", (int)(comma ? (size_t)(comma - s) : strlen(s)), s);
        if (!*name) die(EXIT_BAD_INPUT, "%s: a name between the commas is empty", names);
        file_list_expand(&list, name);
        free(name);
        s = comma ? comma + 1 : NULL;
    }
    return list;
}

static void file_list_free(FileList *list) {
    for (int i = 0; i < list->n; i++) free(list->names[i]);
    free(list->names);
    *list = (FileList){0};
}

// ------------------------------------------------------------------------------------------------
// Input

enum { INPUT_BLOCK = 1 << 16 };

// A file that is read from its beginning to its end. block[at..n) has been read and not been used.
typedef struct {
    const char *path;
    int fd;           // of the file, or of the pipe from the program that unpacks it
    pid_t child;      // that program; 0: none
    const char *tool; // its name
    char *block;      // (INPUT_BLOCK)
    size_t at, n;
} Input;

// The program that unpacks a file which begins with head[0..n), or NULL.
static const char *input_tool(const char *head, size_t n) {
    if (n >= 2 && !memcmp(head, "\x1F\x8B", 2)) return "gzip";
    if (n >= 4 && !memcmp(head, "\x28\xB5\x2F\xFD", 4)) return "zstd";
    return NULL;
}

// From here on in->fd is what in->tool makes of the file. It gets the open file, no name, so there is
// nothing in a name that it could take for a flag.
static void input_unpack(Input *in) {
    int ends[2];
    if (lseek(in->fd, 0, SEEK_SET))
        die(EXIT_BAD_INPUT, "%s: is %s-compressed and no plain file: unpack it first", in->path,
            in->tool);
    if (pipe(ends)) die(EXIT_IO, "cannot make a pipe: %s", strerror(errno));
    for (int i = 0; i < 2; i++) fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in->fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    // zstd asks for a flag before it takes the memory that files of `zstd --long` need
    char *argv[] = {(char *)in->tool, "-dc", *in->tool == 'z' ? "--long=31" : NULL, NULL};
    const int error = posix_spawnp(&in->child, in->tool, &files, NULL, argv, environ);
    if (error)
        die(EXIT_IO, "%s: is %s-compressed, and the program %s cannot be run: %s; unpack it first",
            in->path, in->tool, in->tool, strerror(error));
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    close(in->fd);
    in->fd = ends[0];
}

// The end of what the program unpacked: die if it was not the end of the file.
static void input_unpacked(Input *in) {
    int status;
    while (waitpid(in->child, &status, 0) < 0)
        if (errno != EINTR) die(EXIT_IO, "%s: %s: %s", in->path, in->tool, strerror(errno));
    in->child = 0;
    if (WIFSIGNALED(status))
        die(EXIT_IO, "%s: %s was killed by signal %d", in->path, in->tool, WTERMSIG(status));
    if (WEXITSTATUS(status) == 127) // how some systems tell that it could not be run
        die(EXIT_IO, "%s: is %s-compressed, and the program %s cannot be run; unpack it first",
            in->path, in->tool, in->tool);
    if (WEXITSTATUS(status))
        die(EXIT_BAD_INPUT, "%s: is damaged or cut short: %s -dc ends with exit code %d", in->path,
            in->tool, WEXITSTATUS(status));
}

// Read on. False at the end; then block is empty. Dies if the file cannot be read. Of what is unpacked
// the last block is given only once it is known that it was the end.
static bool input_fill(Input *in) {
    in->at = in->n = 0;
    for (ssize_t n = 1; n && in->n < INPUT_BLOCK;) {
        do n = read(in->fd, in->block + in->n, INPUT_BLOCK - in->n);
        while (n < 0 && errno == EINTR);
        if (n < 0) die(EXIT_IO, "%s: cannot read: %s", in->path, strerror(errno));
        in->n += (size_t)n;
        if (!in->child) break; // a terminal gives a line at a time
        if (n == 0) input_unpacked(in);
    }
    return in->n > 0;
}

// Read from a file that is open already.
static void input_begin(Input *in, int fd, const char *path) {
    *in = (Input){.path = path, .fd = fd, .block = mem_alloc(INPUT_BLOCK, 1)};
}

// Open a file, and have it unpacked if it begins as gzip's or zstd's files do, whatever its name.
// Its first bytes are in the block. Dies if that is not possible. `path` must live as long.
static void input_open(Input *in, const char *path) {
    if (path_is_dir(path))
        die(EXIT_BAD_INPUT,
            "%s: is a directory, expected a file; '%s/*.jsonl' would be those in it", path, path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) die(EXIT_BAD_INPUT, "%s: no such file", path);
    if (fd < 0) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    input_begin(in, fd, path);
    input_fill(in);
    in->tool = input_tool(in->block, in->n);
    if (!in->tool) return;
    input_unpack(in);
    input_fill(in);
}

// The next byte, or EOF.
static int input_byte(Input *in) {
    if (in->at == in->n && !input_fill(in)) return EOF;
    return (unsigned char)in->block[in->at++];
}

// Close it, also before its end.
static void input_close(Input *in) {
    if (in->fd > STDERR_FILENO) close(in->fd);
    if (in->child) // it has nobody to write to any more
        while (waitpid(in->child, NULL, 0) < 0 && errno == EINTR) continue;
    free(in->block);
    *in = (Input){.fd = -1};
}

#endif
