// checkpoint.h: how a run's results survive on the disk. From top to bottom:
//
//   stage       a directory that appears whole or not at all; saving a model in one
//   output      OUT/: lock, run.json, metrics.jsonl, what an earlier run left
//   training    OUT/checkpoint-N: saving, verifying, resuming
//
// A program's plumbing reads
//
//     output_open(&out, ...);                       // refuse, or find the checkpoint to go on from
//     model_load(&model, out.resume_dir ? out.resume_dir : args.model);
//     ...                                           // data
//     if (out.resume_dir) checkpoint_resume(&out, &model, state, COUNT(state));
//     output_start(&out, run_json, config_path);    // from here on the disk is written
//     for (...) checkpoint_save(&out, &model, &tokenizer, step, state, COUNT(state));
//     output_finish(&out, &model, &tokenizer);
//
// so that a mistake in flags or data ends the program before anything on the disk has changed.
// A checkpoint is a Hugging Face directory; the training state is in its trainer/ folder, where
// no loader of models looks:
//
//     OUT/run.json                      all flags, what --config reads
//     OUT/metrics.jsonl                 the log
//     OUT/final/                        the model at the end
//     OUT/iteration-2/                  what SPIN generated at the beginning of an iteration
//     OUT/previous_run/                 with --overwrite_output_dir, all this of the run before, until
//                                       the new final/ is there
//     OUT/checkpoint-100/               config.json, model.safetensors, the tokenizer's files
//     OUT/checkpoint-100/trainer/       optimizer.safetensors (AdamW's two moments of each tensor),
//                                       reference.safetensors where the reference changes,
//                                       critic.safetensors where one is trained (PPO),
//                                       state.json (the program's values), and manifest.json, which
//                                       is written last and lists every file, its size and checksum
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "../base/flags.h"
#include "../base/tokenizer.h"
#include "guard.h"
#include "pretrained.h"
#include <signal.h>
#include <sys/file.h>
#include <sys/statvfs.h>

// ------------------------------------------------------------------------------------------------
// Stage: a directory that appears under its name whole or not at all. Its files are written into a
// hidden sibling, each synced; then the sibling is renamed, and the rename is synced. Whatever
// fails on the way removes the sibling and ends the program; a kill leaves it to the next start.

typedef struct {
    char *name; // relative to the directory, "trainer/state.json"
    uint64_t size, hash;
} StageFile;

typedef struct {
    char *parent, *name, *dir; // the staging directory is parent/.tmp-NAME-PID
    const char *kept;          // what a failure leaves intact, for the message
    StageFile *files;          // finished
    int n_files, fd;
    StageFile open; // being written to fd
    DiskHash hash;
} Stage;

// Release the memory; the directory is no longer the stage's business.
static void stage_free(Stage *s) {
    for (int i = 0; i < s->n_files; i++) free(s->files[i].name);
    free(s->files), free(s->parent), free(s->name), free(s->dir);
    *s = (Stage){.fd = -1};
}

// Tidy up and die. `what` names the call, errno its reason.
__attribute__((noreturn)) static void stage_fail(const Stage *s, const char *what,
                                                 const char *file) {
    int error = errno;
    if (s->fd >= 0) close(s->fd);
    disk_remove(s->dir);
    die(EXIT_IO, "%s/%s: cannot %s %s: %s; %s, temporary files removed", s->parent, s->name, what,
        file, strerror(error), s->kept);
}

// Open the stage for parent/name. `bytes` is about how much will be written, to refuse at once what
// cannot fit.
static void stage_begin(Stage *s, const char *parent, const char *name, uint64_t bytes,
                        const char *kept) {
    // A directory of this name is of a dead process that had our number.
    *s = (Stage){.parent = text_copy(parent), .name = text_copy(name), .fd = -1, .kept = kept};
    s->dir = text_format("%s/.tmp-%s-%d", parent, name, (int)getpid());
    // Cannot be relied on (others write, too), but it spares a minute of writing for nothing.
    struct statvfs fs;
    if (!statvfs(parent, &fs) && (double)fs.f_bavail * (double)fs.f_frsize < (double)bytes)
        die(EXIT_IO, "%s: saving %s needs %.1f MB, %.1f MB free; %s", parent, name,
            (double)bytes * 1e-6, (double)fs.f_bavail * (double)fs.f_frsize * 1e-6, kept);
    if (disk_remove(s->dir) || disk_mkdir(s->dir))
        die(EXIT_IO, "cannot create %s: %s; %s", s->dir, strerror(errno), kept);
}

// Begin a file; stage_write and stage_close follow.
static void stage_open(Stage *s, const char *name) {
    char *path = path_join(s->dir, name);
    s->open = (StageFile){.name = text_copy(name)};
    s->hash = disk_hash_begin();
    s->fd = disk_open(path, O_WRONLY | O_CREAT | O_EXCL);
    if (s->fd < 0) stage_fail(s, "create", name);
    free(path);
}

// Append bytes to the open file.
static void stage_write(Stage *s, const void *bytes, size_t n) {
    disk_hash_add(&s->hash, bytes, n);
    if (disk_write(s->fd, bytes, n)) stage_fail(s, "write", s->open.name);
}

// The file is complete: make it durable and note its size and checksum for the manifest.
static void stage_close(Stage *s) {
    if (disk_sync(s->fd)) stage_fail(s, "sync", s->open.name);
    int fd = s->fd;
    s->fd = -1;
    if (disk_close(fd)) stage_fail(s, "close", s->open.name);
    s->open.size = s->hash.size;
    s->open.hash = disk_hash_end(&s->hash);
    s->files = mem_resize(s->files, (size_t)s->n_files + 1, sizeof *s->files);
    s->files[s->n_files++] = s->open;
}

// A whole small file; empties `text`.
static void stage_text(Stage *s, const char *name, Text *text) {
    stage_open(s, name);
    stage_write(s, text->data, text->size);
    stage_close(s);
    text_free(text);
}

