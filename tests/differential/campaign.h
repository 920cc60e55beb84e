// Running many cases on two backends, counting, and saying what went wrong.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/differential/backend.h"
#include "tests/differential/generator.h"

namespace trapline::differential {

struct CampaignOptions {
  uint64_t seed = 1;
  uint64_t first = 0;  ///< Number of the first case.
  uint64_t cases = 0;
  bool blocks = false;
  CodeSize size = CodeSize::k32;
  /// Index of the only form to run; kNoForm: all in turn.
  uint32_t form = kNoForm;
  /// Failures that are printed in full. For each form at most one is.
  uint32_t reports = 20;
  /// Fields that are left out on request, besides those of masks.cc.
  FieldMask ignored;
};

struct FormCount {
  uint64_t compared = 0;
  uint64_t faulted = 0;  ///< Of these: ended by an exception.
  uint64_t failed = 0;
  uint64_t drawn_again = 0;   ///< Ran for too long on both sides, strayed, or amd_differs().
  uint64_t not_compared = 0;  ///< However often it was drawn.
};

class Campaign {
 public:
  Campaign(const CampaignOptions& options, const std::vector<Form>& forms, Backend& left,
           Backend& right);

  void run();

  const std::vector<FormCount>& by_form() const { return by_form_; }
  FormCount blocks() const { return blocks_; }
  FormCount total() const;
  /// One line for each form that was run.
  std::string count_table() const;
  std::string summary() const;

 private:
  Case make_case(uint64_t number, uint32_t attempt = 0) const;
  bool can_be_compared(const Case& test, const Outcome& left, const Outcome& right) const;
  void draw_again(Case& test, Outcome& left, Outcome& right);
  void judge(const Case& test, const Outcome& left, const Outcome& right);
  void report(const Case& test, const std::string& seen);
  FieldMask mask(const Case& test, const Outcome& left, const Outcome& right) const;
  bool only_x87_pointers(const Case& test, const Outcome& left, const Outcome& right) const;
  std::string run_both(const Case& test, Outcome& left, Outcome& right);
  Case minimise(const Case& test);
  std::string reproduction(const Case& test) const;
  FormCount& count(const Case& test);

  const CampaignOptions options_;
  const std::vector<Form>& forms_;
  Backend& left_;
  Backend& right_;
  Generator generator_;
  std::vector<FormCount> by_form_;
  FormCount blocks_;
  uint32_t reported_ = 0;
};

/// The case's instruction at an offset into its code.
std::optional<Decoded> decode_at(const Case& test, uint32_t offset);
/// What masks.cc says about the instruction that raised the exception, if one did.
FieldMask mask_for(const Case& test, const Outcome& outcome);
/// Whether its first instruction does.
bool stores_x87_pointers(const Case& test);
/// The rows with their reasons.
void print_masks();

}  // namespace trapline::differential
