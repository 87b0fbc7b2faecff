// `tessera`: the command-line client.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "client/cli_commands.h"

namespace {

tessera::CancelToken* g_cancel = nullptr;  // a signal handler has no other way in

void OnInterrupt(int) {
  // The first Ctrl-C cancels the request, the second ends the program.
  if (g_cancel->cancelled()) std::_Exit(130);
  g_cancel->Cancel();
}

void AddSamplingFlags(CLI::App* command, tessera::GenerateParams* p) {
  const char* group = "Sampling (unset: the model's own defaults)";
  command->add_option("--temperature", p->temperature, "0 is greedy")->group(group);
  command->add_option("--top-k", p->top_k, "keep the k likeliest tokens, 0 is off")->group(group);
  command->add_option("--top-p", p->top_p, "keep the likeliest tokens of this mass")->group(group);
  command
      ->add_option("--min-p", p->min_p,
                   "keep tokens of at least this share of the best one's probability")
      ->group(group);
  command->add_option("--repetition-penalty", p->repetition_penalty)->group(group);
  command->add_option("--frequency-penalty", p->frequency_penalty)->group(group);
  command->add_option("--presence-penalty", p->presence_penalty)->group(group);
  command->add_option("--seed", p->seed, "same seed, same words")->group(group);
  const char* ends = "Length and stopping";
  command->add_option("--max-tokens", p->max_tokens, "tokens to generate; unset: up to the context")
      ->group(ends);
  command->add_option("--min-tokens", p->min_tokens, "do not stop before so many")->group(ends);
  command->add_option("--stop", p->stop, "stop at this text; may be given several times")
      ->group(ends)
      ->allow_extra_args(false);
  command->add_option("--stop-token", p->stop_token_ids, "stop at this token id")
      ->group(ends)
      ->allow_extra_args(false);
  command->add_flag("--include-stop", p->include_stop, "leave the stop text in the answer")
      ->group(ends);
  command->add_flag("--ignore-eos", p->ignore_eos, "go on past end-of-sequence tokens")
      ->group(ends);
}

void AddRequestFlags(CLI::App* command, tessera::cli::GenerateFlags* flags) {
  command->add_option("--model", flags->params.model,
                      "name of the model; unset: the server's only one");
  command->add_option("--system", flags->system, "system message");
  command->add_option("--date", flags->params.date_string,
                      "the chat template's date, e.g. \"26 Jul 2024\"");
  command->add_option("--request-id", flags->params.client_request_id,
                      "your own id, for the server's log");
  command
      ->add_option_function<double>(
          "--timeout",
          [flags](double seconds) {
            flags->params.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
          },
          "seconds; unset: the server's own limit")
      ->check(CLI::Range(0.001, 86400.0));
  command->add_flag("--timings", flags->show_timings, "print the stages' times on stderr");
}

}  // namespace

int main(int argc, char** argv) {
  namespace cli = tessera::cli;
  CLI::App app{
      "Asks a Tessera server: pictures and prompts in, words out.\n"
      "Exit code: 0 done, 1 the server refused or failed, 2 wrong usage."};
  app.name("tessera");
  app.set_version_flag("--version", std::string("tessera ") + TESSERA_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  std::string server = "127.0.0.1:8001";
  app.add_option("--server", server, "HOST:PORT of the server")
      ->envname("TESSERA_SERVER")
      ->capture_default_str();

  cli::GenerateFlags generate_flags;
  CLI::App* generate = app.add_subcommand(
      "generate", "one question, with or without pictures; the answer streams to stdout");
  generate->add_option("--image", generate_flags.images,
                       "picture file (JPEG, PNG, WebP); several are seen in order, '-' is stdin");
  generate->add_option("--prompt", generate_flags.prompt,
                       "the question; unset or '-': read from stdin");
  generate->add_flag(
      "--raw", generate_flags.raw,
      "the prompt is used as it is, without chat template (the server must allow it)");
  generate->add_flag("--json", generate_flags.json,
                     "print one JSON object: text, ids, finish reason, usage, timings");
  generate->add_option("-n", generate_flags.params.n, "choices")->check(CLI::Range(1, 16));
  generate->add_option("--logprobs", generate_flags.params.logprobs,
                       "log-probabilities with so many alternatives (with --json)");
  generate->add_flag("--keep-special-tokens", generate_flags.params.keep_special_tokens,
                     "in the text");
  AddRequestFlags(generate, &generate_flags);
  AddSamplingFlags(generate, &generate_flags.params);

  cli::GenerateFlags chat_flags;
  CLI::App* chat =
      app.add_subcommand("chat", "a conversation on the terminal: /image FILE, /reset, /quit");
  chat->add_option("--image", chat_flags.images, "pictures for the first turn");
  AddRequestFlags(chat, &chat_flags);
  AddSamplingFlags(chat, &chat_flags.params);

  cli::GenerateFlags tokenize_flags;
  bool tokenize_chat = false;
  CLI::App* tokenize = app.add_subcommand("tokenize", "the token ids of a text");
  tokenize->add_option("--prompt", tokenize_flags.prompt,
                       "the text; unset or '-': read from stdin");
  tokenize->add_flag("--chat", tokenize_chat, "as a user's message through the chat template");
  tokenize->add_flag("--json", tokenize_flags.json, "print one JSON object");
  tokenize->add_option("--model", tokenize_flags.params.model);
  tokenize->add_option("--date", tokenize_flags.params.date_string);

  bool models_json = false;
  CLI::App* models = app.add_subcommand("models", "the models of the server");
  models->add_flag("--json", models_json, "with all details");

  std::string service;
  int wait_seconds = 0;
  CLI::App* health =
      app.add_subcommand("health", "prints SERVING and exits with 0 if the server serves");
  health->add_option("--service", service, "gRPC service name; unset: the whole server");
  health->add_option("--wait", wait_seconds, "wait so many seconds for it")
      ->check(CLI::Range(0, 3600));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::kDone : cli::kUsage;
  }

  tessera::CancelToken cancel;
  g_cancel = &cancel;
  std::signal(SIGINT, OnInterrupt);
  std::signal(SIGPIPE, SIG_IGN);
  tessera::Client client(server);
  if (*generate) return cli::Generate(client, std::move(generate_flags), cancel);
  if (*chat) return cli::Chat(client, std::move(chat_flags), cancel);
  if (*tokenize) return cli::Tokenize(client, tokenize_flags, tokenize_chat);
  if (*models) return cli::Models(client, models_json);
  return cli::Health(client, service, wait_seconds);
}
