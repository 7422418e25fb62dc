// The one file that knows libedit.
#include "apps/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include "apps/key_sequences.h"
#include "apps/terminal.h"
#include "core/utf8.h"

namespace redoubt {
namespace {

constexpr const char* kLineBreak = "\xe2\x8f\x8e";  // shown for a line break inside the line, U+23CE

}  // namespace

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string history_file, prompt;
  bool interrupted = false;
  KeySequences keys;
  std::string read;  // handed on by `keys`, not yet by read_character

  static State* of(EditLine* editor) {
    State* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return state;
  }
  static char* show_prompt(EditLine* editor) { return of(editor)->prompt.data(); }

  static unsigned char on_interrupt(EditLine* editor, int) {
    of(editor)->interrupted = true;
    return CC_NEWLINE;
  }

  // libedit's own reader would leave the end of a sequence that it does not know in the line.
  static int read_character(EditLine* editor, wchar_t* out) {
    State& state = *of(editor);
    for (;;) {
      while (!state.read.empty()) {
        std::mbstate_t begin{};
        const size_t bytes = std::mbrtowc(out, state.read.data(), state.read.size(), &begin);
        if (bytes == static_cast<size_t>(-2)) break;  // more of the character is to come
        const bool is_character = bytes != static_cast<size_t>(-1);
        state.read.erase(0, is_character && bytes > 0 ? bytes : 1);
        if (is_character) return 1;
      }
      char byte = 0;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return static_cast<int>(count);
      state.read += state.keys.feed(byte);
    }
  }

  static void bind(EditLine* editor, std::string_view key, const char* command) {
    el_set(editor, EL_BIND, std::string(key).c_str(), command, nullptr);
  }
  static void bind_keys(EditLine* editor) {
    bind(editor, keys::kWordLeft, "ed-prev-word");
    bind(editor, keys::kWordRight, "em-next-word");
    bind(editor, keys::kHome, "ed-move-to-beg");
    bind(editor, keys::kEnd, "ed-move-to-end");
    bind(editor, keys::kDelete, "ed-delete-next-char");
    bind(editor, keys::kDeleteWord, "em-delete-next-word");
  }

  static unsigned char on_paste(EditLine* editor, int) {
    std::string pasted;
    wchar_t c = 0;
    while (!pasted.ends_with(keys::kPasteEnd) && el_wgetc(editor, &c) == 1)
      append_utf8(pasted, static_cast<char32_t>(c));
    if (pasted.ends_with(keys::kPasteEnd)) pasted.resize(pasted.size() - keys::kPasteEnd.size());
    std::string line;
    for (size_t i = 0; i < pasted.size(); ++i) {
      if (pasted[i] == '\r' || pasted[i] == '\n') {
        if (pasted[i] == '\r' && i + 1 < pasted.size() && pasted[i + 1] == '\n') ++i;
        line += kLineBreak;
      } else if (pasted[i] == '\t') {
        line += "    ";
      } else if (static_cast<unsigned char>(pasted[i]) >= 0x20) {
        line += pasted[i];
      }
    }
    el_insertstr(editor, line.c_str());
    return CC_REFRESH;
  }
};

LineEditor::LineEditor(const std::filesystem::path& history_file) : state_(std::make_unique<State>()) {
  if (std::setlocale(LC_CTYPE, "") == nullptr || std::strcmp(std::setlocale(LC_CTYPE, nullptr), "C") == 0) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
  state_->history_file = history_file.string();
  state_->editor = el_init("redoubt", stdin, stdout, stderr);
  state_->history = history_init();
  HistEvent event;
  history(state_->history, &event, H_SETSIZE, 1000);
  history(state_->history, &event, H_SETUNIQUE, 1);
  if (!state_->history_file.empty()) history(state_->history, &event, H_LOAD, state_->history_file.c_str());
  EditLine* editor = state_->editor;
  el_set(editor, EL_CLIENTDATA, state_.get());
  el_set(editor, EL_PROMPT, &State::show_prompt);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, history, state_->history);
  el_set(editor, EL_ADDFN, "redoubt-paste", "insert pasted text", &State::on_paste);
  el_set(editor, EL_ADDFN, "redoubt-interrupt", "drop this line", &State::on_interrupt);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_set(editor, EL_GETCFN, &State::read_character);
  State::bind_keys(editor);
  el_source(editor, nullptr);                        // the person's own ~/.editrc
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);  // Ctrl-C is a key while editing
  el_set(editor, EL_BIND, "^C", "redoubt-interrupt", nullptr);
  State::bind(editor, keys::kPasteBegin, "redoubt-paste");
}

LineEditor::~LineEditor() {
  HistEvent event;
  if (!state_->history_file.empty()) history(state_->history, &event, H_SAVE, state_->history_file.c_str());
  history_end(state_->history);
  el_end(state_->editor);
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  std::string text;
  state_->prompt = prompt;
  while (true) {
    state_->interrupted = false;
    if (stdout_takes_escapes()) std::fputs("\033[?2004h", stdout);
    std::fflush(stdout);
    int count = 0;
    const char* line = el_gets(state_->editor, &count);
    if (stdout_takes_escapes()) std::fputs("\033[?2004l", stdout);
    std::fflush(stdout);
    if (state_->interrupted) {
      std::fputs("\n", stdout);
      return "";
    }
    if (line == nullptr || count <= 0) return std::nullopt;
    text.append(line, static_cast<size_t>(count));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    if (!text.ends_with('\\')) break;
    text.back() = '\n';
    state_->prompt = "… ";
  }
  if (!text.empty()) {
    HistEvent event;
    std::string one_line = text;
    for (size_t at = 0; (at = one_line.find('\n', at)) != std::string::npos;) one_line.replace(at, 1, kLineBreak);
    history(state_->history, &event, H_ENTER, one_line.c_str());
    if (!state_->history_file.empty()) history(state_->history, &event, H_SAVE, state_->history_file.c_str());
  }
  for (size_t at = 0; (at = text.find(kLineBreak, at)) != std::string::npos;)
    text.replace(at, std::strlen(kLineBreak), "\n");
  return text;
}

}  // namespace redoubt
