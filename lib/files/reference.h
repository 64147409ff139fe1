// reference.h: the log-probs that a frozen reference model gives to the completions of a data set.
//
// They never change, so they are computed once, before training, and kept in a file: the next run
// with the same reference and data starts at once. The file is
//
//     "alignref", key, n (8 bytes each); the floats of n examples, one for each completion;
//     a checksum (8 bytes)
//
// and is called after its key, a hash of all that its numbers depend on to the bit. A folder keeps
// the REF_KEPT files that were made or read last; older ones go when a new one comes.
#ifndef REFERENCE_H
#define REFERENCE_H

#include "../../losses.h"
#include "../data/preferences.h"
#include "../../model.h"
#include "checkpoint.h"

// In one batch, at most (more tokens if a single example has them); files in a folder.
enum { REF_EXAMPLES = 64, REF_TOKENS = 4096, REF_KEPT = 16 };

typedef struct {
    uint64_t magic, key, n;
} ReferenceHeader;

static const uint64_t reference_magic = 0x6665726E67696C61; // "alignref"

// ------------------------------------------------------------------------------------------------
// The file

// Read `count` floats of n examples from the file; false if it is not there or, with a warning, not
// what it should be.
static bool reference_read(float *logps, size_t count, const char *path, uint64_t key, int n) {
    const size_t bytes = count * sizeof(float), end = sizeof(ReferenceHeader) + bytes;
    ReferenceHeader header;
    uint64_t checksum;
    DiskHash hash = disk_hash_begin();
    struct stat st;
    const int fd = disk_open(path, O_RDONLY);
    if (fd < 0) return false;
    bool sound = !fstat(fd, &st) && (size_t)st.st_size == end + sizeof checksum &&
                 disk_read(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
                 disk_read(fd, logps, bytes, sizeof header) == (ssize_t)bytes &&
                 disk_read(fd, &checksum, sizeof checksum, end) == (ssize_t)sizeof checksum;
    disk_close(fd);
    if (sound) {
        disk_hash_add(&hash, &header, sizeof header), disk_hash_add(&hash, logps, bytes);
        sound = checksum == disk_hash_end(&hash);
    }
    const bool ours =
        sound && header.magic == reference_magic && header.key == key && header.n == (uint64_t)n;
    if (!ours)
        warn("%s: %s; the reference log-probs are computed again", path,
             sound ? "belongs to another reference or other data" : "is damaged");
    else utimensat(AT_FDCWD, path, NULL, 0); // used now: the last to be tidied away
    return ours;
}

// A file on its way to the disk, with the checksum of what was written so far.
typedef struct {
    DiskFile disk;
    DiskHash hash;
} ReferenceFile;

static void reference_write(ReferenceFile *f, const void *bytes, size_t n) {
    disk_hash_add(&f->hash, bytes, n);
    disk_file_write(&f->disk, bytes, n);
}

// Begin the file `path` in the folder `dir`, which is made if need be.
static void reference_begin(ReferenceFile *f, const char *dir, const char *path,
                            const ReferenceHeader *header) {
    disk_mkdir(dir); // if that fails, so does the next call
    disk_sweep(dir, NULL, false);
    *f = (ReferenceFile){.disk = disk_file_begin(path), .hash = disk_hash_begin()};
    reference_write(f, header, sizeof *header);
}

// Give the file its name if it is `whole`; returns whether it has it now.
static bool reference_end(ReferenceFile *f, const char *dir, const char *path, bool whole) {
    const uint64_t checksum = disk_hash_end(&f->hash);
    reference_write(f, &checksum, sizeof checksum);
    const int error = disk_file_end(&f->disk, whole);
    if (error) warn("%s: cannot keep the reference log-probs: %s", path, strerror(error));
    else if (whole) disk_tidy(dir, path, REF_KEPT);
    return !error && whole;
}

// ------------------------------------------------------------------------------------------------
// The numbers

// Tokens of example i if the prompt stands in front of each completion.
static size_t example_tokens(const PieceSet *d, int i) {
    const size_t *start = d->start + (size_t)d->pieces * (size_t)i;
    return start[d->pieces] - start[0] + (size_t)(d->pieces - 2) * (start[1] - start[0]);
}

// log ref(y | x) of all completions y of the n examples: returns (n, pieces - 1), for pairs chosen
// and rejected. They come from the file in `dir`, or from the model and then into the file, batch
// by batch. A file that cannot be written costs the next run time and this one a warning. `share`:
// pairs go through the model as in pairs_batch. `name` names the data in messages. Ends early, with
// zeros, when the program is asked to stop. Release with free().
static float *reference_logps(GPT2 *reference, uint64_t reference_hash, const PieceSet *data,
                              bool share, const char *name, const char *dir) {
    const int sides = data->n ? data->pieces - 1 : 1; // an empty set has no pieces either
    const size_t count = (size_t)data->n * (size_t)sides;
    const char *what = sides == 2 ? "pairs" : "examples";
    float *logps = mem_floats(count);
    if (!data->n) return logps;
    // The last bits of a log-prob depend on the batch's shape and on the number of threads. So the
    // batches do not depend on those of the training, and the threads are in the key; and so is
    // bfloat16, which changes more than those.
    const uint64_t parts[] = {reference_hash,
                              pieces_hash(data),
                              (uint64_t)data->pieces,
                              (uint64_t)share,
                              (uint64_t)omp_get_max_threads(),
                              (uint64_t)use_bf16};
    DiskHash hash = disk_hash_begin();
    disk_hash_add(&hash, parts, sizeof parts);
    const ReferenceHeader header = {reference_magic, disk_hash_end(&hash), (uint64_t)data->n};
    char *path = text_format("%s/%016" PRIx64 ".ref", dir, header.key), spent[32];
    if (reference_read(logps, count, path, header.key, data->n)) {
        printf("%s: reference log-probs of %d %s from %s\n", name, data->n, what, path);
        free(path);
        return logps;
    }
    ReferenceFile file;
    Batch batch = {0};
    const int longest = sides * data->max_length, rows = 3 * REF_EXAMPLES;
    float *logp = mem_floats((size_t)(longest > REF_TOKENS ? longest : REF_TOKENS));
    float *sum = mem_floats((size_t)rows);
    int *tokens = mem_alloc((size_t)rows, sizeof *tokens);
    const double began = seconds_now();
    reference_begin(&file, dir, path, &header);
    for (int first = 0, n; first < data->n && !stop_signal; first += n) {
        int indices[REF_EXAMPLES];
        size_t room = REF_TOKENS;
        for (n = 0; first + n < data->n && n < REF_EXAMPLES; n++) {
            const size_t needs = example_tokens(data, first + n);
            if (n > 0 && needs > room) break;
            room -= needs < room ? needs : room;
            indices[n] = first + n;
        }
        if (sides == 2) pairs_batch(&batch, data, indices, n, share);
        else labels_batch(&batch, data, indices, indices, n);
        gpt2_forward(reference, &batch);
        lm_head_forward(reference, logp);
        row_sum_forward(sum, tokens, logp, batch.mask, batch.row_start, batch.R);
        float *to = logps + (size_t)sides * (size_t)first;
        for (int i = 0; i < n * sides; i++) {
            to[i] = sum[share && sides == 2 ? 3 * (i / 2) + 1 + i % 2 : i]; // no row of a prompt
            if (!isfinite(to[i]))
                die(EXIT_DIVERGED, "%s: example %d: the reference gives completion %d log-prob %g",
                    name, first + i / sides + 1, i % sides + 1, (double)to[i]);
        }
        reference_write(&file, to, (size_t)(n * sides) * sizeof(float));
        progress_show("reference log-probs: %d of %d %s", first + n, data->n, what);
    }
    progress_clear();
    const bool kept = reference_end(&file, dir, path, !stop_signal);
    if (!stop_signal)
        printf("%s: reference log-probs of %d %s in %s%s%s\n", name, data->n, what,
               time_format(spent, seconds_now() - began), kept ? ", kept in " : "",
               kept ? path : "");
    batch_free(&batch), free(logp), free(sum), free(tokens), free(path);
    return logps;
}

#endif
