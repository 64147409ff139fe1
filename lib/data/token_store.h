// token_store.h: the ids of a text's tokens, back to back, in memory or in a file that is mapped into it.
// Making them from a long text takes longer than all else that a run does before its first step, and they
// are always the same: so they are kept in a file, and the next run with this text and this tokenizer maps it.
// Its pages are shared by all runs that use it, and the system may drop them when memory is short. The file is
//
//     StoreHeader (6 numbers of 8 bytes); n ids of 2 bytes, or of 4 where the vocabulary is larger
//
// and is called after its key, a hash of all that decides the ids: the text file's bytes, the tokenizer, the
// number of this form. A folder keeps the STORE_KEPT files that were made or read last; older ones go when a
// new one comes.
#ifndef TOKEN_STORE_H
#define TOKEN_STORE_H

#include "../base/disk.h"      // defines: DiskFile, DiskHash, disk_sweep, disk_tidy
#include "../base/tokenizer.h" // defines: Tokenizer
#include <sys/mman.h>

// To be raised when a tokenizer begins to give other ids for the same files and text.
enum { STORE_VERSION = 1 };

enum { STORE_KEPT = 16 }; // files in a folder

typedef struct {
    int users; // sets that have rows of it
    size_t n, capacity;
    size_t width;        // bytes of an id: 2 or 4
    void *ids;           // (n) uint16_t or int32_t
    unsigned char *mask; // (n) 1: counts in the loss; NULL: all do but the first of each row
    void *map;           // where `ids` is in a file: all of it, as mapped memory
    size_t map_bytes;
    // what store_keep needs; NULL: nothing is to be kept
    char *text_path, *path; // of the text, and of the file for the ids
    uint64_t text_hash, key;
} TokenStore;

typedef struct {
    uint64_t magic, key, n, width;
    uint64_t checksum; // of the ids
    uint64_t own;      // of the five numbers above
} StoreHeader;

static const uint64_t store_magic = 0x6B6F746E67696C61; // "aligntok", the lowest byte first

// ------------------------------------------------------------------------------------------------
// Ids

// An empty store for the ids of a vocabulary of this size. Release with store_free().
static TokenStore *store_new(int vocab_size) {
    TokenStore *s = mem_alloc(1, sizeof *s);
    s->users = 1;
    s->width = vocab_size <= UINT16_MAX + 1 ? sizeof(uint16_t) : sizeof(int32_t);
    return s;
}

// Append n ids. mask (n): which count in the loss; NULL in every call if the store has no mask.
static void store_add(TokenStore *s, const int *ids, const unsigned char *mask, size_t n) {
    if (s->n + n > s->capacity) {
        s->capacity += s->capacity / 2 + n;
        s->ids = mem_resize(s->ids, s->capacity, s->width);
        if (mask) s->mask = mem_resize(s->mask, s->capacity, 1);
    }
    uint16_t *narrow = s->ids;
    if (s->width == sizeof *narrow)
        for (size_t i = 0; i < n; i++) narrow[s->n + i] = (uint16_t)ids[i];
    else if (n) memcpy((int32_t *)s->ids + s->n, ids, n * sizeof *ids);
    if (mask) memcpy(s->mask + s->n, mask, n);
    s->n += n;
}

// The id of number i.
static int store_id(const TokenStore *s, size_t i) {
    return s->width == sizeof(uint16_t) ? ((const uint16_t *)s->ids)[i]
                                        : ((const int32_t *)s->ids)[i];
}

// ids (n) <- those from number `at` on.
static void store_read(const TokenStore *s, size_t at, int *ids, size_t n) {
    const uint16_t *narrow = s->ids;
    if (s->width == sizeof *narrow)
        for (size_t i = 0; i < n; i++) ids[i] = narrow[at + i];
    else memcpy(ids, (const int32_t *)s->ids + at, n * sizeof *ids);
}

// A user less; the last one releases it. NULL is allowed.
static void store_free(TokenStore *s) {
    if (!s || --s->users) return;
    if (s->map) munmap(s->map, s->map_bytes);
    else free(s->ids);
    free(s->mask), free(s->text_path), free(s->path);
    free(s);
}

