// tessera-verify's checks that need no model: tokenizer, chat template, pictures. Models are held
// to their goldens by server/golden, which `tessera-server --verify` shares.
#pragma once

#include <filesystem>

#include "media/tier.h"
#include "server/golden/report.h"

namespace tessera::verify {

// Each part checks one kind of golden (docs/fidelity.md) and adds its rows; an unreadable file is a
// failed row.
void CheckTokenizerCases(const std::filesystem::path& tokenizer_dir,
                         const std::filesystem::path& cases, Report& report);
void CheckChatCases(const std::filesystem::path& tokenizer_dir, const std::filesystem::path& cases,
                    Report& report);
void CheckImageCases(const std::filesystem::path& expected_dir,
                     const std::filesystem::path& images_dir, MediaTier tier, Report& report);

}  // namespace tessera::verify
