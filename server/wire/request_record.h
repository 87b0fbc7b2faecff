// What is remembered of a request when it is over: numbers and our own words, never content.
#pragma once

#include <functional>
#include <string>

#include "server/engine/events.h"

namespace tessera {

struct RequestRecord {
  std::string method;     // "Generate"
  std::string id;         // the server's
  std::string client_id;  // checked: [A-Za-z0-9._-]
  std::string tenant;
  std::string model;
  std::string code;   // "OK", "INVALID_ARGUMENT", ...
  std::string error;  // the message that the client got, which holds only our words
  int choices = 0;
  Usage usage;
  StageTimings timings;
};

// Called once a request, from any thread; must not wait.
using RequestSink = std::function<void(const RequestRecord&)>;

}  // namespace tessera
