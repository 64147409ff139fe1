// Tests of label.c: its files and its door as functions, then the program itself, with a client that knocks
// as browsers do, and as they do not. LABEL_KILLS=N in the environment: so many kills (20).
#include "test.h"
#include "../lib/label/feedback.h"
#include "../lib/label/web.h"
#include <poll.h>
#include <pthread.h>
#include <spawn.h>

extern char **environ;
static const char *bin; // folder of the build
static char *folder;    // of this test

static char *in_folder(const char *name) { return path_join(folder, name); }

static void write_file(const char *path, const char *text) {
    disk_file_save(path, text, strlen(text));
}

// The lines of a file; 0 if it is not there.
static int count_lines(const char *path) {
    if (access(path, F_OK)) return 0;
    int n = 0;
    char *text = file_read(path, NULL);
    for (const char *s = text; *s; s++) n += *s == '\n';
    free(text);
    return n;
}

// True if the file contains this.
static bool has(const char *path, const char *part) {
    char *text = file_read(path, NULL);
    const bool found = strstr(text, part);
    free(text);
    return found;
}

// ------------------------------------------------------------------------------------------------
// feedback.h

static Verdict verdict(Mode mode, int who, int choice) {
    return (Verdict){.mode = mode,
                     .who = who,
                     .choice = choice,
                     .prompt = "\"The \\\"film\\\"\"",
                     .completions = {" was <b>good</b>.", " was bad.\n"},
                     .models = {"a", NULL},
                     .finish = {NULL, "eos"},
                     .n = 2,
                     .of = 1,
                     .seed = 7,
                     .text = " was \"better\".",
                     .note = "",
                     .seconds = 1.25,
                     .item = 3};
}

// Judgements in all modes, what they make, taking back, and opening again.
static void test_feedback(void) {
    char *path = in_folder("feedback.jsonl"), *pairs = in_folder("feedback.pairs.jsonl");
    char *labels = in_folder("feedback.labels.jsonl");
    char *demonstrations = in_folder("feedback.demonstrations.jsonl");
    Feedback f;
    feedback_open(&f, path);
    const int ann = person_find(&f, "ann"), bob = person_find(&f, "b\"b");
    CHECK(ann == 0 && bob == 1 && person_find(&f, "ann") == 0, "people");
    const Verdict all[] = {verdict(COMPARE, ann, 1),   verdict(COMPARE, bob, BAD),
                           verdict(JUDGE, ann, GOOD),  verdict(CORRECT, ann, EDIT),
                           verdict(COMPARE, bob, TIE), verdict(JUDGE, ann, SKIP)};
    for (int i = 0; i < COUNT(all); i++) CHECK(!feedback_add(&f, &all[i]), "verdict %d", i);
    CHECK(feedback_find(&f, &all[0]) == &f.list[0] && feedback_find(&f, &all[2]),
          "what was judged is known");
    Verdict other = verdict(JUDGE, ann, GOOD);
    other.of = 0;
    CHECK(!feedback_find(&f, &other), "the other completion was not judged");
    CHECK(count_lines(path) == 6 && count_lines(pairs) == 2 && count_lines(labels) == 3 &&
              count_lines(demonstrations) == 1,
          "%d lines, %d pairs, %d labels, %d demonstrations", count_lines(path), count_lines(pairs),
          count_lines(labels), count_lines(demonstrations));
    CHECK(has(pairs,
              "{\"prompt\": \"The \\\"film\\\"\", \"chosen\": \" was bad.\\n\", \"chosen_finish\": "
              "\"eos\", \"rejected\": \" was <b>good</b>.\", \"rejected_model\": \"a\", \"seed\": "
              "7, \"who\": \"ann\""),
          "a pair");
    CHECK(has(pairs, "\"chosen\": \" was \\\"better\\\".\", \"rejected\": \" was bad.\\n\""),
          "a corrected pair");
    CHECK(has(labels, "\"completion\": \" was bad.\\n\", \"finish\": \"eos\", \"label\": true"),
          "a label");
    CHECK(feedback_last(&f, bob) == 4 && !feedback_undo(&f, 4), "the tie goes");
    CHECK(feedback_last(&f, bob) == 1 && !feedback_undo(&f, 1), "then what was before it");
    CHECK(feedback_last(&f, bob) == -1, "then there is nothing");
    CHECK(count_lines(labels) == 1 && count_lines(path) == 8,
          "its labels are gone, the log is longer");
    CHECK(!feedback_find(&f, &all[1]), "it can be judged again");
    CHECK_DIES(EXIT_IO, "another program is writing it", Feedback g; feedback_open(&g, path));
    feedback_close(&f);

    // what a kill leaves: half a line, and files of rows that lack the last
    char *text = file_read(path, NULL), *whole = file_read(pairs, NULL);
    char *torn = text_format("%s{\"number\": 7, \"mode", text);
    write_file(path, torn);
    write_file(pairs, "");
    feedback_open(&f, path);
    CHECK(f.n == 6 && f.n_people == 2 && f.list[1].undone && !f.list[0].undone, "opened again");
    CHECK(has(pairs, whole) && count_lines(pairs) == 2, "the rows are made anew");
    CHECK(!feedback_add(&f, &all[1]) && has(path, "\"number\": 7, \"mode\": \"compare\""),
          "it goes on");
    feedback_close(&f);
    const struct {
        const char *text, *part;
    } wrong[] = {
        {"{}\n", "is no log of label's"},
        {"{\"prompt\": \"x\", \"chosen\": \"y\"}\n", "is no log of label's"},
        {"{\"number\": 1}\n", "is no judgement"},
        {"{\"undo\": 1}\n", "undoes number 1"},
        {"not JSON\n", "is no log of label's"},
        {"[{\"prompt\": \"x\"}]", "is no log of label's"},
        {"{\"number\": 1}\nmine", "is no log of label's"},
    };
    for (int i = 0; i < COUNT(wrong); i++) {
        char *foreign = in_folder("foreign.jsonl");
        write_file(foreign, wrong[i].text);
        CHECK_DIES(EXIT_BAD_INPUT, wrong[i].part, feedback_open(&f, foreign));
        CHECK(has(foreign, wrong[i].text), "what is not ours stays");
        free(foreign);
    }
    char *moved = in_folder("moved.jsonl");
    rename(path, moved);
    CHECK_DIES(EXIT_BAD_INPUT, "has rows, and", feedback_open(&f, path));
    CHECK(count_lines(pairs) == 2, "rows without their log stay");
    free(moved);
    char *twice = text_format("%s%s", text, text);
    write_file(path, twice);
    CHECK_DIES(EXIT_BAD_INPUT, "a line is missing or twice", feedback_open(&f, path));
    free(path), free(pairs), free(labels), free(demonstrations);
    free(text), free(whole), free(torn), free(twice);
}

