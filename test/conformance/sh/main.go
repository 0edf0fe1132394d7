// Command sh stands before busybox's shell in the busybox image. Debian's build of that shell forgets environment names that are no
// identifiers, which upstream's passes on and specs look for ("sh -c env"). A command of one word needs no shell: it is executed
// with the environment as it is. Everything else is busybox's.
package main

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
)

const busybox = "/bin/busybox"

var word = regexp.MustCompile(`^[A-Za-z0-9_/.-]+$`)

func main() {
	args := os.Args // its own name tells busybox which applet it is, and stands in its messages
	if len(os.Args) == 3 && os.Args[1] == "-c" && word.MatchString(os.Args[2]) && syscall.Access("/bin/"+os.Args[2], 1) == nil {
		args = []string{os.Args[2]}
	}
	err := syscall.Exec(busybox, args, os.Environ())
	fmt.Fprintln(os.Stderr, "sh:", err)
	os.Exit(127)
}
