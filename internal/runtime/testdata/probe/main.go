// Probe is the only program in the image that the runtime's tests run. Its first argument says what to do.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tally is what "tally" counts in.
var tally [18]byte

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "pause":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("ready")
		got := <-stop
		fmt.Println("got", got)
		if got == syscall.SIGUSR1 {
			os.Exit(10)
		}
	case "deaf": // has no handler for SIGTERM for a while
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		handler := handle(syscall.SIGTERM, sigaction{})
		fmt.Println("ready")
		deaf, _ := time.ParseDuration(args[0])
		time.Sleep(deaf)
		handle(syscall.SIGTERM, handler)
		<-stop
		os.Exit(10)
	case "sleep": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "say":
		fmt.Println(strings.Join(args, " "))
	case "complain":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "exit-when": // exit with a code once a file appears
		for {
			if _, err := os.Stat(args[0]); err == nil {
				code, _ := strconv.Atoi(args[1])
				os.Exit(code)
			}
			time.Sleep(5 * time.Millisecond)
		}
	case "count": // numbered lines without pause, until the end
		out := bufio.NewWriter(os.Stdout)
		for i := 0; ; i++ {
			fmt.Fprintf(out, "line %d\n", i)
			if i%10 == 0 {
				out.Flush()
				time.Sleep(time.Millisecond)
			}
		}
	case "tally": // a number that grows, in the log and in memory, where a checkpoint has it
		file, err := os.Create("/tally")
		if err != nil {
			os.Exit(1)
		}
		defer file.Close()
		for i := 0; ; i++ {
			copy(tally[:], fmt.Sprintf("tally is %08d;", i))
			fmt.Printf("%s\n", tally[:])
			time.Sleep(time.Millisecond)
		}
	case "long":
		n, _ := strconv.Atoi(args[0])
		fmt.Print(strings.Repeat("x", n))
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
		fmt.Println("end of input")
	case "eat": // memory
		var kept [][]byte
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			kept = append(kept, block)
			_ = kept
		}
	case "id":
		groups, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
	case "read":
		data, err := os.ReadFile(args[0])
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Stdout.Write(data)
	case "write":
		if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	case "list":
		filepath.WalkDir(args[0], func(path string, _ os.DirEntry, _ error) error { fmt.Println(path); return nil })
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "hostname":
		name, _ := os.Hostname()
		fmt.Println(name)
	case "link":
		fmt.Println(os.Readlink(args[0]))
	case "mount": // wants a privilege
		if err := syscall.Mount("x", "/tmp", "tmpfs", 0, ""); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	case "unshare":
		fmt.Println("errno", int(try(func() error { return syscall.Unshare(syscall.CLONE_NEWUSER) })))
	case "status":
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			for _, want := range []string{"Seccomp:", "NoNewPrivs:", "CapEff:", "CapBnd:", "CapAmb:", "SigIgn:", "SigBlk:"} {
				if strings.HasPrefix(line, want) {
					fmt.Print(line)
				}
			}
		}
	case "self": // everything that a container's setup decides
		describeSelf()
	case "fds":
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, entry := range entries {
			target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
			fmt.Println(entry.Name(), target)
		}
	case "terminal":
		reader := bufio.NewReader(os.Stdin)
		fmt.Print("ready\n")
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Printf("heard %s", line)
			if strings.TrimSpace(line) == "quit" {
				return
			}
		}
	case "serve":
		listener, err := net.Listen("tcp", args[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				line, _ := bufio.NewReader(conn).ReadString('\n')
				fmt.Fprintf(conn, "echo %s", line)
				conn.Close()
			}()
		}
	case "overwrite": // the programs that others run here
		overwritePrograms(args[0])
	case "climb": // from the working directory, to a file of the node
		dir, err := os.Getwd()
		fmt.Println(dir, err)
		data, err := os.ReadFile("../../../../../../../../.." + args[0])
		fmt.Printf("read %q %v\n", data, err)
	case "swap": // two names as fast as can be, until the end
		fmt.Println("ready")
		for {
			unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE)
		}
	case "spawn": // a child that outlives this process
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Start()
	}
}

func try(f func() error) syscall.Errno {
	err := f()
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return 0
}