// Rows that cannot be written: the judgement counts, and they are made anew with the next one.
static void test_stale(void) {
    char *path = in_folder("stale.jsonl"), *pairs = in_folder("stale.pairs.jsonl");
    Feedback f;
    feedback_open(&f, path);
    person_find(&f, "ann"), person_find(&f, "bob");
    const Verdict first = verdict(COMPARE, 0, 1), second = verdict(COMPARE, 1, 0);
    unlink(pairs);
    CHECK(!mkdir(pairs, 0777) && !feedback_add(&f, &first) && f.stale, "a folder in its place");
    rmdir(pairs);
    CHECK(!feedback_add(&f, &second) && !f.stale && count_lines(pairs) == 2, "both are there");
    feedback_close(&f);
    free(path), free(pairs);
}

// A disk that is full: the judgement is refused, and the log is as it was.
static void test_full(void) {
    char *path = in_folder("full.jsonl");
    Feedback f;
    feedback_open(&f, path);
    person_find(&f, "ann");
    const Verdict first = verdict(COMPARE, 0, 1), second = verdict(COMPARE, 0, 0);
    CHECK(!feedback_add(&f, &first), "the first");
    const pid_t child = fork();
    if (!child) {
        const struct rlimit limit = {(rlim_t)f.size + 100, (rlim_t)f.size + 100};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(feedback_add(&f, &second) == EFBIG ? 0 : 1);
    }
    CHECK(test_wait(child) == 0, "a write that fails is told");
    CHECK(count_lines(path) == 1, "and leaves no half line");
    feedback_close(&f);
    feedback_open(&f, path);
    CHECK(f.n == 1, "opened again");
    feedback_close(&f);
    free(path);
}

// Cohen's kappa of the textbook table 20, 5, 10, 15 of 50: 0.4.
static void test_agreement(void) {
    static const int table[2][2] = {{20, 5}, {10, 15}};
    Feedback f = {0};
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++)
            for (int k = 0; k < table[a][b]; k++)
                for (int who = 0; who < 2; who++) {
                    const uint64_t unit = (uint64_t)(a * 1000 + b * 100 + k);
                    f.list = mem_resize(f.list, (size_t)f.n + 1, sizeof *f.list);
                    f.list[f.n++] = (Judgement){.who = who,
                                                .mode = JUDGE,
                                                .unit = unit,
                                                .choice = (who ? b : a) ? GOOD : BAD};
                }
    Agreement g = agreement_of(&f, JUDGE, 0, 1);
    CHECK(g.n == 50, "%d judged by both", g.n);
    CHECK_NEAR(g.share, 0.7, 1e-12, 0, "share");
    CHECK_NEAR(g.kappa, 0.4, 1e-12, 0, "kappa");
    CHECK(agreement_of(&f, COMPARE, 0, 1).n == 0, "nothing in common");
    for (int i = 0; i < f.n; i++) f.list[i].choice = GOOD;
    g = agreement_of(&f, JUDGE, 1, 0);
    CHECK(g.share == 1 && isnan(g.kappa), "one choice only: kappa is not defined");
    free(f.list);
}

