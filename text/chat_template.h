// A model's chat template: messages in, prompt text with provenance out.
//
// The template is a program in the subset of Jinja2 that Hugging Face chat templates use, run by a
// bounded interpreter (text/jinja_*.h) that equals Python's jinja2 ImmutableSandboxedEnvironment as
// transformers 5.23 sets it up: trim_blocks, lstrip_blocks, break and continue, {% generation %}
// blocks (put out), raise_exception, strftime_now, and a tojson that neither sorts keys nor escapes
// non-ASCII or HTML. It comes from the model's directory, never from a request. Outside the subset,
// and refused at load: block, extends, include, import, autoescape; the filters filesizeformat,
// pprint, random, striptags, urlencode, urlize, wordwrap, xmlattr; str.encode, translate and their
// like; integers of more than 128 bits; \N{...} escapes. Printing a generator is an error, where
// Python prints an address.
//
// Provenance: text written in the template and the special tokens of RenderOptions are
// Origin::kTemplate, everything that came in by messages or kwargs is Origin::kUser, byte by byte,
// through every filter, slice and concatenation.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/provenance_text.h"

namespace tessera {

// Local wall-clock time, as Python's datetime.now() gives it.
struct CalendarTime {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
  int weekday = 3;   // 0 = Monday
  int year_day = 1;  // 1 = 1 January
};
CalendarTime LocalTimeNow();

// What a template may use before it is stopped with an error. Steps count evaluated nodes, loop
// rounds and bytes handled (one step for 64 bytes); each limit grows with the bytes of messages and
// kwargs.
struct TemplateLimits {
  int64_t steps = 2'000'000;
  int64_t steps_per_input_byte = 16;
  int64_t output_bytes = 4 << 20;  // of any one string, too
  int64_t output_bytes_per_input_byte = 8;
  int64_t memory_bytes = 64 << 20;
  int64_t memory_bytes_per_input_byte = 64;
  int depth = 1000;  // nested evaluations: expressions, blocks, macro calls
};

struct RenderOptions {
  bool add_generation_prompt = true;
  // Special tokens as template variables ("bos_token", "<s>"), Origin::kTemplate. One that a model
  // lacks is left out and then undefined in the template, as in transformers.
  std::vector<std::pair<std::string, std::string>> special_tokens;
  // Every key is a template variable, Origin::kUser. `tools` and `documents` are none where not
  // given. A string "date_string" is also what strftime_now(...) returns, whatever its format, so
  // that prompts are reproducible.
  nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();
  // strftime_now's clock where kwargs have no date_string.
  std::function<CalendarTime()> now = LocalTimeNow;
  // A `role` of a message that is exactly system, user, assistant or tool is a word of an enum, not
  // text of a user: Origin::kTemplate, so that templates that build '<|' + role + '|>' get their
  // special token.
  bool trust_role_names = true;
  TemplateLimits limits;
};

enum class ContentFormat {
  kString,  // the template wants `content` as one string
  kParts,   // the template goes through lists of {"type": "text" | "image"} parts
};

class ChatTemplate {
 public:
  // Const and thread-safe after construction; a copy shares the compiled template.

  // Errors (kInvalidArgument): not UTF-8, longer than 1 MiB, a syntax error, or a construct outside
  // the subset; `detail` names `name`, the line and the construct.
  static Result<ChatTemplate> Compile(std::string_view source, std::string name);

  // As transformers 5.23 looks for it. With a processor's configuration beside it:
  // chat_template.json, chat_template.jinja, tokenizer_config.json; without: chat_template.jinja,
  // tokenizer_config.json, chat_template.json. A list of named templates gives 'default', and
  // 'tool_use' for renders with tools. kNotFound: no chat template there.
  static Result<ChatTemplate> LoadFromDir(const std::filesystem::path& dir);

  // messages: an array of at least one object, any JSON in it, keys in order. Errors are
  // kInvalidArgument: no messages, raise_exception and every other failure of the template (what
  // Python would raise, or a limit reached). Error::detail holds the template's words and line; it
  // may quote messages, so it is for the operator's log and never for the wire.
  Result<ProvenanceText> Render(const nlohmann::ordered_json& messages,
                                const RenderOptions& options) const;

  // The special tokens that transformers gives templates as variables, from the directory's
  // tokenizer_config.json and, for what it lacks, special_tokens_map.json: bos_token, eos_token,
  // pad_token, unk_token, ... For RenderOptions.
  static Result<std::vector<std::pair<std::string, std::string>>> LoadSpecialTokens(
      const std::filesystem::path& dir);

  // How the template takes pictures and texts of a message, found by rendering probes when it was
  // compiled.
  ContentFormat content_format() const { return content_format_; }
  const std::string& name() const { return name_; }

 private:
  struct Program;
  ChatTemplate() = default;

  std::string name_;
  std::shared_ptr<const Program> program_;
  std::shared_ptr<const Program> tool_use_;  // null: program_ serves tools too
  ContentFormat content_format_ = ContentFormat::kString;
};

}  // namespace tessera
