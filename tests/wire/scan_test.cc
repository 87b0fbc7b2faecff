// Hostile bytes: what a parser would allocate by, or refuse without saying where.
#include "server/wire/scan.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "server/wire/convert.h"
#include "tessera/v1/tessera.pb.h"

namespace tessera {
namespace {

namespace pb = tessera::v1;
constexpr ScanLimits kLimits{.submessages = 100, .elements = 1000, .string_bytes = 1000};

Result<void> Scan(const std::string& bytes, const ScanLimits& limits = kLimits) {
  return ScanMessage(StringPayload(bytes), *pb::GenerateRequest::descriptor(), limits);
}

std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string Field(int number, const std::string& bytes) {
  return Varint(static_cast<uint64_t>(number) << 3 | 2) + Varint(bytes.size()) + bytes;
}

TEST(Scan, InvalidUtf8IsNamed) {
  const std::string part = Field(1, "caf\xe9");
  const std::string good_message = Field(2, Field(1, "fine"));
  const std::string message = Field(2, Field(1, "fine")) + Field(2, part);
  const auto result = Scan(Field(2, Field(1, good_message) + Field(1, message)));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().field, "chat.messages[1].parts[1].text");
  EXPECT_EQ(Scan(Field(6, Field(1, "ok") + Field(1, "\xff"))).error().field, "stopping.stop[1]");
}

TEST(Scan, CountsBeforeAnythingIsAllocated) {
  std::string parts;
  for (int i = 0; i < 101; ++i) parts += Field(2, "");
  const auto result = Scan(Field(2, Field(1, parts)));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().limit, "100");
  // Packed numbers are elements; so are numbers one by one, entries of maps and fields nobody
  // knows.
  EXPECT_FALSE(Scan(Field(3, Field(3, std::string(1001, '\1')))));
  EXPECT_TRUE(Scan(Field(3, Field(3, std::string(900, '\1')))));
  std::string unpacked, unknown;
  for (int i = 0; i < 1001; ++i) unpacked += "\x18\x01", unknown += "\xf8\x07\x01";
  EXPECT_FALSE(Scan(Field(3, unpacked)));
  EXPECT_FALSE(Scan(unknown));
  std::string strings;
  for (int i = 0; i < 11; ++i) strings += Field(1, std::string(100, 'x'));
  EXPECT_FALSE(Scan(Field(6, strings)));
}

TEST(Scan, LyingLengthsAreRefused) {
  for (const std::string& bytes :
       {std::string("\x12\xff\xff\xff\xff\x0f"), std::string("\x12\x05\x0a\x10"),
        Field(2, Field(1, std::string("\x12\xff\xff\xff\x7f"))), std::string("\x0a\x80"),
        std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), std::string("\x00", 1),
        std::string("\x13\x14"), std::string("\x07")}) {
    EXPECT_FALSE(Scan(bytes));
    EXPECT_FALSE(ConvertGenerate(StringPayload(bytes), {}));
  }
}

TEST(Scan, EverySerialisedMessagePasses) {
  pb::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role(pb::ROLE_TOOL);
  message->add_parts()->set_text("caf\xc3\xa9");
  message->add_parts()->mutable_image()->set_data("\xff\xfe");
  (*request.mutable_sampling()->mutable_logit_bias())[1] = 2;
  request.mutable_stopping()->add_stop_token_ids(1);
  request.mutable_stopping()->add_stop_token_ids(300);
  EXPECT_TRUE(Scan(request.SerializeAsString()));
}

// What the scan lets through, the parser takes; neither crashes on anything.
TEST(Scan, MutatedMessages) {
  pb::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role(pb::ROLE_USER);
  message->add_parts()->set_text("What is this? \xe2\x82\xac");
  message->add_parts()->mutable_image()->set_data("picture");
  (*request.mutable_sampling()->mutable_logit_bias())[1] = 2;
  request.mutable_stopping()->add_stop("END");
  const std::string seed = request.SerializeAsString();
  std::mt19937 random(7);
  int passed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = seed;
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes.insert(at, 1, static_cast<char>(random())); break;
        default: bytes.erase(at, 1);
      }
    }
    if (!Scan(bytes)) continue;
    ++passed;
    pb::GenerateRequest parsed;
    ASSERT_TRUE(parsed.ParseFromString(bytes)) << i;
    const auto ignored = ConvertGenerate(StringPayload(bytes), {});
    (void)ignored;
  }
  EXPECT_GT(passed, 1000);
}

}  // namespace
}  // namespace tessera
