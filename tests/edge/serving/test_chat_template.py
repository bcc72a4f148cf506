import json

import pytest

from cactus_core.errors import InvalidInput, Unsupported
from edge.serving.chat_template import ChatTemplate

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'Say "✓"'}]
CHATML = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""


def config(folder, **fields):
    (folder / "tokenizer_config.json").write_text(json.dumps(fields), "utf8")
    return folder


def test_messages_become_the_prompt_that_transformers_makes_of_them(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    source = CHATML + "{% if tools %}none{% endif %}{{ eos_token }}{{ messages | tojson }}{{ strftime_now('%Y') | length }}"
    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="<|end|>")
    expected = theirs.apply_chat_template(MESSAGES, chat_template=source, tokenize=False, add_generation_prompt=True)
    ours = ChatTemplate.load(config(tmp_path, chat_template=source, eos_token={"content": "<|end|>"}))
    assert ours.render(MESSAGES, {}) == expected


def test_a_template_lies_in_a_file_of_its_own_or_in_the_configuration_by_name(tmp_path):
    config(tmp_path, chat_template=[{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}])
    assert ChatTemplate.load(tmp_path).render(MESSAGES, {}) == "yes"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert ChatTemplate.load(tmp_path).render(MESSAGES, {}) == "file"
    assert ChatTemplate.load(tmp_path, "plain").render(MESSAGES, {}).endswith('user: Say "✓"\nassistant:')


def test_a_caller_may_set_variables_of_the_template():
    assert ChatTemplate(CHATML, {}).render(MESSAGES, {"enable_thinking": False}).endswith("</think>\n\n")


def test_what_cannot_be_rendered_is_said_in_one_line(tmp_path):
    with pytest.raises(Unsupported, match="--chat-template"):
        ChatTemplate(None, {}).render(MESSAGES, {})
    with pytest.raises(InvalidInput, match="users first"):
        ChatTemplate("{{ raise_exception('users first') }}", {}).render(MESSAGES, {})
    with pytest.raises(InvalidInput, match="cannot be read"):
        ChatTemplate("{% for %}", {})
    with pytest.raises(InvalidInput, match="there is no chat template"):
        ChatTemplate.load(tmp_path, "nowhere.jinja")


def test_a_template_is_kept_in_its_sandbox():
    for source in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}"):
        with pytest.raises(InvalidInput):
            ChatTemplate(source, {}).render(MESSAGES, {})
