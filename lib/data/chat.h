// chat.h: conversations as text. From top to bottom:
//
//   forms      how one turn after another is written
//   tokens     the text as ids: those of the form's own tokens, and no user's words become them
//   template   a model's chat template, brought to a normal form and compared with those known here
//   opening    the form for a run: by its flag or by the model's template
//
// GPT-2 has no tokens for roles, so where nothing else is said a conversation is plain text:
//
//   hh       "\n\nHuman: ..\n\nAssistant: .." as in HH-RLHF (Bai et al. 2022)
//   simple   "User: ..\n\nAssistant: .."
//
// Models that were trained to talk have a template, a program in the language Jinja that transformers
// runs (apply_chat_template). This reader does not run programs: it knows the common ones.
//
//   chatml   "<|im_start|>user\n..<|im_end|>\n<|im_start|>assistant\n..<|im_end|>\n" (OpenAI)
//   llama2   "<s>[INST] <<SYS>>\n..\n<</SYS>>\n\n.. [/INST] .. </s>" (Touvron et al. 2023)
//   zephyr   "<|user|>\n..</s>\n<|assistant|>\n..</s>\n" (Tunstall et al. 2023)
//
// A prompt ends where the assistant is to speak, so its tokens are the same whether a reply follows or
// is yet to be generated. A conversation ends with its last turn's last word or token: the line feed
// that ChatML and Zephyr put after every turn comes before the next one, and after the last there is
// none, since nothing is ever generated after the end of a text.
#ifndef CHAT_H
#define CHAT_H

#include "../base/common.h"    // defines: die, warn, Text
#include "../base/json.h"      // defines: json_read, json_get
#include "../base/jsonl.h"     // defines: json_type_name
#include "../base/tokenizer.h" // defines: Tokenizer, tokenizer_encode

// ------------------------------------------------------------------------------------------------
// Forms

typedef enum { FORM_HH, FORM_SIMPLE, FORM_CHATML, FORM_LLAMA2, FORM_ZEPHYR, FORM_UNKNOWN } ChatForm;

typedef struct {
    ChatForm form;
    const char *bos; // written before the first turn (chatml) or each user's (llama2); NULL: none
    const char *end; // the token that ends a turn (chatml, llama2, zephyr)
    const char *gap; // between two turns (chatml, zephyr)
    const char
        *system;    // what chatml begins with if the first turn is not the system's; NULL: nothing
    bool no_system; // hh: the template leaves out what the system says
    const char *path; // FORM_UNKNOWN: the file with a template that is not known here
} ChatFormat;

#define CHAT_HH ((ChatFormat){.form = FORM_HH})
#define CHAT_SIMPLE ((ChatFormat){.form = FORM_SIMPLE})

// The strings of a form live as long as the program; this list is where they are.
static const char *chat_keep(char *string) {
    typedef struct Kept {
        struct Kept *next;
        char *string;
    } Kept;
    static Kept *kept;
    Kept *one = mem_alloc(1, sizeof *one);
    *one = (Kept){kept, string};
    kept = one;
    return string;
}

// The text may hold a form's own tokens. They are between these bytes, which no UTF-8 text has, so
// that a user who writes "<|im_end|>" has written nothing but these letters. chat_encode makes ids of
// such a text, chat_show letters.
#define CHAT_TOKEN_BEGIN "\xFF"
#define CHAT_TOKEN_END "\xFE"

// True if the form has tokens of its own.
static bool chat_has_tokens(ChatFormat f) {
    return f.form == FORM_CHATML || f.form == FORM_LLAMA2 || f.form == FORM_ZEPHYR;
}

// Append one of the form's tokens (NULL: none).
static void chat_token(Text *out, const char *token) {
    if (token) text_print(out, CHAT_TOKEN_BEGIN "%s" CHAT_TOKEN_END, token);
}

// True if the text so far ends with s.
static bool chat_ends_with(const Text *text, const char *s) {
    const size_t n = strlen(s);
    return text->size >= n && !memcmp(text->data + text->size - n, s, n);
}

