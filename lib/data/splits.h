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
// describe a folder.
static bool split_is_data(const char *name) {
    static const char *const ends[] = {".jsonl",   ".json",      ".txt",      ".jsonl.gz",
                                       ".json.gz", ".jsonl.zst", ".json.zst", NULL};
    static const char *const others[] = {"config.json",        "dataset_info.json",
                                         "dataset_infos.json", "dataset_dict.json",
                                         "state.json",         NULL};
    for (int i = 0; others[i]; i++)
        if (!strcmp(name, others[i])) return false;
    for (int i = 0; ends[i]; i++) {
        const size_t n = strlen(name), k = strlen(ends[i]);
        if (n > k && !strcmp(name + n - k, ends[i])) return true;
    }
    return false;
}

static int split_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The data files of a folder whose names have one of the words (NULL: all), in the order of their names
// and with commas between; NULL if there are none.
static char *split_list(const char *dir, const char *words) {
    Text list = {0};
    char **names = NULL;
    int n = 0;
    DIR *stream = opendir(dir);
    if (!stream) return NULL;
    for (struct dirent *e; (e = readdir(stream));) {
        if (*e->d_name == '.' || !split_is_data(e->d_name)) continue;
        if (words && !split_has_word(e->d_name, words)) continue;
        names = mem_resize(names, (size_t)n + 1, sizeof *names);
        names[n++] = text_copy(e->d_name);
    }
    closedir(stream);
    if (n) qsort(names, (size_t)n, sizeof *names, split_compare);
    for (int i = 0; i < n; i++) {
        char *path = path_join(dir, names[i]);
        if (n > 1 && strchr(path, ','))
            die(EXIT_BAD_INPUT, "%s: one of several data files, and a comma in its path", path);
        text_print(&list, "%s%s", list.size ? "," : "", path);
        free(path), free(names[i]);
    }
    free(names);
    return list.data;
}

// The files of a split of the folder: of the split's own name, or else with one of its words, in the
// folder or its data/; or all of a folder inside that has the split's name. For "train" all files of a
// folder in which no name speaks of a split. NULL if there are none. Release with free().
static char *split_files(const char *dir, const char *split) {
    static const char any[] =
        "train|training|validation|valid|dev|val|test|testing|eval|evaluation";
    const char *words[] = {split, split_words(split)};
    char *data = path_join(dir, "data"), *inside = path_join(dir, split), *found = NULL;
    const char *places[] = {dir, data};
    for (int w = 0; w < 2 && !found; w++)
        for (int i = 0; i < 2 && !found; i++) found = split_list(places[i], words[w]);
    if (!found) found = split_list(inside, NULL);
    for (int i = 0; i < 2 && !found && !strcmp(split, "train"); i++) {
        char *others = split_list(places[i], any);
        if (!others) found = split_list(places[i], NULL);
        free(others);
    }
    free(data), free(inside);
    return found;
}

#endif
