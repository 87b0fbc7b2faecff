#include "server/wire/policy.h"

namespace tessera {
namespace {

constexpr MethodPolicy kPolicies[] = {
    {"/tessera.v1.Tessera/Generate", Access::kTenant, Admission::kQueue},
    {"/tessera.v1.Tessera/Tokenize", Access::kTenant, Admission::kServing},
    {"/tessera.v1.Tessera/ListModels", Access::kTenant, Admission::kAlways},
    {"/tessera.v1.Tessera/GetModel", Access::kTenant, Admission::kAlways},
    {"/grpc.health.v1.Health/Check", Access::kOpen, Admission::kAlways},
    {"/grpc.health.v1.Health/Watch", Access::kOpen, Admission::kAlways},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::kReflection,
     Admission::kAlways},
};

}  // namespace

std::span<const MethodPolicy> MethodPolicies() { return kPolicies; }

const MethodPolicy* FindPolicy(std::string_view method) {
  for (const MethodPolicy& policy : kPolicies) {
    if (policy.method == method) return &policy;
  }
  return nullptr;
}

}  // namespace tessera