// ------------------------------------------------------------------------------------------------
// web.h

static void test_door(void) {
    Web w = {.host = "127.0.0.1", .local = true};
    random_digits(w.key);
    char key[KEY_DIGITS + 1];
    strcpy(key, w.key);
    CHECK(key_fits(&w, key), "the key");
    key[5] = key[5] == '0' ? '1' : '0';
    CHECK(!key_fits(&w, key) && !key_fits(&w, "") && !key_fits(&w, NULL), "no key");
    static const char *const ours[] = {"127.0.0.1", "127.0.0.1:80", "localhost:9999", "[::1]:8617"};
    static const char *const others[] = {"evil.example",
                                         "evil.example:8617",
                                         "127.0.0.1.evil.example",
                                         "localhost.evil.example",
                                         "192.168.1.7:8617",
                                         "",
                                         "[",
                                         ":"};
    for (int i = 0; i < COUNT(ours); i++) CHECK(host_fits(&w, ours[i]), "host %s", ours[i]);
    for (int i = 0; i < COUNT(others); i++) CHECK(!host_fits(&w, others[i]), "host %s", others[i]);
    CHECK(!host_fits(&w, NULL), "no host");
    w = (Web){.host = "0.0.0.0"};
    CHECK(host_fits(&w, "192.168.1.7:8617") && !host_fits(&w, "evil.example"),
          "for others in the network");
    CHECK(origin_fits("http://127.0.0.1:1", "127.0.0.1:1") && origin_fits(NULL, "x"), "our page");
    CHECK(!origin_fits("http://evil.example", "127.0.0.1:1") && !origin_fits("null", "127.0.0.1:1"),
          "another page");
}

static void test_body(void) {
    static const char *const good[] = {"{}", " {\"a\": [1, null]}\r\n",
                                       "{\"a\": \"\\ud83d\\ude00\"}", "{\"a\": \"\\\\u0000\"}"};
    static const char *const bad[] = {"",
                                      "[]",
                                      "1",
                                      "{",
                                      "{}x",
                                      "{} {}",
                                      "{\"a\": \"\xFF\"}",
                                      "{\"a\": \"\\u0000\"}",
                                      "{\"a\": \"\\ud83d\"}",
                                      "{\"a\" 1}",
                                      "\xEF\xBB\xBFx"};
    for (int i = 0; i < COUNT(good); i++) {
        cJSON *json = body_parse(good[i], strlen(good[i]));
        CHECK(json, "%s", good[i]);
        cJSON_Delete(json);
    }
    for (int i = 0; i < COUNT(bad); i++) CHECK(!body_parse(bad[i], strlen(bad[i])), "%s", bad[i]);
    char *deep = mem_alloc(100001, 1);
    memset(deep, '[', 100000);
    CHECK(!body_parse(deep, 100000), "100,000 brackets");
    memcpy(deep, "{\"a\":", 5);
    CHECK(!body_parse(deep, 100000), "the same in an object");
    free(deep);
}

// ------------------------------------------------------------------------------------------------
// The program

typedef struct {
    pid_t pid;
    int port;
    char key[KEY_DIGITS + 1];
} Server;

// Start a program of the build with its standard output and errors there. (fork would copy the tables of all our
// memory each time.)
static pid_t spawn(const char *name, const char *const *argv, int out, int err) {
    char *program = path_join(bin, name);
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    const int error = posix_spawn(&pid, program, &actions, NULL, (char *const *)argv, environ);
    if (error) die(EXIT_IO, "%s: %s", program, strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    free(program);
    return pid;
}

// Start label with these flags (NULL after the last); dies if it does not print its address.
static Server server_begin(const char *const *flags) {
    const char *argv[32] = {"label", "--port", "0"};
    int n = 3, out[2];
    while (*flags) argv[n++] = *flags++;
    if (pipe2(out, O_CLOEXEC)) die(EXIT_IO, "pipe: %s", strerror(errno));
    Server s = {.pid = spawn("label", argv, out[1], STDERR_FILENO)};
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    char line[1024];
    while (fgets(line, sizeof line, said))
        if (sscanf(line, "http://127.0.0.1:%d/?key=%32s", &s.port, s.key) == 2) break;
    if (!s.port) die(EXIT_IO, "label did not start");
    fclose(said);
    return s;
}

// End it; returns its exit code, or 128 and the signal.
static int server_end(const Server *s, int number) {
    kill(s->pid, number);
    const int status = test_wait(s->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A connection, or -1.
static int knock(const Server *s) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)s->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof at)) return close(fd), -1;
    return fd;
}

