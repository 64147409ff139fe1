// bf16_model.c: the weights of a model in bfloat16: half the size; each is rounded to the nearest number
// with 8 bits of mantissa (ties to even). All programs read such a file; what they train from it is
// float32 again. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/bf16_model.c -o bf16_model -lopenblas -lcjson -lm
//
//     ./bf16_model --input out/pretrain/stories/final/model.safetensors --output model.safetensors
//
// The output is replaced if it is there. dev/repro/pretrain.sh makes data/stories with it.
#include "../lib/base/common.h"
#include "../lib/base/disk.h"
#include "../lib/base/flags.h"
#include "../lib/base/bf16.h"
#include "../lib/files/safetensors.h"

// The file of the tensors of `from` in bfloat16: as `safetensors` would write it, sorted by name.
static void weights_round(Text *out, const SafeFile *from) {
    SafeEntry *entries = mem_alloc((size_t)from->n, sizeof *entries);
    Text json = {0}, data = {0};
    for (int i = 0; i < from->n; i++) {
        const SafeTensor *t = &from->tensors[i];
        SafeEntry *e = &entries[i];
        snprintf(e->name, sizeof e->name, "%s", t->name);
        e->rank = t->rank;
        memcpy(e->dims, t->dims, sizeof e->dims);
    }
    qsort(entries, (size_t)from->n, sizeof *entries, safe_compare_names);
    text_print(&json, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < from->n; i++) {
        const SafeTensor *t = safetensors_find(from, entries[i].name);
        const size_t n = safe_entry_floats(&entries[i]), begin = data.size;
        char shape[96];
        float *x = mem_floats(n);
        safetensors_read(from, t, 0, n, x);
        for (size_t k = 0; k < n; k++) {
            const uint16_t bits = (uint16_t)bf16_round(x[k]);
            text_append(&data, &bits, sizeof bits);
        }
        free(x);
        text_append(&json, ",", 1);
        text_json(&json, t->name, strlen(t->name));
        text_print(&json, ":{\"dtype\":\"BF16\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                   safe_shape(shape, t->rank, t->dims), begin, data.size);
    }
    text_append(&json, "}", 1);
    while (json.size % 8) text_append(&json, " ", 1);
    const uint64_t size = json.size;
    text_append(out, &size, sizeof size);
    text_append(out, json.data, json.size);
    text_append(out, data.data, data.size);
    text_free(&json), text_free(&data), free(entries);
}

int main(int argc, char **argv) {
    struct {
        const char *input, *output;
    } args = {0};
    Flag flags[] = {
        FLAG_TEXT(args, input, "a model.safetensors"),
        FLAG_TEXT(args, output, "file to write"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "a model's weights in bfloat16", NULL);
    if (!args.input || !args.output) die(EXIT_USAGE, "give --input and --output");
    SafeFile file;
    Text out = {0};
    safetensors_open(&file, args.input);
    weights_round(&out, &file);
    safetensors_close(&file);
    disk_file_save(args.output, out.data, out.size);
    printf("%s: %zu bytes\n", args.output, out.size);
    text_free(&out);
    return stdout_end();
}
