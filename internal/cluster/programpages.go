package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetProgram lets go of the program's own pages, code and constants. Those in use come back with the next access, from the page
// cache; those that only a start or a load has needed do not, and are the system's to use.
func forgetProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	defer smaps.Close()
	parts, err := constantParts(smaps, exe)
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	for _, p := range parts {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, p.start, p.end-p.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("let go of the program's pages: %w", errno)
		}
	}
	return nil
}

// part is a piece of a process' memory, by its addresses.
type part struct{ start, end uintptr }

// constantParts finds in a /proc/…/smaps the parts of the program that are never written to, and hold what the file holds. What a loader has
// relocated, and closed to writing then, is not among them: it has pages that are the process' own.
func constantParts(smaps io.Reader, exe string) ([]part, error) {
	var found []part
	var at part // that the lines tell about; zero if it is none that is looked for
	for lines := bufio.NewScanner(smaps); ; {
		if !lines.Scan() {
			return found, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
		case !strings.HasSuffix(fields[0], ":"):
			at = part{}
			if len(fields) > 5 && !strings.Contains(fields[1], "w") && strings.Join(fields[5:], " ") == exe {
				if _, err := fmt.Sscanf(fields[0], "%x-%x", &at.start, &at.end); err != nil {
					return nil, fmt.Errorf("%q: %w", lines.Text(), err)
				}
			}
		case at != part{} && len(fields) > 1 && fields[0] == "Anonymous:" && fields[1] == "0":
			found = append(found, at)
		}
	}
}

// mappedFiles is how many bytes of files are mapped into this process' memory.
func mappedFiles() uint64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 3 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