// Create the folder of `name`, a path with at most one '/', if it is not there yet.
static void stage_folder(Stage *s, const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash) return;
    char *path = text_format("%s/%.*s", s->dir, (int)(slash - name), name);
    if (!path_is_dir(path) && disk_mkdir(path)) stage_fail(s, "create", name);
    free(path);
}

// Give the directory `from` the name parent/name and sync that. A directory of that name is
// exchanged in one step and then deleted; where the system cannot exchange, it steps aside as
// .old-NAME-PID, from where the next start puts it back if this one ends in between. Returns -1
// with errno if nothing has changed.
static int dir_replace(const char *from, const char *parent, const char *name) {
    char *to = path_join(parent, name);
    char *aside = text_format("%s/.old-%s-%d", parent, name, (int)getpid());
    const char *old = NULL;
    int result = disk_rename(from, to);
    if (result && (errno == ENOTEMPTY || errno == EEXIST)) {
        result = disk_swap(from, to);
        old = from; // the name that the old directory has now
        if (result && (errno == ENOSYS || errno == EINVAL || errno == ENOTSUP)) {
            old = aside;
            result = disk_rename(to, aside);
            if (!result && (result = disk_rename(from, to))) {
                int error = errno;
                disk_rename(aside, to);
                errno = error;
            }
        }
    }
    // The old one must not be deleted before the new name is on the disk.
    if (!result && disk_sync_dir(parent))
        die(EXIT_IO, "%s: saved, but cannot sync %s: %s; a power failure might lose it", to, parent,
            strerror(errno));
    if (!result && old) disk_remove(old); // what is left of it, the next start sweeps
    free(to), free(aside);
    return result;
}

// All files are written: make the stage durable and give it its name.
static void stage_commit(Stage *s) {
    const char *folders[] = {"trainer", TEMPLATE_DIR};
    for (int i = 0; i < COUNT(folders); i++) {
        char *path = path_join(s->dir, folders[i]);
        if (path_is_dir(path) && disk_sync_dir(path)) stage_fail(s, "sync", folders[i]);
        free(path);
    }
    if (disk_sync_dir(s->dir)) stage_fail(s, "sync", s->dir);
    if (dir_replace(s->dir, s->parent, s->name)) stage_fail(s, "rename", s->dir);
    stage_free(s);
}

// Which of a model's tensors: all, those of a language model, or score.weight alone.
typedef enum { TENSORS_ALL, TENSORS_TRUNK, TENSORS_SCORE } TensorPart;

static bool tensor_in(const Tensor *t, TensorPart part) {
    const bool score = !strcmp(t->name, "score.weight");
    return part == TENSORS_ALL || score == (part == TENSORS_SCORE);
}

// Write a file of one or more float arrays, each (n_floats) and laid out as model->params, with
// prefix + name for every tensor of the part.
static void stage_tensors(Stage *s, const char *file, const GPT2 *model, TensorPart part,
                          int n_arrays, const char *const *prefixes, const float *const *arrays) {
    SafeEntry *entries = mem_alloc((size_t)(n_arrays * model->n_tensors), sizeof *entries);
    Text header = {0};
    int n = 0;
    for (int k = 0; k < n_arrays; k++)
        for (int i = 0; i < model->n_tensors; i++) {
            const Tensor *t = &model->tensors[i];
            if (!tensor_in(t, part)) continue;
            SafeEntry *e = &entries[n++];
            bool bare = !strcmp(t->name, "score.weight") && !strcmp(prefixes[k], "transformer.");
            snprintf(e->name, sizeof e->name, "%s%s", bare ? "" : prefixes[k], t->name);
            e->rank = t->cols ? 2 : 1;
            e->dims[0] = (uint64_t)t->rows, e->dims[1] = (uint64_t)t->cols;
            e->data = arrays[k] + t->offset;
        }
    safetensors_header(&header, entries, n, "pt");
    stage_open(s, file);
    stage_write(s, header.data, header.size);
    for (int i = 0; i < n; i++)
        stage_write(s, entries[i].data, safe_entry_floats(&entries[i]) * sizeof(float));
    stage_close(s);
    free(entries);
    text_free(&header);
}

// The files of a Hugging Face directory. `tokenizer` may be NULL (a model of bare token ids),
// `pattern` and `generation` too: config.json and generation_config.json of the model that this one
// came from (see config_write). With TENSORS_TRUNK a model that has a scalar head beside the
// language model's is saved without it, as the language model that it is.
static void stage_model(Stage *s, const GPT2 *model, TensorPart part, const Tokenizer *tokenizer,
                        const cJSON *pattern, const cJSON *generation) {
    Text config = {0}, settings_of_generate = {0};
    GPT2Config c = model->config;
    if (part == TENSORS_TRUNK) c.score_head = false;
    config_write(&config, &c, pattern);
    config_write_generation(&settings_of_generate, &c, generation);
    stage_text(s, "config.json", &config);
    stage_text(s, "generation_config.json", &settings_of_generate);
    if (tokenizer) {
        TokenizerFile *files;
        const int n = tokenizer_files(tokenizer, model->config.n_positions, &files);
        for (int i = 0; i < n; i++) {
            stage_folder(s, files[i].name);
            stage_text(s, files[i].name, &files[i].text);
        }
        tokenizer_files_free(files, n);
    }
    stage_tensors(s, "model.safetensors", model, part, 1, (const char *const[]){"transformer."},
                  (const float *const[]){model->params});
}

// About how many bytes a model directory takes, with `copies` arrays of all weights.
static uint64_t stage_bytes(const GPT2 *model, const Tokenizer *tokenizer, int copies) {
    uint64_t each = 4 * (uint64_t)gpt2_count_params(model) + 150 * (uint64_t)model->n_tensors;
    return (uint64_t)copies * each + (tokenizer ? 100 * (uint64_t)tokenizer->vocab_size : 0);
}

