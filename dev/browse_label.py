"""The page of label.c in a real browser (Chromium, through playwright), by mouse and by keys.

    python dev/browse_label.py [--bin build/plain] [--chromium /usr/bin/chromium] [--pictures DIR]

Starts `label` on the model in data/sft and on a file of awkward texts, and looks at what the page shows, at
what is in the files afterwards, and at the page itself: its layout at two widths, names of its controls, contrast.
With --pictures a picture of each mode at 1200 and 400 pixels is left in DIR. Exit code 0: all checks held.
"""

import argparse
import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from playwright.sync_api import sync_playwright

AWKWARD = [
    ("Quotes: \"double\", 'single', \\backslash\\ and `ticks`", " \"He said 'no'\" \\n is no line feed."),
    ("<b>Tags</b> &amp; <script>hacked = 1</script>", " <img src=x onerror='hacked = 1'> </textarea></article>"),
    ("Emoji \U0001F600\U0001F469\u200D\U0001F4BB and flags \U0001F1E9\U0001F1EA", " \U0001F44D\U0001F3FD fine"),
    ("\u05E9\u05DC\u05D5\u05DD \u05E2\u05D5\u05DC\u05DD", " \u0645\u0631\u062D\u0628\u0627 \u202E(1, 2) \u202C"),
    ("Ten thousand characters", " long" * 2000 + "w" * 3000),
    ("Blank lines\n\n\n\tand tabs", "\n\n  two blanks  \n\tand a tab"),
]
passed = failed = 0


def check(name, holds):
    global passed, failed
    passed += bool(holds)
    failed += not holds
    if not holds:
        print(f"FAILED: {name}")


