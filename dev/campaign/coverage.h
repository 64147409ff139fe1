// coverage.h: coverage.sh includes it before everything else in what it builds. Mistakes end a program by _exit(),
// which would leave its counts unwritten.
void __gcov_dump(void);
#include <unistd.h>
#define _exit(code) (__gcov_dump(), _exit(code))
