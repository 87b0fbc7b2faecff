#include "server/prepare/preparer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <utility>

#include "server/prepare/pictures.h"
#include "server/prepare/prompt.h"
#include "server/prepare/sampling.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

Result<void> StillWanted(const CallIdentity& call, const std::stop_token& stop) {
  if (stop.stop_requested()) return Fail(ErrorCode::kCancelled, "the call was cancelled");
  if (Clock::now() >= call.deadline)
    return Fail(ErrorCode::kDeadlineExceeded, "the deadline passed");
  return {};
}

// Exceptions of our own code and of libraries (no memory, say) become an error of this request
// alone.
template <typename Function>
auto Contained(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (...) {
    return Fail(ErrorCode::kInternal, "internal error");
  }
}

}  // namespace

struct Preparer::Work {
  std::shared_ptr<const Frontend> frontend;
  GenerateInput input;
  CallIdentity call;
  std::stop_source failed;  // one picture failed: the others need not go on
  std::optional<std::stop_callback<std::function<void()>>> forward;  // the caller's stop, passed on
  std::stop_token caller;
  std::function<void(Result<Prepared>)> done;
  PreparedRequest request;
  std::vector<PreparedPicture> pictures;
  std::atomic<size_t> left{0};
  std::mutex mu;
  std::optional<Error> error;  // guarded by mu: of the first picture that failed, by time

  void Fail(Error why) {
    const std::lock_guard lock(mu);
    if (!error) error = std::move(why);
    failed.request_stop();
  }
};

void Preparer::Prepare(std::shared_ptr<const Frontend> frontend, GenerateInput input,
                       const CallIdentity& call, std::stop_token stop,
                       std::function<void(Result<Prepared>)> done) {
  auto work = std::make_shared<Work>();
  work->frontend = std::move(frontend);
  work->input = std::move(input);
  work->call = call;
  work->caller = stop;
  work->done = std::move(done);
  const auto begun = Contained([&]() -> Result<void> {
    TESSERA_RETURN_IF_ERROR(StillWanted(work->call, stop));
    const auto begin = Clock::now();
    TESSERA_TRY(Prompt prompt, BuildPrompt(*work->frontend, work->input.prompt));
    PreparedRequest& request = work->request;
    request.id = call.id;
    request.tenant = call.tenant;
    request.cache_salt = call.cache_salt;
    request.arrival = call.arrival;
    request.deadline = call.deadline;
    request.prompt = std::move(prompt.ids);
    TESSERA_RETURN_IF_ERROR(ApplyParameters(*work->frontend, work->input, request));
    const DecodeLimits limits{.max_pixels = options_.limits.image_pixels};
    for (const InputImage& image : work->input.prompt.images) {
      TESSERA_RETURN_IF_ERROR(CheckPicture(*work->frontend, image, limits));
    }
    for (const int32_t mark : prompt.marks) request.media.push_back({.mark = mark});
    request.prepared.tokenize = std::chrono::duration<double>(Clock::now() - begin).count();
    return {};
  });
  if (!begun) return work->done(tl::unexpected<Error>(begun.error()));
  if (work->request.media.empty()) return Complete(work);
  work->forward.emplace(stop, [source = work->failed]() mutable { source.request_stop(); });
  StartPictures(work);
}

// The last picture to be ready goes on with the request: no job waits for another.
void Preparer::StartPictures(const std::shared_ptr<Work>& work) {
  const size_t count = work->request.media.size();
  work->pictures.resize(count);
  work->left = count;
  for (size_t i = 1; i < count; ++i) {
    pool_.Submit([this, work, i] { OnePicture(work, i); });
  }
  OnePicture(work, 0);
}

void Preparer::OnePicture(const std::shared_ptr<Work>& work, size_t index) {
  InputImage& image = work->input.prompt.images[index];
  auto picture = Contained([&]() -> Result<PreparedPicture> {
    TESSERA_RETURN_IF_ERROR(StillWanted(work->call, work->failed.get_token()));
    DecodeWait wait;
    wait.stop = work->failed.get_token();
    wait.deadline = work->call.deadline;
    return PreparePicture(*work->frontend, image, work->call.cache_salt,
                          {.max_pixels = options_.limits.image_pixels}, budget_, wait,
                          options_.limits.approximate_jpeg);
  });
  image.file = std::string();  // up to 32 MiB that a waiting request need not hold
  if (picture) {
    work->pictures[index] = *std::move(picture);
  } else {
    work->Fail(std::move(picture).error());
  }
  if (work->left.fetch_sub(1) == 1) Complete(work);
}

void Preparer::Complete(const std::shared_ptr<Work>& work) {
  work->forward.reset();
  std::optional<Error> error;
  {
    const std::lock_guard lock(work->mu);
    error = std::move(work->error);
  }
  if (work->caller.stop_requested())
    error = Error{.code = ErrorCode::kCancelled, .what = "the call was cancelled"};
  if (error) return work->done(tl::unexpected<Error>(*std::move(error)));
  auto prepared = Contained([&]() -> Result<Prepared> {
    Prepared out;
    PreparedRequest& request = work->request;
    for (size_t i = 0; i < work->pictures.size(); ++i) {
      PreparedPicture& picture = work->pictures[i];
      request.media[i].digest = picture.media.digest;
      request.media[i].pixels = std::move(picture.media.pixels);
      request.prepared.image_decode += picture.decode_seconds;
      request.prepared.preprocess += picture.preprocess_seconds;
      if (picture.first_frame_only) {
        out.notes.push_back(fmt::format("{}: an animation, of which the first frame is used",
                                        work->input.prompt.images[i].field));
      }
      if (picture.reduced_by > 1) {
        out.notes.push_back(fmt::format("{}: approximated, the JPEG is decoded at 1/{} of its size",
                                        work->input.prompt.images[i].field, picture.reduced_by));
      }
      const ModelInfo& info = work->frontend->info();
      const int padding = info.max_tiles - request.media[i].pixels->used_tiles;
      if (info.skips_padding_tiles && padding > 0) {
        out.notes.push_back(fmt::format(
            "{}: approximated, {} padding {} left out of the vision tower",
            work->input.prompt.images[i].field, padding, padding == 1 ? "tile is" : "tiles are"));
      }
    }
    out.request = std::make_shared<const PreparedRequest>(std::move(request));
    return out;
  });
  work->done(std::move(prepared));
}

}  // namespace tessera
