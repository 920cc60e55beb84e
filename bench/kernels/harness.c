#include "harness.h"

#include "kernel.h"
#include "text.h"
#include "tsc.h"

struct Options parse_options(const char* text) {
  const struct Options options = {text, option_number(text, "reps", 5)};
  return options;
}

void measure_kernels(const struct Options* options, Report report) {
  for (uint32_t i = 0; i < kKernelCount; ++i) {
    if (!option_allows(options->text, "kernels", kKernels[i].name)) continue;
    for (uint32_t repetition = 0; repetition < options->repetitions; ++repetition) {
      struct Sample sample = {i, repetition, 0, 0};
      const uint64_t start = read_tsc();
      sample.checksum = kKernels[i].run();
      sample.cycles = read_tsc() - start;
      report(&sample);
    }
  }
}

uint32_t format_sample(char line[kLineBytes], const struct Sample* sample, const char* mode) {
  const struct Kernel* kernel = &kKernels[sample->kernel];
  char* end = append_text(line, "kernel=");
  end = append_text(end, kernel->name);
  end = append_text(end, " mode=");
  end = append_text(end, mode);
  end = append_text(end, " rep=");
  end = append_decimal(end, sample->repetition);
  end = append_text(end, " cycles=");
  end = append_decimal(end, sample->cycles);
  end = append_text(end, " checksum=");
  end = append_hex(end, sample->checksum);
  end = append_text(end, sample->checksum == kernel->checksum ? " ok\n" : " WRONG\n");
  return (uint32_t)(end - line);
}
