// Compares the engine with the host CPU on random user-mode code. See docs/differential-testing.md.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "tests/differential/amd.h"
#include "tests/differential/campaign.h"
#include "tests/differential/machine_backend.h"
#include "tests/differential/native_backend.h"
#include "tests/differential/switch_options.h"
#include "tests/differential/text.h"
#include "tests/differential/values.h"
#include "vcpu/host_x87.h"

namespace {

using namespace trapline;
using namespace trapline::differential;

/// What the test driver takes for "cannot run here".
constexpr int kSkipped = 77;

struct Options {
  CampaignOptions campaign;
  std::string form;
  std::string left = "host";
  std::string right = "engine";
  std::vector<std::string> left_switches, right_switches;
  bool random_seed = false;
  bool counts = false;
  bool list = false;
};

/// The two backends of a run, and what they share.
class Backends {
 public:
  explicit Backends(uint64_t seed) { fill_window(seed, common_); }

  std::unique_ptr<Backend> make(const std::string& name, const std::vector<std::string>& settings) {
    if (name == "host") {
      auto native = NativeBackend::create(common_);
      host_missing_ = !native.ok();
      if (host_missing_) return fail(native.error());
      environment_ = {native.value()->has_low_page(), native.value()->has_segments()};
      code16_missing_ = !native.value()->has_code16();
      if (const std::string lacks = native.value()->limitations(); !lacks.empty())
        std::printf("note: %s\n", lacks.c_str());
      return native.take();
    }
    Switches switches;
    switches.exact_flags = true;
    if (!apply_switches(settings, switches)) return nullptr;
    const bool native = name == "container";
    auto machine =
        MachineBackend::create(common_, environment_, switches, Mutation::kNone,
                               native ? DirectExecution::kAlways : DirectExecution::kNever);
    if (!machine.ok()) {
      host_missing_ = native;
      return fail(machine.error());
    }
    if (native) container_ = &machine.value()->machine();
    return machine.take();
  }

  /// Whether it failed because this host cannot run 32-bit code at all.
  bool host_missing() const { return host_missing_; }
  bool code16_missing() const { return code16_missing_; }
  /// The machine that runs natively in a container, if one does.
  const Machine* container() const { return container_; }

 private:
  static std::unique_ptr<Backend> fail(const Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return nullptr;
  }

  WindowImage common_;
  Environment environment_;
  bool host_missing_ = false;
  bool code16_missing_ = false;
  const Machine* container_ = nullptr;
};

int list_forms(const std::vector<Form>& forms) {
  for (const Form& form : forms) std::printf("%s\n", form.name.c_str());
  std::printf("%zu forms\nnot compared:\n", forms.size());
  for (const Exclusion& row : exclusions())
    std::printf("  %-12s %s\n", ZydisMnemonicGetString(row.mnemonic), row.reason);
  std::printf("fields not compared after a fault of:\n");
  print_masks();
  std::printf("on AMD's processors:\n");
  print_amd_ways();
  return 0;
}

bool find_form(const std::vector<Form>& forms, const std::string& name, uint32_t& index) {
  for (uint32_t i = 0; i < forms.size(); ++i) {
    if (forms[i].name != name) continue;
    index = i;
    return true;
  }
  std::fprintf(stderr, "There is no form '%s'; --list prints them all.\n", name.c_str());
  return false;
}

int run(Options& options) {
  const std::vector<Form> forms = derive_forms(options.campaign.size);
  if (options.list) return list_forms(forms);
  CampaignOptions& campaign_options = options.campaign;
  if (options.random_seed) campaign_options.seed = std::random_device{}();
  if (!options.form.empty() && !find_form(forms, options.form, campaign_options.form)) return 64;

  Backends backends(campaign_options.seed);
  const auto left = backends.make(options.left, options.left_switches);
  const auto right = left ? backends.make(options.right, options.right_switches) : nullptr;
  if (!right) return backends.host_missing() ? kSkipped : static_cast<int>(ExitStatus::kHost);

  if (backends.code16_missing() && campaign_options.size == CodeSize::k16) {
    std::fprintf(stderr, "this kernel gives no 16-bit segments\n");
    return kSkipped;
  }
  if (!host_saves_x87_pointers()) {
    std::printf(
        "note: this host loses FIP, FDP and FOP at signals, which the exceptions come by\n");
    // All that comes out of a container does, too.
    campaign_options.ignored.fpu_pointers |= backends.container() != nullptr;
  }
  std::printf("seed %llu\n", ull(campaign_options.seed));
  const auto start = std::chrono::steady_clock::now();
  Campaign campaign(campaign_options, forms, *left, *right);
  campaign.run();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  if (options.counts) std::fputs(campaign.count_table().c_str(), stdout);
  std::fputs(campaign.summary().c_str(), stdout);
  std::printf("%.1f s, %.0f cases per second\n", taken.count(),
              static_cast<double>(campaign_options.cases) / taken.count());
  if (const Machine* container = backends.container()) {
    const Statistics statistics = container->statistics();
    const uint64_t stays = statistics.native_stays;
    std::printf(
        "%llu stays in the container; of the pages, %llu fine, %llu sensitive, %llu unexplored\n",
        ull(stays), ull(statistics.native_pages_fine), ull(statistics.native_pages_sensitive),
        ull(statistics.native_pages_unexplored));
    if (stays < campaign_options.cases / 2) return 1;  // Not what was to be compared.
  }
  const FormCount total = campaign.total();
  return total.failed == 0 && total.not_compared == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.campaign.cases = 100'000;
  CLI::App app("Runs random user code on two backends and compares what they do.");
  const auto backends = CLI::IsMember({"host", "engine", "container"});
  app.add_option("--seed", options.campaign.seed, "Decides everything random")
      ->capture_default_str();
  app.add_flag("--random-seed", options.random_seed, "Take a new seed and print it");
  app.add_option("--cases", options.campaign.cases, "How many")->capture_default_str();
  app.add_option("--first", options.campaign.first, "Number of the first case");
  app.add_option("--form", options.form, "Only this form");
  app.add_flag("--blocks", options.campaign.blocks, "Blocks instead of single instructions");
  app.add_flag_callback(
      "--code16", [&options] { options.campaign.size = CodeSize::k16; },
      "In 16-bit segments, with addresses and operands of 16 bits");
  app.add_option("--left", options.left, "Backend")->check(backends)->capture_default_str();
  app.add_option("--right", options.right, "Backend")->check(backends)->capture_default_str();
  app.add_option("--left-switch", options.left_switches, "NAME=on|off, when left is the engine");
  app.add_option("--right-switch", options.right_switches, "NAME=on|off, when right is the engine");
  app.add_option("--reports", options.campaign.reports, "Failures to print in full")
      ->capture_default_str();
  app.add_flag("--ignore-pointers", options.campaign.ignored.fpu_pointers,
               "Do not compare FIP, FDP and FOP");
  app.add_flag("--counts", options.counts, "Print the count for each form");
  app.add_flag("--list", options.list, "Print the forms and what is left out, and why");
  CLI11_PARSE(app, argc, argv);
  return run(options);
}
