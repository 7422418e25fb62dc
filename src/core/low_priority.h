// Threads that should use only what others leave.
#pragma once

namespace redoubt {

void lower_thread_priority();  // of the calling thread, for good; where the system refuses, it stays

}  // namespace redoubt