// Send bytes and read the reply to its end, or for 20 seconds. Returns the status, 0 if there was none; *body,
// if not NULL, gets what was said; free() it.
static int ask_bytes(const Server *s, const char *bytes, size_t n, char **body) {
    Text reply = {0};
    const int fd = knock(s);
    int status = 0;
    text_append(&reply, "", 0);
    size_t sent = 0;
    while (fd >= 0 && sent < n) {
        const ssize_t k = send(fd, bytes + sent, n - sent, MSG_NOSIGNAL);
        if (k <= 0) break; // it has answered before it had all
        sent += (size_t)k;
    }
    struct pollfd ready = {fd, POLLIN, 0};
    char block[65536];
    for (ssize_t k;
         fd >= 0 && poll(&ready, 1, 20000) > 0 && (k = recv(fd, block, sizeof block, 0)) > 0;)
        text_append(&reply, block, (size_t)k);
    if (fd >= 0) close(fd);
    sscanf(reply.data, "HTTP/1.1 %d", &status);
    const char *head = strstr(reply.data, "\r\n\r\n");
    if (body) *body = text_copy(head ? head + 4 : "");
    text_free(&reply);
    return status;
}

// A request as the page makes it: POST if there is a body.
static int ask(const Server *s, const char *path, const char *sent, char **body) {
    char *bytes = text_format(
        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Key: %s\r\nConnection: close\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        sent ? "POST" : "GET", path, s->port, s->key, sent ? strlen(sent) : 0, sent ? sent : "");
    const int status = ask_bytes(s, bytes, strlen(bytes), body);
    free(bytes);
    return status;
}

// A number of the task that a person is shown; -1: none.
static int task_number(const Server *s, const char *who, const char *mode, const char *key) {
    char *path = text_format("/task?who=%s&mode=%s", who, mode), *body;
    const int status = ask(s, path, NULL, &body);
    cJSON *json = status == HTTP_OK ? cJSON_Parse(body) : NULL;
    const cJSON *item = json_get(json, key);
    const int n = cJSON_IsNumber(item) ? item->valueint : -1;
    cJSON_Delete(json);
    free(path), free(body);
    return n;
}

static int judge(const Server *s, const char *who, const char *mode, int item, const char *choice) {
    char *sent = text_format("{\"who\": \"%s\", \"mode\": \"%s\", \"place\": %d, \"choice\": %s}",
                             who, mode, item, choice);
    const int status = ask(s, "/judge", sent, NULL);
    free(sent);
    return status;
}

// A file of n prompts, texts or talks, with two completions each.
static char *completions_file(int n, bool messages) {
    char *path = in_folder("completions.jsonl");
    Text out = {0};
    for (int i = 0; i < 2 * n; i++)
        text_print(&out,
                   messages ? "{\"prompt\": [{\"role\": \"user\", \"content\": \"prompt %d\"}], "
                              "\"completion\": "
                              "\"text %d\"}\n"
                            : "{\"prompt\": \"prompt %d\", \"completion\": \" text %d\"}\n",
                   i / 2, i);
    write_file(path, out.data);
    text_free(&out);
    return path;
}

