// Lines to a file descriptor that may block, from threads that must not.
//
// A line is queued (at most kMaxQueued) and written by a thread of its own, in pieces that a pipe
// takes whole, only when poll says that there is room. When the queue is full, lines are dropped
// and counted; the count is a line of its own once there is room again. The descriptor stays as it
// is: O_NONBLOCK would be shared with other processes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "server/wire/request_record.h"

namespace tessera {

// Thread-safe.
class LineWriter {
 public:
  static constexpr size_t kMaxQueued = 1024;

  explicit LineWriter(int fd);
  // Writes what is queued, for at most a second.
  ~LineWriter();

  void Write(std::string line);  // without its newline; never waits
  int64_t dropped() const;

 private:
  void Run();
  bool WriteAll(const std::string& text);

  const int fd_;
  mutable std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::string> lines_;  // guarded by mu_
  int64_t dropped_ = 0;            // guarded by mu_
  int64_t told_ = 0;       // guarded by mu_: of the dropped ones, those that a line has told of
  bool stopping_ = false;  // guarded by mu_
  std::thread thread_;     // last: it uses the others
};

// One JSON object: time, ids, code, counts, stages. Never content.
std::string RequestLine(const RequestRecord& record);

}  // namespace tessera
