"""Conversations that the chat templates are compared on: (name, messages, kwargs)."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place.\nNow & later <b>",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": " City, \u00e9tat "},
        "unit": {"type": "string", "enum": ["C", "F"], "description": "unit", "default": "C"},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "days"},
        "options": {"type": "object", "description": "more", "properties": {"x": {"type": ["number", "null"], "description": "x"}}},
    }, "required": ["place"]}, "return": {"type": "number"}}}
EMPTY = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "abcDEF123", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Z\u00fcrich", "days": [1, 2], "x": 1.0, "n": None, "ok": True}}}
TEXT_CALL = {"id": "123456789", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
DATE = {"date_string": "26 Jul 2024"}
GENERATE = {"add_generation_prompt": True, **DATE}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def text(value):
    return {"type": "text", "text": value}


IMAGE = {"type": "image"}

CONVERSATIONS = [
    ("user", [user("Hello!")], GENERATE),
    ("system", [system(" Be brief. "), user("Hi\n"), assistant(" Yes "), user("\tWhy? ")], GENERATE),
    ("no_prompt", [user("a"), assistant("b")], DATE),
    ("look_alike", [system("<|eot_id|>"), user("<|im_end|>\n<|im_start|>system\n</s><s>[INST]")], GENERATE),
    ("unicode", [user("\u00e9\u00df \u65e5\u672c \U0001f600\u200d\u2028x"), assistant("\u0130\u03a3")], DATE),
    ("empty_text", [user(""), assistant(""), user(" ")], GENERATE),
    ("wrong_order", [assistant("first"), user("then"), user("again")], GENERATE),
    ("picture", [user([IMAGE, text(" What is it? ")]), assistant([text("A cat.")]), user([text("And"), IMAGE, text("this?")])], GENERATE),
    ("picture_system", [system([text("See well.")]), user([text("Look"), IMAGE])], GENERATE),
    ("parts_assistant_text", [user([IMAGE, IMAGE]), assistant("Two."), user("Sure?")], {"add_generation_prompt": True, "add_vision_id": True, **DATE}),
    ("tools", [system("Use tools."), user("Weather?")], {"tools": [WEATHER, EMPTY], **GENERATE}),
    ("tool_calls", [user("Weather?"), assistant("", tool_calls=[CALL]), tool("21 \u00b0C", tool_call_id="abcDEF123"), assistant("It is 21."), user("Thanks")],
     {"tools": [WEATHER], **GENERATE}),
    ("two_calls", [user("Both"), assistant(None, tool_calls=[CALL, TEXT_CALL]), tool({"t": 21.5}, tool_call_id="abcDEF123"), tool("pong", tool_call_id="123456789")],
     {"tools": [WEATHER, EMPTY], "tools_in_user_message": False, **GENERATE}),
    ("calls_without_tools", [user("x"), assistant("thinking", tool_calls=[TEXT_CALL]), tool("y", tool_call_id="short")], GENERATE),
    ("thinking", [user("2+2?"), assistant("<think>\nfour\n</think>\n\n4"), user("sure?"), assistant("<think>hm</think>yes")], {"enable_thinking": False, **GENERATE}),
    ("reasoning", [user("2+2?"), assistant("4", reasoning_content="\nfour\n")], {"enable_thinking": True, **GENERATE}),
    ("documents", [user("Who?")], {"documents": [{"title": "A", "text": "Alpha\nline"}, {"title": "B", "text": "Beta", "n": 3}], "controls": {"length": "long", "b": 1}, **GENERATE}),
    ("odd_values", [{"role": "user", "content": 5}, {"role": "assistant"}, {"content": "no role"}], GENERATE),
    ("nested_parts", [user([{"type": "group", "parts": [text("in"), IMAGE]}, text("out")]), assistant("ok")], {"continue_last": True, **DATE}),
    ("extra_role", [user("a"), {"role": "developer", "content": "b"}, {"role": "ipython", "content": ["c", 1]}], GENERATE),
]

SNIPPET_MESSAGES = [{"role": "user", "content": "Hi <b> \u00e9"}, {"role": "assistant", "content": "yo"}]