// Save a model as the directory `dir`, which must not exist.
static void model_save(const GPT2 *model, const Tokenizer *tokenizer, const cJSON *pattern,
                       const char *dir) {
    Stage s;
    char *parent, *name;
    if (!access(dir, F_OK)) die(EXIT_BAD_INPUT, "%s: exists already", dir);
    path_split(dir, &parent, &name);
    stage_begin(&s, parent, name, stage_bytes(model, tokenizer, 1), "nothing was saved");
    stage_model(&s, model, TENSORS_ALL, tokenizer, pattern, NULL);
    stage_commit(&s);
    free(parent), free(name);
}

// ------------------------------------------------------------------------------------------------
// Output directory of a run.

typedef struct {
    char *target;          // the directory that the user named
    char *parent, *name;   // of target
    char *dir;             // where the run writes: target, or a hidden sibling until output_finish
    char *resume_dir;      // the verified checkpoint to go on from, NULL for a fresh run
    char *metrics_path;    // dir/metrics.jsonl
    int64_t metrics_bytes; // its length when it is opened: what comes after is to be cut off
    int save_total_limit;  // checkpoints to keep, 0 for all; set by the program
    cJSON *pattern;        // config.json of the model that the run began with, or NULL
    cJSON *generation;     // its generation_config.json, or NULL
    const char *chat_template; // to be saved, since the model came without one; NULL: none
    GPT2 *reference;   // a second model that changes in training and is saved, too, or NULL;
                       // set by the program
    GPT2 *critic;      // a critic that is trained with the model, or NULL; the model itself if
                       // it is a scalar head on the same trunk; set by the program
    const Flag *flags; // of the program: a checkpoint keeps those that flag_kept names; set by
    int n_flags;       // the program
    bool overwrite;    // what an earlier run left steps aside when this one starts, and is
                       // deleted when it has ended well
    bool replace;      // put the new directory in its place, when this one has ended well
    int lock;          // descriptor of target, -1 while it does not exist
} Output;

// The step of "checkpoint-<step>", or -1 for any other name.
static int64_t checkpoint_step(const char *name) {
    if (!text_has_prefix(name, "checkpoint-")) return -1;
    const char *digits = name + strlen("checkpoint-");
    size_t n = strspn(digits, "0123456789");
    return n == 0 || n > 15 || digits[n] ? -1 : strtoll(digits, NULL, 10);
}

// Ascending, for qsort.
static int compare_steps(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

// Steps of the checkpoint-N in `dir`, ascending, in a new array; returns how many.
static int checkpoint_list(const char *dir, int64_t **steps) {
    int n = 0;
    *steps = NULL;
    DIR *d = disk_list(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        int64_t step = checkpoint_step(e->d_name);
        if (step < 0) continue;
        *steps = mem_resize(*steps, (size_t)n + 1, sizeof **steps);
        (*steps)[n++] = step;
    }
    if (d) closedir(d);
    if (n) qsort(*steps, (size_t)n, sizeof **steps, compare_steps);
    return n;
}

// Why the checkpoint `dir` cannot be trusted, in a new string, or NULL if all of its files are as
// they were written. The manifest is parsed without json_parse because a bad one is to be skipped,
// not fatal; every value taken from it is checked against the files.
static char *checkpoint_verify(const char *dir) {
    char *path = path_join(dir, "trainer/manifest.json"), *reason = NULL;
    if (!path_is_file(path)) return free(path), text_copy("no trainer/manifest.json");
    size_t n;
    char *text = file_read(path, &n);
    cJSON *manifest = cJSON_ParseWithLength(text, n);
    const cJSON *files = json_get(manifest, "files"), *item;
    if (!cJSON_IsObject(files)) reason = text_copy("trainer/manifest.json is damaged");
    free(path);
    cJSON_ArrayForEach(item, files) {
        int64_t size = -1;
        const cJSON *hash = json_get(item, "hash");
        json_integer(json_get(item, "size"), &size);
        char sum[24];
        path = path_join(dir, item->string);
        int fd = disk_open(path, O_RDONLY);
        // Read the whole file: its size alone says nothing of pages that never reached the disk.
        DiskHash h = disk_hash_begin();
        const bool read = fd >= 0 && disk_hash_file(&h, fd, 0);
        snprintf(sum, sizeof sum, "%016" PRIx64, disk_hash_end(&h));
        if (!read) reason = text_format("%s: %s", item->string, strerror(errno));
        else if ((uint64_t)size != h.size)
            reason = text_format("%s has %" PRIu64 " bytes, expected %" PRId64, item->string,
                                 h.size, size);
        else if (!cJSON_IsString(hash) || strcmp(hash->valuestring, sum))
            reason = text_format("%s checksum differs", item->string);
        if (fd >= 0) close(fd);
        free(path);
        if (reason) break;
    }
    cJSON_Delete(manifest);
    free(text);
    return reason;
}

// Where what is overwritten waits for the end of the new run, and where it is on the way there or back.
static const char output_previous[] = "previous_run";
static const char output_moving[] = ".moving_run";

// The checkpoint that --resume_from_checkpoint names: a directory, or `latest` for the one with the
// highest step in `dir` that is undamaged. Dies if there is none.
static char *checkpoint_find(const char *dir, const char *wanted) {
    if (strcmp(wanted, "latest")) {
        if (!path_is_dir(wanted)) die(EXIT_BAD_INPUT, "%s: no such directory", wanted);
        char *reason = checkpoint_verify(wanted);
        if (reason) die(EXIT_BAD_INPUT, "%s: cannot resume: %s", wanted, reason);
        return text_copy(wanted);
    }
    // By step, not by date: copying a directory changes the dates.
    int64_t *steps;
    int n = checkpoint_list(dir, &steps);
    char *found = NULL;
    for (int i = n - 1; i >= 0 && !found; i--) {
        found = text_format("%s/checkpoint-%" PRId64, dir, steps[i]);
        char *reason = checkpoint_verify(found);
        if (!reason) break;
        warn("%s skipped: %s", found, reason);
        free(reason), free(found);
        found = NULL;
    }
    free(steps);
    char *before = path_join(dir, output_previous);
    if (!found)
        die(EXIT_BAD_INPUT,
            "%s: no usable checkpoint (%d found); start without "
            "--resume_from_checkpoint%s%s",
            dir, n, path_is_dir(before) ? "; what was there before is in " : "",
            path_is_dir(before) ? before : "");
    free(before);
    return found;
}

// True if this entry of an output directory was made by a run.
static bool output_is_ours(const char *name) {
    const char *t = text_has_prefix(name, "iteration-") ? name + strlen("iteration-") : "";
    return checkpoint_step(name) >= 0 || (*t && !t[strspn(t, "0123456789")]) ||
           !strcmp(name, "final") || !strcmp(name, "run.json") || !strcmp(name, "metrics.jsonl") ||
           !strcmp(name, output_previous);
}

// The first entry of a directory that was made by a run (`ours`), or that was not; a new string, or
// NULL. Hidden ones do not count, nor does the name `but` (or NULL).
static char *output_entry(const char *dir, bool ours, const char *but) {
    char *found = NULL;
    DIR *d = disk_list(dir);
    for (struct dirent *e; d && !found && (e = readdir(d));)
        if (e->d_name[0] != '.' && output_is_ours(e->d_name) == ours &&
            (!but || strcmp(e->d_name, but)))
            found = text_copy(e->d_name);
    if (d) closedir(d);
    return found;
}

// Keep a second run out: an advisory lock on the directory itself, which ends with the process.
static void output_lock(Output *out) {
    out->lock = open(out->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->lock < 0) die(EXIT_IO, "%s: cannot open: %s", out->target, strerror(errno));
    if (!flock(out->lock, LOCK_EX | LOCK_NB)) return;
    if (errno == EWOULDBLOCK)
        die(EXIT_IO, "%s: another run is writing here; wait for it or choose another --output_dir",
            out->target);
    warn("%s: cannot be locked (%s): do not start a second run here", out->target, strerror(errno));
    close(out->lock);
    out->lock = -1;
}

// Bring the entries of OUT/.moving_run back into OUT. Each is renamed, so that a kill leaves each in one
// of the two places, and the next start goes on with this.
static void output_put_back(const Output *out) {
    char *moving = path_join(out->target, output_moving);
    DIR *d = disk_list(moving);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *from = path_join(moving, e->d_name), *to = path_join(out->target, e->d_name);
        const bool taken = !access(to, F_OK);
        if (taken || disk_rename(from, to))
            die(EXIT_IO, "%s: cannot be put back as %s: %s", from, to,
                taken ? "there is one" : strerror(errno));
        free(from), free(to);
    }
    if (d) closedir(d);
    if (d && (disk_sync_dir(out->target) || disk_remove(moving)))
        warn("%s: cannot tidy up: %s", moving, strerror(errno));
    free(moving);
}

