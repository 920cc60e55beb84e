#include "runtime/devices/snapshot.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

std::vector<uint8_t> sample() {
  SnapshotWriter writer;
  writer.begin("first", 2);
  writer.u8(0x12);
  writer.u16(0x3456);
  writer.u32(0x789abcde);
  writer.u64(0x0123456789abcdef);
  writer.boolean(true);
  writer.bytes(std::array<uint8_t, 3>{1, 2, 3});
  writer.end();
  writer.begin("second", 1);
  writer.end();
  return {writer.content().begin(), writer.content().end()};
}

/// Reads the sample's sections; the first error, or none.
Result<void> read_sample(std::span<const uint8_t> content) {
  SnapshotReader reader(content);
  reader.begin("first", 2);
  reader.u8();
  reader.u16();
  reader.u32();
  reader.u64();
  reader.boolean();
  reader.bytes(3);
  if (auto first = reader.end(); !first.ok()) return first;
  reader.begin("second", 1);
  return reader.end();
}

TEST(Snapshot, GivesBackWhatWasWritten) {
  const auto content = sample();
  SnapshotReader reader(content);
  EXPECT_EQ(reader.begin("first", 3), 2u);
  EXPECT_EQ(reader.u8(), 0x12);
  EXPECT_EQ(reader.u16(), 0x3456);
  EXPECT_EQ(reader.u32(), 0x789abcdeu);
  EXPECT_EQ(reader.u64(), 0x0123456789abcdefu);
  EXPECT_TRUE(reader.boolean());
  EXPECT_EQ(reader.bytes(3), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_TRUE(reader.end().ok());
  EXPECT_EQ(reader.begin("second", 1), 1u);
  EXPECT_TRUE(reader.end().ok());
}

TEST(Snapshot, EveryPrefixOfOneIsAnErrorSentence) {
  const auto content = sample();
  ASSERT_TRUE(read_sample(content).ok());
  for (size_t length = 0; length < content.size(); ++length) {
    const std::vector<uint8_t> cut(content.begin(), content.begin() + static_cast<long>(length));
    const auto result = read_sample(cut);
    ASSERT_FALSE(result.ok()) << length;
    EXPECT_EQ(result.error().status, ExitStatus::kBadInput);
    EXPECT_FALSE(result.error().message.empty());
  }
}

TEST(Snapshot, AnyChangedByteOfItsStructureIsSurvived) {
  const auto content = sample();
  for (size_t at = 0; at < content.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xff}) {
      auto damaged = content;
      damaged[at] = static_cast<uint8_t>(damaged[at] ^ change);
      static_cast<void>(read_sample(damaged));
    }
  }
}

TEST(Snapshot, RefusesWhatIsForeignNewerOrTooLong) {
  const auto content = sample();
  SnapshotReader other_tag(content);
  EXPECT_EQ(other_tag.begin("third", 2), 0u);
  EXPECT_EQ(other_tag.u32(), 0u);
  EXPECT_FALSE(other_tag.end().ok());

  SnapshotReader older_program(content);
  EXPECT_EQ(older_program.begin("first", 1), 0u);
  EXPECT_NE(older_program.end().error().message.find("version 2"), std::string::npos);

  SnapshotReader unread(content);
  unread.begin("first", 2);
  unread.u8();
  EXPECT_FALSE(unread.end().ok());

  const std::vector<uint8_t> foreign = {'\177', 'E', 'L', 'F', 1, 1, 1, 0, 0, 0};
  SnapshotReader stranger(foreign);
  EXPECT_EQ(stranger.begin("first", 2), 0u);
  EXPECT_FALSE(stranger.end().ok());
}

TEST(Snapshot, RefusesListsLongerThanAllowed) {
  SnapshotWriter writer;
  writer.begin("list", 1);
  writer.bytes(std::vector<uint8_t>(17));
  writer.end();
  SnapshotReader reader(writer.content());
  reader.begin("list", 1);
  EXPECT_TRUE(reader.bytes(16).empty());
  EXPECT_FALSE(reader.end().ok());
}

}  // namespace
}  // namespace trapline
