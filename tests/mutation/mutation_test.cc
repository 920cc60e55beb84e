// Each test runs its checks first on the engine as it is, where all pass, and then with one seeded
// miscompilation, which at least one of them has to notice. The cases of the checks are always the
// same, a short slice of what the suites run.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/differential/campaign.h"
#include "tests/differential/machine_backend.h"
#include "tests/differential/native_backend.h"
#include "tests/differential/values.h"
#include "tests/mutation/guest_check.h"
#include "tests/mutation/probes.h"

namespace trapline {
namespace {

using namespace differential;

constexpr uint64_t kSeed = 1;
constexpr int kUnavailable = 77;

/// A check is "blocks" or "form NAME", which compare with the host, "probe links" or "probe
/// window", or the name of a guest program.
struct MutationCase {
  Mutation mutation;
  std::vector<std::string> checks;
};

/// 0: no difference; 1: some; kUnavailable: this host runs no 32-bit code.
int compare_with_host(const std::string& form, Mutation mutation) {
  WindowImage common;
  fill_window(kSeed, common);
  auto host = NativeBackend::create(common);
  if (!host.ok()) return kUnavailable;
  Switches switches;
  switches.exact_flags = true;
  const Environment environment{host.value()->has_low_page(), host.value()->has_segments()};
  auto engine = MachineBackend::create(common, environment, switches, mutation);
  if (!engine.ok()) return 1;
  const std::vector<Form> forms = derive_forms();
  CampaignOptions options;
  options.seed = kSeed;
  options.cases = form.empty() ? 1000 : 300;
  options.blocks = form.empty();
  options.reports = 0;
  options.ignored.fpu_pointers = true;
  for (uint32_t i = 0; i < forms.size(); ++i)
    if (forms[i].name == form) options.form = i;
  if (!options.blocks && options.form == kNoForm) return 1;
  Campaign campaign(options, forms, *host.value(), *engine.value());
  campaign.run();
  return campaign.total().failed == 0 ? 0 : 1;
}

int run_check(const std::string& check, Mutation mutation) {
  if (check == "blocks") return compare_with_host("", mutation);
  if (check.starts_with("form ")) return compare_with_host(check.substr(5), mutation);
  if (check == "probe links") return patched_function_passes(mutation) ? 0 : 1;
  if (check == "probe window") return moved_stack_passes(mutation) ? 0 : 1;
  return guest_passes(check, mutation) ? 0 : 1;
}

/// The same in a child process, since a miscompilation may end it. 1 for every bad end.
int run_apart(const std::string& check, Mutation mutation) {
  constexpr unsigned kPatience = 20;
  const pid_t child = fork();
  if (child == 0) {
    alarm(kPatience);
    _exit(run_check(check, mutation));
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

std::string name_of(Mutation mutation) {
  for (const MutationName& entry : mutation_names())
    if (entry.mutation == mutation) return std::string(entry.name);
  return "none";
}

class Mutations : public testing::TestWithParam<MutationCase> {};

TEST_P(Mutations, AreNoticed) {
  std::string noticed;
  int available = 0;
  for (const std::string& check : GetParam().checks) {
    const int sound = run_apart(check, Mutation::kNone);
    if (sound == kUnavailable) continue;
    ++available;
    EXPECT_EQ(sound, 0) << check << " fails without the mutation";
    const int mutated = run_apart(check, GetParam().mutation);
    if (mutated != 0) noticed += " " + check;
    std::printf("%s: %s\n", check.c_str(), mutated ? "noticed" : "passes");
  }
  if (available == 0) GTEST_SKIP() << "this host cannot run the checks";
  EXPECT_NE(noticed, "") << name_of(GetParam().mutation) << " goes unnoticed";
  std::printf("%s is noticed by:%s\n", name_of(GetParam().mutation).c_str(), noticed.c_str());
}

INSTANTIATE_TEST_SUITE_P(
    Seeded, Mutations,
    testing::Values(MutationCase{Mutation::kSavedFlagsLoseOverflow, {"arith_flags", "blocks"}},
                    MutationCase{Mutation::kIncLosesCarry, {"form inc m32", "blocks"}},
                    MutationCase{Mutation::kFlagsDieEarly, {"blocks"}},
                    MutationCase{Mutation::kPushMovesFirst, {"pf_restart_stack"}},
                    MutationCase{Mutation::kSideExitLosesStack, {"blocks"}},
                    MutationCase{Mutation::kCrossingUnnoticed, {"pf_cross_page"}},
                    MutationCase{Mutation::kRunTooLong, {"pf_restart_string"}},
                    MutationCase{Mutation::kDirectionIgnored, {"strings"}},
                    MutationCase{Mutation::kLimitOffByOne, {"seg_limits"}},
                    MutationCase{Mutation::kCodeWriteIgnored,
                                 {"smc_other_block", "smc_same_block"}},
                    MutationCase{Mutation::kLinksKept, {"probe links"}},
                    MutationCase{Mutation::kStaleMapping, {"smc_alias"}},
                    MutationCase{Mutation::kStaleWindow, {"probe window"}},
                    MutationCase{Mutation::kWindowOfOtherStack, {"stack_window_16"}},
                    MutationCase{Mutation::kWindowOfOtherPages, {"stack_across_pages"}},
                    MutationCase{Mutation::kStaleComparison, {"flags_compared"}},
                    MutationCase{Mutation::kLoopTooLong, {"page_loops"}},
                    MutationCase{Mutation::kSharedAcrossPages, {"shared_lookups", "blocks"}},
                    MutationCase{Mutation::kSharedForWriting, {"shared_lookups"}}),
    [](const auto& tested) { return name_of(tested.param.mutation); });

}  // namespace
}  // namespace trapline
