// The server's binary as a child of the test.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace tessera {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A child process whose standard error is collected.
class Process {
 public:
  explicit Process(std::vector<std::string> flags) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      const int null = open("/dev/null", O_WRONLY);
      dup2(null, STDOUT_FILENO);
      std::vector<char*> argv{const_cast<char*>(TESSERA_SERVER_BINARY)};
      for (std::string& flag : flags) argv.push_back(flag.data());
      argv.push_back(nullptr);
      execv(TESSERA_SERVER_BINARY, argv.data());
      _exit(127);
    }
    close(ends[1]);
    read_end_ = ends[0];
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
    close(read_end_);
  }

  // Reads standard error until `words` come; false at its end or after a minute.
  bool ReadUntil(const std::string& words) {
    const auto end = steady_clock::now() + std::chrono::minutes(1);
    fcntl(read_end_, F_SETFL, O_NONBLOCK);
    while (err_.find(words) == std::string::npos && steady_clock::now() < end) {
      char block[4096];
      const ssize_t got = read(read_end_, block, sizeof block);
      if (got == 0) return false;
      if (got < 0) {
        std::this_thread::sleep_for(milliseconds(10));
        continue;
      }
      err_.append(block, static_cast<size_t>(got));
    }
    return err_.find(words) != std::string::npos;
  }
  void Signal(int signal) { kill(pid_, signal); }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& err() const { return err_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int read_end_ = -1;
  std::string err_;
};

}  // namespace tessera