// What a kill has left half moved goes back. So does a run that had stepped aside for one that did not
// even begin (not if a run is to be gone on with: that means the one that has begun).
static void output_settle(const Output *out, bool resume) {
    char *previous = path_join(out->target, output_previous);
    char *moving = path_join(out->target, output_moving);
    output_put_back(out);
    char *begun = output_entry(out->target, true, output_previous);
    if (!begun && !resume && path_is_dir(previous)) {
        if (disk_rename(previous, moving))
            die(EXIT_IO, "%s: cannot rename: %s", previous, strerror(errno));
        output_put_back(out);
    }
    free(previous), free(moving), free(begun);
}

// All that an earlier run left in OUT goes to OUT/previous_run, as whole as it was: what it has there
// goes with it. It has stepped aside once the last rename is done; before that the next start, or
// we if something fails, put it back.
static void output_step_aside(const Output *out) {
    char *moving = path_join(out->target, output_moving);
    char *previous = path_join(out->target, output_previous), *name;
    bool any = false, failed = false;
    while (!failed && (name = output_entry(out->target, true, NULL))) {
        char *from = path_join(out->target, name), *to = path_join(moving, name);
        failed = (!any && disk_mkdir(moving)) || disk_rename(from, to);
        any = true;
        free(from), free(to), free(name);
    }
    if (any && !failed)
        failed =
            disk_sync_dir(moving) || disk_rename(moving, previous) || disk_sync_dir(out->target);
    if (failed) {
        const int error = errno;
        output_put_back(out);
        die(EXIT_IO, "%s: cannot move what an earlier run left to %s: %s", out->target, previous,
            strerror(error));
    }
    if (any) printf("what an earlier run left is in %s until this one has ended\n", previous);
    free(moving), free(previous);
}

