"""Make the golden of chat templates: what TRL and transformers write for conversations, for test/test_chat.c.

    python dev/golden_chat.py

Written is test/golden/chat.jsonl. Its first line names versions and has the rows, conversations. Each further line
is a template, as it is found in models and trainers or differing from that in what does not matter, with what
trl.data_utils.apply_chat_template makes of each row: its texts, and once for each form the ids of prompt + completion
(of `messages` as a whole). "error": the template refuses the row. "form" is what chat.h should find: chatml, llama2, zephyr, hh, simple,
or unknown for a template that is none of these.

The tokenizer is test/golden/tiny_vocab with the special tokens of SPECIAL after its 700 tokens.
"""
import json
import os
import re

import jinja2
import transformers
import trl
from transformers import GPT2TokenizerFast
from trl.data_utils import apply_chat_template

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "golden")
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]

TURN = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}MIDDLE{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
TEMPLATES = [
    ("chatml", "chatml", "{% for message in messages %}" + TURN + "{% endfor %}" + ASK),
    ("chatml, guarded", "chatml",
     "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
     "{% for message in messages %}" + TURN + "{% endfor %}" + ASK),
    ("chatml of transformers' documentation", "chatml", """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {{- message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    ("chatml, attributes, text outside of tags", "chatml",
     '{# ChatML #}\n{% for message in messages %}\n<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n'
     '{% endfor %}\n{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}'),
    ("chatml, prompt in the loop", "chatml",
     "{% for message in messages %}\n" + TURN + "{% if loop.last and add_generation_prompt %}"
     "{{'<|im_start|>assistant\\n' }}{% endif %}{% endfor %}"),
    ("chatml, bos", "chatml", "{{ bos_token }}{% for message in messages %}" + TURN + "{% endfor %}" + ASK),
    ("chatml, default system", "chatml",
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
     "{{ '<|im_start|>system\\nYou are a \\\"helpful\\\" assistant, if asked.<|im_end|>\\n' }}{% endif %}" + TURN
     + "{% endfor %}" + ASK),
    ("chatml, default system before the loop", "chatml",
     "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
     "{% for message in messages %}" + TURN + "{% endfor %}" + ASK),
    ("chatml, generation", "chatml",
     "{% for message in messages %}{% if (message['role'] != 'assistant') %}" + TURN
     + "{% elif (message['role'] == 'assistant')%}{{'<|im_start|>' + message['role'] + '\\n'}}{% generation %}"
     "{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\\n'}}{% endif %}{% endfor %}" + ASK),
    ("chatml, roles", "chatml", """\
{% for message in messages %}\
    {% if message['role'] == 'user' %}\
        {{'<|im_start|>user\\n' + message['content'] + '<|im_end|>\\n'}}\
    {% elif message['role'] == 'assistant' %}\
        {{'<|im_start|>assistant\\n' + message['content'] + '<|im_end|>\\n' }}\
    {% else %}\
        {{ '<|im_start|>system\\n' + message['content'] + '<|im_end|>\\n' }}\
    {% endif %}\
{% endfor %}\
{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}\
{% endif %}""".replace("    ", "")),
    ("llama2", "llama2", LLAMA2.replace("MIDDLE", "")),
    ("llama2, default switched off", "llama2", LLAMA2.replace(
        "MIDDLE", "{% elif false == true and not '<<SYS>>' in messages[0]['content'] %}"
        "{% set loop_messages = messages %}{% set system_message = 'You are a helpful, respectful and honest "
        "assistant. If you don\\'t know, don\\'t share false information.' %}")),
    ("llama2, trim", "llama2", LLAMA2.replace("MIDDLE", "").replace("content.strip()", "content | trim")),
    ("zephyr", "zephyr", ZEPHYR),
    ("zephyr, without line feeds", "zephyr",
     re.sub(r"\n", "", ZEPHYR).replace("'<|assistant|>' }}", "'<|assistant|>\\n' }}")),
    ("hh", "hh",
     "{% for message in messages %}{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
     "{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] }}"
     "{% elif message['role'] == 'system' %}{{ '\\n\\nSystem: ' + message['content'] }}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"),
    ("hh without system", "hh",
     "{% for message in messages %}{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
     "{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] }}{% endif %}"
     "{% endfor %}{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"),
    ("simple", "simple",
     "{% for message in messages %}{{message['role'].capitalize() + ': ' + message['content'] + '\\n\\n'}}"
     "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"),
    # One step away from a form: must not be taken for it.
    ("a text that depends on the end", "unknown",
     '{% for message in messages %}\n    {{ "<|im_start|>" + message.role + "\\n" + message.content }}<|im_end|>\n\n'
     '{%- if not loop.last %}{% endif %}\n{% endfor %}' + ASK),
    ("two blanks", "unknown", "{% for message in messages %}" + TURN.replace("'\\n'}}", "'\\n '}}") + "{% endfor %}" + ASK),
    ("line feed kept by +%}", "unknown", "{% for message in messages +%}\n" + TURN + "{% endfor %}" + ASK),
    ("line feed after an expression", "unknown", "{% for message in messages %}" + TURN + "\n{% endfor %}" + ASK),
    ("always asks", "unknown", "{% for message in messages %}" + TURN + "{% endfor %}{{ '<|im_start|>assistant\\n' }}"),
    ("end only between turns", "unknown",
     "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}"
     "{% if loop.last %}{{ '<|im_end|>'}}{% else %}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}" + ASK),
    ("gpt2's old default", "unknown", "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"),
    ("mistral", "unknown",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
     "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
     "{{ message['content'] + eos_token }}{% endif %}{% endfor %}"),
]
for name in ("qwen2_5", "qwen3", "llama3", "phi3"):
    path = os.path.join(os.path.dirname(trl.__file__), "chat_templates", name + ".jinja")
    TEMPLATES.append((name + " of TRL", "unknown", open(path, encoding="utf-8").read()))


def says(role, content):
    return {"role": role, "content": content}


SYSTEM, HI = says("system", "You know\nfilms. "), says("user", "Hello, how was it?")
GOOD, BAD = says("assistant", "The film was good."), says("assistant", "It's \"bad\"!")
ODD = says("user", "\u00a0\t Wie h\u00e4tte ich's ge\u00adsagt? {{ x }} {% if %} \u2003\n")
BLANKS = says("assistant", "The old\u3000\n\nkeeper \u00e9\u4e2d \n")
ROWS = [
    {"messages": [HI, GOOD]},
    {"messages": [SYSTEM, HI, GOOD]},
    {"messages": [SYSTEM, HI, GOOD, ODD, BLANKS]},
    {"messages": [HI, GOOD, BAD]},
    {"prompt": [HI]},
    {"prompt": [SYSTEM, ODD]},
    {"prompt": [HI, GOOD, ODD]},
    {"prompt": [HI, BAD, HI, GOOD]},
    {"prompt": [HI], "completion": [GOOD]},
    {"prompt": [SYSTEM, HI, BAD, ODD], "completion": [BLANKS]},
    {"prompt": [HI, HI], "completion": [GOOD]},
    {"prompt": [HI], "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": [SYSTEM, HI, GOOD, HI], "chosen": [BLANKS], "rejected": [BAD]},
]


def main():
    tiny = os.path.join(GOLDEN, "tiny_vocab")
    tokenizer = GPT2TokenizerFast.from_pretrained(tiny)
    for token in SPECIAL:
        tokenizer.add_tokens(transformers.AddedToken(token, special=True, normalized=False))
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    lines = [{"about": "dev/golden_chat.py", "transformers": transformers.__version__, "trl": trl.__version__,
              "jinja2": jinja2.__version__, "special": SPECIAL, "first": ids("<s>")[0], "rows": ROWS}]
    for name, form, jinja in TEMPLATES:
        tokenizer.chat_template = jinja
        results = []
        for row in ROWS if form != "unknown" else []:
            try:
                out = apply_chat_template(row, tokenizer)
            except jinja2.exceptions.TemplateError as error:
                results.append({"error": str(error)})
                continue
            if name == form and form != "simple":  # once for each form (after "simple" white space may merge)
                texts = [v for k, v in out.items() if k != "prompt"] or [""]
                out["ids"] = [ids(out.get("prompt", "") + t) for t in texts]
            results.append(out)
        lines.append({"name": name, "form": form, "jinja": jinja, "results": results})
    with open(os.path.join(GOLDEN, "chat.jsonl"), "w", encoding="utf-8") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