// Who may come in, and what a request may say.
static void test_requests(const Server *s) {
    const struct {
        const char *line, *headers;
        int status;
    } cases[] = {
        {"GET /?key=KEY", "Host: 127.0.0.1:1\r\n", 200},
        {"GET /summary", "Host: localhost\r\nX-Key: KEY\r\n", 200},
        {"GET /summary", "Host: localhost\r\nX-Key: KEY\r\nOrigin: http://localhost\r\n", 200},
        {"GET /summary", "Host: localhost\r\n", 403},
        {"GET /summary", "Host: localhost\r\nX-Key: 00000000000000000000000000000000\r\n", 403},
        {"GET /summary", "Host: evil.example\r\nX-Key: KEY\r\n", 403},
        {"GET /summary", "Host: localhost\r\nX-Key: KEY\r\nOrigin: http://evil.example\r\n", 403},
        {"GET /summary", "X-Key: KEY\r\n", 403},
        {"GET /../../etc/passwd", "Host: localhost\r\nX-Key: KEY\r\n", 404},
        {"GET /judge", "Host: localhost\r\nX-Key: KEY\r\n", 404},
        {"GET /task?who=me", "Host: localhost\r\nX-Key: KEY\r\n", 400},
        {"GET /task?who=me&mode=dance", "Host: localhost\r\nX-Key: KEY\r\n", 400},
        {"GET /task?who=&mode=judge", "Host: localhost\r\nX-Key: KEY\r\n", 400},
        {"GET /task?who=%FF&mode=judge", "Host: localhost\r\nX-Key: KEY\r\n", 400},
        {"GET /said?answer=7", "Host: localhost\r\nX-Key: KEY\r\n", 404},
        {"PUT /judge", "Host: localhost\r\nX-Key: KEY\r\nContent-Length: 0\r\n", 405},
        {"POST /judge", "Host: localhost\r\nX-Key: KEY\r\nContent-Length: 104857600\r\n", 413},
        {"POST /judge", "Host: localhost\r\nContent-Length: 104857600\r\n", 403},
        {"POST /summary", "Host: localhost\r\nX-Key: KEY\r\nContent-Length: 0\r\n", 404},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        Text bytes = {0};
        for (const char *c = cases[i].line; *c; c++)
            if (text_has_prefix(c, "KEY")) text_print(&bytes, "%s", s->key), c += 2;
            else text_append(&bytes, c, 1);
        text_print(&bytes, " HTTP/1.1\r\nConnection: close\r\n");
        for (const char *c = cases[i].headers; *c; c++)
            if (text_has_prefix(c, "KEY")) text_print(&bytes, "%s", s->key), c += 2;
            else text_append(&bytes, c, 1);
        text_print(&bytes, "\r\n");
        const int status = ask_bytes(s, bytes.data, bytes.size, NULL);
        CHECK(status == cases[i].status, "%s, %s: %d", cases[i].line, cases[i].headers, status);
        text_free(&bytes);
    }
    const struct {
        const char *path, *body;
        int status;
    } bodies[] = {
        {"/judge", "", 400},
        {"/judge", "[]", 400},
        {"/judge", "{\"who\": \"\xC3\x28\"}", 400},
        {"/judge", "{\"who\": 1}", 400},
        {"/judge", "{\"who\": \"me\"}", 400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\"}", 400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": -1, \"choice\": 0}", 400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 1e300, \"choice\": 0}",
         400},
        {"/judge",
         "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 9007199254740992, \"choice\": 0}",
         409},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 1, \"choice\": 0}", 409},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 4000, \"choice\": 0}", 409},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 0, \"choice\": 2}", 400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"compare\", \"place\": 0, \"choice\": \"good\"}",
         400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"judge\", \"place\": 0, \"choice\": \"tie\"}",
         400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"correct\", \"place\": 0, \"choice\": \"edit\"}",
         400},
        {"/judge",
         "{\"who\": \"me\", \"mode\": \"correct\", \"place\": 0, \"choice\": \"edit\", \"text\": "
         "\" "
         " \"}",
         400},
        {"/judge", "{\"who\": \"me\", \"mode\": \"talk\", \"answer\": 1, \"choice\": \"good\"}",
         400},
        {"/say", "{\"who\": \"me\", \"turns\": [{\"role\": \"user\", \"content\": \"x\"}]}", 409},
        {"/undo", "{\"who\": \"me\", \"last\": 1}", 409},
        {"/nothing", "{}", 404},
    };
    for (int i = 0; i < COUNT(bodies); i++) {
        char *said;
        const int status = ask(s, bodies[i].path, bodies[i].body, &said);
        CHECK(status == bodies[i].status && strlen(said) > 10 &&
                  strchr(said, '\n') == said + strlen(said) - 1,
              "%s %s: %d %s", bodies[i].path, bodies[i].body, status, said);
        free(said);
    }
    char *path = in_folder("door.jsonl");
    CHECK(count_lines(path) == 0, "none of this was written");
    CHECK(judge(s, "me", "compare", 0, "0") == HTTP_OK &&
              judge(s, "me", "compare", 0, "0") == HTTP_OK,
          "judged, and sent again");
    CHECK(judge(s, "me", "compare", 0, "1") == HTTP_CONFLICT, "but not otherwise");
    CHECK(count_lines(path) == 1, "which is one judgement");
    for (int i = 0; i < MAX_PEOPLE - 1; i++) {
        char *who = text_format("/task?who=guest%d&mode=judge", i);
        CHECK(ask(s, who, NULL, NULL) == (HTTP_OK), "person %d", i);
        free(who);
    }
    CHECK(ask(s, "/task?who=onemore&mode=judge", NULL, NULL) == HTTP_CONFLICT,
          "one person too many");
    free(path);
}

