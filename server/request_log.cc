#include "server/request_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace tessera {
namespace {

constexpr size_t kPipePiece = 4096;  // PIPE_BUF: poll promises room for this much
constexpr int kPollMs = 100;
constexpr int kLastPolls = 10;  // how often a blocked pipe is asked again at the end

}  // namespace

LineWriter::LineWriter(int fd) : fd_(fd), thread_([this] { Run(); }) {}

LineWriter::~LineWriter() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void LineWriter::Write(std::string line) {
  {
    const std::lock_guard lock(mu_);
    if (lines_.size() >= kMaxQueued) {
      ++dropped_;
      return;
    }
    line += '\n';
    lines_.push_back(std::move(line));
  }
  wake_.notify_one();
}

int64_t LineWriter::dropped() const {
  const std::lock_guard lock(mu_);
  return dropped_;
}

void LineWriter::Run() {
  std::unique_lock lock(mu_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || !lines_.empty(); });
    if (lines_.empty()) return;
    std::string text = std::move(lines_.front());
    lines_.pop_front();
    if (dropped_ > told_) {
      text += fmt::format("{{\"event\":\"log_dropped\",\"lines\":{}}}\n", dropped_ - told_);
      told_ = dropped_;
    }
    lock.unlock();
    const bool written = WriteAll(text);
    lock.lock();
    if (!written) return;
  }
}

// False: the other end is gone, or it takes nothing and we are stopping.
bool LineWriter::WriteAll(const std::string& text) {
  size_t at = 0;
  int polls = 0;
  while (at < text.size()) {
    pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
    const int count = poll(&ready, 1, kPollMs);
    if (count > 0 && (ready.revents & (POLLERR | POLLNVAL)) != 0) return false;
    if (count <= 0) {
      const std::lock_guard lock(mu_);
      if (stopping_ && ++polls >= kLastPolls) return false;
      continue;
    }
    const ssize_t written = write(fd_, text.data() + at, std::min(kPipePiece, text.size() - at));
    if (written < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return false;
    }
    at += static_cast<size_t>(written);
  }
  return true;
}

std::string RequestLine(const RequestRecord& record) {
  using Json = nlohmann::ordered_json;
  const auto ms = [](double seconds) { return std::round(seconds * 1e6) / 1e3; };
  const auto now = std::chrono::system_clock::now();
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  Json json{{"time", fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                                 fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis)},
            {"event", "request"},
            {"method", record.method},
            {"id", record.id}};
  if (!record.client_id.empty()) json["client_id"] = record.client_id;
  if (!record.tenant.empty()) json["tenant"] = record.tenant;
  json["model"] = record.model;
  json["code"] = record.code;
  if (!record.error.empty()) json["error"] = record.error;
  json["choices"] = record.choices;
  const Usage& u = record.usage;
  json["tokens"] = {{"prompt", u.prompt_tokens},
                    {"image", u.image_tokens},
                    {"cached", u.cached_tokens},
                    {"generated", u.generated_tokens}};
  if (u.drafted_tokens > 0) {
    json["tokens"]["drafted"] = u.drafted_tokens;
    json["tokens"]["accepted"] = u.accepted_tokens;
  }
  json["images"] = {{"given", u.images}, {"encoded", u.images_encoded}};
  json["preemptions"] = u.preemptions;
  const StageTimings& t = record.timings;
  json["ms"] = {{"image_decode", ms(t.image_decode)},
                {"preprocess", ms(t.preprocess)},
                {"tokenize", ms(t.tokenize)},
                {"queue", ms(t.queue)},
                {"vision_encode", ms(t.vision_encode)},
                {"cross_kv", ms(t.cross_kv)},
                {"prefill", ms(t.prefill)},
                {"decode", ms(t.decode)},
                {"first_token", ms(t.first_token)},
                {"total", ms(t.total)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tessera