// Bytes of the white space character that s[0..n) begins with, or ends with if `last`; 0 if none.
// White space is what Python's str.strip removes: Unicode's and ASCII's four separators.
static size_t chat_blank(const char *s, size_t n, bool last) {
    if (!n) return 0;
    const size_t at = last ? char_before(s, n) : 0;
    size_t bytes;
    const bool space = char_kind(s + at, n - at, &bytes) == 'S';
    return space || (s[at] >= 28 && s[at] <= 31) ? bytes : 0;
}

// Append a text without the white space around it.
static void chat_stripped(Text *out, const char *s) {
    size_t n = strlen(s);
    for (size_t k; (k = chat_blank(s, n, false)); n -= k) s += k;
    for (size_t k; (k = chat_blank(s, n, true));) n -= k;
    text_append(out, s, n);
}

// What the assistant says, after a turn of its own that was left open.
static void chat_reply(Text *out, ChatFormat f, const char *content) {
    if (f.form == FORM_CHATML || f.form == FORM_ZEPHYR) text_append(out, content, strlen(content));
    else if (f.form == FORM_LLAMA2) {
        text_append(out, " ", 1);
        chat_stripped(out, content);
        text_append(out, " ", 1);
    } else text_print(out, " %s", content);
    if (chat_has_tokens(f)) chat_token(out, f.end);
}

// A turn in Llama 2's form, where what the system says is a part of the user's first turn, and user
// and assistant take turns.
static const char *chat_turn_llama2(Text *out, ChatFormat f, const char *role,
                                    const char *content) {
    static const char after_system[] = "\n<</SYS>>\n\n", after_user[] = " [/INST]";
    if (!strcmp(role, "assistant")) {
        if (!chat_ends_with(out, after_user)) return "the assistant does not speak after the user";
        if (content) chat_reply(out, f, content);
    } else if (!strcmp(role, "system")) {
        if (out->size) return "what the system says is not the first message";
        chat_token(out, f.bos);
        text_print(out, "[INST] <<SYS>>\n%s%s", content, after_system);
    } else if (chat_ends_with(out, after_system)) {
        text_append(out, content, strlen(content));
        for (size_t k; (k = chat_blank(out->data, out->size, true));) out->size -= k;
        text_print(out, "%s", after_user);
    } else {
        if (out->size && !chat_ends_with(out, CHAT_TOKEN_END)) return "two user messages in a row";
        chat_token(out, f.bos);
        text_print(out, "[INST] ");
        chat_stripped(out, content);
        text_print(out, "%s", after_user);
    }
    return NULL;
}

// Take back the end of the assistant's turn that `out` ends with: it is to go on, as with
// continue_final_message.
static void chat_reopen(Text *out, ChatFormat f) {
    if (chat_ends_with(out, CHAT_TOKEN_END)) out->size -= strlen(f.end) + 2;
    if (f.form == FORM_LLAMA2 && chat_ends_with(out, " ")) out->size--;
}

// Append one turn to the conversation that `out` holds. `content` NULL is for the assistant: its turn
// is left open, as the end of a prompt. Returns NULL, or why the form has no place for this turn.
static const char *chat_turn(Text *out, ChatFormat f, const char *role, const char *content) {
    const bool user = !strcmp(role, "user"), assistant = !strcmp(role, "assistant");
    const bool first = out->size == 0;
    if (f.form == FORM_UNKNOWN)
        die(EXIT_BAD_INPUT,
            "%s: this chat template is none of those known here (ChatML, Llama 2, Zephyr, HH): say "
            "how messages become text by --chat_format chatml, llama2, zephyr, hh or simple",
            f.path);
    if (f.form == FORM_LLAMA2) return chat_turn_llama2(out, f, role, content);
    if (f.form == FORM_CHATML || f.form == FORM_ZEPHYR) {
        if (first) chat_token(out, f.bos);
        if (first && f.system && strcmp(role, "system")) {
            chat_token(out, "<|im_start|>");
            text_print(out, "system\n%s", f.system);
            chat_token(out, f.end);
        }
        if (!first || (f.system && strcmp(role, "system"))) text_print(out, "%s", f.gap);
    }
    if (f.form == FORM_CHATML) {
        chat_token(out, "<|im_start|>");
        text_print(out, "%s\n", role);
    } else if (f.form == FORM_ZEPHYR) {
        char name[32];
        snprintf(name, sizeof name, "<|%s|>", role);
        chat_token(out, name);
        text_print(out, "\n");
    } else {
        if (f.no_system && !user && !assistant) return NULL;
        const char *name = assistant ? "Assistant" : user ? "User" : "System";
        if (user && f.form == FORM_HH) name = "Human";
        text_print(out, "%s%s:", f.form == FORM_SIMPLE && first ? "" : "\n\n", name);
    }
    if (content) chat_reply(out, f, content);
    return NULL;
}

