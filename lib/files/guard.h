// guard.h: what a run needs is not to be deleted by it. A guard is a list of files and directories that
// are about to be deleted or replaced, with all that is in them; it says which flag names one of them.
//
//     Guard guard = {0};
//     guard_add(&guard, "run/final");
//     guard_check(&guard, flags, n_flags, config, "--overwrite_output_dir would delete");
//
// It goes through the program's table of flags, so a new flag is looked at without being told, and it
// compares files by device and inode: symbolic links, hard links, `..` and bind mounts are seen through.
#ifndef GUARD_H
#define GUARD_H

#include "../base/disk.h"
#include "../base/flags.h"
#include <glob.h>

typedef struct {
    struct {
        dev_t device;
        ino_t inode;
        char *path;
    } * files; // (n), directories too
    int n;
} Guard;

static void guard_free(Guard *g) {
    for (int i = 0; i < g->n; i++) free(g->files[i].path);
    free(g->files);
    *g = (Guard){0};
}

static void guard_add_file(Guard *g, const char *path, const struct stat *st) {
    g->files = mem_resize(g->files, (size_t)g->n + 1, sizeof *g->files);
    g->files[g->n].device = st->st_dev;
    g->files[g->n].inode = st->st_ino;
    g->files[g->n++].path = text_copy(path);
}

// Add `path` and all below it; nothing if it is not there. Of a symbolic link both it and what it leads
// to are added, since the link's name is lost; a link farther down is only itself.
static void guard_add(Guard *g, const char *path) {
    struct stat st;
    if (!stat(path, &st)) guard_add_file(g, path, &st);
    if (lstat(path, &st)) return;
    if (S_ISLNK(st.st_mode)) guard_add_file(g, path, &st);
    DIR *dir = S_ISDIR(st.st_mode) ? disk_list(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *child = path_join(path, e->d_name);
        if (!lstat(child, &st) && S_ISDIR(st.st_mode)) guard_add(g, child);
        else if (!lstat(child, &st)) guard_add_file(g, child, &st);
        free(child);
    }
    if (dir) closedir(dir);
}

// The guarded file that this is, or NULL.
static const char *guard_find(const Guard *g, const struct stat *st) {
    for (int i = 0; i < g->n; i++)
        if (g->files[i].device == st->st_dev && g->files[i].inode == st->st_ino)
            return g->files[i].path;
    return NULL;
}

enum { GUARD_LINKS = 40 }; // symbolic links that may follow one another, as in Linux

// The guarded file or directory through which `path` leads, or NULL: one of the directories that it
// names on its way, the file at its end, or the same of a symbolic link among them. `links`: how many
// more links may follow one another.
static const char *guard_meets(const Guard *g, const char *path, int links) {
    char here[PATH_MAX], end[PATH_MAX];
    const bool relative = *path != '/' && getcwd(here, sizeof here);
    char *whole = relative ? path_join(here, path) : text_copy(path);
    const char *found = NULL;
    struct stat st;
    for (size_t i = 1, n = strlen(whole); i <= n && !found; i++) {
        if (whole[i] != '/' && whole[i]) continue;
        char *part = text_format("%.*s", (int)i, whole), target[PATH_MAX];
        if (!lstat(part, &st)) found = guard_find(g, &st);
        if (!found && !stat(part, &st)) found = guard_find(g, &st);
        const ssize_t length = found ? -1 : readlink(part, target, sizeof target - 1);
        if (length > 0 && links > 0) {
            target[length] = 0;
            char *parent = text_copy(part);
            *(strrchr(parent, '/') + 1) = 0;
            char *to = *target == '/' ? text_copy(target) : path_join(parent, target);
            found = guard_meets(g, to, links - 1);
            free(parent), free(to);
        }
        free(part);
    }
    // after `..` the directories on the way are not those above the end
    if (!found && links == GUARD_LINKS && realpath(whole, end)) found = guard_meets(g, end, 0);
    free(whole);
    return found;
}

// The same for a path that may be a pattern, as `runs/*.jsonl`: any of those that fit.
static const char *guard_meets_pattern(const Guard *g, const char *path) {
    const char *found = guard_meets(g, path, GUARD_LINKS);
    glob_t names = {0};
    const bool pattern = !found && strpbrk(path, "*?[");
    if (pattern && glob(path, GLOB_NOSORT, NULL, &names) == GLOB_NOSPACE)
        die(EXIT_IO, "%s: out of memory", path);
    for (size_t i = 0; i < names.gl_pathc && !found; i++)
        found = guard_meets(g, names.gl_pathv[i], GUARD_LINKS);
    globfree(&names);
    return found;
}

// The same for a flag's value: a path, a list of paths with commas, each perhaps with a colon and a weight, or a
// command with paths in it.
static const char *guard_meets_value(const Guard *g, const char *value) {
    static const char *const separators[] = {",", ", \t\n;|&<>()=\"'"};
    const char *found = guard_meets_pattern(g, value);
    for (int i = 0; i < COUNT(separators) && !found; i++) {
        char *copy = text_copy(value), *rest = copy;
        for (char *part; (part = strsep(&rest, separators[i])) && !found;) {
            char *colon = strrchr(part, ':');
            if (*part) found = guard_meets_pattern(g, part);
            if (colon) *colon = 0;
            if (colon && *part && !found) found = guard_meets_pattern(g, part);
        }
        free(copy);
    }
    return found;
}

// Die (EXIT_USAGE) if a flag's value, or `config` (the file of --config, or NULL), leads to or through
// a guarded file. `would` says what will happen to it: "--overwrite_output_dir would delete". The flags
// `except`, as "a|b", are not looked at.
static void guard_check(const Guard *g, const Flag *flags, int n_flags, const char *config,
                        const char *except, const char *would) {
    const char *found = config ? guard_meets_value(g, config) : NULL, *name = "config";
    for (int i = 0; i < n_flags && !found; i++) {
        const Flag *flag = &flags[i];
        const char *value = flag->type == FLAG_STRING ? *(const char *const *)flag->value : NULL;
        if (!value || flag->choices || choice_index(flag->name, except) >= 0) continue;
        found = guard_meets_value(g, value);
        name = flag->name;
    }
    if (found)
        die(EXIT_USAGE, "%s %s, which --%s names; copy it elsewhere first, or write elsewhere",
            would, found, name);
}

// The same for one file, `path` (or NULL), that a program without an output directory will write in place
// of what is there. `except`: the flags that name such files.
static void guard_output(const char *path, const char *config, const Flag *flags, int n_flags,
                         const char *except) {
    Guard guard = {0};
    if (path) guard_add(&guard, path);
    guard_check(&guard, flags, n_flags, config, except, "--overwrite_output would replace");
    guard_free(&guard);
}

#endif
