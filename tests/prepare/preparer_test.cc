// Preparation on its pool: pictures in the order of their marks, one answer for each request,
// errors that name the picture, and an end to work that nobody waits for.
#include "server/prepare/preparer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tests/prepare/demo_frontend.h"

namespace tessera {
namespace {

using test::DemoFrontend;
using test::DemoPicture;
using test::FileOf;
using test::UserMessage;
using testing::ElementsAre;
using testing::HasSubstr;

GenerateInput Ask(const std::vector<std::string>& files) {
  GenerateInput input;
  input.prompt.messages = {UserMessage("What is it?", static_cast<int>(files.size()))};
  for (size_t i = 0; i < files.size(); ++i)
    input.prompt.images.push_back({.file = files[i], .field = "image " + std::to_string(i)});
  return input;
}

class Preparing : public testing::Test {
 protected:
  Result<Prepared> Prepare(GenerateInput input, std::stop_token stop = {}) {
    auto promise = std::make_shared<std::promise<Result<Prepared>>>();
    auto future = promise->get_future();
    EXPECT_TRUE(preparer_.TryRun([&, promise] {
      // A second answer would throw, and end the process
      preparer_.Prepare(frontend_, std::move(input), call_, stop,
                        [promise](Result<Prepared> done) { promise->set_value(std::move(done)); });
    }));
    return future.get();
  }
  ~Preparing() override {
    EXPECT_EQ(preparer_.budget().in_use(), 0);
    EXPECT_EQ(preparer_.budget().waiting(), 0);
  }

  std::shared_ptr<const Frontend> frontend_ = DemoFrontend();
  CallIdentity call_{.id = "a-call",
                     .tenant = "a tenant",
                     .cache_salt = {},
                     .arrival = std::chrono::steady_clock::now(),
                     .deadline = std::chrono::steady_clock::now() + std::chrono::hours(1)};
  Preparer preparer_{{.threads = 3, .queue = 4, .limits = {}}};
};

TEST_F(Preparing, PicturesComeInTheOrderOfTheirMarks) {
  const std::string one = DemoPicture("01-single-1x1.png"),
                    four = DemoPicture("09-objects-2x2.png");
  const auto prepared = Prepare(Ask({four, one, four}));
  ASSERT_TRUE(prepared) << prepared.error().Describe();
  const PreparedRequest& request = *prepared->request;
  EXPECT_EQ(request.id, "a-call");
  EXPECT_EQ(request.tenant, "a tenant");
  ASSERT_EQ(request.media.size(), 3u);
  EXPECT_EQ(request.media[0].pixels->used_tiles, 4);
  EXPECT_EQ(request.media[1].pixels->used_tiles, 1);
  EXPECT_EQ(request.media[0].digest, request.media[2].digest);
  EXPECT_NE(request.media[0].digest, request.media[1].digest);
  EXPECT_LT(request.media[0].mark, request.media[1].mark);
  EXPECT_LT(request.media[1].mark, request.media[2].mark);
  for (const Media& media : request.media)
    EXPECT_EQ(request.prompt[static_cast<size_t>(media.mark)], frontend_->info().image_token_id);
  EXPECT_THAT(prepared->notes, testing::IsEmpty());
}

TEST_F(Preparing, OneTenantsDigestsAreNotAnothers) {
  const GenerateInput input = Ask({DemoPicture("01-single-1x1.png")});
  const auto first = Prepare(input);
  call_.cache_salt.bytes[5] = 1;
  const auto other = Prepare(input);
  ASSERT_TRUE(first && other);
  EXPECT_NE(first->request->media[0].digest, other->request->media[0].digest);
  EXPECT_EQ(first->request->media[0].pixels->tiles, other->request->media[0].pixels->tiles);
}

TEST_F(Preparing, AnAnimationIsUsedByItsFirstFrameAndSaysSo) {
  const auto prepared = Prepare(Ask(
      {DemoPicture("01-single-1x1.png"), FileOf("tests/media/data/pictures/webp_animated.webp")}));
  ASSERT_TRUE(prepared) << prepared.error().Describe();
  EXPECT_THAT(prepared->notes, ElementsAre(HasSubstr("image 1: an animation")));
}

TEST_F(Preparing, AnApproximatedJpegSaysSo) {
  const GenerateInput input =
      Ask({DemoPicture("01-single-1x1.png"), FileOf("tests/prepare/data/large_800x800.jpg")});
  const auto exact = Prepare(input);
  ASSERT_TRUE(exact) << exact.error().Describe();
  EXPECT_THAT(exact->notes, testing::IsEmpty());
  Preparer fast({.threads = 1, .queue = 1, .limits = {.approximate_jpeg = true}});
  std::promise<Result<Prepared>> promise;
  ASSERT_TRUE(fast.TryRun([&] {
    fast.Prepare(frontend_, GenerateInput(input), call_, {},
                 [&](Result<Prepared> done) { promise.set_value(std::move(done)); });
  }));
  const auto prepared = promise.get_future().get();
  ASSERT_TRUE(prepared) << prepared.error().Describe();
  EXPECT_THAT(
      prepared->notes,
      ElementsAre(HasSubstr("image 1: approximated, the JPEG is decoded at 1/4 of its size")));
  const Media &whole = exact->request->media[1], &reduced = prepared->request->media[1];
  EXPECT_EQ(prepared->request->media[0].digest, exact->request->media[0].digest);
  EXPECT_NE(reduced.digest, whole.digest);
  EXPECT_EQ(reduced.pixels->aspect_ratio_id, whole.pixels->aspect_ratio_id);
  EXPECT_EQ(reduced.pixels->tiles.size(), whole.pixels->tiles.size());
}

TEST_F(Preparing, PaddingTilesLeftOutAreNamed) {
  frontend_ = DemoFrontend({.skips_padding_tiles = true});
  const auto prepared =
      Prepare(Ask({DemoPicture("01-single-1x1.png"), DemoPicture("09-objects-2x2.png")}));
  ASSERT_TRUE(prepared) << prepared.error().Describe();
  EXPECT_THAT(
      prepared->notes,
      ElementsAre("image 0: approximated, 3 padding tiles are left out of the vision tower"))
      << "the other has none";
}

TEST_F(Preparing, ErrorsNameThePicture) {
  const std::string good = DemoPicture("01-single-1x1.png");
  const std::string cut = good.substr(0, good.size() / 2);
  for (const std::string& bad : {cut, std::string("GIF89a"), std::string("nonsense")}) {
    const auto refused = Prepare(Ask({good, good, bad, good}));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.error().field, "image 2") << refused.error().Describe();
  }
}

TEST_F(Preparing, PixelsAreCountedBeforeAnyIsDecoded) {
  Preparer small({.threads = 1, .queue = 1, .limits = {.image_pixels = 100}});
  std::promise<Result<Prepared>> promise;
  ASSERT_TRUE(small.TryRun([&] {
    small.Prepare(frontend_, Ask({DemoPicture("01-single-1x1.png")}), call_, {},
                  [&](Result<Prepared> done) { promise.set_value(std::move(done)); });
  }));
  const auto refused = promise.get_future().get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().field, "image 0");
  EXPECT_THAT(refused.error().limit, HasSubstr("100"));
  EXPECT_EQ(small.budget().peak(), 0);
}

