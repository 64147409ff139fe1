// splits.h: which files of a folder are its training data and which are for tests, by their names, as the
// `datasets` library finds them: train.jsonl, train-00000-of-00002.jsonl.gz, data/test.jsonl, test/a.jsonl.
#ifndef SPLITS_H
#define SPLITS_H

#include "../base/common.h" // defines: die, Text, path_join
#include <dirent.h>

// The words by which a file name says that it belongs to a split: those of the `datasets` library, or the
// split's own name alone.
static const char *split_words(const char *split) {
    static const char *const words[] = {"train|training", "validation|valid|dev|val",
                                        "test|testing|eval|evaluation"};
    static const char *const names[] = {"train", "validation", "test"};
    for (int i = 0; i < COUNT(names); i++)
        if (!strcmp(split, names[i])) return words[i];
    return split;
}

// True if the name has one of the words "a|b", with no letter beside it.
static bool split_has_word(const char *name, const char *words) {
    bool found = false;
    char *copy = text_copy(words);
    for (char *word = strtok(copy, "|"); word && !found; word = strtok(NULL, "|")) {
        const size_t n = strlen(word);
        for (const char *at = strstr(name, word); at && !found; at = strstr(at + 1, word))
            found =
                (at == name || !isalpha((unsigned char)at[-1])) && !isalpha((unsigned char)at[n]);
    }
    free(copy);
    return found;
}

// True if a file of this name can be data: .jsonl, .json or .txt, maybe compressed, and none of those that
// describe a folder, or belong to a model or a run.
static bool split_is_data(const char *name) {
    static const char *const ends[] = {".jsonl",    ".json",    ".txt",
                                       ".jsonl.gz", ".json.gz", ".jsonl.zst",
                                       ".json.zst", ".txt.gz",  ".txt.zst"};
    // clang-format off
    static const char *const others[] = {
        "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",
        "config.json", "generation_config.json", "vocab.json", "merges.txt", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "run.json", "metrics.jsonl"};
    // clang-format on
    for (int i = 0; i < COUNT(others); i++)
        if (!strcmp(name, others[i])) return false;
    for (int i = 0; i < COUNT(ends); i++)
        if (text_has_suffix(name, ends[i])) return true;
    return false;
}

// Paths of data files below a folder, as seen from there.
typedef struct {
    char **names; // (n)
    int n;
} SplitFiles;

static int split_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Add the data files of the folder `dir`, which is `below` as seen from the first one ("": itself), and
// of all folders in it but hidden ones. At most `depth` folders deep, should one lead back to another.
static void split_collect(SplitFiles *files, const char *dir, const char *below, int depth) {
    DIR *stream = opendir(dir);
    if (!stream) return;
    for (struct dirent *e; (e = readdir(stream));) {
        if (*e->d_name == '.') continue;
        char *path = path_join(dir, e->d_name);
        char *name = *below ? path_join(below, e->d_name) : text_copy(e->d_name);
        if (path_is_dir(path) && depth > 0) split_collect(files, path, name, depth - 1);
        if (path_is_file(path) && split_is_data(e->d_name)) {
            files->names = mem_resize(files->names, (size_t)files->n + 1, sizeof *files->names);
            files->names[files->n++] = text_copy(name);
        }
        free(path), free(name);
    }
    closedir(stream);
}

// Where a file is looked at for a word: data/train-00000-of-00002.jsonl, the names of its folders, its own.
typedef enum { SPLIT_SHARD, SPLIT_FOLDER, SPLIT_NAME, SPLIT_PLACES } SplitPlace;

// True if the file speaks of one of the words "a|b" in this place; NULL: of any split (a shard), or of one
// of the three.
static bool split_speaks(const char *name, SplitPlace place, const char *words) {
    static const char any[] =
        "train|training|validation|valid|dev|val|test|testing|eval|evaluation";
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    if (place == SPLIT_SHARD) { // data/SPLIT-NNNNN-of-NNNNN
        static const char digits[] = "0123456789";
        const char *of = strstr(base, "-of-"), *dash = of && of - base > 6 ? of - 6 : base;
        if (strncmp(name, "data/", 5) || base != name + 5 || *dash != '-') return false;
        if (strspn(dash + 1, digits) != 5 || strspn(of + 4, digits) < 5) return false;
        const size_t n = (size_t)(dash - base);
        return !words || (strlen(words) == n && !strncmp(base, words, n));
    }
    if (place == SPLIT_NAME) return split_has_word(base, words ? words : any);
    char *folders = text_format("%.*s", (int)(base - name), name);
    const bool speaks = split_has_word(folders, words ? words : any);
    free(folders);
    return speaks;
}

// The files of a split of the folder, in the order of their names and with commas between; NULL if there
// are none. Of the places where a file can name its split the first counts that any file uses. If none
// does, all files are for training. A split that is none of the usual three is looked for by its name in
// every place. Release with free().
static char *split_files(const char *dir, const char *split) {
    const char *words = split_words(split);
    const bool usual = words != split;
    SplitFiles files = {0};
    Text list = {0};
    split_collect(&files, dir, "", 8);
    if (files.n) qsort(files.names, (size_t)files.n, sizeof *files.names, split_compare);
    SplitPlace place = SPLIT_SHARD;
    for (bool used = false; place < SPLIT_PLACES; place++) {
        for (int i = 0; i < files.n; i++)
            used |= split_speaks(files.names[i], place, usual ? NULL : words);
        if (used) break;
    }
    for (int i = 0; i < files.n; i++) {
        const bool in = place < SPLIT_PLACES ? split_speaks(files.names[i], place,
                                                            place == SPLIT_SHARD ? split : words)
                                             : !strcmp(split, "train");
        char *path = path_join(dir, files.names[i]);
        if (in) text_print(&list, "%s%s", list.size ? "," : "", path);
        if (in && list.size > strlen(path) && strchr(path, ','))
            die(EXIT_BAD_INPUT, "%s: one of several data files, and a comma in its path", path);
        free(path), free(files.names[i]);
    }
    free(files.names);
    return list.data;
}

#endif