// ------------------------------------------------------------------------------------------------
// Tokens

// Append the ids of a text that may be a conversation. The form's own tokens become their ids, or are
// letters if the tokenizer has no such token. In a text that has some, everything else is plain: what
// a user wrote never becomes a special token. A text without any is tokenised as transformers does it.
static void chat_encode(const Tokenizer *t, TokenList *out, const char *text, size_t n) {
    const char begin = CHAT_TOKEN_BEGIN[0], end = CHAT_TOKEN_END[0];
    if (!n || !memchr(text, begin, n)) {
        tokenizer_encode(t, out, text, n, true);
        return;
    }
    Text plain = {0};
    for (size_t i = 0; i < n;) {
        const char *mark = memchr(text + i, begin, n - i);
        const size_t stretch = mark ? (size_t)(mark - text) - i : n - i;
        text_append(&plain, text + i, stretch);
        i += stretch;
        if (!mark) break;
        const char *stop = memchr(mark, end, n - i);
        char *name = text_format("%.*s", (int)(stop - mark - 1), mark + 1);
        const AddedToken *token = added_find(t, name);
        i += strlen(name) + 2;
        if (!token) text_append(&plain, name, strlen(name));
        else {
            if (plain.size) tokenizer_encode(t, out, plain.data, plain.size, false);
            plain.size = 0;
            tokens_append(out, token->id);
        }
        free(name);
    }
    if (plain.size) tokenizer_encode(t, out, plain.data, plain.size, false);
    text_free(&plain);
}

// Append a text with the form's own tokens as letters.
static void chat_show(Text *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (text[i] != CHAT_TOKEN_BEGIN[0] && text[i] != CHAT_TOKEN_END[0])
            text_append(out, text + i, 1);
}

// ------------------------------------------------------------------------------------------------
// Templates. Two templates that differ in quotes, blanks, comments, the ways to write a subscript or
// to join strings are the same program. The normal form has one line for each step of it: "..." is
// text that is written, = .. an expression that is, % .. a statement; what {% generation %} marks for
// the loss does not change the text and is left out. If the normal forms of two templates are equal,
// so is all that they render. See https://jinja.palletsprojects.com/templates/; transformers sets
// trim_blocks and lstrip_blocks.

typedef struct {
    Text out, literal; // the lines so far; text that is not yet a line, since more may follow
} Normal;

static void normal_flush(Normal *n) {
    if (n->literal.size) {
        text_json(&n->out, n->literal.data, n->literal.size);
        text_print(&n->out, "\n");
    }
    n->literal.size = 0;
}

// A string literal at *at, with either quote, appended to `out` as it reads. False if it has no end or
// an escape that is not one of the few.
static bool normal_string(Text *out, const char *s, size_t n, size_t *at) {
    static const char escapes[] = "n\nt\tr\r\\\\''\"\"";
    const char quote = s[(*at)++];
    for (; *at < n && s[*at] != quote; (*at)++) {
        char c = s[*at];
        if (c == '\\') {
            const char *known = escapes;
            if (++*at == n) return false;
            while (*known && *known != s[*at]) known += 2;
            if (!*known) return false;
            c = known[1];
        }
        text_append(out, &c, 1);
    }
    return (*at)++ < n;
}

