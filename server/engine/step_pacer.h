// How much prompt and picture work may join a step while streams run.
//
// What a step of streams takes alone is measured; what joins it is a budget of estimated FLOPs that
// follows the clock: it shrinks when a mixed step took longer than `slowdown` times that, and grows
// when one stayed below. No model of the machine is needed, and none would hold: a few rows more
// are free as long as reading the weights is what takes the time. What a step computes does not
// depend on how it is cut, so the clock decides only when work is done.
//
// Thread-compatible.
#pragma once

namespace tessera {

class StepPacer {
 public:
  // `first`: the budget before anything is known. `least`: it never shrinks below.
  StepPacer(double slowdown, double first, double least);

  // After a step: rows of running streams in it, estimated FLOPs of what joined them, and how long
  // it took. Steps without streams and steps that took no measurable time teach nothing.
  void Observe(int stream_rows, double joined_flops, double seconds);

  // FLOPs that may join the next step of running streams.
  double budget() const { return budget_; }
  // Seconds of a step of streams alone, 0 while unknown.
  double alone() const { return alone_; }

 private:
  const double slowdown_, least_;
  double budget_;
  double alone_ = 0;
};

}  // namespace tessera