// ------------------------------------------------------------------------------------------------
// The key

// A hash of the bytes of a file, as it is on the disk, and their number: false if it is not a regular file, or
// cannot be read.
static bool store_file_hash(const char *path, uint64_t *result, int64_t *bytes) {
    struct stat st;
    DiskHash hash = disk_hash_begin();
    const int fd = disk_open(path, O_RDONLY);
    if (fd < 0) return false;
    const bool read = !fstat(fd, &st) && S_ISREG(st.st_mode) && disk_hash_file(&hash, fd, 0);
    disk_close(fd);
    *result = disk_hash_end(&hash);
    *bytes = (int64_t)hash.size;
    return read;
}

// Add a string with its end, so that "ab", "c" is not "a", "bc".
static void hash_string(DiskHash *h, const char *s) { disk_hash_add(h, s, strlen(s) + 1); }

// A hash of all that decides which ids a text becomes, as the tokenizer is in memory: whichever files it
// came from, and what was added to it since.
static uint64_t store_tokenizer_hash(const Tokenizer *t) {
    DiskHash h = disk_hash_begin();
    const int numbers[] = {t->vocab_size, t->eos_id,       t->split_special, t->n_cuts,
                           t->n_added,    t->prefix_space, t->whole,         t->ignore_merges,
                           t->unk_piece,  t->fuse_unk,     t->normalizer.n,  (int)t->before.n};
    const cJSON *piece;
    disk_hash_add(&h, numbers, sizeof numbers);
    disk_hash_add(&h, t->byte_id, sizeof t->byte_id);
    disk_hash_add(&h, t->merges, t->merge_slots * sizeof *t->merges);
    if (t->before.n) disk_hash_add(&h, t->before.data, t->before.n * sizeof *t->before.data);
    for (int i = 0; i < t->n_cuts; i++) disk_hash_add(&h, &t->cuts[i], sizeof t->cuts[i]);
    cJSON_ArrayForEach(piece, t->vocab) {
        hash_string(&h, piece->string);
        disk_hash_add(&h, &piece->valuedouble, sizeof piece->valuedouble);
    }
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        const int flags[] = {a->id,          a->special, a->normalized,
                             a->single_word, a->lstrip,  a->rstrip};
        hash_string(&h, a->name);
        disk_hash_add(&h, flags, sizeof flags);
    }
    for (int i = 0; i < t->normalizer.n; i++) {
        const NormalStep *step = &t->normalizer.steps[i];
        const int kind[] = {(int)step->kind, step->left, step->right};
        disk_hash_add(&h, kind, sizeof kind);
        hash_string(&h, step->from ? step->from : "");
        hash_string(&h, step->to ? step->to : "");
    }
    return disk_hash_end(&h);
}

// ------------------------------------------------------------------------------------------------
// The file

// A page of a mapped file cannot be read: somebody has cut the file, or the disk fails.
static void store_lost(int number) {
    static const char text[] =
        "error: a file of kept tokens (--token_cache_dir) can no longer be read; go on with "
        "--resume_from_checkpoint latest\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(EXIT_IO);
    _exit(EXIT_IO);
}

// The checksum of a header's numbers but the last.
static uint64_t store_header_hash(const StoreHeader *header) {
    DiskHash hash = disk_hash_begin();
    disk_hash_add(&hash, header, offsetof(StoreHeader, own));
    return disk_hash_end(&hash);
}

// True if the open file of this size is what store_keep writes for these numbers. All of it is read once,
// which has its pages in memory for what comes.
static bool store_check(int fd, size_t bytes, StoreHeader *header, uint64_t key, size_t width) {
    if (disk_read(fd, header, sizeof *header, 0) != (ssize_t)sizeof *header) return false;
    if (header->magic != store_magic || header->own != store_header_hash(header)) return false;
    if (header->key != key || header->width != width || !header->n) return false;
    if (header->n > (SIZE_MAX - sizeof *header) / width ||
        bytes != sizeof *header + header->n * width)
        return false;
    DiskHash hash = disk_hash_begin();
    return disk_hash_file(&hash, fd, sizeof *header) && disk_hash_end(&hash) == header->checksum;
}

