// What may leave the server in an error message.
#include "server/wire/status_map.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(StatusMap, MessageNamesFieldValueAndLimit) {
  const Error error{ErrorCode::kInvalidArgument,
                    "the value is out of range",
                    "sampling.top_p",
                    "(0, 1]",
                    "1.5",
                    "secret"};
  const WireStatus status = ToWireStatus(error, "r-0123");
  EXPECT_EQ(status.message,
            "the value is out of range: sampling.top_p: got 1.5, allowed: (0, 1] [request r-0123]");
  EXPECT_EQ(status.code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(status.pushback);
}

TEST(StatusMap, NothingOfAClientPasses) {
  for (const char* text : {"/home/user/model.cc:12", "0x7fff12345678", "hello", "<|image|>", "a\nb",
                           "\x1b[31m", "x", "../x", "caf\xc3\xa9"}) {
    const Error error{ErrorCode::kInvalidArgument, "bad", text, text, text, text};
    const std::string message = ToWireStatus(error, "r-1").message;
    if (IsSafeLimit(text)) continue;  // plain words pass as a limit, which is always ours
    EXPECT_EQ(message, "bad [request r-1]") << text;
  }
}

TEST(StatusMap, Filters) {
  EXPECT_TRUE(IsProtoPath("chat.messages[12].parts[0].image"));
  EXPECT_TRUE(IsProtoPath("prompt"));
  for (const char* bad : {"", "chat.", ".chat", "chat.nonsense", "chat.messages[x]",
                          "chat.messages[]", "chat.messages[1", "chat messages"}) {
    EXPECT_FALSE(IsProtoPath(bad)) << bad;
  }
  for (const char* good : {"1", "-1.5", "1e+20", "nan", "inf", "5000x1", "GIF", "1500 + 600"})
    EXPECT_TRUE(IsSafeValue(good)) << good;
  for (const char* bad : {"", "exe", "e", "0x12", "1 0xff", "one", "1;", "\n1"})
    EXPECT_FALSE(IsSafeValue(bad)) << bad;
  EXPECT_TRUE(IsSafeLimit("ROLE_SYSTEM, ROLE_USER"));
  EXPECT_TRUE(IsSafeLimit("[0, 100]"));
  EXPECT_FALSE(IsSafeLimit("a/b"));
  EXPECT_FALSE(IsSafeLimit("a:1"));
}

TEST(StatusMap, NeverEmptyAndPushedBack) {
  EXPECT_FALSE(ToWireStatus(Error{.code = ErrorCode::kInternal, .what = ""}, "").message.empty());
  EXPECT_TRUE(
      ToWireStatus(Error{.code = ErrorCode::kResourceExhausted, .what = "the queue is full"}, "r")
          .pushback);
  EXPECT_EQ(InternalStatus("r-1").message, "internal error [request r-1]");
}

TEST(StatusMap, EveryCodeHasItsNumber) {
  EXPECT_EQ(GrpcCode(ErrorCode::kInvalidArgument), 3);
  EXPECT_EQ(GrpcCode(ErrorCode::kResourceExhausted), 8);
  EXPECT_EQ(GrpcCode(ErrorCode::kUnavailable), 14);
  EXPECT_EQ(GrpcCode(ErrorCode::kUnauthenticated), 16);
  EXPECT_EQ(GrpcCode(ErrorCode::kInternal), 13);
}

}  // namespace
}  // namespace tessera