// The inside of a tag as words with one blank between them: message.role and message['role'] are
// message [ "role" ], and | trim is . strip ( ), as it means. False if a string is not understood.
static bool normal_words(Text *out, const char *s, size_t n) {
    static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
    for (size_t i = 0; i < n;) {
        if (strchr(" \t\r\n", s[i])) {
            i++;
            continue;
        }
        if (out->size) text_print(out, " ");
        if (s[i] == '\'' || s[i] == '"') {
            Text string = {0};
            const bool good = normal_string(&string, s, n, &i);
            if (good) text_json(out, string.data ? string.data : "", string.size);
            text_free(&string);
            if (!good) return false;
            continue;
        }
        size_t k = 0;
        while (i + k < n && (isalnum((unsigned char)s[i + k]) || s[i + k] == '_')) k++;
        const bool word = k > 0, dot = !word && s[i] == '.', pipe = !word && s[i] == '|';
        if (dot || pipe) { // the name that follows
            size_t begin = i + 1;
            while (begin < n && s[begin] == ' ') begin++;
            while (begin + k < n && (isalnum((unsigned char)s[begin + k]) || s[begin + k] == '_'))
                k++;
            const bool call = begin + k < n && s[begin + k] == '(';
            if (pipe && k == 4 && !memcmp(s + begin, "trim", 4) && !call) {
                text_print(out, ". strip ( )");
                i = begin + k;
                continue;
            }
            if (dot && k && !call) {
                text_print(out, "[ \"%.*s\" ]", (int)k, s + begin);
                i = begin + k;
                continue;
            }
            k = 0;
        }
        for (int j = 0; j < COUNT(two) && !k; j++)
            if (n - i >= 2 && !memcmp(s + i, two[j], 2)) k = 2;
        if (!k) k = 1;
        text_append(out, s + i, k);
        i += k;
    }
    return true;
}

// Where the string that begins at s ends: its closing quote. s is the output of normal_words.
static const char *normal_close(const char *s) {
    for (s++; *s != '"'; s++) s += *s == '\\';
    return s;
}

// What {{ .. }} writes: the terms of a sum one by one, strings as text.
static void normal_output(Normal *n, const Text *words) {
    Text names = {0}; // the words without the strings among them
    for (const char *s = words->data; *s; s++)
        if (*s == '"') s = normal_close(s);
        else text_append(&names, s, 1);
    text_append(&names, "", 1);
    const bool whole =
        strstr(names.data, " if ") || strstr(names.data, " and ") || strstr(names.data, " or ");
    text_free(&names);
    for (const char *at = words->data; *at;) {
        const char *stop = at;
        int depth = 0;
        for (; *stop && (*stop != '+' || depth || whole); stop++) {
            if (*stop == '"') stop = normal_close(stop);
            depth += (*stop == '(' || *stop == '[') - (*stop == ')' || *stop == ']');
        }
        const char *last = stop;
        while (last > at && last[-1] == ' ') last--;
        cJSON *string = NULL;
        if (*at == '"' && normal_close(at) + 1 == last)
            string = cJSON_ParseWithLength(at, (size_t)(last - at));
        if (string) text_append(&n->literal, string->valuestring, strlen(string->valuestring));
        else {
            normal_flush(n);
            text_print(&n->out, "= %.*s\n", (int)(last - at), at);
        }
        cJSON_Delete(string);
        at = *stop ? stop + 1 : stop;
        at += *at == ' ';
    }
}

// What {% .. %} says: a condition without the brackets around all of it.
static void normal_statement(Normal *n, const Text *words) {
    const char *s = words->data, *condition = strstr(s, "if (");
    if (!strcmp(s, "generation") || !strcmp(s, "endgeneration")) return;
    normal_flush(n);
    const size_t begin = condition ? (size_t)(condition - s) + 3 : 0;
    int depth = 1;
    size_t i = begin + 1;
    for (; condition && i < words->size && depth; i++) depth += (s[i] == '(') - (s[i] == ')');
    if (condition && i == words->size && !depth && (condition == s || !strncmp(s, "elif", 4)))
        text_print(&n->out, "%% %.*s %.*s\n", (int)begin - 1, s, (int)(i - begin - 4),
                   s + begin + 2);
    else text_print(&n->out, "%% %s\n", s);
}

