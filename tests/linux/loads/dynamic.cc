// A dynamically linked program: lazy binding, libraries loaded by name, C++ exceptions through
// several frames, streams, threads and the containers of the library.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <future>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int failures = 0;

void check(const char* name, bool holds) {
  if (!holds) {
    std::printf("FAIL %s\n", name);
    failures++;
  }
}

struct Counted {
  explicit Counted(int& count) : count_(count) { count_++; }
  ~Counted() { count_--; }
  int& count_;
};

int throwing(int depth, int& alive) {
  const Counted guard(alive);
  if (depth == 0) throw std::runtime_error("from the depth");
  return throwing(depth - 1, alive) + 1;
}

void exceptions() {
  int alive = 0, caught = 0;
  for (int i = 0; i < 300; i++) {
    try {
      throwing(i % 30, alive);
    } catch (const std::exception& error) {
      caught += std::string(error.what()) == "from the depth";
    }
  }
  check("exceptions", caught == 300 && alive == 0);
  bool again = false;
  try {
    try {
      std::vector<int>(3).at(4) = 1;
    } catch (const std::out_of_range&) {
      throw;
    }
  } catch (const std::logic_error&) {
    again = true;
  }
  check("thrown again", again);
}

void loaded_by_name() {
  void* library = dlopen("libm.so.6", RTLD_NOW);
  check("dlopen", library != nullptr);
  if (library == nullptr) return;
  const auto cosine = reinterpret_cast<double (*)(double)>(dlsym(library, "cos"));
  check("dlsym", cosine != nullptr && std::fabs(cosine(1.0) - 0.5403023058681398) < 1e-15);
  check("no such symbol", dlsym(library, "no_such_function") == nullptr);
  dlclose(library);
}

void containers() {
  std::map<std::string, int> counts;
  std::istringstream words("one two three two three three four four four four");
  for (std::string word; words >> word;) counts[word]++;
  for (const auto& [word, count] : counts) std::printf("%s %d\n", word.c_str(), count);
  const std::regex pattern("([a-z]+)-(\\d+)");
  std::smatch match;
  const std::string text = "see item-42 there";
  check("regex", std::regex_search(text, match, pattern) && match[1] == "item" && match[2] == "42");
  std::ostringstream out;
  out << std::hex << 255 << ' ' << std::dec << 1.5 << ' ' << true;
  std::printf("%s\n", out.str().c_str());
}

void threads() {
  std::vector<std::future<long long>> parts;
  for (int i = 0; i < 6; i++) {
    parts.push_back(std::async(std::launch::async, [i] {
      std::vector<int> numbers(20000);
      std::iota(numbers.begin(), numbers.end(), i * 20000);
      std::sort(numbers.begin(), numbers.end(), [](int a, int b) { return a % 1000 < b % 1000; });
      return std::accumulate(numbers.begin(), numbers.end(), 0LL);
    }));
  }
  long long sum = 0;
  for (auto& part : parts) sum += part.get();
  std::printf("sum %lld\n", sum);
  auto failing =
      std::async(std::launch::async, []() -> int { throw std::runtime_error("thread"); });
  bool arrived = false;
  try {
    failing.get();
  } catch (const std::runtime_error&) {
    arrived = true;
  }
  check("exception from a thread", arrived);
}

}  // namespace

int main() {
  exceptions();
  loaded_by_name();
  containers();
  threads();
  std::printf("failed %d\n", failures);
  return failures != 0;
}