// The memory of a process in MB, or 0 where the system does not tell.
static double memory_of(pid_t pid) {
    char *path = text_format("/proc/%d/statm", (int)pid);
    long pages = 0;
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
    if (file) fclose(file);
    free(path);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

// Guests who say nothing, half of something, or too much, while another is served.
static void test_crowd(const Server *s) {
    enum { HALF = 600, ALL = 10000 };
    int half[HALF];
    const double before = memory_of(s->pid);
    char *part = text_format("POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-K");
    for (int i = 0; i < HALF; i++) {
        half[i] = knock(s);
        if (half[i] >= 0 && i % 2) (void)!send(half[i], part, strlen(part), MSG_NOSIGNAL);
    }
    double began = seconds_now();
    CHECK(ask(s, "/summary", NULL, NULL) == HTTP_OK, "served beside %d who are silent", HALF);
    CHECK(seconds_now() - began < 5, "and soon: %.1f s", seconds_now() - began);
    for (int i = 0; i < HALF; i++)
        if (half[i] >= 0) close(half[i]);
    began = seconds_now();
    int come = 0;
    for (int i = 0; i < ALL; i++) {
        const int fd = knock(s);
        come += fd >= 0;
        if (fd >= 0) close(fd);
    }
    CHECK(ask(s, "/summary", NULL, NULL) == HTTP_OK, "served after %d of %d connections", come,
          ALL);
    // 100 MB, without saying beforehand how much it is
    Text bytes = {0};
    text_print(&bytes,
               "POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Key: %s\r\nConnection: close\r\n"
               "Transfer-Encoding: chunked\r\n\r\n",
               s->key);
    const size_t chunk = 1 << 20;
    char *a = mem_alloc(chunk, 1);
    memset(a, 'a', chunk);
    for (int i = 0; i < 100; i++) {
        text_print(&bytes, "%zx\r\n", chunk);
        text_append(&bytes, a, chunk);
        text_append(&bytes, "\r\n", 2);
    }
    text_append(&bytes, "0\r\n\r\n", 5);
    CHECK(ask_bytes(s, bytes.data, bytes.size, NULL) == HTTP_TOO_LARGE, "100 MB are too much");
    // noise
    Rng rng = rng_make(5, 0);
    for (int i = 0; i < 200; i++) {
        char noise[300];
        for (int k = 0; k < COUNT(noise); k++) noise[k] = (char)rng_below(&rng, 256);
        if (i % 2) memcpy(noise, part, strlen(part));
        const int fd = knock(s);
        if (fd >= 0) (void)!send(fd, noise, sizeof noise, MSG_NOSIGNAL), close(fd);
    }
    CHECK(ask(s, "/summary", NULL, NULL) == HTTP_OK, "served after noise");
    const double more = memory_of(s->pid) - before;
#ifdef __SANITIZE_ADDRESS__
    const double most = 400; // AddressSanitizer keeps up to 256 MB of what was freed
#else
    const double most = 100; // 301 connections of 32 KB, bodies of 256 KB, and what malloc keeps
#endif
    CHECK(more < most, "%.0f MB more than before", more);
    free(part), free(a), text_free(&bytes);
}

typedef struct {
    pid_t pid;
    useconds_t wait;
} Killer;

static void *killer_run(void *killer) {
    const Killer *k = killer;
    usleep(k->wait);
    kill(k->pid, SIGKILL);
    return NULL;
}

// What a client knows of an item: never judged; judged, or taken back, and told so; or the reply never came.
typedef enum { UNTOUCHED, THERE, GONE, OPEN } Known;

// Kill it at random moments under a client that clicks: what it has said to be on the disk is there, once, what it
// has said to be taken back is not, and only what it did not come to say may be either.
static void test_kills(int kills) {
    enum { ITEMS = 5000 };
    char *log = in_folder("kills.jsonl"), *file = completions_file(ITEMS, false);
    char *pairs = in_folder("kills.pairs.jsonl");
    const char *flags[] = {"--completions", file, "--output", log, NULL};
    Known *known = mem_alloc(ITEMS, sizeof *known);
    int told = 0, open = 0;
    Rng rng = rng_make(11, 0);
    for (int k = 0; k < kills; k++) {
        const Server s = server_begin(flags);
        Killer killer = {s.pid, (useconds_t)(150000 * rng_uniform(&rng))};
        pthread_t thread;
        pthread_create(&thread, NULL, killer_run, &killer);
        for (int place; (place = task_number(&s, "me", "compare", "place")) >= 0;) {
            Known *item = &known[place / MAX_SHOWN];
            const bool done = judge(&s, "me", "compare", place, "0") == HTTP_OK;
            *item = done ? THERE : OPEN;
            told += done;
            if (!done) break;
            const int last = k % 7 == 3 ? task_number(&s, "me", "compare", "last") : -1;
            if (last < 1) continue;
            char *undo = text_format("{\"who\": \"me\", \"last\": %d}", last);
            *item = ask(&s, "/undo", undo, NULL) == HTTP_OK ? GONE : OPEN;
            free(undo);
            if (*item == OPEN) break;
        }
        pthread_join(thread, NULL);
        server_end(&s, SIGKILL);
    }
    Feedback f;
    feedback_open(&f, log);
    int wrong = 0, there = 0;
    for (int i = 0; i < ITEMS; i++) {
        char *prompt = text_format("\"prompt %d\"", i), *one = text_format(" text %d", 2 * i);
        char *other = text_format(" text %d", 2 * i + 1);
        const Verdict v = {.mode = COMPARE, .prompt = prompt, .completions = {one, other}, .n = 2};
        const uint64_t unit = unit_of(&v);
        int n = 0;
        for (int k = 0; k < f.n; k++) n += f.list[k].unit == unit && !f.list[k].undone;
        wrong += n > 1 || (known[i] == THERE && !n) || (known[i] < THERE && n) ||
                 (known[i] == GONE && n);
        there += n;
        open += known[i] == OPEN;
        free(prompt), free(one), free(other);
    }
    CHECK(!wrong, "%d of %d items are not as was said, after %d kills", wrong, ITEMS, kills);
    CHECK(open <= kills, "%d items without a word after %d kills", open, kills);
    CHECK(told > kills, "only %d judgements", told);
    CHECK(count_lines(pairs) == there, "%d pairs of %d judgements", count_lines(pairs), there);
    feedback_close(&f);
    free(log), free(file), free(pairs), free(known);
}

// Run a program of the build; true if it ends with 0.
static bool program_runs(const char *name, const char *const *flags) {
    const char *argv[32] = {name};
    for (int n = 1; *flags; n++) argv[n] = *flags++;
    char *said = in_folder("said");
    const int out = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    const pid_t child = spawn(name, argv, out, out);
    close(out), free(said);
    return test_wait(child) == 0;
}

// Files in which rows are the same, or many of one prompt: each text is judged once, and there is an end.
static void test_same(void) {
    char *log = in_folder("same.jsonl"), *file = in_folder("same_completions.jsonl");
    char *labels = in_folder("same.labels.jsonl");
    Text out = {0};
    for (int i = 0; i < 12; i++)
        text_print(&out, "{\"prompt\": \"p\", \"completion\": \"text %d\"}\n", i % 6);
    text_print(
        &out,
        "{\"prompt\": \"p\", \"completion\": null}\n{\"prompt\": \"p\", \"completion\": \" \"}\n");
    write_file(file, out.data);
    const char *flags[] = {"--completions", file, "--output", log, NULL};
    for (int run = 0; run < 2; run++) { // the second has nothing left
        const Server s = server_begin(flags);
        int judged = 0, compared = 0;
        for (int place; judged < 20 && (place = task_number(&s, "me", "judge", "place")) >= 0;
             judged++)
            CHECK(judge(&s, "me", "judge", place, "\"good\"") == HTTP_OK, "judged %d", place);
        for (int place; compared < 20 && (place = task_number(&s, "me", "compare", "place")) >= 0;
             compared++)
            CHECK(judge(&s, "me", "compare", place, "0") == HTTP_OK, "compared %d", place);
        CHECK(judged == (run ? 0 : 6), "%d judged in run %d", judged, run);
        CHECK(compared == (run ? 0 : 2), "%d compared in run %d", compared, run);
        CHECK(server_end(&s, SIGTERM) == 0, "ends");
    }
    const char *over[] = {"--port", "0", "--completions", labels, "--output", log, NULL};
    CHECK(count_lines(labels) == 6 && !program_runs("label", over) && count_lines(labels) == 6,
          "its own rows are no input");
    text_free(&out), free(log), free(file), free(labels);
}

// What `generate` and `evaluate` have written is judged as it is.
static void test_written(void) {
    char *log = in_folder("written.jsonl"), *out = in_folder("generated.jsonl");
    char *samples = in_folder("samples.jsonl");
    const char *generated[] = {"--model",
                               "data/sft",
                               "--dataset",
                               "data/prefs_eval.jsonl",
                               "--max_samples",
                               "3",
                               "--num_return_sequences",
                               "2",
                               "--max_new_tokens",
                               "8",
                               "--output",
                               out,
                               NULL};
    const char *evaluated[] = {"--models",
                               "sft=data/sft",
                               "--dataset",
                               "data/prefs_eval.jsonl",
                               "--eval_prompts",
                               "3",
                               "--max_new_tokens",
                               "8",
                               "--gold",
                               "--samples_file",
                               samples,
                               NULL};
    CHECK(program_runs("generate", generated) && program_runs("evaluate", evaluated), "both write");
    for (int i = 0; i < 2; i++) {
        const char *flags[] = {"--completions", i ? samples : out, "--output", log, NULL};
        const Server s = server_begin(flags);
        CHECK(task_number(&s, "me", "judge", "all") == (i ? 3 : 6), "%s: %d texts", flags[1],
              task_number(&s, "me", "judge", "all"));
        CHECK(judge(&s, "me", "judge", task_number(&s, "me", "judge", "place"), "\"good\"") ==
                  HTTP_OK,
              "judged");
        CHECK(server_end(&s, SIGTERM) == 0, "ends");
    }
    CHECK(has(log, "\"models\": [\"sft\"]") && has(log, "\"finish\": [\"length\""),
          "with model and finish");
    free(log), free(out), free(samples);
}

// What was judged goes into the training programs as it is.
static void test_training(bool messages) {
    char *log = in_folder(messages ? "talks.jsonl" : "train.jsonl"),
         *file = completions_file(8, messages);
    const char *flags[] = {"--completions", file, "--output", log, NULL};
    const Server s = server_begin(flags);
    for (int i = 0; i < 8; i++) {
        char *edit = text_format(
            "{\"who\": \"me\", \"mode\": \"correct\", \"place\": %d, \"choice\": \"edit\", "
            "\"text\": \" better %d\"}",
            i * MAX_SHOWN, i);
        CHECK(judge(&s, "me", "compare", i * MAX_SHOWN, "1") == HTTP_OK, "compared");
        CHECK(judge(&s, "me", "judge", i * MAX_SHOWN, i % 2 ? "\"good\"" : "\"bad\"") == HTTP_OK,
              "judged");
        CHECK(ask(&s, "/judge", edit, NULL) == HTTP_OK, "corrected");
        free(edit);
    }
    CHECK(server_end(&s, SIGTERM) == 0, "a request to end is no error");
    static const char *const programs[][2] = {{"train_dpo", "pairs"},
                                              {"train_rm", "pairs"},
                                              {"train_orpo", "pairs"},
                                              {"train_kto", "labels"},
                                              {"train_sft", "demonstrations"}};
    for (int i = 0; i < COUNT(programs); i++) {
        char *rows = text_format("%s/%s.%s.jsonl", folder, messages ? "talks" : "train",
                                 programs[i][1]),
             *out = in_folder(programs[i][0]);
        const char *args[] = {"--model",
                              "data/sft",
                              "--dataset",
                              rows,
                              "--output_dir",
                              out,
                              "--max_steps",
                              "1",
                              "--per_device_train_batch_size",
                              "4",
                              "--strict_data",
                              "--overwrite_output_dir",
                              NULL};
        CHECK(program_runs(programs[i][0], args), "%s reads %s", programs[i][0], rows);
        free(rows), free(out);
    }
    free(log), free(file);
}

int main(int argc, char **argv) {
    (void)argc;
    char *slash = strrchr(argv[0], '/');
    char *own = slash ? text_format("%.*s", (int)(slash - argv[0]), argv[0]) : text_copy(".");
    char name[] = "/tmp/test_label.XXXXXX";
    bin = own;
    folder = mkdtemp(name);
    if (!folder) die(EXIT_IO, "%s: %s", name, strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    setenv("OMP_NUM_THREADS", "1", true);
    test_feedback();
    test_stale();
    test_full();
    test_agreement();
    test_door();
    test_body();

    char *log = in_folder("door.jsonl"), *file = completions_file(50, false);
    const char *flags[] = {"--completions", file, "--output", log, NULL};
    const Server s = server_begin(flags);
    test_requests(&s);
    test_crowd(&s);
    CHECK(server_end(&s, SIGTERM) == 0, "ends with 0 when asked to");
    const char *kills = getenv("LABEL_KILLS");
    test_kills(kills ? atoi(kills) : 20);
    test_same();
    test_written();
    test_training(false);
    test_training(true);
    disk_remove(folder);
    free(log), free(file), free(own);
    return test_end("test_label");
}