// Append the normal form of a template (n bytes). False if it is not understood, which says nothing
// about whether it is a good one.
static bool template_normal(Text *out, const char *s, size_t n) {
    Normal normal = {0};
    bool good = true, line = true; // line: a line begins here
    size_t at = 0;
    n -= n && s[n - 1] == '\n'; // Jinja drops one
    while (good) {
        size_t tag = at;
        while (tag < n && !(s[tag] == '{' && tag + 1 < n && strchr("{%#", s[tag + 1]))) tag++;
        // Text up to the tag. Blanks before it go by {%- and, where they are all of a line, by
        // lstrip_blocks.
        size_t end = tag, start = tag;
        if (tag < n && tag + 2 < n && s[tag + 2] == '-')
            while (end > at && isspace((unsigned char)s[end - 1])) end--;
        else if (tag < n && s[tag + 1] != '{') {
            while (start > at && s[start - 1] != '\n') start--;
            bool blank = start > at || line;
            for (size_t i = start; i < tag; i++) blank = blank && isspace((unsigned char)s[i]);
            if (blank) end = start;
        }
        text_append(&normal.literal, s + at, end - at);
        if (tag == n) break;
        // The tag, up to its end outside of strings.
        const char kind = s[tag + 1];
        const char *const close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
        size_t from = tag + 2 + (tag + 2 < n && s[tag + 2] == '-'), to = from;
        for (char quote = 0; to < n; to++) {
            if (quote && s[to] == '\\') to++;
            else if (quote) quote = s[to] == quote ? 0 : quote;
            else if (to + 1 < n && !memcmp(s + to, close, 2)) break;
            else if (kind != '#' && (s[to] == '\'' || s[to] == '"')) quote = s[to];
        }
        if (to >= n || s[from] == '+' || s[to - 1] == '+') {
            good = false;
            break;
        }
        const bool trim = s[to - 1] == '-';
        Text words = {0};
        text_append(&words, "", 0);
        good = kind == '#' || normal_words(&words, s + from, to - trim - from);
        if (good && kind == '{') normal_output(&normal, &words);
        if (good && kind == '%') normal_statement(&normal, &words);
        text_free(&words);
        // Blanks after it go by -%}, a line feed after a statement or comment by trim_blocks.
        at = to + 2;
        if (trim)
            while (at < n && isspace((unsigned char)s[at])) at++;
        else if (kind != '{' && at < n && s[at] == '\n') at++;
        line = s[at - 1] == '\n';
    }
    normal_flush(&normal);
    text_append(out, normal.out.data ? normal.out.data : "", normal.out.size);
    text_free(&normal.out), text_free(&normal.literal);
    return good;
}

// The templates known here, as models have them. "\1" stands for any text: what a ChatML model's
// system says where a conversation has no such message. The first of each form is what a run saves
// that was given that form for a model without a template.
typedef struct {
    ChatFormat format;
    const char *jinja;
} KnownTemplate;

// clang-format off
#define CHATML_TURN "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
#define CHATML_PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define CHATML_SYSTEM "{{ '<|im_start|>system\n\1<|im_end|>\n' }}"
#define LLAMA2_BEGIN                                                                               \
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"               \
    "{% set system_message = messages[0]['content'] %}"
#define LLAMA2_LOOP                                                                                \
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"      \
    "{% for message in loop_messages %}"                                                           \
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"                               \
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}" \
    "{% endif %}{% if loop.index0 == 0 and system_message != false %}"                             \
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"     \
    "{% else %}{% set content = message['content'] %}{% endif %}"                                  \
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
#define LLAMA2_END                                                                                 \
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"       \
    "{% endif %}{% endfor %}"
