// For commands whose memory holds prompts and answers.
#pragma once

#include <sys/prctl.h>

namespace redoubt {

// No core dump, to a file or a handler, and no other process of this user looks in.
inline void keep_memory_private() { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

}  // namespace redoubt