@contextlib.contextmanager
def label(binary, *flags):
    """The program with these flags; gives its address."""
    process = subprocess.Popen([f"{binary}/label", "--port", "0", *map(str, flags)], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("http"):
                yield line.strip()
                break
        else:
            sys.exit("label did not start")
    finally:
        process.send_signal(signal.SIGTERM)
        check("label ends with 0 on SIGTERM", process.wait(20) == 0)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def contrast(page, selector):
    """The contrast of an element's text with what is behind it, as WCAG 2 defines it."""
    return page.locator(selector).first.evaluate("""element => {
        const parts = s => s.match(/[\\d.]+/g).map(Number)
        const light = c => { const [r, g, b] = c.map(x => (x /= 255) <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
            return .2126 * r + .7152 * g + .0722 * b }
        let behind = element, ground
        do ground = parts(getComputedStyle(behind).backgroundColor)
        while (ground.length === 4 && ground[3] === 0 && (behind = behind.parentElement))
        const a = light(parts(getComputedStyle(element).color).slice(0, 3)), b = light(ground.slice(0, 3))
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    }""")


def look(page, name, pictures):
    """The layout at two widths, the names of the controls, contrast in light and dark."""
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 600})
        fits = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        check(f"{name} at {width}: nothing is wider than the window", fits)
        if pictures:
            page.screenshot(path=pictures / f"{name}-{width}.png", full_page=True)
    page.set_viewport_size({"width": 1200, "height": 900})
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, textarea')].filter(e =>
        !(e.tagName === 'BUTTON' ? e.textContent.trim() : e.labels.length && e.labels[0].textContent.trim())).length""")
    check(f"{name}: every control has a name", nameless == 0)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for selector in ("#progress", "h2", ".text", "button:enabled", "button[aria-pressed=true]", "kbd"):
            if page.locator(selector).count():
                ratio = contrast(page, selector)
                check(f"{name}, {scheme}: {selector} has contrast {ratio:.1f}, at least 4.5", ratio >= 4.5)
    page.emulate_media(color_scheme="light")


def open_page(browser, address, trouble, **query):
    page = browser.new_page()
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.goto(address + "".join(f"&{k}={v}" for k, v in query.items()))
    page.wait_for_selector("#modes button[aria-pressed=true]")
    return page


def ready(page):
    page.wait_for_selector("button.choice:enabled")


def texts(page):
    return [e.text_content() for e in page.locator(".card .text").all()]


def step(page, act):
    """Do something that ends a task; returns when the next one is shown."""
    before = page.locator("#progress").text_content()
    act()
    page.wait_for_function("old => document.getElementById('progress').textContent !== old", arg=before)
    if page.locator("button.choice").count():
        ready(page)


def modes(browser, args, folder):
    """Compare, judge, correct and talk with a model that samples, by mouse and by keys."""
    log, trouble = folder / "feedback.jsonl", []
    pairs, labels = folder / "feedback.pairs.jsonl", folder / "feedback.labels.jsonl"
    flags = ("--model", "data/sft", "--dataset", "data/prefs_eval.jsonl", "--output", log, "--max_new_tokens", 30)
    with label(args.bin, *flags) as address:
        page = open_page(browser, address, trouble)
        ready(page)
        look(page, "compare", args.pictures)
        a, b = texts(page)
        step(page, lambda: page.get_by_role("button", name="B is best").click())
        check("a click on B: the pair is in the file", [(r["chosen"], r["rejected"]) for r in rows(pairs)] == [(b, a)])
        a, b = texts(page)
        step(page, lambda: page.keyboard.press("1"))
        check("the key 1: the pair is in the file", (rows(pairs)[-1]["chosen"], rows(pairs)[-1]["rejected"]) == (a, b))
        step(page, lambda: page.keyboard.press("t"))
        check("the key t: a tie is no pair", rows(log)[-1]["choice"] == "tie" and len(rows(pairs)) == 2)
        both = texts(page)
        page.keyboard.press("n")
        page.keyboard.type("neither, because tbs1")
        page.keyboard.press("Escape")
        step(page, lambda: page.keyboard.press("b"))
        check("the key b: two labels", sorted(r["completion"] for r in rows(labels)) == sorted(both))
        check("the note is there, and its letters chose nothing", rows(labels)[-1]["note"] == "neither, because tbs1")
        check("the note is empty for the next", page.locator("#note").input_value() == "")
        step(page, lambda: page.keyboard.press("u"))
        check("undo: the labels are gone", not rows(labels) and "undo" in rows(log)[-1])
        check("undo: what was judged is shown again", texts(page) == both)
        page.reload()
        ready(page)
        check("a reload shows the same, on the same sides", texts(page) == both)
        step(page, lambda: page.keyboard.press("s"))
        check("the key s: skipped", rows(log)[-1]["choice"] == "skip")
        other = open_page(browser, address, trouble, who="bob")
        ready(other)
        check("a second person sees the same completions first", sorted(texts(other)) == sorted((rows(pairs)[0]["chosen"], rows(pairs)[0]["rejected"])))
        twin = open_page(browser, address, trouble)
        ready(twin)
        n = len(rows(log))
        step(twin, lambda: twin.keyboard.press("1"))
        page.keyboard.press("2")
        page.wait_for_function("() => document.getElementById('problem').textContent.includes('already')")
        check("the same person in two windows: judged once, and the second is told", len(rows(log)) == n + 1)
        ready(page)
        step(other, lambda: other.keyboard.press("2"))
        twin.close()

        page.get_by_role("button", name="Judge", exact=True).click()
        page.wait_for_selector("h3:text-is('Completion')")
        ready(page)
        look(page, "judge", args.pictures)
        (one,) = texts(page)
        step(page, lambda: page.keyboard.press("g"))
        (two,) = texts(page)
        step(page, lambda: page.get_by_role("button", name="Bad", exact=True).click())
        check("good and bad are labels", [(r["completion"], r["label"]) for r in rows(labels)][-2:] == [(one, True), (two, False)])

        page.get_by_role("button", name="Correct", exact=True).click()
        page.wait_for_selector("#edit")
        look(page, "correct", args.pictures)
        (one,) = texts(page)
        page.get_by_label("Your version").fill("a \"better\" text,\n<b>mine</b>")
        step(page, lambda: page.keyboard.press("Control+Enter"))
        better = re.match(r"\s*", one)[0] + "a \"better\" text,\n<b>mine</b>"
        demonstrations = rows(folder / "feedback.demonstrations.jsonl")
        check("a correction is a demonstration", [r["completion"] for r in demonstrations] == [better])
        check("and a pair", (rows(pairs)[-1]["chosen"], rows(pairs)[-1]["rejected"]) == (better, one))
        page.get_by_role("button", name="Save").click()
        page.wait_for_function("() => document.getElementById('problem').textContent.includes('changed')")
        check("an unchanged text is no correction", len(rows(folder / "feedback.demonstrations.jsonl")) == 1)

        page.get_by_role("button", name="Talk", exact=True).click()
        page.get_by_label("You", exact=True).fill("The film was")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".card.assistant button:enabled")
        look(page, "talk", args.pictures)
        said = page.locator(".card.assistant .text").text_content()
        page.get_by_role("button", name="Good", exact=True).click()
        page.wait_for_selector(".card.assistant button[aria-pressed=true]")
        check("an answer of a talk is a label", (rows(labels)[-1]["prompt"], rows(labels)[-1]["completion"]) == ("The film was", said))
        page.get_by_label("You", exact=True).fill(" And then")
        page.get_by_role("button", name="Send").click()
        page.wait_for_function("() => document.querySelectorAll('.card.assistant button:enabled').length === 2")

        page.get_by_role("button", name="Summary").click()
        page.wait_for_selector("th:text-is('bob')")
        look(page, "summary", args.pictures)
        agreement = page.locator("tr:has(td:text-is('compare'))").first.text_content()
        check("the summary has the agreement of both", "bob" in agreement and "me" in agreement)
        page.get_by_role("button", name="Compare").click()
        ready(page)
        last = texts(page)
        done = page.locator("#progress").text_content()
    page.keyboard.press("1")
    page.wait_for_function("() => document.getElementById('problem').textContent.includes('does not answer')")
    with label(args.bin, *flags) as address:
        page = open_page(browser, address, trouble)
        ready(page)
        check("a second run goes on where the first ended", page.locator("#progress").text_content() == done)
        check("with the same completions", texts(page) == last)
        other = open_page(browser, address, trouble, who="eve")
        ready(other)
        first = next(r for r in rows(log) if "number" in r)
        check("and shows a third person what the first two saw", sorted(texts(other)) == sorted(first["completions"]))
        # with the keyboard alone: tab to a choice and press it
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.startsWith('A is best')"):
                break
        check("Tab reaches the choices, and one sees where it is", page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none'"))
        step(page, lambda: page.keyboard.press("Enter"))
        check("Enter chooses", rows(log)[-1]["choice"] in (0, 1))
    trouble = [t for t in trouble if not re.search("ERR_CONNECTION|400|409", t)]  # which we caused
    check(f"the browser complains of nothing: {trouble}", not trouble)


def awkward(browser, args, folder):
    """A file of texts that a careless page would break on."""
    file, log, trouble = folder / "awkward.jsonl", folder / "awkward_feedback.jsonl", []
    file.write_text("".join(json.dumps({"prompt": p, "completion": c + d, "when": f"2026-11-{10 + i}T00:00:00Z"}) + "\n"
                            for i, (p, c) in enumerate(AWKWARD) for d in ("", "!")))
    flags = ("--completions", file, "--output", log, "--model", "data/sft", "--reward_model", "data/rm", "--ref_model", "data/sft")
    with label(args.bin, *flags) as address:
        page = open_page(browser, address, trouble)
        seen = {}
        for i in range(len(AWKWARD)):
            ready(page)
            seen[page.locator(".prompt").text_content()] = sorted(texts(page))
            if "Tags" in page.locator(".prompt").text_content():
                look(page, "awkward", args.pictures)
            step(page, lambda: page.keyboard.press("1"))
        check("every text is shown as it is", seen == {p: sorted((c, c + "!")) for p, c in AWKWARD})
        check("nothing in them was run", page.evaluate("typeof hacked") == "undefined")
        pairs = rows(folder / "awkward_feedback.pairs.jsonl")
        check("and written as it is", {r["prompt"]: sorted((r["chosen"], r["rejected"])) for r in pairs} == seen)
        check("at the end the page says so", "Nothing is left" in page.locator("main").text_content())
        page.get_by_role("button", name="Summary").click()
        page.wait_for_selector("svg")
        look(page, "days", args.pictures)
        check("scores and KL by day", page.locator("svg circle").count() == 2 * len(AWKWARD))
    check(f"the browser complains of nothing: {trouble}", not trouble)


def blind(browser, args, folder):
    """Two models: no name before the vote, the win rate after it."""
    log, trouble = folder / "blind.jsonl", []
    flags = ("--models", "first=data/sft,second=data/sft", "--dataset", "data/prefs_eval.jsonl", "--output", log,
             "--max_new_tokens", 10)
    with label(args.bin, *flags) as address:
        page = open_page(browser, address, trouble)
        for i in range(5):
            ready(page)
            check("no name of a model is on the page", not re.search("first|second", page.locator("body").inner_text()))
            step(page, lambda: page.keyboard.press("1"))
        sides = {r["models"][r["choice"]] for r in rows(log)}
        page.get_by_role("button", name="Summary").click()
        page.wait_for_selector("th:text-is('second')")
        look(page, "blind", args.pictures)
        wins = {m: sum(r["models"][r["choice"]] == m for r in rows(log)) for m in ("first", "second")}
        shown = [r.text_content() for r in page.locator("tbody tr").all()[:2]]
        check("the summary has the votes of each", all(f"{m}{n}" in s for (m, n), s in zip(wins.items(), shown)))
        check("the left side is not always the same model", sides == {"first", "second"})
    check(f"the browser complains of nothing: {trouble}", not trouble)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default="build/plain")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=pathlib.Path)
    args = parser.parse_args()
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for part in (modes, awkward, blind):
            part(browser, args, pathlib.Path(folder))
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
