// The subcommands of `tessera`. Each returns the process's exit code: 0 done, 1 the server refused
// or failed (code and message on stderr), 2 wrong usage.
#pragma once

#include <string>
#include <vector>

#include "client/client.h"

namespace tessera::cli {

inline constexpr int kDone = 0, kFailed = 1, kUsage = 2;

struct GenerateFlags {
  GenerateParams params;
  std::vector<std::string> images;  // files, in order; "-" is stdin
  std::string prompt;               // "-": stdin
  std::string system;
  bool raw = false;
  bool json = false;
  bool show_timings = false;
};

int Generate(Client& client, GenerateFlags flags, const CancelToken& cancel);
// Reads lines: text is a turn; /image FILE adds a picture to the next turn, /reset forgets, /quit
// ends.
int Chat(Client& client, GenerateFlags flags, CancelToken& cancel);
int Tokenize(Client& client, const GenerateFlags& flags, bool as_chat);
int Models(Client& client, bool json);
int Health(Client& client, const std::string& service, int wait_seconds);

}  // namespace tessera::cli