#define LLAMA2_DEFAULT                                                                             \
    " == true and not '<<SYS>>' in messages[0]['content'] %}"                                      \
    "{% set loop_messages = messages %}{% set system_message = '\1' %}"
#define ZEPHYR_TURN(role, gap)                                                                     \
    "if message['role'] == '" role "' %}{{ '<|" role "|>\n' + message['content'] + eos_token" gap " }}"
#define ZEPHYR_LAST "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
#define HH_TURN(role, name)                                                                        \
    "if message['role'] == '" role "' %}{{ '\n\n" name ": ' + message['content'] }}"
#define HH_PROMPT                                                                                  \
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"

static const KnownTemplate known_templates[] = {
    {{.form = FORM_CHATML}, "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML}, // TRL's setup_chat_format has had the prompt inside of the loop
     "{% for message in messages %}" CHATML_TURN "{% if loop.last and add_generation_prompt %}"
     "{{ '<|im_start|>assistant\n' }}{% endif %}{% endfor %}"},
    {{.form = FORM_CHATML, .bos = ""},
     "{{ bos_token }}{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML, .system = ""}, // as Qwen 1.5 and SmolLM have it
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
     CHATML_SYSTEM "{% endif %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML, .system = ""},
     "{% if messages[0]['role'] != 'system' %}" CHATML_SYSTEM "{% endif %}"
     "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML}, // the assistant's turns apart, for {% generation %}
     "{% for message in messages %}{% if message['role'] != 'assistant' %}" CHATML_TURN
     "{% elif message['role'] == 'assistant' %}" CHATML_TURN "{% endif %}{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML},
     "{% for message in messages %}{% if message['role'] == 'assistant' %}"
     "{{ '<|im_start|>assistant\n' + message['content'] + '<|im_end|>\n' }}"
     "{% else %}" CHATML_TURN "{% endif %}{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML},
     "{% for message in messages %}{% if message['role'] == 'user' %}"
     "{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
     "{% elif message['role'] == 'assistant' %}"
     "{{ '<|im_start|>assistant\n' + message['content'] + '<|im_end|>\n' }}"
     "{% else %}{{ '<|im_start|>system\n' + message['content'] + '<|im_end|>\n' }}"
     "{% endif %}{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_CHATML},
     "{% for message in messages %}{% if message['role'] == 'system' %}"
     "{{ '<|im_start|>system\n' + message['content'] + '<|im_end|>\n' }}"
     "{% elif message['role'] == 'user' %}"
     "{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
     "{% elif message['role'] == 'assistant' %}"
     "{{ '<|im_start|>assistant\n' + message['content'] + '<|im_end|>\n' }}"
     "{% endif %}{% endfor %}" CHATML_PROMPT},
    {{.form = FORM_LLAMA2, .bos = ""}, LLAMA2_BEGIN LLAMA2_LOOP LLAMA2_END},
    {{.form = FORM_LLAMA2, .bos = ""}, // transformers' class had a switch for a default, here off
     LLAMA2_BEGIN "{% elif false" LLAMA2_DEFAULT LLAMA2_LOOP
     "{% elif message['role'] == 'system' %}{{ '<<SYS>>\n' + content.strip() + '\n<</SYS>>\n\n' }}"
     LLAMA2_END},
    {{.form = FORM_LLAMA2, .bos = ""}, LLAMA2_BEGIN "{% elif false" LLAMA2_DEFAULT LLAMA2_LOOP LLAMA2_END},
    {{.form = FORM_ZEPHYR, .gap = "\n"},
     "{% for message in messages %}{% " ZEPHYR_TURN("user", " + '\n'") "{% el"
     ZEPHYR_TURN("system", " + '\n'") "{% el" ZEPHYR_TURN("assistant", " + '\n'")
     "{% endif %}" ZEPHYR_LAST "{% endfor %}"},
    {{.form = FORM_ZEPHYR, .gap = "\n"},
     "{% for message in messages %}{% " ZEPHYR_TURN("system", " + '\n'") "{% el"
     ZEPHYR_TURN("user", " + '\n'") "{% el" ZEPHYR_TURN("assistant", " + '\n'")
     "{% endif %}" ZEPHYR_LAST "{% endfor %}"},
    {{.form = FORM_ZEPHYR, .gap = ""},
     "{% for message in messages %}{% " ZEPHYR_TURN("user", "") "{% el"
     ZEPHYR_TURN("system", "") "{% el" ZEPHYR_TURN("assistant", "")
     "{% endif %}" ZEPHYR_LAST "{% endfor %}"},
    {{.form = FORM_HH},
     "{% for message in messages %}{% " HH_TURN("user", "Human") "{% el"
     HH_TURN("assistant", "Assistant") "{% el" HH_TURN("system", "System") HH_PROMPT},
    {{.form = FORM_HH},
     "{% for message in messages %}{% " HH_TURN("system", "System") "{% el"
     HH_TURN("user", "Human") "{% el" HH_TURN("assistant", "Assistant") HH_PROMPT},
    {{.form = FORM_HH, .no_system = true},
     "{% for message in messages %}{% " HH_TURN("user", "Human") "{% el"
     HH_TURN("assistant", "Assistant") HH_PROMPT},
    {{.form = FORM_SIMPLE}, // TRL's SIMPLE_CHAT_TEMPLATE
     "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}"
     "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"},
};
// clang-format on