// Check the output directory, before anything is loaded or written. `resume` is the value of
// --resume_from_checkpoint (NULL or "": none). What an earlier run left there is an error, unless
// it is to be resumed, or `overwrite`n (it steps aside when this run starts and is deleted when it ends
// well), or `replace`d when it ends well (the default run of a program: until then it works in a hidden
// sibling). output_guard follows.
static void output_open(Output *out, const char *dir, const char *resume, bool overwrite,
                        bool replace) {
    *out = (Output){.lock = -1, .overwrite = overwrite, .replace = replace};
    if (resume && !*resume) resume = NULL;
    path_split(dir, &out->parent, &out->name);
    out->target = strcmp(out->parent, ".") || text_has_prefix(dir, "./")
                      ? path_join(out->parent, out->name)
                      : text_copy(out->name);
    if (!access(out->target, F_OK) && !path_is_dir(out->target))
        die(EXIT_IO, "%s: is a file, expected a directory", out->target);

    // Can it be written? If it does not exist, ask the first directory above it that does.
    char *above = text_copy(out->target), *parent, *name;
    while (access(above, F_OK) && strcmp(above, ".") && strcmp(above, "/")) {
        path_split(above, &parent, &name);
        free(above), free(name);
        above = parent;
    }
    if (access(above, W_OK | X_OK))
        die(EXIT_IO, "%s: cannot write in %s: %s", out->target, above, strerror(errno));
    free(above);
    if (replace) disk_sweep(out->parent, out->name, out->lock >= 0);
    if (path_is_dir(out->target)) {
        output_lock(out);
        disk_sweep(out->target, NULL, out->lock >= 0);
        output_settle(out, resume != NULL);
    }

    bool inside = false; // is the checkpoint to resume one of this directory's own?
    if (resume) {
        out->resume_dir = checkpoint_find(out->target, resume);
        char *up = path_join(out->resume_dir, "..");
        struct stat a, b;
        inside =
            !stat(up, &a) && !stat(out->target, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
        free(up);
    }
    // Contradictions first, then what is in the way.
    if (inside && (overwrite || replace))
        die(EXIT_USAGE, "--overwrite_output_dir would delete %s, which is to be resumed",
            out->resume_dir);
    char *run_json = path_join(out->target, "run.json");
    char *previous = path_join(out->target, output_previous);
    char *strange =
        replace && !path_is_file(run_json) ? output_entry(out->target, true, NULL) : NULL;
    if (replace && !path_is_file(run_json) && !strange)
        strange = output_entry(out->target, false, NULL);
    if (strange)
        die(EXIT_USAGE, "%s: would be replaced, but has %s and no run.json: not made by a run",
            out->target, strange);
    char *ours = inside || overwrite || replace ? NULL : output_entry(out->target, true, NULL);
    if (ours)
        die(EXIT_USAGE,
            "%s: already has %s; use --overwrite_output_dir, "
            "--resume_from_checkpoint latest or another --output_dir",
            out->target, ours);
    if (overwrite && (strange = output_entry(previous, false, NULL)))
        die(EXIT_USAGE,
            "%s: is where --overwrite_output_dir moves an earlier run, but has %s: not "
            "made by a run",
            previous, strange);
    free(run_json), free(previous);
}

// After output_open, once out->flags and save_total_limit are set: die (EXIT_USAGE) if this run would
// delete or replace what one of its flags names. `config` is the file of --config, or NULL.
static void output_guard(const Output *out, const char *config) {
    Guard guard = {0};
    // Going on in the same directory replaces final/ and later checkpoints, and deletes some.
    const char *resumed = out->resume_dir ? strrchr(out->resume_dir, '/') : NULL;
    const int64_t step = resumed ? checkpoint_step(resumed + 1) : -1;
    DIR *d = disk_list(out->target);
    for (struct dirent *e; d && !out->replace && (e = readdir(d));) {
        const int64_t other = checkpoint_step(e->d_name);
        const bool stays = !out->overwrite && other >= 0 &&
                           (other == step || (other < step && !out->save_total_limit));
        const bool deleted = out->overwrite || (!stays && strcmp(e->d_name, "run.json"));
        if (!deleted || !output_is_ours(e->d_name)) continue;
        char *path = path_join(out->target, e->d_name);
        guard_add(&guard, path);
        free(path);
    }
    if (d) closedir(d);
    if (out->replace) guard_add(&guard, out->target);
    guard_check(&guard, out->flags, out->n_flags, config,
                out->overwrite ? "output_dir" : "output_dir|resume_from_checkpoint",
                out->overwrite ? "--overwrite_output_dir would delete" : "this run would replace");
    guard_free(&guard);
}

// Rename to .trash-NAME-PID and delete: however long that takes, no half of it keeps the name.
static void output_trash(const char *dir, const char *name) {
    char *from = path_join(dir, name);
    char *trash = text_format("%s/.trash-%s-%d", dir, name, (int)getpid());
    if (disk_rename(from, trash) || disk_remove(trash))
        warn("%s: cannot remove: %s", from, strerror(errno));
    free(from), free(trash);
}

// Write a small file of the run, as run.json, whole or not at all.
static void output_file(const Output *out, const char *name, const char *text) {
    char *path = path_join(out->dir, name);
    disk_file_save(path, text, strlen(text));
    free(path);
}

// Everything is loaded and the run begins: make the directory, let what is to be overwritten step aside,
// write run.json. `config_path` names the config.json that the model came from, or NULL.
static void output_start(Output *out, const char *run_json, const char *config_path) {
    signal(SIGXFSZ, SIG_IGN); // a file size limit is then an error of write, not the end
    out->pattern = config_pattern(config_path);
    out->generation = generation_pattern(config_path);
    disk_make_dirs(out->target);
    if (out->lock < 0) output_lock(out);
    if (out->replace) {
        out->dir = text_format("%s/.tmp-%s-%d", out->parent, out->name, (int)getpid());
        disk_make_dirs(out->dir);
    } else out->dir = text_copy(out->target);
    out->metrics_path = path_join(out->dir, "metrics.jsonl");
    if (out->overwrite && !out->replace) output_step_aside(out);
    // A log that is shorter than the resumed state says, or in another directory, is appended to.
    struct stat st;
    int64_t have = stat(out->metrics_path, &st) ? 0 : (int64_t)st.st_size;
    if (out->metrics_bytes > have) out->metrics_bytes = have;
    output_file(out, "run.json", run_json);
}

// Let go of the directory, as the end of the process does.
static void output_close(Output *out) {
    if (out->lock >= 0) close(out->lock);
    free(out->target), free(out->parent), free(out->name), free(out->dir);
    free(out->resume_dir), free(out->metrics_path);
    cJSON_Delete(out->pattern), cJSON_Delete(out->generation);
    *out = (Output){.lock = -1};
}

// What of the model is saved as a Hugging Face directory: a critic's head is no part of a policy.
static TensorPart output_part(const Output *out, const GPT2 *model) {
    return out->critic == model ? TENSORS_TRUNK : TENSORS_ALL;
}

// The model as a Hugging Face directory, with what the run knows of the one that it came from.
static void output_stage(Stage *s, const Output *out, const GPT2 *model,
                         const Tokenizer *tokenizer) {
    Text jinja = {0};
    stage_model(s, model, output_part(out, model), tokenizer, out->pattern, out->generation);
    char *path = path_join(s->dir, "chat_template.jinja");
    if (out->chat_template && !path_is_file(path)) {
        text_print(&jinja, "%s", out->chat_template);
        stage_text(s, "chat_template.jinja", &jinja);
    }
    free(path);
}

// The run ended well: save the model as OUT/final. Now what it overwrites may go: delete what had stepped
// aside, by this run or by the one that it has gone on with; if OUT was to be replaced, do it now.
static void output_finish(Output *out, const GPT2 *model, const Tokenizer *tokenizer) {
    Stage s;
    stop_wait();
    stage_begin(&s, out->dir, "final", stage_bytes(model, tokenizer, 1),
                "the checkpoints are kept");
    output_stage(&s, out, model, tokenizer);
    stage_commit(&s);
    char *previous = path_join(out->dir, output_previous);
    char *strange = output_entry(previous, false, NULL);
    if (strange) warn("%s: kept, it has %s: not made by a run", previous, strange);
    else if (path_is_dir(previous)) output_trash(out->dir, output_previous);
    free(previous), free(strange);
    if (out->replace && dir_replace(out->dir, out->parent, out->name))
        die(EXIT_IO, "%s: cannot replace it: %s; the run's files are in %s", out->target,
            strerror(errno), out->dir);
    output_close(out);
}

// ------------------------------------------------------------------------------------------------
// Training state: AdamW's moments and the program's own named values (step, place in the data,
// random streams). The table of values is the program's:
//
//     StateField state[] = {STATE_I64("step", &step), MATCH_I64("seed", &args.seed, "--seed"), ..};

typedef enum { STATE_TYPE_I64, STATE_TYPE_U64, STATE_TYPE_F64 } StateType;

typedef struct {
    const char *name;
    StateType type;
    void *value;
    const char *flag; // not restored: resuming is refused if it differs; what the user may set
} StateField;

// The compound literal makes the compiler check the pointer's type.
#define STATE_I64(name, pointer)                                                                   \
    { name, STATE_TYPE_I64, *(int64_t *[]){pointer}, NULL }
#define STATE_U64(name, pointer)                                                                   \
    { name, STATE_TYPE_U64, *(uint64_t *[]){pointer}, NULL }
#define STATE_F64(name, pointer)                                                                   \
    { name, STATE_TYPE_F64, *(double *[]){pointer}, NULL }
#define MATCH_I64(name, pointer, flag)                                                             \
    { name, STATE_TYPE_I64, *(int64_t *[]){pointer}, flag }
#define MATCH_U64(name, pointer, flag)                                                             \
    { name, STATE_TYPE_U64, *(uint64_t *[]){pointer}, flag }
#define MATCH_F64(name, pointer, flag)                                                             \
    { name, STATE_TYPE_F64, *(double *[]){pointer}, flag }

// A value's letters: 17 digits bring every double back to the bit. All values are strings in
// state.json, since JSON's own numbers end at 2^53 and know no nan.
static const char *state_print(char s[40], const StateField *f) {
    switch (f->type) {
    case STATE_TYPE_I64:
        snprintf(s, 40, "%" PRId64, *(const int64_t *)f->value);
        break;
    case STATE_TYPE_U64:
        snprintf(s, 40, "%" PRIu64, *(const uint64_t *)f->value);
        break;
    case STATE_TYPE_F64:
        snprintf(s, 40, "%.17g", *(const double *)f->value);
        break;
    }
    return s;
}

// Take a value from its letters; false if they are none.
static bool state_scan(const StateField *f, const char *s) {
    char *end;
    errno = 0;
    if (f->type == STATE_TYPE_I64) *(int64_t *)f->value = strtoll(s, &end, 10);
    else if (f->type == STATE_TYPE_U64) *(uint64_t *)f->value = strtoull(s, &end, 10);
    else *(double *)f->value = strtod(s, &end);
    return *s && !*end && (f->type == STATE_TYPE_F64 || errno == 0);
}

// What trainer/critic.safetensors holds: weights and moments of a critic of its own; of a head on
// the model the weights alone, since its moments are with the model's.
typedef struct {
    TensorPart part;
    int n;
    const char *prefixes[3];
    float *arrays[3];
} CriticArrays;

// False if there is no critic.
static bool critic_arrays(CriticArrays *a, const Output *out, const GPT2 *model) {
    GPT2 *c = out->critic;
    if (!c) return false;
    *a = (CriticArrays){c == model ? TENSORS_SCORE : TENSORS_ALL,
                        c == model ? 1 : 3,
                        {"critic.", "exp_avg.", "exp_avg_sq."},
                        {c->params, c->adam_m, c->adam_v}};
    return true;
}

// True if flag i says what goes in, but may differ in a run that goes on: one before the heading "output"
// that flag_kept does not name. A checkpoint keeps these to explain why data or a reference differ.
static bool flag_of_input(const Output *out, int i) {
    const Flag *flag = &out->flags[i];
    for (int k = 0; k < i; k++)
        if (!out->flags[k].name && !strcmp(out->flags[k].help, "output")) return false;
    return flag->name && flag->type != FLAG_REMOVED && !flag_kept(out->flags, i);
}

// Save checkpoint-<step>: the model, the moments, the state; then, if the program set a limit,
// delete the oldest others. Dies if the disk fails; what was saved before is then still there.
static void checkpoint_save(Output *out, const GPT2 *model, const Tokenizer *tokenizer,
                            int64_t step, const StateField *fields, int n_fields) {
    static const char *const moments[] = {"exp_avg.", "exp_avg_sq."};
    stop_wait();
    int64_t *steps, metrics_bytes = 0;
    int n = checkpoint_list(out->dir, &steps);
    char *kept = n ? text_format("checkpoint-%" PRId64 " is kept", steps[n - 1])
                   : text_copy("there is no earlier checkpoint");
    char *name = text_format("checkpoint-%" PRId64, step), letters[40];
    free(steps);

    // The log's length belongs to the state, so the log must be on the disk first.
    struct stat st;
    int log = open(out->metrics_path, O_RDWR | O_CLOEXEC);
    if (log >= 0 && (disk_sync(log) || fstat(log, &st)))
        die(EXIT_IO, "%s: cannot write: %s; %s", out->metrics_path, strerror(errno), kept);
    if (log >= 0) metrics_bytes = st.st_size, close(log);

    Stage s;
    uint64_t bytes = stage_bytes(model, tokenizer, out->reference ? 4 : 3);
    if (out->critic && out->critic != model) bytes += stage_bytes(out->critic, NULL, 3);
    stage_begin(&s, out->dir, name, bytes, kept);
    char *trainer = path_join(s.dir, "trainer");
    if (disk_mkdir(trainer)) stage_fail(&s, "create", "trainer");
    free(trainer);
    output_stage(&s, out, model, tokenizer);
    stage_tensors(&s, "trainer/optimizer.safetensors", model, TENSORS_ALL, 2, moments,
                  (const float *const[]){model->adam_m, model->adam_v});
    if (out->reference)
        stage_tensors(&s, "trainer/reference.safetensors", out->reference, TENSORS_ALL, 1,
                      (const char *const[]){"reference."},
                      (const float *const[]){out->reference->params});
    CriticArrays critic;
    if (critic_arrays(&critic, out, model))
        stage_tensors(&s, "trainer/critic.safetensors", out->critic, critic.part, critic.n,
                      critic.prefixes, (const float *const *)critic.arrays);
    Text state = {0}, manifest = {0};
    text_print(&state,
               "{\n  \"format\": 2,\n  \"adam_step\": %" PRId64 ",\n  \"metrics_bytes\": %" PRId64
               ",\n  \"threads\": %d,\n  \"values\": {",
               model->adam_step, metrics_bytes, omp_get_max_threads());
    for (int i = 0; i < n_fields; i++)
        text_print(&state, "%s\n    \"%s\": \"%s\"", i ? "," : "", fields[i].name,
                   state_print(letters, &fields[i]));
    text_print(&state, "\n  },\n  \"flags\": ");
    flags_json(&state, out->flags, out->n_flags, true);
    text_print(&state, ",\n  \"input_flags\": {");
    const char *comma = "";
    for (int i = 0; i < out->n_flags; i++) {
        if (!flag_of_input(out, i)) continue;
        text_print(&state, "%s\n  \"%s\": ", comma, out->flags[i].name);
        comma = ",";
        flag_print(&state, &out->flags[i], true);
    }
    text_print(&state, "\n}\n}\n");
    stage_text(&s, "trainer/state.json", &state);
    text_print(&manifest, "{\n  \"format\": 1,\n  \"step\": %" PRId64 ",\n  \"files\": {", step);
    for (int i = 0; i < s.n_files; i++)
        text_print(&manifest,
                   "%s\n    \"%s\": {\"size\": %" PRIu64 ", \"hash\": \"%016" PRIx64 "\"}",
                   i ? "," : "", s.files[i].name, s.files[i].size, s.files[i].hash);
    text_print(&manifest, "\n  }\n}\n");
    stage_text(&s, "trainer/manifest.json", &manifest);
    stage_commit(&s);
    free(name), free(kept);

    // Only now that the new one is safe may old ones go, the lowest steps first. The new one stays
    // even if its step is the lowest, as after resuming from further back.
    n = checkpoint_list(out->dir, &steps);
    for (int i = 0, left = n; i < n && out->save_total_limit > 0; i++) {
        if (left <= out->save_total_limit || steps[i] == step) continue;
        name = text_format("checkpoint-%" PRId64, steps[i]);
        output_trash(out->dir, name);
        free(name);
        left--;
    }
    free(steps);
}

// Read what stage_tensors wrote: from dir/file, prefix + name of every tensor of each array.
static void state_tensors(const char *dir, const char *file, const GPT2 *model, TensorPart part,
                          int n_arrays, const char *const *prefixes, float *const *arrays) {
    SafeFile f;
    char *path = path_join(dir, file);
    safetensors_open(&f, path);
    for (int k = 0; k < n_arrays; k++)
        for (int i = 0; i < model->n_tensors; i++) {
            const Tensor *t = &model->tensors[i];
            if (!tensor_in(t, part)) continue;
            char *name = text_format("%s%s", prefixes[k], t->name);
            const SafeTensor *stored = safetensors_find(&f, name);
            if (!stored) die(EXIT_BAD_INPUT, "%s: missing tensor \"%s\"", path, name);
            weight_check_shape(&model->config, t, &f, stored);
            weight_read(&f, stored, arrays[k] + t->offset);
            free(name);
        }
    safetensors_close(&f);
    free(path);
}

// What a flag was when the checkpoint was saved, as JSON, in a new string, or NULL if it was the same. (A
// flag that the checkpoint does not know is newer than it, and had its default.) Both are compared as
// JSON: a number that was printed and read again is printed as it was.
static char *flag_before(const cJSON *saved, const Flag *flag, Text *now) {
    const cJSON *item = json_get(saved, flag->name);
    now->size = 0;
    flag_print(now, flag, true);
    cJSON *parsed = item ? cJSON_Parse(now->data) : NULL;
    const bool same = !item || cJSON_Compare(item, parsed, true);
    char *before = same ? NULL : cJSON_PrintUnformatted(item);
    cJSON_Delete(parsed);
    return before;
}

// How many examples an update has by the flags, or by `saved` if that is not NULL. 0: the program has no
// --gradient_accumulation_steps, and the size of its updates is another flag (PPO).
static double flags_update(const cJSON *saved, const Output *out) {
    double product = 1;
    static const char *const names[] = {"per_device_train_batch_size",
                                        "gradient_accumulation_steps"};
    for (int i = 0; i < COUNT(names); i++) {
        const Flag *flag = flag_find((Flag *)out->flags, out->n_flags, names[i]);
        if (!flag || !flag_has_value(flag)) return 0; // TRL has it, the program has not
        const cJSON *item = json_get(saved, names[i]);
        product *= cJSON_IsNumber(item) ? item->valuedouble : *(const int *)flag->value;
    }
    return product;
}

// Die if a flag that decides what is learnt is not what it was when the checkpoint was saved. The size of
// a forward pass may change where an update's does not: losses are divided by what the whole update has.
static void flags_compare(const cJSON *saved, const Output *out) {
    Text now = {0}, passes = {0};
    const double was_update = flags_update(saved, out), update = flags_update(NULL, out);
    for (int i = 0; i < out->n_flags; i++) {
        const Flag *flag = &out->flags[i];
        if (!flag->name || !flag_kept(out->flags, i)) continue;
        char *was = flag_before(saved, flag, &now);
        if (!was) continue;
        const bool pass = !strcmp(flag->name, "per_device_train_batch_size") ||
                          !strcmp(flag->name, "gradient_accumulation_steps");
        if (pass && was_update == update)
            text_print(&passes, "%s--%s was %s, is now %s", passes.size ? ", " : "", flag->name,
                       was, now.data);
        else if (pass)
            die(EXIT_BAD_INPUT,
                "%s: cannot resume: --%s was %s, is now %s: an update had %.0f examples, is now to "
                "have %.0f (--per_device_train_batch_size times --gradient_accumulation_steps)",
                out->resume_dir, flag->name, was, now.data, was_update, update);
        else
            die(EXIT_BAD_INPUT, "%s: cannot resume: --%s was %s, is now %s", out->resume_dir,
                flag->name, was, now.data);
        free(was);
    }
    if (passes.size)
        warn("%s: %s: an update's sums are in another order, so this run will not continue bit for "
             "bit",
             out->resume_dir, passes.data);
    text_free(&now), text_free(&passes);
}

// Append which of these flags differ: "--dataset was "a", is now "b"".
static void flags_differ(Text *to, const cJSON *saved, const Output *out) {
    Text now = {0};
    for (int i = 0; i < out->n_flags; i++) {
        if (!flag_of_input(out, i)) continue;
        char *was = flag_before(saved, &out->flags[i], &now);
        if (was)
            text_print(to, "%s--%s was %s, is now %s", to->size ? ", " : "", out->flags[i].name,
                       was, now.data);
        free(was);
    }
    text_free(&now);
}

// Bring back the moments and the state of out->resume_dir into a model that was loaded from there
// and is ready to train. Dies if a MATCH_ value is not what it was.
static void checkpoint_resume(Output *out, GPT2 *model, const StateField *fields, int n_fields) {
    char *path = path_join(out->resume_dir, "trainer/state.json"), letters[40];
    cJSON *json = json_read(path);
    int64_t format = 0, threads = 0;
    json_integer(json_get(json, "format"), &format);
    if (format == 1)
        die(EXIT_BAD_INPUT,
            "%s: saved by an earlier version of align.c, whose runs this one cannot go on with",
            out->resume_dir);
    if (format != 2 || !json_integer(json_get(json, "adam_step"), &model->adam_step) ||
        !json_integer(json_get(json, "metrics_bytes"), &out->metrics_bytes) ||
        !json_integer(json_get(json, "threads"), &threads))
        die(EXIT_BAD_INPUT, "%s: not a training state of format 2", path);
    flags_compare(json_get(json, "flags"), out);
    // A MATCH_ value is compared by its letters and left alone, the others are set.
    for (int i = 0; i < n_fields; i++) {
        const cJSON *item = json_get(json_get(json, "values"), fields[i].name);
        if (!cJSON_IsString(item))
            die(EXIT_BAD_INPUT, "%s: no \"%s\": saved by another program?", path, fields[i].name);
        const char *saved = item->valuestring;
        if (fields[i].flag && strcmp(saved, state_print(letters, &fields[i]))) {
            Text differ = {0};
            flags_differ(&differ, json_get(json, "input_flags"), out);
            die(EXIT_BAD_INPUT, "%s: cannot resume: %s was %s, is now %s; see %s%s%s",
                out->resume_dir, fields[i].name, saved, letters, fields[i].flag,
                differ.size ? ": " : "", differ.size ? differ.data : "");
        }
        if (!fields[i].flag && !state_scan(&fields[i], saved))
            die(EXIT_BAD_INPUT, "%s: \"%s\": bad value \"%s\"", path, fields[i].name, saved);
    }
    // Sums are split among threads, so another number of them rounds differently.
    if (threads != omp_get_max_threads())
        warn("%s was saved with %" PRId64 " threads, this run has %d: it will not continue bit for "
             "bit",
             out->resume_dir, threads, omp_get_max_threads());
    cJSON_Delete(json);
    free(path);

    // The moments, with the same checks as weights: shape, type, no NaN.
    state_tensors(out->resume_dir, "trainer/optimizer.safetensors", model, TENSORS_ALL, 2,
                  (const char *const[]){"exp_avg.", "exp_avg_sq."},
                  (float *const[]){model->adam_m, model->adam_v});
    if (out->reference) {
        state_tensors(out->resume_dir, "trainer/reference.safetensors", out->reference, TENSORS_ALL,
                      1, (const char *const[]){"reference."},
                      (float *const[]){out->reference->params});
        weights_changed(out->reference);
    }
    CriticArrays critic;
    if (!critic_arrays(&critic, out, model)) return;
    state_tensors(out->resume_dir, "trainer/critic.safetensors", out->critic, critic.part, critic.n,
                  critic.prefixes, critic.arrays);
    weights_changed(out->critic);
    out->critic->adam_step = model->adam_step; // they make their steps together
}

#endif