// Map the store's file in place of what is in memory. False if it is not there or, with a warning (unless it
// has been given), not what it should be.
static bool store_map(TokenStore *s, bool warned) {
    struct stat st;
    StoreHeader header;
    const int fd = disk_open(s->path, O_RDONLY);
    if (fd < 0) return false;
    bool sound = !fstat(fd, &st) && S_ISREG(st.st_mode) &&
                 store_check(fd, (size_t)st.st_size, &header, s->key, s->width);
    void *map = sound ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    disk_close(fd);
    if (!sound && !warned)
        warn("%s: is damaged, or of another kind of machine: it is made again", s->path);
    if (map == MAP_FAILED) return false;
    signal(SIGBUS, store_lost);
    utimensat(AT_FDCWD, s->path, NULL, 0); // used now: the last to be tidied away
    free(s->ids);
    s->map = map;
    s->map_bytes = (size_t)st.st_size;
    s->ids = (char *)map + sizeof header;
    s->n = header.n;
    s->capacity = 0;
    return true;
}

// Look whether the ids of the text file `path` by this tokenizer are kept in the folder `dir`: then they are
// mapped. Otherwise store_keep will know where to keep them, once they are there. Nothing is done about a
// text of fewer than `least` bytes, or one that cannot be read twice.
static bool store_find(TokenStore *s, const char *path, const Tokenizer *t, const char *dir,
                       int64_t least) {
    struct stat st;
    int64_t bytes;
    if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_size < least) return false;
    if (!store_file_hash(path, &s->text_hash, &bytes)) return false;
    const uint64_t parts[] = {STORE_VERSION, s->text_hash, (uint64_t)bytes,
                              store_tokenizer_hash(t)};
    DiskHash hash = disk_hash_begin();
    disk_hash_add(&hash, parts, sizeof parts);
    s->key = disk_hash_end(&hash);
    s->text_path = text_copy(path);
    s->path = text_format("%s/%016" PRIx64 ".tokens", dir, s->key);
    return store_map(s, false);
}

// Write the ids as the store's file; 0, or the errno of what failed.
static int store_write(const TokenStore *s) {
    StoreHeader header = {.magic = store_magic, .key = s->key, .n = s->n, .width = s->width};
    DiskHash hash = disk_hash_begin();
    disk_hash_add(&hash, s->ids, s->n * s->width);
    header.checksum = disk_hash_end(&hash);
    header.own = store_header_hash(&header);
    DiskFile file = disk_file_begin(s->path);
    disk_file_write(&file, &header, sizeof header);
    disk_file_write(&file, s->ids, s->n * s->width);
    return disk_file_end(&file, true);
}

// If store_find wanted the ids to be kept: write the file, unless another run was faster, and map it in place
// of the memory. Where it cannot be written, a warning is all: they stay in memory, and the next run makes them
// again. So it is, too, where the text file was changed meanwhile.
static void store_keep(TokenStore *s) {
    uint64_t now;
    int64_t bytes;
    if (!s->path || s->map) return;
    char *dir = text_copy(s->path);
    *strrchr(dir, '/') = 0;
    if (!store_file_hash(s->text_path, &now, &bytes) || now != s->text_hash) {
        warn("%s: was changed while it was read: its tokens are not kept", s->text_path);
    } else if (!store_map(s, true)) {
        disk_mkdir(dir); // if that fails, so does the next call
        disk_sweep(dir, NULL, false);
        const int error = store_write(s);
        if (error)
            warn("%s: cannot keep the tokens of %s: %s", s->path, s->text_path, strerror(error));
        else disk_tidy(dir, s->path, STORE_KEPT);
        if (!error) store_map(s, false);
    }
    if (s->map) printf("%s: %zu tokens kept in %s\n", s->text_path, s->n, s->path);
    free(dir);
}

#endif