// True if two normal forms are equal. Where `known` has "\1" the other may have any text; *wild becomes
// that text, in new memory.
static bool normal_equal(const char *known, const char *given, char **wild) {
    static const char any[] = "\\u0001"; // as text_json writes it
    const char *at = strstr(known, any);
    const size_t n = strlen(known), m = strlen(given);
    if (!at) return !strcmp(known, given);
    const size_t before = (size_t)(at - known), after = n - before - strlen(any);
    if (m < before + after || memcmp(known, given, before) ||
        strcmp(at + strlen(any), given + m - after))
        return false;
    char *quoted = text_format("\"%.*s\"", (int)(m - before - after), given + before);
    cJSON *string = memchr(quoted, '\n', strlen(quoted)) ? NULL : cJSON_Parse(quoted);
    const bool same = cJSON_IsString(string);
    if (same) *wild = text_copy(string->valuestring);
    cJSON_Delete(string), free(quoted);
    return same;
}

// The form of a template; FORM_UNKNOWN if it is none of ours. `bos` and `end` are set where the
// template says by their text, else they are the caller's to set.
static ChatFormat template_form(const char *jinja, const char *path) {
    // Some first see to it that add_generation_prompt exists; here it always does.
    static const char guard[] = "% if not add_generation_prompt is defined\n"
                                "% set add_generation_prompt = false\n% endif\n";
    ChatFormat f = {.form = FORM_UNKNOWN, .path = path};
    Text given = {0}, known = {0};
    bool found = false;
    text_append(&given, "", 0);
    if (!template_normal(&given, jinja, strlen(jinja))) given.data[given.size = 0] = 0;
    const char *program = given.data;
    if (!strncmp(program, guard, strlen(guard))) program += strlen(guard);
    for (int i = 0; i < COUNT(known_templates) && !found; i++) {
        char *wild = NULL;
        known.size = 0;
        template_normal(&known, known_templates[i].jinja, strlen(known_templates[i].jinja));
        found = normal_equal(known.data, program, &wild);
        if (!found) continue;
        f = known_templates[i].format;
        if (f.system) f.system = chat_keep(wild);
        else free(wild);
    }
    text_free(&given), text_free(&known);
    return f;
}

// ------------------------------------------------------------------------------------------------
// Opening

