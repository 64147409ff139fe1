// cgroup.h: how much memory the container around this process still has. A container (Docker, Kubernetes, systemd's
// MemoryMax, a batch system) is a control group of Linux's. It promises memory freely and kills the process when more
// is used than its limit allows, so that a program must look beforehand. Written from the kernel's
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. Elsewhere there is no such limit.
#ifndef CGROUP_H
#define CGROUP_H

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/sysinfo.h>
#endif

// The names that the two versions of control groups have for the same.
typedef struct {
    const char *limit, *used, *swap_limit, *swap_used;
    const char *inactive, *active; // in memory.stat: cached files, which the kernel takes back
} CgroupNames;

static const CgroupNames cgroup_names[] = {
    {"memory.limit_in_bytes", "memory.usage_in_bytes", NULL, NULL, "total_inactive_file",
     "total_active_file"},
    {"memory.max", "memory.current", "memory.swap.max", "memory.swap.current", "inactive_file",
     "active_file"},
};

// The number in the file `name` of directory `dir`: the first, or the one after the word `key`. -1 if there is none,
// as in a limit of "max".
static double cgroup_number(const char *dir, const char *name, const char *key) {
    char path[2 * PATH_MAX + 64], line[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    double number = -1;
    while (number < 0 && fgets(line, sizeof line, f)) {
        const size_t n = key ? strlen(key) : 0;
        if (key && (strncmp(line, key, n) || line[n] != ' ')) continue;
        char *end;
        const double read = strtod(line + n, &end);
        if (end > line + n) number = read;
        if (!key) break;
    }
    fclose(f);
    return number;
}

// Bytes that processes of the group at `dir` may still use before the kernel ends one of them; INFINITY without a
// limit. *limit is the limit; swap_free is what the machine's swap space has left.
static double cgroup_room_at(double *limit, const char *dir, const CgroupNames *names,
                             double swap_free) {
    *limit = cgroup_number(dir, names->limit, NULL);
    const double used = cgroup_number(dir, names->used, NULL);
    if (*limit < 0 || *limit >= 0x1p60 || used < 0)
        return INFINITY; // version 1 writes nearly 2^63 for "no limit"
    const double files = fmax(cgroup_number(dir, "memory.stat", names->inactive), 0) +
                         fmax(cgroup_number(dir, "memory.stat", names->active), 0);
    double swap = swap_free;
    if (names->swap_limit) {
        const double most = cgroup_number(dir, names->swap_limit, NULL);
        if (most >= 0)
            swap = fmin(swap, most - fmax(cgroup_number(dir, names->swap_used, NULL), 0));
    }
    return *limit - used + files + fmax(swap, 0);
}

// The same for the groups that `membership` (/proc/self/cgroup) names, and for all groups around them, below `root`
// (/sys/fs/cgroup). Inside a container the path may be the one outside; then the root itself is its group.
static double cgroup_room(double *limit, const char *membership, const char *root,
                          double swap_free) {
    *limit = INFINITY;
    double room = INFINITY;
    FILE *f = fopen(membership, "r");
    if (!f) return room;
    char line[PATH_MAX];
    while (fgets(line, sizeof line, f)) { // "4:memory:/path" or, version 2, "0::/path"
        line[strcspn(line, "\n")] = 0;
        char *kinds = strchr(line, ':');
        char *path = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        const bool second = kinds[1] == 0;
        if (!second && strcmp(kinds + 1, "memory")) continue;
        char dir[2 * PATH_MAX];
        const int top = snprintf(dir, sizeof dir, "%s%s", root, second ? "" : "/memory");
        snprintf(dir + top, sizeof dir - (size_t)top, "%s", path);
        for (;;) {
            double here;
            const double left = cgroup_room_at(&here, dir, &cgroup_names[second], swap_free);
            if (left < room) {
                room = left;
                *limit = here;
            }
            if (strlen(dir) <= (size_t)top) break;
            *strrchr(dir, '/') = 0;
        }
    }
    fclose(f);
    return room;
}

// The same for this process.
static double cgroup_room_here(double *limit) {
#ifdef __linux__
    struct sysinfo machine;
    if (!sysinfo(&machine))
        return cgroup_room(limit, "/proc/self/cgroup", "/sys/fs/cgroup",
                           (double)machine.freeswap * machine.mem_unit);
#endif
    *limit = INFINITY;
    return INFINITY;
}

#endif
