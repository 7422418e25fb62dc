#include "core/low_priority.h"

#include <sys/resource.h>

namespace redoubt {

// On Linux a nice value belongs to a thread, and 0 names the calling one. Ten leaves a tenth of a contended core.
void lower_thread_priority() { static_cast<void>(::setpriority(PRIO_PROCESS, 0, 10)); }

}  // namespace redoubt