// The chat template of a directory as new text, or NULL if it has none; *path: in which file. As
// transformers finds it: chat_template.jinja, else the key chat_template of tokenizer_config.json, a
// template or a list of them with names, of which "default" counts.
static char *template_read(const char *dir, char **path) {
    *path = path_join(dir, "chat_template.jinja");
    if (path_is_file(*path)) return file_read(*path, NULL);
    free(*path);
    *path = path_join(dir, "tokenizer_config.json");
    cJSON *json = path_is_file(*path) ? json_read(*path) : NULL;
    const cJSON *item = json_get(json, "chat_template"), *each, *chosen = NULL;
    char *jinja = NULL;
    if (cJSON_IsString(item)) chosen = item;
    else if (cJSON_IsArray(item)) {
        cJSON_ArrayForEach(each, item) {
            const char *name = cJSON_GetStringValue(json_get(each, "name"));
            if (name && !strcmp(name, "default")) chosen = json_get(each, "template");
        }
    } else if (item && !cJSON_IsNull(item))
        die(EXIT_BAD_INPUT, "%s: chat_template is %s, expected a string or a list of named ones",
            *path, json_type_name(item));
    if (cJSON_IsString(chosen)) jinja = text_copy(chosen->valuestring);
    else if (cJSON_IsArray(item) && item->child)
        jinja = text_copy("{{ raise_exception('no template is named default') }}");
    cJSON_Delete(json);
    return jinja;
}

// Append a message as JSON, as data sets and logs have it.
static void message_json(Text *out, const char *role, const char *content) {
    text_print(out, "{\"role\": \"%s\", \"content\": ", role);
    text_string(out, content);
    text_print(out, "}");
}

// The form of this name, which is not "auto".
static ChatForm chat_form(const char *name) {
    static const char *const names[] = {"hh", "simple", "chatml", "llama2", "zephyr"};
    int i = 0;
    while (strcmp(names[i], name)) i++;
    return (ChatForm)i;
}

#define CHAT_CHOICES "auto|chatml|llama2|zephyr|hh|simple"
#define CHAT_HELP "how messages become text (auto: by the model's chat template, else hh)"

// How messages become text for a model with this tokenizer, from `dir`: by --chat_format, one of
// CHAT_CHOICES. "auto" is as the directory's chat template has it, or hh if it has none; a template
// that is not known is refused once there is a message. A model of bare token ids (t NULL) has no
// messages.
static ChatFormat chat_open(const char *choice, const Tokenizer *t, const char *dir) {
    if (!t) return CHAT_HH;
    char *path, *jinja = template_read(dir, &path);
    ChatFormat f = jinja ? template_form(jinja, path) : CHAT_HH;
    if (strcmp(choice, "auto")) {
        const ChatForm form = chat_form(choice);
        if (jinja && f.form != form)
            warn("%s: the chat template is not used: --chat_format %s", path, choice);
        if (!jinja || f.form != form)
            f = (ChatFormat){.form = form, .gap = form == FORM_ZEPHYR ? "\n" : NULL};
        if (f.form == FORM_LLAMA2) f.bos = "";
    }
    size_t n;
    const char *eos = tokenizer_piece(t, t->eos_id, &n);
    if (f.form == FORM_CHATML) f.end = "<|im_end|>", f.gap = "\n";
    else if (chat_has_tokens(f)) f.end = chat_keep(text_format("%.*s", (int)n, eos));
    if (f.bos && t->bos_id >= 0) {
        const char *bos = tokenizer_piece(t, t->bos_id, &n);
        f.bos = chat_keep(text_format("%.*s", (int)n, bos));
    }
    if (f.form == FORM_CHATML && !added_find(t, f.end))
        warn("%s: \"%s\" is no token of this tokenizer: it is written as letters", dir, f.end);
    free(jinja);
    if (f.form == FORM_UNKNOWN) chat_keep(path);
    else free(path);
    return f;
}

// The template to save with a model that has learnt a form of talk (--chat_format `choice`), from a
// directory that has none: so apply_chat_template writes what the model knows. NULL: nothing to save.
static const char *chat_template_new(const char *choice, const char *dir) {
    char *path, *jinja = template_read(dir, &path);
    const bool has = jinja != NULL;
    free(path), free(jinja);
    if (has || !strcmp(choice, "auto") || !strcmp(choice, "hh") || !strcmp(choice, "simple"))
        return NULL;
    int i = 0;
    while (known_templates[i].format.form != chat_form(choice)) i++;
    return known_templates[i].jinja;
}

#endif
