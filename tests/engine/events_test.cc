#include "server/engine/events.h"

#include <gtest/gtest.h>

#include <thread>

namespace tessera {
namespace {

TextDelta Delta(int choice, std::string text) {
  return {.choice = choice, .text = std::move(text), .tokens = {{.id = 1}}};
}

TEST(EventStream, DeltasMergePerChoiceWhenTheEventsAreFull) {
  EventStream stream;
  for (size_t i = 0; i < EventStream::kMaxEvents; ++i)
    stream.Push(Delta(static_cast<int>(i % 2), "a"));
  stream.Push(Delta(0, "b"));
  stream.Push(Delta(1, "c"));
  stream.Push(Delta(1, "d"));
  stream.Push(ChoiceEnd{.choice = 1});
  size_t events = 0, tokens = 0;
  std::string text[2];
  while (auto event = stream.Pop()) {
    ++events;
    if (const auto* delta = std::get_if<TextDelta>(&*event)) {
      text[delta->choice] += delta->text;
      tokens += delta->tokens.size();
    }
  }
  EXPECT_EQ(events, EventStream::kMaxEvents + 1);
  EXPECT_EQ(tokens, EventStream::kMaxEvents + 3);
  EXPECT_EQ(text[0], std::string(128, 'a') + "b");
  EXPECT_EQ(text[1], std::string(128, 'a') + "cd");
}

TEST(EventStream, FullByBytesUntilTheReaderDrains) {
  EventStream stream;
  int drained = 0;
  stream.SetDrainListener([&] { ++drained; });
  const TimePoint t0{std::chrono::seconds(5)};
  stream.Push(Delta(0, std::string(EventStream::kMaxBytes - 100, 'x')), t0);
  EXPECT_FALSE(stream.Full());
  stream.Push(Delta(0, std::string(100, 'x')), t0 + std::chrono::seconds(1));
  EXPECT_TRUE(stream.Full());
  stream.Push(Delta(0, "y"), t0 + std::chrono::seconds(2));
  EXPECT_EQ(stream.FullSince(), t0 + std::chrono::seconds(1));
  EXPECT_EQ(drained, 0);
  stream.Pop();
  EXPECT_FALSE(stream.Full());
  EXPECT_FALSE(stream.FullSince());
  EXPECT_EQ(drained, 1);
  EXPECT_GE(stream.high_water_bytes(), EventStream::kMaxBytes);
}

TEST(EventStream, TokensWithoutTextFillItToo) {
  EventStream stream;
  int pushed = 0;
  while (!stream.Full() && pushed < 100000) {
    stream.Push(TextDelta{.choice = 0, .tokens = {{.id = 1}}});
    ++pushed;
  }
  EXPECT_LE(pushed, static_cast<int>(EventStream::kMaxBytes / sizeof(TokenOut) + 1));
}

TEST(EventStream, ListenerOnlyWhenItWasEmpty) {
  EventStream stream;
  int calls = 0;
  stream.SetListener([&] { ++calls; });
  stream.Push(Delta(0, "a"));
  stream.Push(Delta(0, "b"));
  EXPECT_EQ(calls, 1);
  stream.Pop();
  stream.Push(Delta(0, "c"));
  EXPECT_EQ(calls, 1);
  while (stream.Pop()) {
  }
  stream.Push(Delta(0, "d"));
  EXPECT_EQ(calls, 2);
}

TEST(EventStream, OneProducerOneConsumer) {
  EventStream stream;
  std::thread producer([&] {
    for (int i = 0; i < 5000; ++i)
      stream.Push(Delta(0, std::string(1, static_cast<char>('a' + i % 26))));
    stream.Push(RequestEnd{});
  });
  std::string text;
  for (bool ended = false; !ended;) {
    const std::optional<Event> event = stream.Pop();
    if (!event) {
      std::this_thread::yield();
    } else if (const auto* delta = std::get_if<TextDelta>(&*event)) {
      text += delta->text;
    } else {
      ended = true;
    }
  }
  producer.join();
  ASSERT_EQ(text.size(), 5000u);
  for (int i = 0; i < 5000; ++i)
    ASSERT_EQ(text[static_cast<size_t>(i)], static_cast<char>('a' + i % 26));
}

}  // namespace
}  // namespace tessera
