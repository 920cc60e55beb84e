#include "runtime/cli/serial_script.h"

#include <deque>
#include <utility>

#include "runtime/boot/input_file.h"

namespace trapline {
namespace {

constexpr uint64_t kLargestScript = 1 << 20;

class ScriptEnd final : public SerialEnd {
 public:
  ScriptEnd(std::vector<ScriptStep> steps, const SerialHost& host)
      : steps_(std::move(steps)), output_(host.standard_output), wake_(host.wake) {
    go_on();
  }

  void write(uint8_t byte) override {
    output_.write(byte);
    if (next_ == steps_.size()) return;
    printed_ += static_cast<char>(byte);
    const std::string& awaited = steps_[next_].text;
    if (!printed_.ends_with(awaited)) {
      if (printed_.size() > 2 * awaited.size())  // More is not looked at.
        printed_.erase(0, printed_.size() - awaited.size());
      return;
    }
    printed_.clear();
    ++next_;
    go_on();
    if (!typed_.empty() && wake_) wake_();
  }
  std::optional<uint8_t> read() override {
    if (typed_.empty()) return std::nullopt;
    const auto byte = static_cast<uint8_t>(typed_.front());
    typed_.pop_front();
    return byte;
  }
  void flush() override { output_.flush(); }

 private:
  /// Up to what has to be waited for.
  void go_on() {
    for (; next_ < steps_.size() && steps_[next_].kind == ScriptStep::Kind::kSend; ++next_)
      typed_.insert(typed_.end(), steps_[next_].text.begin(), steps_[next_].text.end());
  }

  const std::vector<ScriptStep> steps_;
  size_t next_ = 0;
  std::string printed_;  ///< The end of what came since the last step.
  std::deque<char> typed_;
  HostBackend output_;
  const std::function<void()> wake_;
};

std::optional<std::string> unescaped(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      result += text[i];
      continue;
    }
    constexpr std::string_view kNames = "nrte\\", kValues = "\n\r\t\033\\";
    const size_t which = ++i < text.size() ? kNames.find(text[i]) : std::string_view::npos;
    if (which == std::string_view::npos) return std::nullopt;
    result += kValues[which];
  }
  return result;
}

}  // namespace

Result<std::vector<ScriptStep>> parse_script(std::string_view content, const std::string& name) {
  std::vector<ScriptStep> steps;
  for (size_t number = 1; !content.empty(); ++number) {
    const std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(content.size(), line.size() + 1));
    if (line.empty() || line.front() == '#') continue;
    const std::string_view word = line.substr(0, line.find(' '));
    const auto text = unescaped(line.substr(std::min(line.size(), word.size() + 1)));
    if ((word != "wait" && word != "send") || !text || text->empty())
      return Error{ExitStatus::kBadInput,
                   "line " + std::to_string(number) + " of '" + name +
                       "' is neither 'wait TEXT' nor 'send TEXT', with \\n, \\r, \\t, \\e and \\\\ "
                       "for what cannot be written"};
    steps.push_back({word == "wait" ? ScriptStep::Kind::kWait : ScriptStep::Kind::kSend, *text});
  }
  return steps;
}

Result<std::unique_ptr<SerialEnd>> make_script_end(const std::string& path,
                                                   const SerialHost& host) {
  auto file = InputFile::open(path, "script");
  if (!file.ok()) return file.error();
  if (file.value().size() > kLargestScript) return file.value().bad("it is larger than 1 MiB");
  auto bytes = file.value().read(0, file.value().size());
  if (!bytes.ok()) return bytes.error();
  const auto& content = bytes.value();
  auto steps = parse_script({reinterpret_cast<const char*>(content.data()), content.size()}, path);
  if (!steps.ok()) return steps.error();
  return std::unique_ptr<SerialEnd>(std::make_unique<ScriptEnd>(steps.take(), host));
}

}  // namespace trapline
