#include "tests/differential/campaign.h"

#include <algorithm>
#include <cstdio>

#include "tests/differential/amd.h"
#include "tests/differential/text.h"
#include "vcpu/host_x87.h"

namespace trapline::differential {

Campaign::Campaign(const CampaignOptions& options, const std::vector<Form>& forms, Backend& left,
                   Backend& right)
    : options_(options),
      forms_(forms),
      left_(left),
      right_(right),
      generator_(options.seed, forms, options.size),
      by_form_(forms.size()) {}

Case Campaign::make_case(uint64_t number, uint32_t attempt) const {
  if (options_.blocks) return generator_.block(number, attempt);
  const uint32_t form =
      options_.form != kNoForm ? options_.form : static_cast<uint32_t>(number % forms_.size());
  return generator_.single(number, form, attempt);
}

void Campaign::run() {
  constexpr uint64_t kBatch = 256;
  std::vector<Case> cases;
  std::vector<Outcome> left(kBatch), right(kBatch);
  for (uint64_t done = 0; done < options_.cases; done += cases.size()) {
    const uint64_t size = std::min(kBatch, options_.cases - done);
    cases.clear();
    for (uint64_t i = 0; i < size; ++i) cases.push_back(make_case(options_.first + done + i));
    left_.run(cases, std::span(left).first(size));
    right_.run(cases, std::span(right).first(size));
    for (uint64_t i = 0; i < size; ++i) {
      draw_again(cases[i], left[i], right[i]);
      judge(cases[i], left[i], right[i]);
    }
  }
}

FieldMask Campaign::mask(const Case& test, const Outcome& left, const Outcome& right) const {
  FieldMask mask = mask_for(test, left);
  if (left_.on_processor()) mask_amd(test, left, mask);
  if (right_.on_processor()) mask_amd(test, right, mask);
  mask.fpu_pointers |= options_.ignored.fpu_pointers;
  mask.memory |= options_.ignored.fpu_pointers && stores_x87_pointers(test);
  return mask;
}

FormCount& Campaign::count(const Case& test) {
  return test.form == kNoForm ? blocks_ : by_form_[test.form];
}

namespace {

bool timed_out(const Outcome& outcome) {
  return outcome.event == Event::kTimeout;
}

/// A wild branch hit the inside of an exit, where each backend has its own code.
bool strayed(const Case& test, const Outcome& outcome) {
  bool in_exit = false;
  for (uint32_t i = 0; i < kExits; ++i) {
    const uint32_t behind = outcome.final.eip - test.exit_address(i);
    in_exit |= behind != 0 && behind < kExitBytes;
  }
  return in_exit;
}

/// As differences(), also for runs that were lost or ran for too long.
std::string difference(const Outcome& left, const Outcome& right, const FieldMask& mask) {
  if (left.event == Event::kLost || right.event == Event::kLost)
    return "  event    " + describe_event(left) + " | " + describe_event(right) + "\n";
  if (timed_out(left) && timed_out(right)) return {};
  return differences(left, right, mask);
}

}  // namespace

bool Campaign::can_be_compared(const Case& test, const Outcome& left, const Outcome& right) const {
  const bool own_ways = (left_.on_processor() && amd_differs(test, left)) ||
                        (right_.on_processor() && amd_differs(test, right));
  return !own_ways && !(timed_out(left) && timed_out(right)) && !strayed(test, left) &&
         !strayed(test, right);
}

/// Puts another case of the same form in the place of one that cannot be compared.
void Campaign::draw_again(Case& test, Outcome& left, Outcome& right) {
  constexpr uint32_t kAttempts = 100;
  for (uint32_t attempt = 1; attempt < kAttempts && !can_be_compared(test, left, right);
       ++attempt) {
    ++count(test).drawn_again;
    test = make_case(test.number, attempt);
    left_.run(std::span(&test, 1), std::span(&left, 1));
    right_.run(std::span(&test, 1), std::span(&right, 1));
  }
}

void Campaign::judge(const Case& test, const Outcome& left, const Outcome& right) {
  FormCount& form = count(test);
  if (!can_be_compared(test, left, right)) {
    ++form.not_compared;
    return;
  }
  ++form.compared;
  form.faulted += left.event == Event::kException;
  std::string seen = difference(left, right, mask(test, left, right));
  const bool by_chance =
      timed_out(left) != timed_out(right) || only_x87_pointers(test, left, right);
  for (int i = 0; i < 3 && by_chance && !seen.empty(); ++i) {
    Outcome again_left, again_right;  // Perhaps one side was not scheduled, or was interrupted.
    seen = run_both(test, again_left, again_right);
  }
  if (seen.empty()) return;
  ++form.failed;
  if (reported_ < options_.reports && (form.failed == 1 || test.form == kNoForm)) {
    ++reported_;
    report(test, seen);
  }
}

/// What a switch between threads may do to hosts that leave the pointers out of what they save.
bool Campaign::only_x87_pointers(const Case& test, const Outcome& left,
                                 const Outcome& right) const {
  if (host_saves_x87_pointers()) return false;
  FieldMask others = mask(test, left, right);
  others.fpu_pointers = true;
  others.memory |= stores_x87_pointers(test);
  return difference(left, right, others).empty();
}

std::string Campaign::run_both(const Case& test, Outcome& left, Outcome& right) {
  left_.run(std::span(&test, 1), std::span(&left, 1));
  right_.run(std::span(&test, 1), std::span(&right, 1));
  return difference(left, right, mask(test, left, right));
}

/// Replaces instructions by NOPs of the same length as long as the outcomes still differ, so that
/// branch targets stay what they are.
Case Campaign::minimise(const Case& test) {
  Case best = test;
  Outcome left, right;
  for (uint32_t i = test.instruction_count; i-- > 0;) {
    Case attempt = best;
    const uint32_t start = test.instructions[i];
    uint32_t end = i + 1 < test.instruction_count ? test.instructions[i + 1] : test.code_length;
    for (const uint16_t exit : test.exits) {
      if (exit > start) end = std::min<uint32_t>(end, exit);
    }
    std::fill(attempt.code.begin() + start, attempt.code.begin() + end, uint8_t{0x90});
    std::copy(best.instructions.begin() + i + 1, best.instructions.begin() + best.instruction_count,
              attempt.instructions.begin() + i);
    --attempt.instruction_count;
    if (!run_both(attempt, left, right).empty()) best = attempt;
  }
  return best;
}

std::string Campaign::reproduction(const Case& test) const {
  const std::string what =
      test.form == kNoForm ? "--blocks" : "--form \"" + forms_[test.form].name + "\"";
  return format("differential_host --seed %llu --first %llu --cases 1 %s%s", ull(options_.seed),
                ull(test.number), test.size == CodeSize::k16 ? "--code16 " : "", what.c_str());
}

void Campaign::report(const Case& test, const std::string& seen) {
  Outcome left, right;
  std::string difference = run_both(test, left, right);
  Case shown = test;
  if (difference.empty()) {
    difference = seen +
                 "  (not when it is run again: it depends on what ran before, so take "
                 "--first lower and --cases higher)\n";
  } else if (test.instruction_count > 1) {
    shown = minimise(test);
    difference = run_both(shown, left, right);
  }
  std::printf("=== %s differ: %s\n",
              test.form == kNoForm ? "block" : forms_[test.form].name.c_str(),
              reproduction(test).c_str());
  std::printf("differences (%s | %s):\n%s", std::string(left_.name()).c_str(),
              std::string(right_.name()).c_str(), difference.c_str());
  std::printf("code%s:\n%s", test.instruction_count > 1 ? " (NOPs left out)" : "",
              listing(shown).c_str());
  std::printf("initial state:\n%s", describe_initial(shown).c_str());
  std::printf("%s:\n%s%s:\n%s\n", std::string(left_.name()).c_str(), describe_outcome(left).c_str(),
              std::string(right_.name()).c_str(), describe_outcome(right).c_str());
  std::fflush(stdout);
}

FormCount Campaign::total() const {
  FormCount sum = blocks_;
  for (const FormCount& form : by_form_) {
    sum.compared += form.compared;
    sum.faulted += form.faulted;
    sum.failed += form.failed;
    sum.not_compared += form.not_compared;
    sum.drawn_again += form.drawn_again;
  }
  return sum;
}

std::string Campaign::count_table() const {
  std::string out;
  for (size_t i = 0; i < forms_.size(); ++i) {
    const FormCount& form = by_form_[i];
    if (form.compared + form.not_compared == 0) continue;
    out += format("%8llu compared %8llu faulted %6llu differ  %s\n", ull(form.compared),
                  ull(form.faulted), ull(form.failed), forms_[i].name.c_str());
  }
  return out;
}

std::string Campaign::summary() const {
  const FormCount sum = total();
  uint64_t least = ~uint64_t{0}, forms_run = 0;
  for (const FormCount& form : by_form_) {
    if (form.compared == 0) continue;
    ++forms_run;
    least = std::min(least, form.compared);
  }
  std::string out =
      format("%llu cases compared (%llu ended by an exception), %llu differ, %llu not compared",
             ull(sum.compared), ull(sum.faulted), ull(sum.failed), ull(sum.not_compared));
  if (sum.drawn_again > 0)
    out += format(", %llu times another drawn in the place of one that cannot be compared",
                  ull(sum.drawn_again));
  if (forms_run > 0)
    out += format("; %llu forms of %zu, at least %llu cases each", ull(forms_run), forms_.size(),
                  ull(least));
  return out + "\n";
}

}  // namespace trapline::differential
