// The smallest C++ client: one picture, one question, streamed to stdout.
//   tessera-example-ask 127.0.0.1:8001 picture.png "What is this?"
#include <fstream>
#include <iostream>
#include <iterator>

#include "client/client.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: tessera-example-ask HOST:PORT PICTURE QUESTION\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  std::string picture{std::istreambuf_iterator<char>(file), {}};
  if (picture.empty()) {
    std::cerr << "cannot read " << argv[2] << "\n";
    return 2;
  }

  tessera::Client client(argv[1]);
  tessera::GenerateParams params;
  params.messages.push_back(tessera::UserMessage(argv[3], {std::move(picture)}));
  params.temperature = 0.0f;
  params.max_tokens = 64;

  const tessera::CallStatus status = client.Generate(
      params, {.on_text = [](int, std::string_view text) { std::cout << text << std::flush; }});
  std::cout << "\n";
  if (!status.ok()) std::cerr << status.code << ": " << status.message << "\n";
  return status.ok() ? 0 : 1;
}
