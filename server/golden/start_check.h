// `tessera-server --verify`: the model is held to its golden before it is served.
#pragma once

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "model/model.h"
#include "server/golden/model_cases.h"

namespace tessera::verify {

// The directory of the golden of the mode that is served: the model's own, or its `zero`, whichever
// was made with `rows` (of models without pictures: the model's own). Error (kNotFound): there is
// none; it names the mode that is served and those of the goldens that are there.
Result<std::filesystem::path> FindGolden(const std::filesystem::path& model,
                                         std::optional<UnseenRows> rows);

// Runs that golden on a model of its own, which is gone afterwards; the count, and rows that failed
// or were left out, go to stderr. Error: no such golden, quantised weights (whose answers goldens
// do not bound), or failed rows.
Result<void> VerifyBeforeServing(ModelCaseOptions options, std::optional<UnseenRows> rows);

}  // namespace tessera::verify
