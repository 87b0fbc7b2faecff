// Arbitrary templates, and arbitrary messages under a template of the Llama 3.2 kind: a text or an
// error, nothing else.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tessera::ChatTemplate;
  using Json = nlohmann::ordered_json;
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  tessera::RenderOptions options;
  options.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  options.kwargs["tools"] = Json::parse(
      R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"x":{"type":"string"}}}}}])");
  options.limits.steps = 50'000;
  options.limits.memory_bytes = 16 << 20;
  options.limits.output_bytes = 1 << 20;
  if (const auto chat_template = ChatTemplate::Compile(text, "fuzz")) {
    const Json messages = Json::parse(
        R"([{"role":"system","content":"s"},{"role":"user","content":[{"type":"image"},{"type":"text","text":"hi"}]}])");
    const auto rendered = chat_template->Render(messages, options);
    if (rendered) TESSERA_CHECK(rendered->text().size() == rendered->origins().size());
  }

  const Json messages = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!messages.is_discarded()) {
    const auto chat_template = ChatTemplate::Compile(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['content'] is string %}{{ "
        "m['content'] | trim }}"
        "{% else %}{% for c in m['content'] %}{{ c['text'] | trim if c['type'] == 'text' else "
        "'<|image|>' }}{% endfor %}"
        "{% endif %}{{ m | tojson(indent=2) }}{% endfor %}",
        "fixed");
    const auto rendered = chat_template->Render(messages, options);
    if (rendered) TESSERA_CHECK(rendered->text().size() == rendered->origins().size());
  }
  return 0;
}