TEST_F(Preparing, NothingIsDoneForACallThatIsOver) {
  const GenerateInput input = Ask({DemoPicture("01-single-1x1.png")});
  std::stop_source stop;
  stop.request_stop();
  auto ended = Prepare(input, stop.get_token());
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kCancelled);
  call_.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  ended = Prepare(input);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(preparer_.budget().peak(), 0);
}

// Stopped at whatever point: one answer, either whole or kCancelled, and nothing is held.
TEST_F(Preparing, CancelAtAnyPoint) {
  const std::string picture = DemoPicture("09-objects-2x2.png");
  int cancelled = 0;
  for (int round = 0; round < 40; ++round) {
    std::stop_source stop;
    std::jthread canceller([&stop, round] {
      std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
      stop.request_stop();
    });
    const auto prepared = Prepare(Ask({picture, picture, picture}), stop.get_token());
    if (prepared) {
      EXPECT_EQ(prepared->request->media.size(), 3u);
    } else {
      EXPECT_EQ(prepared.error().code, ErrorCode::kCancelled) << prepared.error().Describe();
      ++cancelled;
    }
  }
  EXPECT_GT(cancelled, 0);
}

TEST(JobPool, RefusesBeyondItsQueueAndRunsWhatItTook) {
  std::atomic<int> ran{0};
  std::promise<void> started, gate;
  auto open = gate.get_future().share();
  {
    JobPool pool(1, 2);
    EXPECT_TRUE(pool.TrySubmit([&] {
      started.set_value();
      open.wait();
      ++ran;
    }));
    started.get_future().wait();
    EXPECT_TRUE(pool.TrySubmit([&] { ++ran; }));
    EXPECT_TRUE(pool.TrySubmit([&] { ++ran; }));
    EXPECT_FALSE(pool.TrySubmit([&] { ran += 100; }));
    pool.Submit([&] { ++ran; });  // a part of a job that was taken
    gate.set_value();
  }
  EXPECT_EQ(ran, 4);
}

}  // namespace
}  // namespace tessera
