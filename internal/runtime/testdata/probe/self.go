package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// describeSelf prints what the setup of a container has made of this process and its surroundings.
func describeSelf() {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"Umask", "Uid", "Gid", "Groups", "NStgid", "NSsid", "SigBlk", "SigIgn", "NoNewPrivs", "Seccomp",
			"Seccomp_filters", "Cpus_allowed", "Mems_allowed"}, name) || strings.HasPrefix(name, "Cap") {
			fmt.Print(line)
		}
	}
	for _, path := range []string{"/proc/self/limits", "/proc/self/cgroup", "/proc/self/oom_score_adj", "/proc/self/attr/current", "/proc/self/loginuid", "/proc/self/personality"} {
		data, err := os.ReadFile(path)
		fmt.Printf("%s: %s %v\n", path, data, err)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		fmt.Println("mount:", strings.Join(strings.Fields(line)[3:], " "))
	}
	filepath.WalkDir("/dev", func(path string, _ os.DirEntry, _ error) error {
		var st syscall.Stat_t
		err := syscall.Lstat(path, &st)
		target, _ := os.Readlink(path)
		fmt.Printf("%s: %o %d:%d %x %s %v\n", path, st.Mode, st.Uid, st.Gid, st.Rdev, target, err)
		return nil
	})
	for fd := range 3 {
		var st syscall.Stat_t
		err := syscall.Fstat(fd, &st)
		fmt.Printf("stream %d: %o %d:%d %v\n", fd, st.Mode, st.Uid, st.Gid, err)
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	fmt.Println("files:", len(entries))
	dir, err := os.Getwd()
	fmt.Println("working directory:", dir, err)
	session, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	fmt.Println("session:", session == uintptr(os.Getpid()), "leader:", syscall.Getpgrp() == os.Getpid())
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "HOME=") {
			fmt.Println("variable:", variable)
		}
	}
	fmt.Println("arguments:", os.Args)
}
