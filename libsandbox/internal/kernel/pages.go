package kernel

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// TouchedOnly has no more of this process's executable be resident than it touches, in
// pieces of 64 KiB. Where the page cache has it in huge pages, the kernel maps one as a whole
// (Linux 6.18: also without a huge entry in the page table), and each process that has
// touched a byte of it has 2 MiB more; but never beyond a mapping, so that is cut into
// pieces, which differ in whether they are part of a core dump. It is for a process that
// waits most of its life. What fails is left as it is.
func TouchedOnly() {
	const piece = 64 << 10
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := ReadAll("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var start, end uintptr
		var access string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &access); err != nil ||
			strings.Contains(access, "w") || !strings.HasSuffix(line, " "+exe+"\n") {
			continue
		}
		for at := start; at+piece <= end; at += 2 * piece {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, piece, unix.MADV_DONTDUMP)
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
	}
}
